"""The snapshot of a folder where git is not installed, as in many container images: what git would make, made here.

The commit has the id that git gives to the same files, and the bundle is one that git reads: restoring needs git,
storing does not. What a `.gitignore` says is not known; limits, withheld secrets and the folders that are never taken
are the same. Version 2 of a bundle and of a pack, without deltas:

    "# v2 git bundle\n" <commit> " refs/trainledger/snapshot\n" "\n"
    "PACK" u32 2, u32 objects, (type and size, zlib stream) * objects, SHA-1 of the pack
"""

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.code_snapshot import git_object_id

from .raw_snapshot import SNAPSHOT_MESSAGE, SNAPSHOT_REF
from .selection import NAMES_MAX, passed_over

__all__ = ["GitlessSnapshot", "list_files", "write_snapshot"]

_TYPES = {"commit": 1, "tree": 2, "blob": 3}
_WHO = b"trainledger <code@trainledger> 1 +0000"
_FORM = "sha1"
_LISTED_MAX = 10 * NAMES_MAX

Tree = dict[bytes, "Tree | tuple[str, str]"]


@dataclass(slots=True)
class GitlessSnapshot:
    """Ids of the commit and its tree, and files that could not be read after all."""

    commit: str
    tree: str
    gone: list[bytes] = field(default_factory=list)


def list_files(top: Path, *, never: tuple[bytes, ...] = ()) -> tuple[list[bytes], list[str]]:
    """Files and links below `top`, and its empty folders; of very many the first."""
    root = os.fsencode(top)
    files: list[bytes] = []
    empty: list[str] = []
    for folder, names, here in os.walk(root):
        if len(files) > _LISTED_MAX:
            break
        relative = b"" if folder == root else os.path.relpath(folder, root) + b"/"
        if relative and not names and not here:
            empty.append(os.fsdecode(relative.rstrip(b"/")))
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        files += [relative + name for name in sorted((*here, *links)) if name != b".git"]
        names[:] = sorted(
            name
            for name in names
            if name not in links
            and not passed_over([relative + name + b"/"])
            and not (relative + name + b"/").startswith(never)
            and not any(
                os.path.lexists(os.path.join(folder, name, mark)) for mark in (b"pyvenv.cfg", b"conda-meta")
            )
        )
    return files, empty


def write_snapshot(top: Path, paths: Iterable[bytes], bundle: Path) -> GitlessSnapshot:
    """Write the bundle of a commit that holds these files; raises OSError when it cannot be written."""
    tree: Tree = {}
    blobs: dict[str, bytes] = {}
    gone: list[bytes] = []
    for path in paths:
        entry = _read(os.fsencode(top) + b"/" + path)
        if entry is None:
            gone.append(path)
            continue
        mode, data = entry
        oid = git_object_id("blob", data, _FORM)
        # Compressed at once: the files together may be larger than what the training leaves of the memory.
        blobs.setdefault(oid, _packed("blob", data))
        *folders, name = path.split(b"/")
        place = tree
        for part in folders:
            inner = place.setdefault(part, {})
            place = inner if isinstance(inner, dict) else {}
        place[name] = (mode, oid)
    objects = dict(blobs)
    root = _add_tree(tree, objects)
    text = b"tree %s\nauthor %s\ncommitter %s\n\n%s" % (root.encode(), _WHO, _WHO, SNAPSHOT_MESSAGE)
    commit = git_object_id("commit", text, _FORM)
    objects[commit] = _packed("commit", text)
    with open(bundle, "wb") as file:
        file.write(f"# v2 git bundle\n{commit} {SNAPSHOT_REF}\n\n".encode())
        digest = hashlib.sha1(usedforsecurity=False)
        for part in (b"PACK" + struct.pack(">II", 2, len(objects)), *objects.values()):
            digest.update(part)
            file.write(part)
        file.write(digest.digest())
    return GitlessSnapshot(commit, root, gone)


def _read(place: bytes) -> tuple[str, bytes] | None:
    try:
        status = os.lstat(place)
        if stat.S_ISLNK(status.st_mode):
            return "120000", os.readlink(place)
        with open(place, "rb") as file:
            return ("100755" if status.st_mode & stat.S_IXUSR else "100644"), file.read()
    except OSError:
        return None


def _add_tree(tree: Tree, objects: dict[str, bytes]) -> str:
    entries: list[tuple[bytes, bytes]] = []
    for name, entry in tree.items():
        if isinstance(entry, dict):
            oid = _add_tree(entry, objects)
            # Sorted as if a folder's name ended in a slash.
            entries.append((name + b"/", b"40000 " + name + b"\0" + bytes.fromhex(oid)))
        else:
            entries.append((name, entry[0].encode() + b" " + name + b"\0" + bytes.fromhex(entry[1])))
    data = b"".join(line for _, line in sorted(entries))
    oid = git_object_id("tree", data, _FORM)
    objects[oid] = _packed("tree", data)
    return oid


def _packed(kind: str, data: bytes) -> bytes:
    return bytes(_head(_TYPES[kind], len(data))) + zlib.compress(data, 1)


def _head(kind: int, size: int) -> Iterator[int]:
    """Type and size: four bits of the size, then seven a byte, the lowest first; the highest bit says more follows."""
    byte, size = kind << 4 | size & 15, size >> 4
    while size:
        yield byte | 0x80
        byte, size = size & 0x7F, size >> 7
    yield byte
