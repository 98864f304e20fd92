"""The inputs of a run before it is repeated: where each is now, and whether its bytes are those that the run read.

An input is looked for where it was told to be now (`--data OLD=NEW`), in the restored code if it lay in the code, or
where it was. Everything is read and hashed; nothing is cached. Guarantees: nothing is written; links are not followed.
Limits: what has no bytes here (an object of S3, a version of another system alone) is named and not checked.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainledger_schemas.blobs import BlobSource, sha256_of
from trainledger_schemas.errors import TrainledgerError, UsageError
from trainledger_schemas.tree_manifest import Child, compare_trees, encode_node

__all__ = ["CheckedInput", "PathMapping", "check_inputs", "map_path", "parse_mapping"]

DIFFERENCES_TOLD_MAX = 10

PathMapping = tuple[str, str]
"""An old path and what stands for it now."""


@dataclass(frozen=True, slots=True)
class CheckedInput:
    """`problem`: why it is not what the run read; None when it is, or cannot be checked (`is_checked`)."""

    name: str
    place: str
    is_checked: bool
    problem: str | None = None
    differences: tuple[str, ...] = ()


def parse_mapping(text: str) -> PathMapping:
    """OLD=NEW, both whole paths; raises UsageError."""
    old, equals, new = text.partition("=")
    if not equals or not os.path.isabs(old) or not new:
        raise UsageError(
            f"--data {text!r}: write OLD=NEW, the path that the run used and what stands for it now"
        )
    if not os.path.exists(new):
        raise UsageError(f"--data {text!r}: there is no {new}")
    return os.path.normpath(old), os.path.abspath(new)


def map_path(path: str, mappings: Iterable[PathMapping]) -> str | None:
    """The path after the longest mapping that covers it; None when none does."""
    for old, new in sorted(mappings, key=lambda mapping: len(mapping[0]), reverse=True):
        if path == old or path.startswith(old.rstrip("/") + "/"):
            return os.path.normpath(os.path.join(new, os.path.relpath(path, old)))
    return None


def check_inputs(
    inputs: Sequence[Mapping[str, Any]],
    *,
    mappings: Sequence[PathMapping],
    code: PathMapping | None,
    blobs: BlobSource,
) -> list[CheckedInput]:
    """Look at each input; `code`: the old folder of the code and the restored one. Blocks: all bytes are read."""
    return [_check(given, mappings=mappings, code=code, blobs=blobs) for given in inputs]


def _check(
    given: Mapping[str, Any], *, mappings: Sequence[PathMapping], code: PathMapping | None, blobs: BlobSource
) -> CheckedInput:
    name, digest, uri = str(given["name"]), given.get("digest"), given.get("uri")
    if uri is None:
        if digest is not None and blobs.has(str(digest).removeprefix("sha256:")):
            return CheckedInput(name, "kept in this ledger", True)
        return CheckedInput(name, "an artifact of this ledger", False)
    if not os.path.isabs(uri):
        return CheckedInput(name, str(uri), False)
    place = map_path(uri, mappings)
    if place is None and code is not None:
        inside = map_path(uri, [code])
        place = inside if inside is not None and os.path.lexists(inside) else None
    place = place or str(uri)
    if digest is None or given.get("status") != "complete":
        missing = None if os.path.exists(place) else f"there is no {place}"
        return CheckedInput(name, place, False, missing)
    return _compare(name, place, str(digest).removeprefix("sha256:"), given.get("manifest_sha256"), blobs)


def _compare(name: str, place: str, wanted: str, manifest: str | None, blobs: BlobSource) -> CheckedInput:
    nodes: dict[str, bytes] = {}
    try:
        found = sha256_of(Path(place)) if manifest is None else _scan_top(place, nodes)
    except OSError as error:
        hint = "give its place now with --data OLD=NEW"
        return CheckedInput(name, place, True, f"{place}: {error.strerror}; {hint}")
    if found == wanted:
        return CheckedInput(name, place, True)
    differences: tuple[str, ...] = ()
    if manifest is not None:
        differences = _differences(manifest, found, _reader(nodes, blobs))
    return CheckedInput(
        name, place, True, f"{place} is not what the run read (sha256 {found[:12]}...)", differences
    )


def _differences(old: str, new: str, read: Callable[[str], bytes]) -> tuple[str, ...]:
    try:
        changes = compare_trees(old, new, read)
    except TrainledgerError:
        return ("which files differ cannot be told: the list of the old ones is not here",)
    told = [
        f"{change.what} {_shown(change.path)}"
        + (f" (was {_shown(change.old_path)})" if change.old_path else "")
        for change in changes[:DIFFERENCES_TOLD_MAX]
    ]
    if len(changes) > DIFFERENCES_TOLD_MAX:
        told.append(f"and {len(changes) - DIFFERENCES_TOLD_MAX} more")
    return tuple(told)


def _reader(nodes: Mapping[str, bytes], blobs: BlobSource) -> Callable[[str], bytes]:
    return lambda sha256: nodes[sha256] if sha256 in nodes else blobs.read(sha256)


def _scan_top(folder: str, nodes: dict[str, bytes]) -> str:
    return _scan(os.fsencode(os.path.realpath(folder)), nodes)[0]


def _scan(folder: bytes, nodes: dict[str, bytes]) -> tuple[str, int]:
    """Digest and size of a folder as the SDK's scan has them; its nodes go into `nodes`."""
    children: list[Child] = []
    for entry in os.scandir(folder):
        if entry.is_symlink():
            target = os.readlink(entry.path)
            children.append(Child("l", len(target), hashlib.sha256(target).hexdigest(), entry.name, target))
        elif entry.is_dir(follow_symlinks=False):
            digest, size = _scan(entry.path, nodes)
            children.append(Child("d", size, digest, entry.name))
        else:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                kind = "x" if status.st_mode & 0o111 else "f"
                digest = sha256_of(Path(os.fsdecode(entry.path)))
                children.append(Child(kind, status.st_size, digest, entry.name))
    node = encode_node(children)
    digest = hashlib.sha256(node).hexdigest()
    nodes[digest] = node
    return digest, sum(child.size_bytes for child in children if child.type != "l")


def _shown(path: bytes) -> str:
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()
