"""Whether the document of a snapshot asks for nothing but files in the new folder. Pure.

A document is data that anybody may have written who may write blobs. What git and svn are told from it must be ids,
relative places and three known settings: `filter.x.smudge` among the settings would be a program that a checkout runs.
"""

import re
from collections.abc import Iterable, Iterator

from trainledger_schemas.code_snapshot import OUTSIDE, CodeSnapshot, RepositorySnapshot
from trainledger_schemas.errors import CorruptDataError

__all__ = ["SETTINGS", "check_snapshot"]

# What decides how a commit is checked out; see the capture.
SETTINGS = frozenset({"core.autocrlf", "core.eol", "core.symlinks"})
_VALUES = re.compile(r"[a-z]{0,10}")
_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_OUTSIDE = re.compile(re.escape(OUTSIDE) + "/[0-9]{1,4}")
_REVISION = re.compile(r"[0-9]{1,10}")


def check_snapshot(snapshot: CodeSnapshot) -> CodeSnapshot:
    """The same; raises CorruptDataError for one that asks for more."""
    for repository in snapshot.repositories:
        for problem in _problems(repository):
            raise CorruptDataError(
                f"the snapshot of {repository.path or 'the repository'} is refused: {problem[:200]}; it was not "
                "written by a capture"
            )
    return snapshot


def _problems(wanted: RepositorySnapshot) -> Iterator[str]:
    if wanted.vcs not in ("git", "svn", None):
        yield f"it is of {wanted.vcs!r}"
    if wanted.object_format not in ("sha1", "sha256"):
        yield f"object format {wanted.object_format!r}"
    ids = [wanted.snapshot, wanted.tree, *wanted.base]
    ids += [wanted.parent] if wanted.parent is not None else []
    yield from (f"{oid!r} is no object" for oid in ids if not _ID.fullmatch(oid))
    for name, value in wanted.config:
        if name.lower() not in SETTINGS or not _VALUES.fullmatch(value):
            yield f"setting {name}={value!r}"
    if wanted.vcs == "svn":
        revisions = [str(wanted.head), *(revision for _, revision in wanted.revisions)]
        yield from (
            f"{revision!r} is no revision" for revision in revisions if not _REVISION.fullmatch(revision)
        )
    yield from (f"path {path!r}" for path in _paths(wanted) if _leads_out(path))
    if wanted.place is not None and not (
        wanted.vcs is None and wanted.place.startswith("/") and _OUTSIDE.fullmatch(wanted.path)
    ):
        yield f"place {wanted.place!r}"


def _paths(wanted: RepositorySnapshot) -> Iterable[str]:
    yield wanted.path
    yield from wanted.empty_folders
    yield from wanted.deleted
    for pairs in (wanted.revisions, wanted.switched, wanted.depths):
        yield from (path for path, _ in pairs)
    yield from (path for path, _, _ in wanted.properties)


def _leads_out(path: str) -> bool:
    return path.startswith("/") or ".." in path.split("/") or "\0" in path
