"""The document of a code snapshot: which repositories and folders there are, and where their bytes are.

JSON, stored as a blob. The provenance event names it by its SHA-256; `trainledger reproduce` restores from it.

    {"format": 1, "root": folder, "repositories": [{"path", "vcs", "parent", "snapshot", "bundles", ...}, ...]}

Each repository has a commit `snapshot` that holds every file as its raw bytes lay on disk. Its objects are in the
bundles; what they build on (`base`) is had from the remotes. Paths are texts as os.fsdecode makes them: bytes that
are no UTF-8 survive as lone surrogates, which JSON escapes.

The id of a snapshot is a pure function of the snapshot commits: the same code has the same id on every machine.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from .blobs import BlobRef
from .errors import CorruptDataError

__all__ = [
    "OUTSIDE",
    "CodeSnapshot",
    "LeftOut",
    "LfsObject",
    "RepositorySnapshot",
    "decode_snapshot",
    "encode_snapshot",
    "git_object_id",
    "id_of_snapshot",
]

FORMAT = 1
# Folders from outside of the code have paths below this one, in order of their contents.
OUTSIDE = ".outside"
_SVN_BASE = ("remotes", "revisions", "switched", "depths", "properties")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that was not stored, relative to the snapshot's root, and why; size and digest as far as known."""

    path: str
    size_bytes: int | None
    sha256: str | None
    why: str


@dataclass(frozen=True, slots=True)
class LfsObject:
    """An unchanged file under Git LFS: the repository has its pointer only. `is_stored`: its bytes are a blob."""

    path: str
    sha256: str
    size_bytes: int
    is_stored: bool


@dataclass(frozen=True, slots=True)
class RepositorySnapshot:
    """One repository or folder; `path` is relative to the root, "" for the outermost.

    vcs: git, svn or None for a plain folder. object_format: sha1 or sha256. head: the commit of the user's HEAD, or
    the revision. parent: the commit on which the snapshot lies. base: the commits that a remote must give.
    config: settings of git that decide how `parent` is checked out. remotes: name to address, without secrets.
    empty_folders: relative to this repository. deleted: of svn, files of the revision that were gone; of git, files and
    whole folders that are in the snapshot and were not on disk, because the checkout was sparse. raw: unchanged files
    that lay on disk as they are stored, where a checkout writes other line ends or the like. ignored: files and whole
    folders (with / at the end) that git was told to ignore and that are not in the snapshot; of very many the first.

    Of svn alone: revisions, path to revision where it is another than that of the folder around it; switched, path to
    address where it is another than its place says; depths, folders that are not there as a whole; properties, (path,
    name, value) of those that were changed, None for one that was taken away.

    Of modules from outside of the code: place, the folder of the module path that they lay in, absolute.
    """

    path: str
    vcs: str | None
    object_format: str
    head: str | None
    branch: str | None
    parent: str | None
    snapshot: str
    tree: str
    base: tuple[str, ...] = ()
    bundles: tuple[BlobRef, ...] = ()
    remotes: tuple[tuple[str, str], ...] = ()
    config: tuple[tuple[str, str], ...] = ()
    empty_folders: tuple[str, ...] = ()
    lfs: tuple[LfsObject, ...] = ()
    deleted: tuple[str, ...] = ()
    revisions: tuple[tuple[str, str], ...] = ()
    raw: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    switched: tuple[tuple[str, str], ...] = ()
    depths: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, str, str | None], ...] = ()
    place: str | None = None


@dataclass(frozen=True, slots=True)
class CodeSnapshot:
    """All of it. `root`: the folder of the outermost repository, absolute, where it was."""

    root: str
    repositories: tuple[RepositorySnapshot, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def snapshot_id(self) -> str:
        """See `id_of_snapshot`."""
        return id_of_snapshot(self.repositories)


def id_of_snapshot(repositories: Iterable[RepositorySnapshot]) -> str:
    """The id of the code in these repositories: SHA-256 over paths, snapshot commits and empty folders."""
    digest = hashlib.sha256(b"code/1\0")
    for repository in sorted(repositories, key=lambda r: os.fsencode(r.path)):
        # A sparse checkout is the same code as a whole one.
        deleted = [] if repository.vcs == "git" else [f"-{path}" for path in sorted(repository.deleted)]
        # A snapshot of Subversion holds only what differs from the revisions.
        base = (
            [repr((repository.head, *getattr(repository, name))) for name in _SVN_BASE]
            if repository.vcs == "svn"
            else []
        )
        for part in (
            repository.path,
            repository.snapshot,
            *sorted(repository.empty_folders),
            *deleted,
            *base,
        ):
            digest.update(os.fsencode(part) + b"\0")
        digest.update(b"\0")
    return digest.hexdigest()


def git_object_id(kind: str, data: bytes, object_format: str) -> str:
    """The id that git gives to an object: SHA of `<kind> <size>`, a zero byte and the bytes."""
    digest = hashlib.new(object_format)
    digest.update(f"{kind} {len(data)}\0".encode("ascii"))
    digest.update(data)
    return digest.hexdigest()


def encode_snapshot(snapshot: CodeSnapshot) -> bytes:
    """The document, the same bytes for the same snapshot."""
    return json.dumps({"format": FORMAT} | asdict(snapshot), sort_keys=True, separators=(",", ":")).encode()


def decode_snapshot(document: bytes) -> CodeSnapshot:
    """Read a document; raises CorruptDataError when it is none, or of a newer format."""
    try:
        told = json.loads(document)
        if told["format"] != FORMAT:
            raise CorruptDataError(
                f"the code snapshot has format {told['format']}, this version reads {FORMAT}; install a newer one"
            )
        return CodeSnapshot(
            root=str(told["root"]),
            repositories=tuple(_repository(entry) for entry in told["repositories"]),
            left_out=tuple(LeftOut(**entry) for entry in told["left_out"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptDataError(f"not a code snapshot: {error!r}") from error


def _repository(entry: dict[str, Any]) -> RepositorySnapshot:
    known = {field.name for field in fields(RepositorySnapshot)}
    plain = {name: value for name, value in entry.items() if name in known}
    for name in ("base", "empty_folders", "deleted", "raw", "ignored"):
        plain[name] = tuple(str(item) for item in plain.get(name, ()))
    for name in ("remotes", "config", "revisions", "switched", "depths"):
        plain[name] = tuple((str(key), str(value)) for key, value in plain.get(name, ()))
    plain["properties"] = tuple((str(p), str(n), v) for p, n, v in plain.get("properties", ()))
    plain["bundles"] = tuple(BlobRef(str(sha), int(size)) for sha, size in plain.get("bundles", ()))
    plain["lfs"] = tuple(LfsObject(**item) for item in plain.get("lfs", ()))
    return RepositorySnapshot(**plain)
