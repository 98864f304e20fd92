"""Which image this runs in, as far as a process can know it, and how that is known.

    runtime        the container service says so: on ECS and Fargate, which are asked at ECS_CONTAINER_METADATA_URI_V4
    declared       TRAINLEDGER_IMAGE, set by whoever starts the container, with the digest: NAME@sha256:...
    fingerprint    no image, but a digest of what is installed: equal for equal system packages and package contents

A name with a tag is no digest: a tag may be moved. Other container runtimes are asked by the agent, which may be told
more than a process inside.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException

from ..redaction import clean_url, redact

__all__ = ["Image", "find_image"]

ANSWER_BYTES_MAX = 1 << 20
ASK_S_MAX = 2.0
_DIGEST = re.compile(r"(?:^|@)(sha256:[0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Image:
    """`name` is for people; `reason` says why a digest that was hoped for is not known."""

    digest: str | None = None
    source: str | None = None
    name: str | None = None
    reason: str | None = None


def find_image(
    declared: str | None,
    environment: Mapping[str, str],
    system: Mapping[str, str],
    contents: Mapping[str, str],
) -> Image:
    """`declared`: TRAINLEDGER_IMAGE. `system`, `contents`: facts of the machine, and what stands for the packages, for
    the fingerprint. Asks the network only where ECS says that there is somebody; blocks for ASK_S_MAX at most."""
    reasons = []
    uri = environment.get("ECS_CONTAINER_METADATA_URI_V4", "")
    if uri:
        told = _ask_ecs(uri)
        digest = _DIGEST.search(told.get("ImageID", ""))
        if digest is not None:
            return Image(digest[1], "runtime", clean_url(told.get("Image", "")) or None)
        reasons.append("image: the metadata of ECS could not be read")
    name = None if declared is None else redact(clean_url(declared))
    digest = _DIGEST.search(declared or "")
    if digest is not None:
        return Image(digest[1], "declared", name, "; ".join(reasons) or None)
    if declared is not None:
        reasons.append("image: TRAINLEDGER_IMAGE has no digest, and a tag may be moved; give NAME@sha256:...")
    return Image(
        _fingerprint(system, contents), "fingerprint" if contents else None, name, "; ".join(reasons) or None
    )


def _fingerprint(system: Mapping[str, str], contents: Mapping[str, str]) -> str | None:
    if not contents:
        return None
    lists = [f"{name} {system[name]}\n" for name in sorted(system) if name.endswith(".sha256")]
    lists += [f"{name} {contents[name]}\n" for name in sorted(contents)]
    return f"sha256:{hashlib.sha256(''.join(lists).encode()).hexdigest()}"


def _ask_ecs(uri: str) -> dict[str, str]:
    if not uri.startswith("http://"):
        return {}
    # Not at the top: it takes 30 ms to load, for what few places have.
    import urllib.request

    try:
        with urllib.request.urlopen(uri, timeout=ASK_S_MAX) as answer:
            told = json.loads(answer.read(ANSWER_BYTES_MAX))
        return {name: str(told[name]) for name in ("Image", "ImageID") if name in told}
    except (OSError, ValueError, TypeError, HTTPException):  # nobody there, or an answer that is none
        return {}
