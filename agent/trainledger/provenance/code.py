"""Which code ran: repository, commit, branch, and whether tracked files differ.

Guarantees: git runs as the user and changes nothing (no index refresh, no lock); no hook, filter, file system
monitor or other program that the repository names is run, and nothing is fetched; addresses come from the
configuration and not from `git remote -v`, because that one applies `insteadOf`, with which CI injects tokens.
Each fact that could not be had has a reason in words.

Limits: changes inside submodules are not looked at (git would run programs that they name); a changed file
under a filter other than Git LFS counts as changed.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..redaction import redact
from .git import Git, clean_address, open_git, read_config
from .git_head import read_head
from .programs import Programs, UnavailableError
from .subversion import ask_svn

__all__ = ["CodeFacts", "capture_code", "find_top", "find_vcs"]

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_POINTER_BYTES_MAX = 1024
_LFS_FILES_MAX = 100
_HASH_BYTES = 1 << 20


@dataclass(slots=True)
class CodeFacts:
    """The fields of a provenance claim that concern code; None is not known, with a reason."""

    vcs: str | None = None
    repository: str | None = None
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    reasons: list[str] = field(default_factory=list)


def capture_code(folder: Path, programs: Programs) -> CodeFacts:
    """The facts of the repository that holds `folder`; never raises."""
    kind = find_vcs(folder)
    facts = CodeFacts(vcs=kind)
    try:
        if kind == "git":
            _capture_git(folder, programs, facts)
        elif kind == "svn":
            _capture_svn(folder, programs, facts)
        else:
            facts.reasons.append("code: the folder is in no git or svn repository, so no commit is known")
    except UnavailableError as error:
        facts.reasons.append(redact(f"code: {error}"))
        if kind == "git" and not programs.has("git"):
            commit, branch = read_head(find_top(folder, "git"))
            facts.commit, facts.branch = commit, None if branch is None else redact(branch)
    return facts


def find_vcs(folder: Path) -> str | None:
    """git, svn or None: what holds this folder."""
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return "git"
        if (place / ".svn").is_dir():
            return "svn"
    return None


def find_top(folder: Path, vcs: str) -> Path:
    """The nearest folder, from this one up, that holds the data of git or svn; the folder itself without one."""
    return next((place for place in (folder, *folder.parents) if (place / f".{vcs}").exists()), folder)


def _capture_git(folder: Path, programs: Programs, facts: CodeFacts) -> None:
    git, reasons = open_git(folder, programs)
    facts.reasons += reasons
    facts.repository = str(git.top)
    try:
        _read_remote(git, facts)
    except UnavailableError as error:
        facts.reasons.append(redact(f"repository address: {error}"))
    # --ignore-submodules=dirty: a look into a submodule would run the filters that it configures.
    status = git.run(
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--no-renames",
        "--ignore-submodules=dirty",
        "--untracked-files=no",
    )
    changed = _read_status(status, facts)
    facts.dirty = _is_dirty(git, changed, facts)
    if (git.top / ".gitmodules").exists():
        facts.reasons.append(
            "dirty: changes inside submodules were not looked at, only which commit they are at"
        )


def _read_remote(git: Git, facts: CodeFacts) -> None:
    urls: dict[str, str] = {}
    for key, value in read_config(git, r"^remote\..*\.url$"):
        urls.setdefault(key.removeprefix("remote.").removesuffix(".url"), value)
    if not urls:
        facts.reasons.append("repository address: no remote is configured; the folder is given instead")
        return
    name = "origin" if "origin" in urls else min(urls)
    facts.repository = clean_address(urls[name])


def _read_status(status: bytes, facts: CodeFacts) -> list[tuple[str, bytes, str]]:
    """Fill commit and branch; returns the changed entries as (state, path, blob id in the index)."""
    changed: list[tuple[str, bytes, str]] = []
    for entry in status.split(b"\0"):
        if entry.startswith(b"# branch.oid "):
            commit = entry[13:].decode("ascii", "replace")
            facts.commit = None if commit == "(initial)" else commit
        elif entry.startswith(b"# branch.head "):
            branch = os.fsdecode(entry[14:])
            facts.branch = None if branch == "(detached)" else redact(branch)
        elif entry[:2] in (b"1 ", b"u "):
            fields = entry.split(b" ", 8 if entry[:1] == b"1" else 10)
            blob = fields[7].decode("ascii", "replace")
            changed.append((fields[1].decode("ascii", "replace"), fields[-1], blob))
    if facts.commit is None:
        facts.reasons.append("commit: the repository has no commit yet")
    if facts.branch is None:
        facts.reasons.append("branch: HEAD is detached")
    return changed


def _is_dirty(git: Git, changed: list[tuple[str, bytes, str]], facts: CodeFacts) -> bool:
    """Whether tracked files differ. A touched LFS file looks changed while its filter is off: compare it."""
    doubtful = [(path, blob) for state, path, blob in changed if state == ".M"]
    if len(doubtful) < len(changed) or not doubtful:
        return bool(changed)
    if len(doubtful) > _LFS_FILES_MAX:
        return True
    for path, blob in doubtful:
        try:
            pointer = git.run("cat-file", "blob", blob)[:_LFS_POINTER_BYTES_MAX]
            if not pointer.startswith(_LFS_POINTER) or not _matches_pointer(git.top, path, pointer):
                return True
        except (UnavailableError, OSError) as error:
            facts.reasons.append(f"dirty: a changed file could not be compared: {redact(str(error))}")
            return True
    return False


def _matches_pointer(top: Path, path: bytes, pointer: bytes) -> bool:
    digest = hashlib.sha256()
    with open(os.fsencode(top) + b"/" + path, "rb") as file:
        while block := file.read(_HASH_BYTES):
            digest.update(block)
    return b"oid sha256:" + digest.hexdigest().encode("ascii") in pointer


def _capture_svn(folder: Path, programs: Programs, facts: CodeFacts) -> None:
    info = ask_svn(folder, programs, "info", ".")
    entry = info.find("./entry")
    url = info.findtext("./entry/url")
    facts.repository = None if url is None else clean_address(url)
    facts.commit = None if entry is None else entry.get("revision")
    relative = info.findtext("./entry/relative-url") or ""
    facts.branch = redact(relative.removeprefix("^/")) or None
    root = info.findtext("./entry/wc-info/wcroot-abspath") or str(folder)
    status = ask_svn(Path(root), programs, "status", "-q", ".")
    whole = programs.run(["svnversion", "-n", "."], Path(root)).decode("utf-8", "replace")
    if ":" in whole:
        facts.reasons.append(f"commit: the working copy is a mix of revisions: {whole.rstrip('MSP')}")
    states = {(item.get("item"), item.get("props")) for item in status.iter("wc-status")}
    facts.dirty = any(
        item not in ("external", "normal", "none") or props == "modified" for item, props in states
    )
