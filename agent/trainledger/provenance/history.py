"""How a snapshot hangs on the repository's history: what remotes have, and what must travel along.

A commit that no remote has is stored with its history, once for each head. History that is too large, or that holds
what looks like a secret, does not travel: then the snapshot lies on what a remote has, or on nothing, and holds
all files that differ from that.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.blobs import BlobRef, FolderBlobs

from ..redaction import has_secret_form, redact
from .git import Git, clean_address, read_config
from .programs import TooMuchOutputError, UnavailableError
from .withholding import holds_secret, is_secret_file

__all__ = ["History", "read_history"]

HISTORY_BYTES_MAX = 200 << 20
COMMITS_MAX = 20_000
_HEAD_REF = "refs/trainledger/head"


@dataclass(slots=True)
class History:
    """`head`: the user's HEAD, or None without a commit. `parent`: the commit to lay a snapshot on. `base`: commits
    that a remote must give. `bundle`: the history between both, stored. `reasons`: what a person should know."""

    head: str | None = None
    parent: str | None = None
    base: tuple[str, ...] = ()
    bundle: BlobRef | None = None
    remotes: tuple[tuple[str, str], ...] = ()
    reasons: list[str] = field(default_factory=list)


def read_history(user: Git, private: Git, blobs: FolderBlobs, workspace: Path) -> History:
    """Find out, and store the history that must travel; raises UnavailableError and OSError."""
    history = History(remotes=_remotes(user))
    head = user.ask("rev-parse", "-q", "--verify", "HEAD^{commit}")
    if head is None:
        return history
    history.head = history.parent = head.decode("ascii")
    history.base = _base(user, history)
    if history.parent in history.base:
        return history
    try:
        history.bundle = _kept(history, blobs) or _store_history(history, user, private, blobs, workspace)
    except UnavailableError as error:
        history.reasons.append(redact(f"code: commits that no remote has are not stored: {error}"))
        history.parent = history.base[0] if len(history.base) == 1 else None
        history.base = () if history.parent is None else history.base
    return history


def _remotes(user: Git) -> tuple[tuple[str, str], ...]:
    urls: dict[str, str] = {}
    for key, value in read_config(user, r"^remote\..*\.url$"):
        urls.setdefault(key.removeprefix("remote.").removesuffix(".url"), clean_address(value))
    # The usual one first: that is the order in which they are asked.
    return tuple(sorted(urls.items(), key=lambda item: (item[0] != "origin", item[0])))


def _base(user: Git, history: History) -> tuple[str, ...]:
    """The nearest commits that a remote is known to have."""
    if not history.remotes or not user.run("for-each-ref", "--count=1", "refs/remotes"):
        return ()
    said = user.run("rev-list", "--boundary", "HEAD", "--not", "--remotes").decode("ascii").split()
    if not said and history.head is not None:
        return (history.head,)
    return tuple(sorted(line[1:] for line in said if line.startswith("-")))


def _record(history: History, blobs: FolderBlobs) -> Path:
    key = hashlib.sha256(" ".join((str(history.head), *history.base)).encode()).hexdigest()
    return blobs.folder / "history" / f"{key}.json"


def _kept(history: History, blobs: FolderBlobs) -> BlobRef | None:
    """The bundle that an earlier run stored for the same head and base; raises UnavailableError if it refused."""
    try:
        told = json.loads(_record(history, blobs).read_text())
        if told.get("refused"):
            raise UnavailableError(str(told["refused"]))
        found = BlobRef(str(told["sha256"]), int(told["size_bytes"]))
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return found if blobs.has(found.sha256) else None


def _store_history(history: History, user: Git, private: Git, blobs: FolderBlobs, workspace: Path) -> BlobRef:
    try:
        refused = _why_not(history, user, private)
    except TooMuchOutputError as error:
        # Remembered as well: the next run would only find the same again, after seconds.
        refused = f"they could not be searched for secrets: {error}"
    told: dict[str, object] = {"refused": refused}
    bundle = None
    if refused is None:
        path = workspace / "history.bundle"
        private.run("update-ref", _HEAD_REF, str(history.head))
        behind = [f"^{commit}" for commit in history.base]
        private.run("bundle", "create", "-q", str(path), _HEAD_REF, *behind)
        if path.stat().st_size > HISTORY_BYTES_MAX:
            told["refused"] = f"they take more than {HISTORY_BYTES_MAX >> 20} MiB"
        else:
            bundle = blobs.put_file(path)
            told = bundle._asdict()
        path.unlink()
    record = _record(history, blobs)
    record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A hint that saves work, replaced whole; one that is lost or torn is made again.
    draft = workspace / "history.json"
    draft.write_text(json.dumps(told))
    draft.replace(record)
    if bundle is None:
        raise UnavailableError(str(told["refused"]))
    return bundle


def _why_not(history: History, user: Git, private: Git) -> str | None:
    wanted = (str(history.head), *(f"^{commit}" for commit in history.base))
    commits = private.run("rev-list", f"--max-count={COMMITS_MAX + 1}", *wanted)
    if commits.count(b"\n") > COMMITS_MAX:
        return f"there are more than {COMMITS_MAX}"
    if not history.base:
        counts = dict(line.split(b": ", 1) for line in user.run("count-objects", "-v").splitlines())
        if int(counts.get(b"size-pack", b"0")) << 10 > HISTORY_BYTES_MAX * 2:
            return "the repository is too large"
    if has_secret_form(private.run("log", "--format=%an %ae%n%B", *wanted).decode("utf-8", "replace")):
        return "the message of one of them holds what looks like a secret"
    patch = private.run(
        "diff-tree",
        "--stdin",
        "--root",
        "-r",
        "-m",
        "-p",
        "-U0",
        "--no-ext-diff",
        "--no-textconv",
        stdin=commits,
    )
    for path, added in _added(patch.decode("utf-8", "replace")):
        if is_secret_file(path) or holds_secret(path, added):
            return f"one of them adds to {path} what looks like a secret"
    return None


def _added(patch: str) -> Iterator[tuple[str, str]]:
    """The lines that a series of patches adds, by file and commit."""
    path, lines = "", list[str]()
    for line in patch.splitlines():
        if line.startswith("+++ "):
            yield path, "\n".join(lines)
            path, lines = line[6:].strip('"'), []
        elif line.startswith("+"):
            lines.append(line[1:])
    yield path, "\n".join(lines)
