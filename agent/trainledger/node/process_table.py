"""Processes and the CPU time that passed between two looks at them, each microsecond counted once.

The kernel adds the CPU time of a child to its parent's when the parent waits for it. So the sum of (own +
waited-for children) over all processes only grows while every dead process is waited for, and the growth of
one process is what it used itself plus what its dead children used since the look before. A child that was
already counted must be taken out of its parent's growth again; what is left of that growth was used by
children too short-lived to be seen, or by a seen child after the last look at it. When a seen child was waited
for, nobody can tell the two apart: that part is told under the child, as `unseen_of` the one that waited, and who
bills must not take it for the child's. A child that nobody waits for (SIGCHLD ignored) adds nothing anywhere and
needs no correction. A child whose parent died first is waited for by an ancestor that took it over: the nearest one
whose growth is large enough is taken to have done so.

Identity is (pid, start time in ticks since boot): a reused pid is another process. Numbers are clock ticks.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["ProcessTable", "Reading", "Spent", "parse_stat"]

KERNEL_THREAD = 0x00200000  # PF_KTHREAD of the kernel
ANCESTORS_MAX = 256
# utime and stime are cut to whole ticks, each on its own: a parent's growth may look this much too small.
ROUNDING_TICKS = 2
STAT_BYTES_MAX = 2048


# Named tuples: hundreds are made every two seconds, and they take a third of a frozen dataclass's time.
class Reading(NamedTuple):
    """One process at one moment; `own` and `children` are CPU ticks, `resident` pages."""

    pid: int
    start_ticks: int
    parent: int
    own: int
    children: int
    resident: int
    is_kernel: bool


class Spent(NamedTuple):
    """CPU ticks that `pid` (its process, or a dead child of it) used since the look before.

    `unseen_of`: pid and start of a living process, when the ticks were used by the dead `pid` after the last look
    at it or by other children of that process, which nobody saw."""

    pid: int
    start_ticks: int
    ticks: int
    unseen_of: tuple[int, int] | None = None


def parse_stat(pid: int, data: bytes) -> Reading | None:
    """A line of /proc/PID/stat; None when it is cut off. The name may hold any bytes, brackets and blanks too."""
    fields = data[data.rfind(b")") + 2 :].split(None, 22)
    if len(fields) < 22:
        return None
    return Reading(
        pid,
        start_ticks=int(fields[19]),
        parent=int(fields[1]),
        own=int(fields[11]) + int(fields[12]),
        children=int(fields[13]) + int(fields[14]),
        resident=int(fields[21]),
        is_kernel=bool(int(fields[6]) & KERNEL_THREAD),
    )


class ProcessTable:
    """The user processes last seen. `look` and `look_at` bring it up to date and tell what was spent."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        self.known: dict[int, Reading] = {}
        self._kernel: set[int] = set()
        self._unsettled: list[Reading] = []
        self._began = False

    def look(self) -> list[Spent]:
        """See all processes. The first call only begins: what was used before it is nobody's here."""
        pids = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        self._kernel.intersection_update(pids)
        readings: dict[int, Reading] = {}
        for reading in self._read(pid for pid in pids if pid not in self._kernel):
            if reading.is_kernel:
                self._kernel.add(reading.pid)
            else:
                readings[reading.pid] = reading
        if not self._began:
            self._began = True
            self.known = readings
            return []
        # Dead processes whose time was found with nobody may turn up now: this look sees all ancestors, and a
        # parent may have been read just before it waited. After that they were waited for by nobody.
        late, self._unsettled = self._unsettled, []
        return self._advance(readings, set(self.known), late)

    def look_at(self, pids: Iterable[int]) -> list[Spent]:
        """See only these of the known processes: cheap, and enough between two calls of `look`."""
        wanted = [pid for pid in pids if pid in self.known]
        readings = {reading.pid: reading for reading in self._read(wanted)}
        # Those that are late may turn up here too, or else stay late: not everybody who may wait was seen.
        late, self._unsettled = self._unsettled, []
        spent = self._advance(readings, set(wanted) | self._gone_below(readings), late)
        self._unsettled += late
        return spent

    def _gone_below(self, readings: dict[int, Reading]) -> set[int]:
        """Known processes that died below those whose children's time grew: that time may be counted already."""
        grown = {pid for pid, reading in readings.items() if reading.children != self.known[pid].children}
        if not grown:
            return set()
        below = {
            pid: reading
            for pid, reading in self.known.items()
            if pid not in readings and any(ancestor.pid in grown for ancestor in self.ancestors(reading))
        }
        alive = {reading.pid: reading for reading in self._read(below)}
        return {pid for pid, reading in below.items() if not _is_same(reading, alive.get(pid))}

    def owner_of(self, pid: int) -> int | None:
        """The user id that the process runs as, or None when it is gone."""
        try:
            return os.stat(f"{self._proc}/{pid}").st_uid
        except OSError:
            return None

    def name_of(self, pid: int) -> bytes:
        """The kernel's name of the process, at most 15 bytes; empty when it is gone."""
        try:
            with open(f"{self._proc}/{pid}/comm", "rb") as file:
                return file.read(64).strip()
        except OSError:
            return b""

    def ancestors(self, reading: Reading) -> Iterator[Reading]:
        """Known ancestors, nearest first."""
        for _ in range(ANCESTORS_MAX):
            parent = self.known.get(reading.parent)
            if parent is None or parent.pid == reading.pid:
                return
            yield parent
            reading = parent

    def _read(self, pids: Iterable[int]) -> Iterator[Reading]:
        for pid in pids:
            try:
                descriptor = os.open(f"{self._proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                reading = parse_stat(pid, os.read(descriptor, STAT_BYTES_MAX))
            except OSError:  # it ended between the two calls
                continue
            finally:
                os.close(descriptor)
            if reading is not None:
                yield reading

    def _advance(self, readings: dict[int, Reading], looked_at: set[int], late: list[Reading]) -> list[Spent]:
        """Compare with the look before; `looked_at`: pids that are gone when they have no reading."""
        before = self.known
        gone = [before[pid] for pid in looked_at if not _is_same(before[pid], readings.get(pid))]
        growth = {
            pid: reading.children - before[pid].children
            for pid, reading in readings.items()
            if pid in before and _is_same(before[pid], reading)
        }
        spent = self._settle(gone, growth, late, readings)
        for pid, reading in readings.items():
            old = before.get(pid)
            if pid in growth and old is not None:
                ticks = reading.own - old.own + max(0, growth[pid])
            else:
                ticks = reading.own + reading.children
            if ticks > 0:
                spent.append(Spent(pid, reading.start_ticks, ticks))
        known = {pid: reading for pid, reading in before.items() if pid not in looked_at}
        known.update(readings)
        self.known = known
        return spent

    def _settle(
        self, gone: list[Reading], growth: dict[int, int], late: list[Reading], readings: dict[int, Reading]
    ) -> list[Spent]:
        """Take what dead processes were counted for out of `growth`; what is left there was used unseen.

        Leaves in `late` those that nobody waited for yet."""
        # From the top down: when a parent and its child are both gone, the parent's total holds the child's.
        heirs: dict[int, list[Reading]] = {}
        for dead in sorted([*late, *gone], key=lambda reading: sum(1 for _ in self.ancestors(reading))):
            waited_by = self._waited_by(dead, growth)
            if waited_by is not None:
                room = growth[waited_by]
                growth[waited_by] = room - min(dead.own + dead.children, room)
                heirs.setdefault(waited_by, []).append(dead)
                if dead in late:
                    late.remove(dead)
            elif dead in gone:
                self._unsettled.append(dead)
        spent = []
        for pid, children in heirs.items():
            rest = growth[pid]
            if rest > 0:
                # Of several, the busiest so far is the likeliest to have used the rest.
                busiest = max(children, key=lambda reading: reading.own + reading.children)
                growth[pid] = 0
                unseen_of = (pid, readings[pid].start_ticks)
                spent.append(Spent(busiest.pid, busiest.start_ticks, rest, unseen_of))
        return spent

    def _waited_by(self, dead: Reading, growth: dict[int, int]) -> int | None:
        """The nearest ancestor whose children's time grew by at least what the dead one had."""
        for ancestor in self.ancestors(dead):
            room = growth.get(ancestor.pid, 0)
            if room > 0 and room + ROUNDING_TICKS >= dead.own + dead.children:
                return ancestor.pid
        return None


def _is_same(one: Reading, other: Reading | None) -> bool:
    return other is not None and one.start_ticks == other.start_ticks
