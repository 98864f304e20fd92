"""Restoring the code of a run into a new folder, from its bundles and what a remote has.

    history from a remote, where the bundles build on one  ->  bundles  ->  checkout of the parent with the recorded
    settings  ->  changed files written as their raw bytes  ->  every file compared with the snapshot

Modules from outside of the code come to folders beside it.

Guarantees: a file that returns from here has the bytes that it had when the run began, or its difference is in
`Restored.problems`; nothing is written outside of these folders; no program that the restored code names is run.
Limits: bytes that were not stored (`left_out`, and large files under Git LFS) come from where they are or not at all.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.blobs import BlobSource, sha256_of
from trainledger_schemas.code_snapshot import (
    CodeSnapshot,
    LeftOut,
    RepositorySnapshot,
    decode_snapshot,
    git_object_id,
)
from trainledger_schemas.errors import NotFoundError, UsageError

from ..blob_fetching import Wanted, fetch_all
from .file_tree import LINK, FileTree
from .git_command import GitCommand, GitFailedError
from .snapshot_check import check_snapshot
from .svn_checkout import check_out

__all__ = ["Restored", "outside_folder", "read_snapshot", "restore_code", "restored_places"]

_GITLINK = "160000"


@dataclass(slots=True)
class Restored:
    """What was done: `files` were compared, `problems` name those that are not as they were, `steps` say from where
    each repository came. `ignored`: files of the outermost repository that git is told to ignore: the run used them."""

    folder: Path
    files: int = 0
    problems: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    oid: str


def read_snapshot(blobs: BlobSource, document_sha256: str) -> CodeSnapshot:
    """The document of a snapshot; raises NotFoundError or CorruptDataError."""
    return check_snapshot(decode_snapshot(blobs.read(document_sha256)))


def restore_code(
    snapshot: CodeSnapshot, folder: Path, *, blobs: BlobSource, environment: Mapping[str, str]
) -> Restored:
    """Restore into `folder`, which must be new or empty. Raises UsageError when it is not, NotFoundError when
    something that is needed is nowhere, and TrainledgerError when git refuses."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; give the name of a new folder")
    restored = Restored(folder)
    for repository in sorted(snapshot.repositories, key=lambda r: r.path):
        top = folder
        if repository.place is not None:
            top = outside_folder(folder, repository)
            top.mkdir(mode=0o700, parents=True)
        elif repository.path:
            FileTree(folder).make_folder(os.fsencode(repository.path))
            top = folder / repository.path
        _Repository(repository, top, blobs=blobs, environment=environment, restored=restored).restore()
    for item in snapshot.left_out:
        if _is_still_here(item):
            _bring(item, snapshot, folder)
            restored.steps.append(f"nothing to {item.path}: {item.why}, and is there unchanged")
        else:
            restored.problems.append(f"{item.path or 'some files'}: was not stored: {item.why}")
    return restored


def outside_folder(folder: Path, repository: RepositorySnapshot) -> Path:
    """Where modules from outside of the code are restored: beside the folder of the code, since in it they would be
    code."""
    return Path(f"{folder}{repository.path}")


def restored_places(snapshot: CodeSnapshot, folder: Path) -> dict[str, str]:
    """Folders of the module path that are restored, to where."""
    return {
        repository.place: str(outside_folder(folder, repository))
        for repository in snapshot.repositories
        if repository.place is not None
    }


def _bring(item: LeftOut, snapshot: CodeSnapshot, folder: Path) -> None:
    """A file of a folder that is restored elsewhere is looked for there."""
    for place, new in restored_places(snapshot, folder).items():
        if Path(item.path).is_relative_to(place):
            path = os.fsencode(Path(item.path).relative_to(place))
            FileTree(Path(new)).write(path, Path(item.path).read_bytes(), "100644")


def _is_still_here(item: LeftOut) -> bool:
    """Whether a file from outside of the code, which a repetition reads where it is, has the bytes that it had."""
    try:
        return os.path.isabs(item.path) and item.sha256 == sha256_of(Path(item.path))
    except OSError:
        return False


class _Repository:
    def __init__(
        self,
        wanted: RepositorySnapshot,
        top: Path,
        *,
        blobs: BlobSource,
        environment: Mapping[str, str],
        restored: Restored,
    ) -> None:
        self._wanted = wanted
        self._git = GitCommand(top, environment)
        self._environment = environment
        self._blobs = blobs
        self._tree = FileTree(top)
        self._top = top
        self._restored = restored
        self._name = wanted.place or wanted.path or "the repository"

    def restore(self) -> None:
        wanted = self._wanted
        if wanted.vcs == "svn":
            check_out(wanted, self._top, self._environment)
            self._restored.steps.append(
                f"{self._name}: revision {wanted.head} of {dict(wanted.remotes)['svn']}"
            )
        self._git.run("init", "-q", f"--object-format={wanted.object_format}", "--template=")
        if wanted.base:
            self._fetch_base()
        for number, bundle in enumerate(wanted.bundles):
            file = self._top / ".git" / f"{number}.bundle"
            self._blobs.copy_to(bundle.sha256, file)
            self._git.run("fetch", "-q", "--no-tags", str(file), "refs/*:refs/trainledger/restored/*")
            file.unlink()
        if wanted.bundles:
            self._restored.steps.append(f"{self._name}: {len(wanted.bundles)} stored bundles")
        if wanted.parent is not None:
            for name, value in wanted.config:
                self._git.run("config", name, value)
            self._git.run("checkout", "-q", "--detach", wanted.parent)
        before = self._entries(wanted.parent)
        after = self._entries(self._snapshot_tree())
        self._overlay(before, after)
        self._take_away(after)
        for path in wanted.empty_folders:
            self._tree.make_folder(os.fsencode(path))
        self._fill_lfs(after)
        self._verify(after)
        if wanted.vcs == "git" and not wanted.path:
            told = self._git.run("ls-files", "--others", "--ignored", "--exclude-standard", "-z")
            self._restored.ignored = [os.fsdecode(path) for path in told.split(b"\0") if path]
        if wanted.vcs != "git":
            self._forget_git()

    def _take_away(self, after: dict[bytes, _Entry]) -> None:
        """Remove what was not on disk; git is told, as it was, that this is no change."""
        gone = tuple(os.fsencode(path) for path in self._wanted.deleted)
        for path in gone:
            self._tree.remove(path)
        hidden = [
            p for p in after if gone and (p in gone or p.startswith(tuple(path + b"/" for path in gone)))
        ]
        for path in hidden:
            del after[path]
        if hidden and self._wanted.vcs == "git":
            # Of what is not in the index, because it is in no commit, there is nothing to hide.
            indexed = set(self._git.run("ls-files", "-z").split(b"\0"))
            known = b"".join(path + b"\0" for path in hidden if path in indexed)
            self._git.run("update-index", "--skip-worktree", "-z", "--stdin", stdin=known)

    def _snapshot_tree(self) -> str:
        for known in (self._wanted.snapshot, self._wanted.parent):
            if known is not None and self._git.knows(known):
                tree = self._git.run("rev-parse", f"{known}^{{tree}}").decode().strip()
                if tree == self._wanted.tree:
                    return tree
        raise NotFoundError(
            f"the files of {self._name} (tree {self._wanted.tree}) are in none of its bundles"
        )

    def _fetch_base(self) -> None:
        missing = [commit for commit in self._wanted.base if not self._git.knows(commit)]
        tried = []
        for name, url in self._wanted.remotes:
            if not missing:
                break
            try:
                self._git.run("remote", "add", "--", name, url)
                self._git.run("fetch", "-q", "--no-tags", "--no-recurse-submodules", "--", name)
                self._restored.steps.append(f"{self._name}: history from {url}")
            except GitFailedError as error:
                tried.append(str(error))
            missing = [commit for commit in missing if not self._git.knows(commit)]
        if missing:
            places = ", ".join(url for _, url in self._wanted.remotes)
            why = f" ({'; '.join(tried)})" if tried else ""
            raise NotFoundError(
                f"{self._name}: commit {missing[0]} is not to be had from {places}{why}; make it reachable there, "
                "e.g. push the branch again"
            )

    def _entries(self, commit: str | None) -> dict[bytes, _Entry]:
        if commit is None:
            return {}
        entries = {}
        for line in self._git.run("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
            head, tab, path = line.partition(b"\t")
            if tab:
                mode, _, oid = head.decode("ascii").split(" ")
                entries[path] = _Entry(mode, oid)
        return entries

    def _overlay(self, before: Mapping[bytes, _Entry], after: Mapping[bytes, _Entry]) -> None:
        raw = {os.fsencode(path) for path in self._wanted.raw}
        changed = {path: entry for path, entry in after.items() if before.get(path) != entry or path in raw}
        for path in before:
            if path not in after or path in changed:
                self._tree.remove(path)
        data = self._git.blobs([entry.oid for entry in changed.values() if entry.mode != _GITLINK])
        for path, entry in sorted(changed.items()):
            if entry.mode == _GITLINK:
                self._tree.make_folder(path)
            else:
                self._tree.write(path, data[entry.oid], entry.mode)

    def _fill_lfs(self, after: Mapping[bytes, _Entry]) -> None:
        """Give files that are a pointer in the repository, and were not one on disk, their content."""
        wanted: dict[Wanted, bytes] = {}
        for number, item in enumerate(self._wanted.lfs):
            path = os.fsencode(item.path)
            found = self._tree.read(path) if path in after else None
            if found is not None and f"sha256:{item.sha256}".encode() in found[1][:1024]:
                wanted[Wanted(item.sha256, self._top / ".git" / f"{number}.lfs")] = path
        for content, is_there in fetch_all(self._blobs, wanted):
            path = wanted[content]
            if is_there:
                self._tree.move_here(content.target, path, after[path].mode)
            else:
                self._restored.problems.append(
                    f"{os.fsdecode(path)}: the content is in Git LFS: run `git lfs pull` in {self._top}"
                )

    def _verify(self, after: Mapping[bytes, _Entry]) -> None:
        of_lfs = {os.fsencode(item.path) for item in self._wanted.lfs}
        for path, entry in after.items():
            if entry.mode == _GITLINK:
                continue
            self._restored.files += 1
            found = self._tree.read(path)
            if found is None or (found[0] == LINK) != (entry.mode == LINK) or found[0] != entry.mode:
                self._restored.problems.append(f"{os.fsdecode(path)}: is not as it was")
                continue
            if git_object_id("blob", found[1], self._wanted.object_format) == entry.oid or path in of_lfs:
                continue
            # What the repository converts on checkout has other bytes than it stores.
            name = os.fsdecode(path)
            if self._git.run("cat-file", "--filters", f"--path={name}", entry.oid) != found[1]:
                self._restored.problems.append(f"{name}: its bytes are not those of the snapshot")

    def _forget_git(self) -> None:
        # A plain folder or working copy of Subversion had no repository of git.
        shutil.rmtree(self._top / ".git")
