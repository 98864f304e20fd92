"""What an installer is told so that it installs the packages of a run, and nothing else. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Requirements", "read_requirements", "usable_lock"]

# They come with every environment, or only look on.
_NOT_INSTALLED = frozenset({"pip", "trainledger"})
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_EDITABLE = "editable file://"


@dataclass(slots=True)
class Requirements:
    """`pinned`: one line a package. `editable`: folders below the restored code. `missing`: what cannot be had, why."""

    pinned: dict[str, str] = field(default_factory=dict)
    editable: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def read_requirements(provenance: Mapping[str, Any], root: str) -> Requirements:
    """From the recorded packages; `root`: the folder of the restored code."""
    found = Requirements()
    sources, old_root = provenance.get("package_sources") or {}, provenance.get("code_root")
    for name, version in sorted((provenance.get("packages") or {}).items()):
        if name in _NOT_INSTALLED:
            continue
        # What is written into a file of requirements must be a name and a version, and no option or address.
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            found.missing.append(f"package {name[:100]!r}: {version[:100]!r} is no version")
            continue
        source = str(sources.get(name, ""))
        if source.startswith(_EDITABLE):
            folder = PurePath(unquote(source.removeprefix(_EDITABLE).split(" ")[0]))
            if old_root is not None and folder.is_relative_to(old_root) and ".." not in folder.parts:
                found.editable[name] = str(PurePath(root) / folder.relative_to(old_root))
            else:
                found.missing.append(
                    f"package {name}: editable, from {folder}, which is not in the stored code"
                )
        else:
            found.pinned[name] = _pin(name, version, source)
    return found


def usable_lock(provenance: Mapping[str, Any], *, has_uv: bool) -> str | None:
    """The stored lock file that is installed from: its path, relative to the code. None: from the pinned versions.

    Only one that nothing recorded contradicts: what was installed is what ran."""
    reasons = [str(reason) for reason in provenance.get("reasons") or ()]
    for path in provenance.get("lock_files") or {}:
        if any(reason.startswith(f"lock files: {path} is not what is installed") for reason in reasons):
            continue
        name = PurePath(path).name
        if name.endswith(".txt") or (has_uv and (name == "uv.lock" or name.startswith("pylock"))):
            return str(path)
    return None


def _pin(name: str, version: str, source: str) -> str:
    words = source.split(" ")
    try:
        scheme = urlsplit(words[0]).scheme
    except ValueError:
        scheme = ""
    if (
        scheme in ("https", "http", "ssh")
        and len(words) > 2
        and words[1] == "git"
        and _COMMIT.fullmatch(words[2])
    ):
        return f"{name} @ git+{words[0]}@{words[2]}"
    hashes = [word for word in words[1:] if re.fullmatch(r"sha256=[0-9a-f]{64}", word)]
    if scheme in ("https", "http") and hashes:
        return f"{name} @ {words[0].partition('#')[0]}#{hashes[0]}"
    return f"{name}=={version}"
