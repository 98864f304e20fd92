"""The snapshot of one repository or folder: a commit that holds every file as its bytes lie on disk.

    copy of the user's index  ->  changed and new files added raw  ->  tree  ->  commit on `parent`  ->  bundle

The commit's author and date are fixed, so the same files on the same commit have the same id. What is only touched,
and what differs from the repository by line ends or a Git LFS pointer alone, is no change: the repository's own
version of it is kept.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.blobs import sha256_of
from trainledger_schemas.code_snapshot import LeftOut, git_object_id

from ..redaction import has_secret_form, redact
from .conversions import read_converted, unchanged_after_conversion
from .git import Git
from .programs import UnavailableError
from .selection import NAMES_MAX, Candidate, choose_files, passed_over
from .withholding import holds_secret, is_secret_file

__all__ = [
    "SNAPSHOT_MESSAGE",
    "SNAPSHOT_REF",
    "Change",
    "RawSnapshot",
    "RawTree",
    "changes_between",
    "empty_tree",
    "whole_folders",
]

SNAPSHOT_REF = "refs/trainledger/snapshot"
SNAPSHOT_MESSAGE = b"files as they lay on disk\n"
# Digests of files that are not stored: time for reading is limited.
HASHED_BYTES_MAX = 512 << 20
NAMED_MAX = 5
# Of the budget, for what comes after reading: git adds and packs the files, which takes as long again.
_SHARE_FOR_STORING = 0.6
_SHARE_FOR_DIGESTS = 0.3
_GITLINK = "160000"
_NOTHING = "000000"


@dataclass(frozen=True, slots=True)
class Change:
    """An entry that differs between two trees; modes as git writes them."""

    path: bytes
    old_mode: str
    new_mode: str
    old_id: str
    new_id: str


@dataclass(slots=True)
class RawTree:
    """What was found: the commit and its tree, repositories inside, what of the tree a sparse checkout does not have
    on disk (folders as a whole), what lay there without git's conversion, and files that were not stored."""

    snapshot: str = ""
    tree: str = ""
    inner: list[bytes] = field(default_factory=list)
    absent: list[bytes] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


class RawSnapshot:
    """Makes the snapshot of one work tree in its private git directory."""

    def __init__(self, user: Git | None, private: Git, *, object_format: str, started_ns: int) -> None:
        """`user`: git of the repository, None for a plain folder. `started_ns`: wall time when the run began;
        untracked files written later are its output."""
        self._user = user
        self._git = private
        self._format = object_format
        self._top = os.fsencode(private.top)
        self._started_ns = started_ns
        self._hashed_bytes = 0
        self._taken: set[bytes] = set()
        self._gone: set[bytes] = set()
        self._outputs: list[bytes] = []
        self._later: list[bytes] = []
        self._withheld: set[bytes] = set()
        self._found = RawTree()

    def take(
        self,
        parent: str | None,
        *,
        only: Iterable[bytes] | None = None,
        below: str | None = None,
        also: Iterable[bytes] = (),
        never: Iterable[bytes] = (),
    ) -> RawTree:
        """Write the commit. `only`: the new files to take, instead of all that are not ignored; `below`: of
        these, those in one folder. `also`: ignored files that the run uses. `never`: folders to pass over, each
        ending in /."""
        self._show_hidden_changes()
        reference = parent or empty_tree(self._format)
        staged = {c.path: c for c in changes_between(self._git, "diff-index", "--cached", reference)}
        tracked = list(dict.fromkeys([*staged, *self._changed_on_disk(staged)]))
        listed = self._listed(below) if only is None else sorted(only)
        untracked = self._untracked(listed, set(also), tuple(never))
        self._choose(tracked, is_new=False)
        self._choose(untracked, is_new=True)
        self._tell_of_later_files()
        self._git.run(
            "update-index",
            "-z",
            "--force-remove",
            "--stdin",
            stdin=_joined({*staged, *self._gone, *self._taken}),
        )
        self._set_entries(
            (c.old_mode, c.old_id, c.path)
            for c in staged.values()
            if c.path in self._withheld and c.old_mode != _NOTHING
        )
        self._add_taken()
        if self._user is not None:
            self._drop_false_changes(self._user, reference)
        return self._commit(parent)

    def choose_new(self, listed: Iterable[bytes], never: tuple[bytes, ...]) -> tuple[set[bytes], RawTree]:
        """Of these new files those to be stored, without asking git; what is left out is in the tree."""
        self._choose(self._untracked(list(listed), set(), never), is_new=True)
        self._tell_of_later_files()
        return self._taken, self._found

    def _commit(self, parent: str | None) -> RawTree:
        self._found.tree = self._git.run("write-tree", "--missing-ok").decode().strip()
        on = () if parent is None else ("-p", parent)
        commit = self._git.run("commit-tree", self._found.tree, *on, stdin=SNAPSHOT_MESSAGE)
        self._found.snapshot = commit.decode().strip()
        self._git.run("update-ref", SNAPSHOT_REF, self._found.snapshot)
        self._found.inner += self._gitlinks()
        return self._found

    def _add_taken(self) -> None:
        self._add(sorted(self._taken))
        # Some names git passes over with a warning alone: .GIT, git~1.
        indexed = set(self._git.lines("ls-files", "-z"))
        for path in sorted(self._taken - indexed):
            if os.path.lexists(self._top + b"/" + path) and not os.path.isdir(self._top + b"/" + path):
                why = "git does not take a file of this name, or could not read it"
                self._found.left_out.append(LeftOut(os.fsdecode(path), None, None, why))

    def _add(self, paths: list[bytes]) -> None:
        """Add what can be added: one file that cannot (it went meanwhile, or is a repository without a commit) ends
        the whole call, so it is looked for by halves."""
        try:
            self._git.run(
                "update-index", "-z", "--add", "--remove", "--stdin", stdin=b"".join(p + b"\0" for p in paths)
            )
        except UnavailableError as error:
            if error.exit_code is None:
                raise
            half = len(paths) // 2
            for part in (paths[:half], paths[half:]) if half else ():
                self._add(part)

    def _show_hidden_changes(self) -> None:
        """Look at files that the user told git not to look at; sparse ones that are not there stay hidden."""
        hidden: list[bytes] = []
        absent: list[bytes] = []
        present: list[bytes] = []
        for entry in self._git.lines("ls-files", "-v", "-z"):
            tag, path = entry[:1], entry[2:]
            is_sparse = tag in (b"S", b"s")
            if (is_sparse or tag.islower()) and (not is_sparse or os.path.lexists(self._top + b"/" + path)):
                hidden.append(path)
            (absent if is_sparse and path not in hidden[-1:] else present).append(path)
        self._found.absent = whole_folders(absent, present)
        if hidden:
            for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
                self._git.run("update-index", flag, "-z", "--stdin", stdin=_joined(hidden))

    def _changed_on_disk(self, staged: Mapping[bytes, Change]) -> list[bytes]:
        """Tracked files whose bytes differ from the index, without those that were only touched."""
        changes = changes_between(self._git, "diff-files", "--ignore-submodules=dirty")
        plain = {
            c.path: c.old_id
            for c in changes
            if c.path not in staged and c.old_mode == c.new_mode and c.old_mode.startswith("100")
        }
        if self._user is None:
            return [c.path for c in changes]
        seen = {c.path for c in changes}.union(staged)
        converted = read_converted(self._user)
        self._found.raw = [path for path in converted.raw if path not in seen]
        plain |= {path: oid for path, oid in converted.otherwise.items() if path not in seen}
        same = unchanged_after_conversion(self._user, plain)
        return [path for path in dict.fromkeys([*(c.path for c in changes), *plain]) if path not in same]

    def _listed(self, below: str | None) -> list[bytes]:
        where = () if below is None else ("--", below)
        try:
            return self._git.lines("ls-files", "-o", "--exclude-standard", "-z", *where)
        except UnavailableError as error:
            self._found.reasons.append(f"code: new files were not looked at: {error}")
            self._found.left_out.append(LeftOut("", None, None, "new files were not looked at"))
            return []

    def _untracked(self, listed: list[bytes], also: set[bytes], never: tuple[bytes, ...]) -> list[bytes]:
        listed = listed + sorted(path for path in also.difference(listed) if self._is_not_in_index(path))
        over = passed_over(listed)
        paths = [path for path in listed if path not in over and not path.startswith(never)]
        if len(paths) > NAMES_MAX:
            why = f"{len(paths) - NAMES_MAX} of {len(paths)} new files were not looked at"
            self._found.left_out.append(LeftOut("", None, None, why))
        return paths[:NAMES_MAX]

    def _is_not_in_index(self, path: bytes) -> bool:
        return self._git.ask("ls-files", "--error-unmatch", "--", os.fsdecode(path)) is None

    def _choose(self, paths: list[bytes], *, is_new: bool) -> None:
        """Sort paths into those that are taken, those that are gone and those that are withheld."""
        files = []
        for path in paths:
            if path.endswith(b"/"):
                self._found.inner.append(path.rstrip(b"/"))
                continue
            try:
                status = os.lstat(self._top + b"/" + path)
            except OSError:
                self._gone.add(path)
                continue
            if stat.S_ISREG(status.st_mode):
                if not self._is_output(path, status.st_mtime_ns, is_new=is_new):
                    files.append(Candidate(path, status.st_size))
            elif stat.S_ISLNK(status.st_mode) or os.path.lexists(self._top + b"/" + path + b"/.git"):
                self._taken.add(path)
            else:
                self._gone.add(path)
        choice = choose_files(files)
        for candidate, why in choice.left_out:
            self._leave_out(candidate, why)
        for candidate in choice.taken:
            if self._git.programs.left_share < _SHARE_FOR_STORING:
                self._leave_out(candidate, "there was no time to read it")
                continue
            secret = self._why_secret(candidate)
            if secret is None:
                self._taken.add(candidate.path)
            else:
                # Without its digest: a short secret could be guessed from it.
                self._withheld.add(candidate.path)
                name = os.fsdecode(candidate.path)
                self._found.left_out.append(LeftOut(redact(name), candidate.size_bytes, None, secret))

    def _is_output(self, path: bytes, mtime_ns: int, *, is_new: bool) -> bool:
        if mtime_ns <= self._started_ns:
            return False
        (self._outputs if is_new else self._later).append(path)
        return is_new

    def _tell_of_later_files(self) -> None:
        for paths, what in (
            (self._outputs, "written after the run began; not stored"),
            (self._later, "changed after the run began; the later state is stored"),
        ):
            names = [os.fsdecode(path) for path in sorted(paths)]
            self._found.reasons += [f"code: {name} was {what}" for name in names[:NAMED_MAX]]
            if len(names) > NAMED_MAX:
                self._found.reasons.append(f"code: {len(names) - NAMED_MAX} more files were {what}")

    def _why_secret(self, candidate: Candidate) -> str | None:
        name = os.fsdecode(candidate.path)
        if is_secret_file(name):
            return "its name is one of files with secrets"
        if has_secret_form(name):
            return "its name holds what looks like a secret"
        try:
            with open(self._top + b"/" + candidate.path, "rb") as file:
                data = file.read()
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if b"\0" not in data[:8000] and holds_secret(name, data.decode("utf-8", "replace")):
            return "it holds what looks like a secret"
        return None

    def _leave_out(self, candidate: Candidate, why: str) -> None:
        self._withheld.add(candidate.path)
        digest = None
        has_time = self._git.programs.left_share > _SHARE_FOR_DIGESTS
        if has_time and self._hashed_bytes + candidate.size_bytes <= HASHED_BYTES_MAX:
            self._hashed_bytes += candidate.size_bytes
            try:
                digest = sha256_of(Path(os.fsdecode(self._top + b"/" + candidate.path)))
            except OSError:
                why = f"{why}; cannot be read"
        self._found.left_out.append(LeftOut(os.fsdecode(candidate.path), candidate.size_bytes, digest, why))

    def _set_entries(self, entries: Iterable[tuple[str, str, bytes]]) -> None:
        lines = b"".join(f"{mode} {oid}\t".encode() + path + b"\0" for mode, oid, path in entries)
        if lines:
            self._git.run("update-index", "-z", "--index-info", stdin=lines)

    def _drop_false_changes(self, user: Git, reference: str) -> None:
        changes = [
            change
            for change in changes_between(self._git, "diff-index", "--cached", reference)
            if change.old_mode.startswith("100") and change.new_mode.startswith("100")
        ]
        same = unchanged_after_conversion(user, {change.path: change.old_id for change in changes})
        self._set_entries((c.new_mode, c.old_id, c.path) for c in changes if c.path in same)

    def _gitlinks(self) -> list[bytes]:
        entries = self._git.lines("ls-files", "-s", "-z")
        paths = [e.partition(b"\t")[2] for e in entries if e.startswith(_GITLINK.encode())]
        return [path for path in paths if os.path.lexists(self._top + b"/" + path + b"/.git")]


def changes_between(git: Git, *command: str) -> list[Change]:
    """The entries that a raw diff of git lists, without renames."""
    parts = git.run(*command[:1], "--raw", "-z", "--no-renames", "--abbrev=64", *command[1:]).split(b"\0")
    changes = []
    for head, path in zip(parts[::2], parts[1::2], strict=False):
        if head.startswith(b":"):
            old_mode, new_mode, old_id, new_id, _ = head[1:].decode("ascii").split(" ")
            changes.append(Change(path, old_mode, new_mode, old_id, new_id))
    return changes


def whole_folders(paths: Iterable[bytes], others: Iterable[bytes]) -> list[bytes]:
    """`paths` with each folder that holds none of `others` given as a whole."""
    paths = list(paths)
    if not paths:
        return []
    shared = {folder for path in others for folder in _folders_above(path)}
    return sorted({next((f for f in _folders_above(path) if f not in shared), path) for path in paths})


def _folders_above(path: bytes) -> Iterable[bytes]:
    """The folders of a path, the outermost first."""
    parts = path.split(b"/")
    return (b"/".join(parts[:count]) for count in range(1, len(parts)))


def empty_tree(object_format: str) -> str:
    """The id of a tree without entries, which git knows without storing it."""
    return git_object_id("tree", b"", object_format)


def _joined(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in sorted(set(paths)))
