"""Which blobs an event names, and which blobs those name in turn.

    artifact_logged   a file, or the tree of a folder with its files
    dataset_used      the tree of a folder, without its files: they stay where they are
    provenance        the document of a code snapshot with its bundles and contents of Git LFS; a patch; lock files

Walks give a document before what it names. Whoever stores them in that order can say of a document that is not
there: nothing that it alone names is relied on.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .code_snapshot import decode_snapshot
from .tree_manifest import ReadNode, parse_node

__all__ = [
    "DOCUMENTS",
    "FILE",
    "NAMING_EVENTS",
    "SNAPSHOT",
    "TREE",
    "TREE_WITH_FILES",
    "Named",
    "named_blobs",
    "named_inside",
    "walk_named",
]

FILE, TREE, TREE_WITH_FILES, SNAPSHOT = "file", "tree", "tree with files", "snapshot"
DOCUMENTS = frozenset({TREE, TREE_WITH_FILES, SNAPSHOT})
_DIGEST = re.compile(r"[0-9a-f]{64}")
NAMING_EVENTS = ("artifact_logged", "dataset_used", "provenance")


class Named(NamedTuple):
    """A blob that something names, and what it is: FILE, TREE, TREE_WITH_FILES or SNAPSHOT."""

    sha256: str
    kind: str


def named_blobs(event_type: str, body: Mapping[str, Any]) -> list[Named]:
    """What an event names; `body` as it is in the event, ids apart. Nothing of other events."""
    if event_type == "provenance":
        found = [
            Named(body.get("snapshot_sha256") or "", SNAPSHOT),
            Named(body.get("patch_sha256") or "", FILE),
        ]
        found += [Named(sha256, FILE) for sha256 in (body.get("lock_files") or {}).values()]
    elif event_type == "dataset_used":
        found = [Named(body.get("manifest_sha256") or "", TREE)]
    elif event_type == "artifact_logged":
        manifest = body.get("manifest_sha256")
        digest = str(body.get("digest") or "").removeprefix("sha256:") if body.get("is_stored") else ""
        found = [Named(manifest, TREE_WITH_FILES) if manifest else Named(digest, FILE)]
    else:
        found = []
    # Events of runs hold what a training said: only what is a digest can be the name of a blob.
    return [item for item in found if _DIGEST.fullmatch(item.sha256)]


def walk_named(named: Named, read: ReadNode, *, seen: set[Named] | None = None) -> Iterator[Named]:
    """A blob and all that it names, each once, documents first; `seen` are left out and added to.

    Raises as `read` does, and CorruptDataError, when a document was given out already: the walk then ends there."""
    seen = set() if seen is None else seen
    if named in seen:
        return
    seen.add(named)
    yield named
    if named.kind in DOCUMENTS:
        for inner in named_inside(named, read(named.sha256)):
            yield from walk_named(inner, read, seen=seen)


def named_inside(document: Named, data: bytes) -> list[Named]:
    """What a document of these bytes names; raises CorruptDataError."""
    if document.kind == SNAPSHOT:
        found = []
        for repository in decode_snapshot(data).repositories:
            found += [Named(bundle.sha256, FILE) for bundle in repository.bundles]
            found += [Named(item.sha256, FILE) for item in repository.lfs if item.is_stored]
        return found
    has_files = document.kind == TREE_WITH_FILES
    return [
        Named(child.sha256, document.kind if child.type == "d" else FILE)
        for child in parse_node(data)
        if child.type == "d" or (has_files and child.type in "fx")
    ]
