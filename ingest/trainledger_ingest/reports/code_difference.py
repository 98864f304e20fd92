"""What differs between the stored code of two runs, file by file, from their snapshots; nothing is checked out.

Both snapshots are fetched into an empty repository of git that is removed afterwards. What their bundles build on is
had from the repository in which the run was started, where it is still on this machine, else from its remotes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.code_snapshot import CodeSnapshot, RepositorySnapshot
from trainledger_schemas.errors import TrainledgerError

from ..reproduce.git_command import GitCommand, GitFailedError

__all__ = ["CodeDifference", "FileChange", "compare_code"]

# Whatever the user's git is configured to, the answer has one form.
_DIFF = "diff --no-ext-diff --no-textconv --no-color --no-renames --src-prefix=a/ --dst-prefix=b/".split()


@dataclass(frozen=True, slots=True)
class FileChange:
    """Lines that were added and removed; None for a file that is no text."""

    path: str
    added: int | None
    removed: int | None

    def __str__(self) -> str:
        return "binary" if self.added is None else f"+{self.added} -{self.removed}"


@dataclass(slots=True)
class CodeDifference:
    """`patch` turns the first code into the second; `problems`: what could not be compared, and why."""

    files: list[FileChange] = field(default_factory=list)
    patch: str = ""
    problems: list[str] = field(default_factory=list)


def compare_code(
    first: CodeSnapshot, second: CodeSnapshot, *, blobs: BlobSource, environment: Mapping[str, str]
) -> CodeDifference:
    """Compare all repositories of two snapshots. Blocks, also for the network; needs git. Never raises for what is
    missing: that is a problem in the answer."""
    difference = CodeDifference()
    sides = [{repository.path: repository for repository in code.repositories} for code in (first, second)]
    for path in sorted({*sides[0], *sides[1]}):
        one, other = sides[0].get(path), sides[1].get(path)
        name = path or "the repository"
        if one is None or other is None:
            difference.problems.append(f"{name} is only in the {'second' if one is None else 'first'} run")
        elif (one.tree, one.head if one.vcs == "svn" else "") != (
            other.tree,
            other.head if other.vcs == "svn" else "",
        ):
            try:
                _compare_repository((first.root, one), (second.root, other), blobs, environment, difference)
            except (TrainledgerError, OSError) as error:
                difference.problems.append(f"{name}: {error}")
    return difference


def _compare_repository(
    first: tuple[str, RepositorySnapshot],
    second: tuple[str, RepositorySnapshot],
    blobs: BlobSource,
    environment: Mapping[str, str],
    difference: CodeDifference,
) -> None:
    one, other = first[1], second[1]
    if "svn" in (one.vcs, other.vcs) and one.head != other.head:
        difference.problems.append(
            f"{one.path or 'the repository'}: revisions {one.head} and {other.head} of Subversion are not compared, "
            "only what was changed on top of them"
        )
    if one.object_format != other.object_format:
        raise TrainledgerError(f"ids of {one.object_format} and {other.object_format} cannot be compared")
    with TemporaryDirectory(prefix="trainledger-compare-") as temporary:
        top = Path(temporary) / "code"
        top.mkdir()
        git = GitCommand(top, environment)
        git.run("init", "-q", "--bare", f"--object-format={one.object_format}", "--template=")
        for root, wanted in (first, second):
            _fetch(git, Path(root) / wanted.path, wanted, blobs=blobs, environment=environment)
        trees = (one.tree, other.tree)
        prefix = f"{one.path}/" if one.path else ""
        difference.files += _changes(git.run(*_DIFF, "--numstat", "-z", *trees), prefix)
        prefixes = (f"--src-prefix=a/{prefix}", f"--dst-prefix=b/{prefix}")
        difference.patch += os.fsdecode(git.run(*_DIFF, *prefixes, "--binary", *trees))


def _changes(numstat: bytes, prefix: str) -> list[FileChange]:
    changes = []
    for line in numstat.split(b"\0"):
        if line:
            added, removed, path = line.split(b"\t", 2)
            is_text = added != b"-"
            changes.append(
                FileChange(
                    prefix + path.decode("utf-8", "replace"),
                    int(added) if is_text else None,
                    int(removed) if is_text else None,
                )
            )
    return changes


def _fetch(
    git: GitCommand,
    place: Path,
    wanted: RepositorySnapshot,
    *,
    blobs: BlobSource,
    environment: Mapping[str, str],
) -> None:
    base = [*wanted.base, *([wanted.parent] if wanted.parent and not wanted.bundles else [])]
    if any(not git.knows(commit) for commit in base):
        _borrow_objects(git, place, environment)
    for _, url in wanted.remotes:
        if all(git.knows(commit) for commit in base):
            break
        try:
            git.run(
                "fetch", "-q", "--no-tags", "--no-recurse-submodules", url, "refs/*:refs/trainledger/remote/*"
            )
        except GitFailedError:
            continue  # the next one may have it; what is missing in the end is told below
    for commit in base:
        if not git.knows(commit):
            places = ", ".join([str(place), *(url for _, url in wanted.remotes)])
            raise TrainledgerError(f"commit {commit} is not to be had from {places}")
        # A bundle is taken only on top of what is reachable.
        git.run("update-ref", f"refs/trainledger/base/{commit}", commit)
    for bundle in wanted.bundles:
        file = git.top / f"{bundle.sha256}.bundle"
        blobs.copy_to(bundle.sha256, file)
        git.run("fetch", "-q", "--no-tags", str(file), f"refs/*:refs/trainledger/{bundle.sha256}/*")
        file.unlink()
    git.run("cat-file", "-e", wanted.tree)


def _borrow_objects(git: GitCommand, place: Path, environment: Mapping[str, str]) -> None:
    if not place.is_dir():
        return
    try:
        told = GitCommand(place, environment).run(
            "rev-parse", "--path-format=absolute", "--git-path", "objects"
        )
    except TrainledgerError:
        return  # no repository any more, or one of somebody else
    with (git.top / "objects" / "info" / "alternates").open("ab") as alternates:
        alternates.write(told.rstrip(b"\n") + b"\n")
