"""Which launches began on this node, so that one that repeats the scope and id of another is a run of its own.

A script that loops over trainings in one allocation (`torchrun --rdzv-id=$SLURM_JOB_ID`, ranks in a shell loop) gives
all of them one key. Here each process of a launch writes a line when it begins and one when it has finished; the
ordinal of a launch is how many with its key have finished here before. Nodes agree as long as all took part in each;
where they do not, ingest sees a rank twice. A rank that starts again and had not finished is a new attempt.

One small file a key in `<journals>/<uid>/launches`, under a lock for as long as it takes to add a line. Where it
cannot be written, or the lock is not to be had, the ordinal is 0. A line: `begin` or `end`, and the fields of Entry.
"""

import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from trainledger_schemas.clock import Clock, read_boot_id

from .launch import Launch
from .process_facts import ProcessFacts, read_start_ticks

__all__ = ["Entry", "LaunchRecord", "choose_ordinal", "record_launch"]

FOLDER = "launches"
# What is read of a file, and left of it once it is twice that.
BYTES_KEPT = 128 << 10
FILES_MAX = 500
LOCK_TRIES = 50
LOCK_PAUSE_S = 0.002
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
# `unseen`: of another container or machine on the same folder.
FINISHED, ALIVE, DEAD, UNSEEN = "finished", "alive", "dead", "unseen"


class Entry(NamedTuple):
    """One process of a launch; `restarts` is the launcher's count, `scheduler_restarts` the job's."""

    ordinal: int
    rank: int
    parent: str
    restarts: int
    scheduler_restarts: int
    place: str
    pid: int
    start_ticks: int
    state: str = ALIVE


def choose_ordinal(entries: Sequence[Entry], me: Entry, *, is_weak: bool, may_move: bool) -> int:
    """The ordinal of the launch that `me` belongs to; `entries` in the order in which they began. Pure.

    `may_move`: another launch may have other ranks on this node. Else a rank that did not begin yet is one of the
    newest launch, though all others of it have finished: a short one, in which it is late.
    """
    known = [entry for entry in entries if entry.scheduler_restarts == me.scheduler_restarts]
    if not known:
        return 0
    last = max(entry.ordinal for entry in known)
    launch = [entry for entry in known if entry.ordinal == last]
    before = next((entry for entry in reversed(launch) if entry.rank == me.rank), None)
    has_same_parent = any(entry.parent == me.parent for entry in launch)
    if before is not None:
        if before.parent == me.parent and me.restarts > before.restarts:
            return last
        if before.state in (FINISHED, ALIVE) or (is_weak and not has_same_parent):
            return last + 1
        return last
    if has_same_parent or any(entry.state in (ALIVE, UNSEEN) for entry in launch):
        return last
    if any(entry.state == DEAD for entry in launch):
        return last + 1 if is_weak else last
    return last + 1 if may_move else last


class LaunchRecord:
    """This process's line in the file of its launch."""

    def __init__(self, path: Path, entry: Entry) -> None:
        self._path = path
        self._entry = entry

    def end(self) -> None:
        """This process has finished its part; never raises."""
        try:
            fd = os.open(self._path, _FLAGS & ~os.O_CREAT)
            try:
                os.write(fd, _line("end", self._entry))
            finally:
                os.close(fd)
        except OSError:
            pass  # the next launch of this key counts as an attempt of this one


def record_launch(
    folder: Path, launch: Launch, *, parent: str, facts: ProcessFacts, clock: Clock
) -> tuple[int, LaunchRecord | None]:
    """Write down that this process begins; the ordinal of its launch. 0 and None where that cannot be done."""
    # Not at the top: see `run_id_of`.
    import hashlib

    me = Entry(
        0,
        # Around a launcher on each of several nodes, which may be on one machine.
        -1 - (launch.node_rank or 0) if launch.rank is None else launch.rank,
        parent or "-",
        launch.restart_hint or 0,
        launch.scheduler_restart or 0,
        f"{read_boot_id().hex()}:{facts.pid_namespace}",
        facts.pid,
        facts.start_ticks,
    )
    name = hashlib.sha256((launch.key or "").encode("utf-8", "replace")).hexdigest()[:32]
    path = folder / FOLDER / name
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _remove_oldest(path.parent)
        fd = os.open(path, _FLAGS, 0o600)
        try:
            if not _is_locked(fd, clock):
                return 0, None
            size = os.fstat(fd).st_size
            text = os.pread(fd, BYTES_KEPT, max(0, size - BYTES_KEPT))
            entries = _entries(text.decode("ascii", "replace").splitlines(), me.place)
            me = me._replace(
                ordinal=choose_ordinal(entries, me, is_weak=launch.is_weak, may_move=launch.is_elastic())
            )
            if size > 2 * BYTES_KEPT:
                os.truncate(fd, 0)
                os.write(fd, text[text.find(b"\n") + 1 :])
            os.write(fd, _line("begin", me))
        finally:
            os.close(fd)
    except OSError:
        return 0, None
    return me.ordinal, LaunchRecord(path, me)


def _is_locked(fd: int, clock: Clock) -> bool:
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:  # another rank; one that was stopped in the middle must not stop us
            clock.sleep(LOCK_PAUSE_S)
    return False


def _remove_oldest(folder: Path) -> None:
    with os.scandir(folder) as entries:
        files = sorted(entries, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
    for entry in files[: -FILES_MAX or None]:
        os.unlink(entry.path)


def _line(word: str, entry: Entry) -> bytes:
    return " ".join([word, *map(str, entry[:-1])]).encode("ascii", "replace") + b"\n"


def _entries(lines: Iterable[str], place: str) -> list[Entry]:
    begun: dict[tuple[int, int, str, int, int], Entry] = {}
    for line in lines:
        word, *fields = line.split(" ")
        try:
            ordinal, rank, parent, restarts, scheduler_restarts, where, pid, ticks = fields
            entry = Entry(
                int(ordinal),
                int(rank),
                parent,
                int(restarts),
                int(scheduler_restarts),
                where,
                int(pid),
                int(ticks),
            )
        except ValueError:  # cut off by a crash
            continue
        identity = (entry.ordinal, entry.rank, where, entry.pid, entry.start_ticks)
        state = FINISHED if word == "end" else ALIVE
        begun[identity] = entry._replace(state=state)
    return [
        entry if entry.state == FINISHED else entry._replace(state=_state_of(entry, place))
        for entry in begun.values()
    ]


def _state_of(entry: Entry, place: str) -> str:
    if entry.place != place:
        return UNSEEN
    return ALIVE if entry.start_ticks and read_start_ticks(entry.pid) == entry.start_ticks else DEAD
