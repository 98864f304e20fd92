"""Names of datasets, artifacts and aliases as they can be asked for: name:version or name:alias."""

import re
from typing import Any

__all__ = ["is_alias", "plain_name"]

_VERSION = re.compile(r"v[0-9]+")


def plain_name(name: str) -> str:
    """The name with each colon, which parts name and version, replaced by a minus sign."""
    return name.replace(":", "-")


def is_alias(alias: Any) -> bool:
    """Whether this can name a version: a text that is neither empty, nor a version, nor latest, nor has : or /."""
    return (
        isinstance(alias, str)
        and alias.strip() != ""
        and ":" not in alias
        and "/" not in alias
        and alias != "latest"
        and _VERSION.fullmatch(alias) is None
    )
