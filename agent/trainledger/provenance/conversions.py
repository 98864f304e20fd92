"""Files that differ from the repository only by git's conversions: line ends, `ident`, and Git LFS pointers.

In such a file the bytes on disk are not the stored bytes, and yet nothing was changed. Built-in conversions are
asked of git; an LFS pointer names the SHA-256 of the file. A filter of any other kind is never run, so a file under
one counts as changed.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.code_snapshot import LfsObject, git_object_id

from .git import Git
from .programs import UnavailableError

__all__ = ["ConvertedFiles", "lfs_objects", "parse_pointer", "read_converted", "unchanged_after_conversion"]

COMPARED_MAX = 300
CONVERTED_MAX = 20_000
LFS_OBJECTS_MAX = 5000
_ATTRIBUTES = ("filter", "text", "eol", "ident", "working-tree-encoding")
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES_MAX = 1024
_BLOCK_BYTES = 1 << 20


def unchanged_after_conversion(user: Git, stored: Mapping[bytes, str]) -> set[bytes]:
    """Of these changed paths (with the ids that the repository has), those whose bytes on disk are no change."""
    if not stored:
        return set()
    is_converted = user.ask("config", "--get", "core.autocrlf") not in (None, b"false")
    attributes = _attributes(user, list(stored))
    same = set()
    for path in [p for p in stored if is_converted or attributes.get(p)][:COMPARED_MAX]:
        try:
            if attributes.get(path, {}).get(b"filter") == b"lfs":
                is_same = _is_lfs_content(user, path, stored[path])
            else:
                is_same = _is_checked_out(user, path, stored[path])
        except (UnavailableError, OSError):
            continue
        if is_same:
            same.add(path)
    return same


@dataclass(slots=True)
class ConvertedFiles:
    """Tracked files under a built-in conversion: `otherwise` have other bytes on disk than the index names (path to
    id); `raw` have those very bytes, where a new checkout would write others."""

    otherwise: dict[bytes, str] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)


def read_converted(user: Git) -> ConvertedFiles:
    """Look at them whatever git thinks: it calls a file clean when its time is.

    After `git commit` of a file with LF under eol=crlf a new checkout would give CRLF. Reads every file under a
    conversion; of very many the first CONVERTED_MAX."""
    found = ConvertedFiles()
    if not _has_conversions(user):
        return found
    entries = [entry.partition(b"\t") for entry in user.lines("ls-files", "-s", "-z")]
    ids = {path: head.split(b" ")[1].decode("ascii") for head, _, path in entries if head.startswith(b"100")}
    is_converted = user.ask("config", "--get", "core.autocrlf") not in (None, b"false")
    attributes = _attributes(user, list(ids))
    wanted = [path for path in ids if is_converted or not {b"filter"}.issuperset(attributes.get(path, {}))]
    compared = 0
    for path in wanted[:CONVERTED_MAX]:
        try:
            data = Path(os.fsdecode(os.fsencode(user.top) + b"/" + path)).read_bytes()
        except OSError:
            continue
        told = attributes.get(path, {})
        if git_object_id("blob", data, "sha256" if len(ids[path]) == 64 else "sha1") != ids[path]:
            found.otherwise[path] = ids[path]
        elif compared < COMPARED_MAX and (
            is_converted
            or told.get(b"eol") == b"crlf"
            or b"ident" in told
            or b"working-tree-encoding" in told
        ):
            compared += 1
            if not _is_checked_out(user, path, ids[path]):
                found.raw.append(path)
    return found


def _has_conversions(user: Git) -> bool:
    if user.ask("config", "--get-regexp", r"^core\.(autocrlf|attributesfile)$"):
        return True
    own = user.ask("rev-parse", "--git-path", "info/attributes")
    if own is not None and (user.top / os.fsdecode(own)).exists():
        return True
    return bool(user.run("ls-files", "-z", "--", ":(glob)**/.gitattributes"))


def lfs_objects(user: Git) -> list[LfsObject]:
    """Files under LFS whose content, not only the pointer, is on disk; none of them is stored yet."""
    entries = user.lines("ls-files", "-s", "-z", "--", ":(attr:filter=lfs)")[:LFS_OBJECTS_MAX]
    places = [entry.partition(b"\t")[2] for entry in entries]
    ids = b"".join(entry.split(b" ", 2)[1] + b"\n" for entry in entries)
    answer = user.run("cat-file", "--batch", stdin=ids) if entries else b""
    found = []
    for path in places:
        head, _, answer = answer.partition(b"\n")
        size = int(head.rsplit(b" ", 1)[-1]) if b" blob " in head else 0
        pointer, answer = parse_pointer(answer[:size]), answer[size + 1 :]
        if pointer is not None and _has_size(user.top, path, pointer[1]):
            found.append(LfsObject(os.fsdecode(path), pointer[0], pointer[1], is_stored=False))
    return found


def parse_pointer(data: bytes) -> tuple[str, int] | None:
    """SHA-256 and size that an LFS pointer names; None for anything else."""
    if len(data) > _POINTER_BYTES_MAX or not data.startswith(_POINTER):
        return None
    fields = dict(line.partition(" ")[::2] for line in data.decode("utf-8", "replace").splitlines())
    oid, size = fields.get("oid", ""), fields.get("size", "")
    if not oid.startswith("sha256:") or len(oid) != 71 or not size.isdecimal():
        return None
    return oid[7:], int(size)


def _attributes(user: Git, paths: list[bytes]) -> dict[bytes, dict[bytes, bytes]]:
    stdin = b"".join(path + b"\0" for path in paths)
    parts = user.run("check-attr", "-z", "--stdin", *_ATTRIBUTES, stdin=stdin).split(b"\0")
    found: dict[bytes, dict[bytes, bytes]] = {}
    for path, name, value in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if value not in (b"unspecified", b"unset"):
            found.setdefault(path, {})[name] = value
    return found


def _is_lfs_content(user: Git, path: bytes, oid: str) -> bool:
    pointer = parse_pointer(user.run("cat-file", "blob", oid))
    if pointer is None:
        return False
    digest = hashlib.sha256()
    with open(os.fsencode(user.top) + b"/" + path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest() == pointer[0]


def _is_checked_out(user: Git, path: bytes, oid: str) -> bool:
    written = user.run("cat-file", "--filters", f"--path={os.fsdecode(path)}", oid)
    return written == Path(os.fsdecode(os.fsencode(user.top) + b"/" + path)).read_bytes()


def _has_size(top: Path, path: bytes, size: int) -> bool:
    try:
        return os.lstat(os.fsencode(top) + b"/" + path).st_size == size
    except OSError:
        return False
