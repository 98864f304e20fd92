"""Manifests of folders: a node a folder, named by the SHA-256 of its bytes, so equal folders are stored once.

    node    b"trainledger tree 1\\n", then its children in the order of the bytes of their names
    child   type SP size SP sha256 SP name NUL             of a link, its target NUL follows

    f  a file          x  a file that may be executed       size: its bytes; sha256: of its bytes
    d  a folder                                             size: bytes of all files in it; sha256: of its node
    l  a symbolic link                                      size: bytes of its target; sha256: of its target

The digest of a folder is that of its top node. No time, owner, inode or path above it is in it, so a copy has the
same digest. Names are bytes and taken as they are; an empty folder is a node without children.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .errors import CorruptDataError

__all__ = [
    "DEPTH_MAX",
    "EMPTY_FOLDER",
    "Change",
    "Child",
    "ReadNode",
    "compare_trees",
    "encode_node",
    "parse_node",
    "walk_tree",
]

_MAGIC = b"trainledger tree 1\n"
_TYPES = frozenset(b"fxdl")
DEPTH_MAX = 1000

ReadNode = Callable[[str], bytes]
"""The bytes of the node of a digest."""


class Child(NamedTuple):
    """What stands in a folder under a name; `sha256` in hexadecimal digits, `target` of a link only."""

    type: str
    size_bytes: int
    sha256: str
    name: bytes
    target: bytes = b""


class Change(NamedTuple):
    """A difference of two trees: added, removed, changed, or renamed from `old_path` with the same bytes."""

    what: str
    path: bytes
    old_path: bytes = b""


def encode_node(children: Iterable[Child]) -> bytes:
    """The bytes of a folder's node; its digest is their SHA-256."""
    parts = [_MAGIC]
    for child in sorted(children, key=lambda child: child.name):
        parts.append(
            b"%s %d %s %s\0" % (child.type.encode(), child.size_bytes, child.sha256.encode(), child.name)
        )
        if child.type == "l":
            parts.append(child.target + b"\0")
    return b"".join(parts)


EMPTY_FOLDER = hashlib.sha256(_MAGIC).hexdigest()


def parse_node(data: bytes) -> list[Child]:
    """The children of a node; raises CorruptDataError."""
    if not data.startswith(_MAGIC):
        raise CorruptDataError("not a node of a manifest: it does not begin with its mark")
    fields = data[len(_MAGIC) :].split(b"\0")
    if fields.pop() != b"":
        raise CorruptDataError("the node of a manifest is cut off")
    children = []
    texts = iter(fields)
    for text in texts:
        try:
            kind, size, sha256, name = text.split(b" ", 3)
            if len(kind) != 1 or kind[0] not in _TYPES or len(sha256) != 64 or not name or b"/" in name:
                raise ValueError
            target = next(texts) if kind == b"l" else b""
            child = Child(kind.decode(), int(size), sha256.decode("ascii"), name, target)
        except (ValueError, StopIteration):
            raise CorruptDataError(f"a line of a manifest makes no sense: {text[:80]!r}") from None
        children.append(child)
    return children


def walk_tree(top: str, read: ReadNode, *, prefix: bytes = b"") -> Iterator[tuple[bytes, Child]]:
    """Everything in a tree with its path, folders before what is in them; raises as `read` and `parse_node`."""
    if prefix.count(b"/") > DEPTH_MAX:
        raise CorruptDataError(f"a manifest is more than {DEPTH_MAX} folders deep")
    for child in parse_node(read(top)):
        yield prefix + child.name, child
        if child.type == "d":
            yield from walk_tree(child.sha256, read, prefix=prefix + child.name + b"/")


def compare_trees(old: str, new: str, read: ReadNode) -> list[Change]:
    """What became of `old`, by path; equal folders are not read. Folders are told only when they are empty."""
    gone: dict[bytes, Child] = {}
    came: dict[bytes, Child] = {}
    changed: list[bytes] = []
    _compare(old, new, read, prefix=b"", found=(gone, came, changed))
    by_content: dict[tuple[str, str], list[bytes]] = {}
    for path, child in sorted(gone.items(), reverse=True):
        by_content.setdefault((child.type, child.sha256), []).append(path)
    changes = [Change("changed", path) for path in changed]
    for path, child in sorted(came.items()):
        # An empty file or folder is like any other: no name that it had before.
        sources = by_content.get((child.type, child.sha256)) if child.size_bytes else None
        if sources:
            old_path = sources.pop()
            del gone[old_path]
            changes.append(Change("renamed", path, old_path))
        else:
            changes.append(Change("added", path))
    changes += [Change("removed", path) for path in gone]
    # A file that became an empty folder, or the other way round, is removed before it is added.
    return sorted(changes, key=lambda change: (change.path, change.what != "removed"))


_Found = tuple[dict[bytes, Child], dict[bytes, Child], list[bytes]]


def _compare(old: str, new: str, read: ReadNode, *, prefix: bytes, found: _Found) -> None:
    if old == new:
        return
    before = {child.name: child for child in parse_node(read(old))}
    after = {child.name: child for child in parse_node(read(new))}
    for name in before.keys() | after.keys():
        was, now, path = before.get(name), after.get(name), prefix + name
        if was == now:
            continue
        if was is not None and now is not None:
            if was.type == now.type == "d":
                _compare(was.sha256, now.sha256, read, prefix=path + b"/", found=found)
                continue
            if "d" not in (was.type, now.type):
                found[2].append(path)
                continue
        for side, child in ((found[0], was), (found[1], now)):
            if child is not None:
                _spread(child, path, read, side)


def _spread(child: Child, path: bytes, read: ReadNode, side: dict[bytes, Child]) -> None:
    if child.type != "d" or child.sha256 == EMPTY_FOLDER:
        side[path] = child
        return
    for inner, item in walk_tree(child.sha256, read, prefix=path + b"/"):
        if item.type != "d" or item.sha256 == EMPTY_FOLDER:
            side[inner] = item
