"""Stores the code of a run: a snapshot of each repository and folder in it, and a patch for people to read.

Repositories inside (submodules, clones that nobody registered) are snapshots of their own. Everything that the
snapshot needs is in blobs when the document that names them is stored. What could not be stored is said: a file in
`left_out`, anything else in `reasons`.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainledger_schemas.blobs import BlobRef, FolderBlobs
from trainledger_schemas.code_snapshot import (
    OUTSIDE,
    CodeSnapshot,
    LeftOut,
    LfsObject,
    RepositorySnapshot,
    encode_snapshot,
)

from ..redaction import has_secret_form, is_secret_name, redact
from .code import find_top, find_vcs
from .conversions import lfs_objects
from .empty_folders import find_empty_folders
from .git import Git, clean_address, open_git
from .gitless_snapshot import list_files, write_snapshot
from .history import History, read_history
from .outside_files import FOLDERS_MAX, group_outside, name_files
from .patch import PATCH_BYTES_MAX, readable, readable_patch
from .private_git import open_private, read_layout
from .programs import Programs, UnavailableError
from .raw_snapshot import SNAPSHOT_REF, RawSnapshot, RawTree
from .selection import FILE_BYTES_MAX, FILES_BYTES_MAX, passed_over
from .subversion import WorkingCopy, changes_as_text, read_working_copy
from .used_files import UsedFiles, included_files
from .withholding import is_secret_file

__all__ = ["CodeStore", "StoredCode"]

REPOSITORIES_MAX = 100
IGNORED_MAX = 200
FREE_BYTES_MIN = 1 << 30
_CHECKOUT_SETTINGS = ("core.autocrlf", "core.eol", "core.symlinks")


@dataclass(slots=True)
class StoredCode:
    """What a provenance claim says of the stored code; None where nothing could be stored."""

    snapshot_id: str | None = None
    document: BlobRef | None = None
    patch: BlobRef | None = None
    root: Path | None = None
    left_out: tuple[LeftOut, ...] = ()
    reasons: list[str] = field(default_factory=list)


class CodeStore:
    """Takes one snapshot. `never`: folders whose files are not code of the run (journals, tables). `used`: files
    that the run uses, which are taken although they are ignored."""

    def __init__(
        self,
        programs: Programs,
        blobs: FolderBlobs,
        *,
        started_ns: int,
        never: Iterable[Path] = (),
        used: UsedFiles | None = None,
    ) -> None:
        self._programs = programs
        self._blobs = blobs
        self._started_ns = started_ns
        self._never = tuple(never)
        self._used = used or UsedFiles()
        self._repositories: list[RepositorySnapshot] = []
        self._left_out: list[LeftOut] = []
        self._patch = b""
        self._is_home = False
        self._stored = StoredCode()

    def store(self, folder: Path, *, home: Path, takes_plain: bool = True) -> StoredCode:
        """Store what holds `folder`; never raises.

        `takes_plain`: also a folder in no repository, unless it is `home` or above it."""
        vcs = find_vcs(folder)
        try:
            self._check_room()
            top = folder if vcs is None else find_top(folder, vcs)
            if (
                not self._programs.has("git")
                and (takes_plain or vcs)
                and top != home
                and top not in home.parents
            ):
                self._without_git(top)
            elif vcs == "git":
                self._outermost(folder, home)
            elif vcs == "svn":
                self._working_copy(folder)
            elif not takes_plain or folder == home or folder in home.parents:
                self._stored.reasons.append(
                    f"code: {folder} is no folder of code, so nothing is stored; start a script in it, or use git"
                )
            else:
                self._plain_folder(folder)
            self._finish()
        except (UnavailableError, OSError) as error:
            self._stored.reasons.append(redact(f"code: it could not be stored: {error}"))
        return self._stored

    def _check_room(self) -> None:
        """The journals lie on the same disk, and they come first."""
        place = next(p for p in (self._blobs.folder, *self._blobs.folder.parents) if p.exists())
        free_bytes = shutil.disk_usage(place).free
        if free_bytes < FREE_BYTES_MIN:
            raise UnavailableError(f"less than {FREE_BYTES_MIN >> 20} MiB are free in {place}")

    def _finish(self) -> None:
        if not self._repositories or self._stored.root is None:
            return
        self._store_outside(self._stored.root)
        left_out = tuple(sorted(self._left_out, key=lambda item: item.path))
        snapshot = CodeSnapshot(str(self._stored.root), tuple(self._repositories), left_out)
        if len(self._patch) >= PATCH_BYTES_MAX:
            self._stored.reasons.append(f"code: the readable patch is cut after {PATCH_BYTES_MAX >> 10} KiB")
        if self._patch:
            self._stored.patch = self._blobs.put(self._patch)
        self._stored.document = self._blobs.put(encode_snapshot(snapshot))
        self._stored.snapshot_id = snapshot.snapshot_id
        self._stored.left_out = left_out

    def _store_outside(self, root: Path) -> None:
        """Modules from elsewhere: a snapshot of each folder. Numbered by what is in them, wherever they lay."""
        stored = []
        used = self._used
        groups = sorted(group_outside(used.loaded, root, search=used.search, declared=used.declared).items())
        for place, files in groups[:FOLDERS_MAX]:
            chooser = RawSnapshot(
                None, Git(place, self._programs), object_format="sha1", started_ns=self._started_ns
            )
            taken, tree = chooser.choose_new(files, self._never_in(place))
            with self._blobs.workspace() as workspace:
                found = write_snapshot(place, sorted(taken), workspace / "snapshot.bundle")
                bundle = self._blobs.put_file(workspace / "snapshot.bundle")
            tree.snapshot, tree.tree = found.commit, found.tree
            self._left_out += [replace(item, path=str(place / item.path)) for item in tree.left_out]
            if taken:
                repository = _without_history("", None, tree, (bundle,))
                stored.append(replace(repository, place=str(place)))
        for place, files in groups[FOLDERS_MAX:]:
            self._left_out += name_files(place, files)
        for number, repository in enumerate(sorted(stored, key=lambda r: (r.snapshot, str(r.place)))):
            self._repositories.append(replace(repository, path=f"{OUTSIDE}/{number}"))

    def _outermost(self, folder: Path, home: Path) -> None:
        try:
            user = open_git(folder, self._programs)[0]
            if user.top == home or user.top in home.parents:
                self._is_home = True
                # A repository of settings files: what else lies in a home folder is no code.
                self._stored.reasons.append(
                    f"code: {user.top} is a home folder; new files are of {folder} alone"
                )
                self._git_repository(user, "", below=os.path.relpath(folder, user.top))
            else:
                self._git_repository(user, "")
        except UnavailableError as error:
            top = find_top(folder, "git")
            if error.exit_code is None or top == home or top in home.parents:
                raise
            # An index that is damaged, a work tree whose repository was moved.
            self._stored.reasons.append(redact(f"code: files are stored without their history: {error}"))
            self._plain_folder(top)

    def _git_repository(self, user: Git, path: str, *, below: str | None = None) -> None:
        layout = read_layout(user)
        with self._blobs.workspace() as workspace:
            private = open_private(user.top, user, layout, workspace / "git")
            history = read_history(user, private, self._blobs, workspace)
            raw = RawSnapshot(user, private, object_format=layout.object_format, started_ns=self._started_ns)
            also, never = self._used_in(user.top), self._never_in(user.top)
            only: list[bytes] | None = [] if below == "." else None
            tree = raw.take(history.parent, only=only, below=below, also=also, never=never)
            branch = user.ask("symbolic-ref", "-q", "--short", "HEAD")
            lfs = self._lfs(user, is_pushed=history.bundle is None and history.parent is not None)
            settings = ((name, user.ask("config", "--get", name)) for name in _CHECKOUT_SETTINGS)
            self._add(
                RepositorySnapshot(
                    path=path,
                    vcs="git",
                    object_format=layout.object_format,
                    head=history.head,
                    branch=None if branch is None else os.fsdecode(branch),
                    parent=history.parent,
                    snapshot=tree.snapshot,
                    tree=tree.tree,
                    base=history.base,
                    bundles=self._bundles(private, history, tree, workspace),
                    remotes=history.remotes,
                    config=tuple((n, os.fsdecode(value)) for n, value in settings if value is not None),
                    lfs=lfs,
                    deleted=tuple(os.fsdecode(path) for path in tree.absent),
                    raw=tuple(os.fsdecode(path) for path in tree.raw),
                ),
                private,
                tree,
            )
            self._stored.reasons += history.reasons
        self._inner(user.top, path, tree)

    def _plain_folder(self, folder: Path) -> None:
        with self._blobs.workspace() as workspace:
            private = open_private(folder, Git(folder, self._programs), None, workspace / "git")
            raw = RawSnapshot(None, private, object_format="sha1", started_ns=self._started_ns)
            tree = raw.take(None, also=self._used_in(folder), never=self._never_in(folder))
            bundles = self._bundles(private, History(), tree, workspace)
            self._add(_without_history("", None, tree, bundles), private, tree)
        self._inner(folder, "", tree)

    def _without_git(self, top: Path) -> None:
        """All files, as for a plain folder."""
        self._stored.reasons.append("code: git is not installed: all files are stored, also ignored ones")
        private, never = Git(top, self._programs), self._never_in(top)
        files, empty = list_files(top, never=never)
        chooser = RawSnapshot(None, private, object_format="sha1", started_ns=self._started_ns)
        taken, tree = chooser.choose_new([*files, *self._used_in(top)], never)
        with self._blobs.workspace() as workspace:
            found = write_snapshot(top, sorted(taken), workspace / "snapshot.bundle")
            bundle = self._blobs.put_file(workspace / "snapshot.bundle")
        tree.snapshot, tree.tree = found.commit, found.tree
        repository = replace(_without_history("", None, tree, (bundle,)), empty_folders=tuple(empty))
        self._stored.root = top
        self._repositories.append(repository)
        self._left_out += [
            *tree.left_out,
            *(LeftOut(os.fsdecode(p), None, None, "it was gone") for p in found.gone),
        ]
        self._stored.reasons += [redact(reason) for reason in tree.reasons]

    def _working_copy(self, folder: Path, path: str = "") -> None:
        copy = read_working_copy(folder, self._programs)
        with self._blobs.workspace() as workspace:
            private = open_private(copy.top, Git(copy.top, self._programs), None, workspace / "git")
            raw = RawSnapshot(None, private, object_format="sha1", started_ns=self._started_ns)
            never = self._never_in(copy.top)
            tree = raw.take(None, only=copy.files, also=self._used_in(copy.top), never=never)
            bundles = self._bundles(private, History(), tree, workspace)
            repository = replace(
                _without_history(path, "svn", tree, bundles),
                head=copy.revision,
                remotes=(("svn", clean_address(copy.url)),),
                deleted=copy.deleted,
                revisions=copy.revisions,
                switched=tuple((place, clean_address(url)) for place, url in copy.switched),
                depths=copy.depths,
                properties=tuple(p for p in copy.properties if not _is_secret_property(p)),
            )
            tree.left_out += [
                LeftOut(place, None, None, f"its property {name} looks like a secret")
                for place, name, _ in filter(_is_secret_property, copy.properties)
            ]
            self._add(repository, private, tree, patch=self._svn_patch(copy, repository, private, tree))
        for external in copy.externals:
            place = f"{path}/{external}" if path else external
            if len(self._repositories) >= REPOSITORIES_MAX:
                why = f"more than {REPOSITORIES_MAX} repositories"
                self._left_out.append(LeftOut(place, None, None, why))
                continue
            try:
                self._working_copy(copy.top / external, place)
            except (UnavailableError, OSError) as error:
                self._left_out.append(LeftOut(place, None, None, redact(f"the working copy in it: {error}")))

    def _svn_patch(
        self, copy: WorkingCopy, repository: RepositorySnapshot, private: Git, tree: RawTree
    ) -> bytes:
        withheld = {item.path for item in tree.left_out}
        prefix = f"{repository.path}/" if repository.path else ""
        try:
            patch = readable(changes_as_text(copy, self._programs, withheld))
        except UnavailableError as error:
            patch = f"# no patch of {prefix or 'the working copy'}: {error}\n".encode()
        if patch and prefix:
            patch = f"# in {prefix}\n".encode() + patch
        return patch + (readable_patch(private, repository, prefix, copy.new) if copy.new else b"")

    def _add(
        self, repository: RepositorySnapshot, private: Git, tree: RawTree, *, patch: bytes | None = None
    ) -> None:
        top = private.top
        if self._stored.root is None:
            self._stored.root = top
        prefix = f"{repository.path}/" if repository.path else ""
        self._left_out += [replace(item, path=prefix + item.path) for item in tree.left_out]
        if not self._is_home:
            folders, closed = find_empty_folders(private, never=self._never_in(top))
            why = "the folder cannot be read: Permission denied"
            self._left_out += [LeftOut(prefix + folder, None, None, why) for folder in closed]
            repository = replace(repository, empty_folders=folders, ignored=self._ignored(private, tree))
        self._stored.reasons += [redact(reason) for reason in tree.reasons]
        self._repositories.append(repository)
        if len(self._patch) < PATCH_BYTES_MAX:
            self._patch += readable_patch(private, repository, prefix) if patch is None else patch

    def _ignored(self, private: Git, tree: RawTree) -> tuple[str, ...]:
        """What git is told to ignore, folders as a whole, without caches and the like: data, outputs, settings."""
        form = ("--others", "--ignored", "--exclude-standard", "--directory", "-z")
        try:
            found = private.lines("ls-files", *form)
        except UnavailableError as error:
            tree.reasons.append(f"code: ignored files were not looked at: {error}")
            return ()
        over, never = passed_over(found), self._never_in(private.top)
        kept: list[bytes] = []
        for path in sorted(found):
            # git names what is in an ignored folder, too, where a pattern matches it.
            is_in_last = bool(kept) and kept[-1].endswith(b"/") and path.startswith(kept[-1])
            if path not in over and not path.startswith(never) and not is_in_last:
                kept.append(path)
        names = (os.fsdecode(path) for path in kept[:IGNORED_MAX])
        return tuple(name for name in names if not _is_environment(private.top / name))

    def _inner(self, top: Path, path: str, tree: RawTree) -> None:
        for inner in tree.inner:
            place = f"{path}/{os.fsdecode(inner)}" if path else os.fsdecode(inner)
            folder = top / os.fsdecode(inner)
            if len(self._repositories) >= REPOSITORIES_MAX:
                self._left_out.append(
                    LeftOut(place, None, None, f"more than {REPOSITORIES_MAX} repositories")
                )
                continue
            try:
                user, _ = open_git(folder, self._programs)
                if user.top.resolve() != folder.resolve():
                    raise UnavailableError(f"git: {place} looks like a repository and is none")
                self._git_repository(user, place)
            except (UnavailableError, OSError) as error:
                self._left_out.append(LeftOut(place, None, None, redact(f"the repository in it: {error}")))

    def _bundles(self, private: Git, history: History, tree: RawTree, workspace: Path) -> tuple[BlobRef, ...]:
        bundles = [history.bundle] if history.bundle is not None else []
        if history.parent is None or self._tree_of(private, history.parent) != tree.tree:
            path = workspace / "snapshot.bundle"
            behind = () if history.parent is None else (f"^{history.parent}",)
            private.run("bundle", "create", "-q", str(path), SNAPSHOT_REF, *behind)
            bundles.append(self._blobs.put_file(path))
        return tuple(bundles)

    def _tree_of(self, private: Git, commit: str) -> str:
        return private.run("rev-parse", f"{commit}^{{tree}}").decode().strip()

    def _lfs(self, user: Git, *, is_pushed: bool) -> tuple[LfsObject, ...]:
        """What a remote may not have is stored under its digest, which is the blob's name as well."""
        room = FILES_BYTES_MAX
        found = []
        for item in lfs_objects(user):
            if (
                not is_pushed
                and not is_secret_file(item.path)
                and item.size_bytes <= min(room, FILE_BYTES_MAX)
            ):
                room -= item.size_bytes
                is_same = self._blobs.put_file(user.top / item.path).sha256 == item.sha256
                item = replace(item, is_stored=is_same)
            found.append(item)
        return tuple(found)

    def _never_in(self, top: Path) -> tuple[bytes, ...]:
        inside = (folder for folder in self._never if folder != top and folder.is_relative_to(top))
        return tuple(os.fsencode(folder.relative_to(top)) + b"/" for folder in inside)

    def _used_in(self, top: Path) -> list[bytes]:
        inside = self._used.inside(top)
        if self._stored.root is None:
            # Patterns are relative to the outermost repository.
            included, reasons = included_files(top, self._used.patterns)
            inside += included
            self._stored.reasons += reasons
        return inside


def _is_secret_property(changed: tuple[str, str, str | None]) -> bool:
    _, name, value = changed
    return value is not None and (is_secret_name(name) or has_secret_form(value))


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists()


def _without_history(
    path: str, vcs: str | None, tree: RawTree, bundles: tuple[BlobRef, ...]
) -> RepositorySnapshot:
    return RepositorySnapshot(
        path, vcs, "sha1", None, None, None, snapshot=tree.snapshot, tree=tree.tree, bundles=bundles
    )
