"""Which run a process belongs to, after what people decided: runs that a guess joined wrongly are split, others merged.

Each process tells its run id. A decision (event `writers_moved`) moves processes of one run to another: those it
names, each with its children, or all, also those that are heard of later. Decisions hold in the order of the log, each
on what those before it left; one that was undone is as if it had never been. Pure: the answer depends on the events
alone, whatever the order in which they came, so a rebuild gives the same.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .run_evidence import RunEvent, collect_writers

__all__ = ["EVENTS_A_DECISION", "Decision", "Decisions", "Family", "Moved", "divide", "gone_rows"]

# A version is the number of decisions, then that of events: taking a decision back must win over what it did.
EVENTS_A_DECISION = 1 << 44


@dataclass(frozen=True, slots=True)
class Decision:
    """One `writers_moved`; ids are UUID text. No `writer_ids`: all of the run. `ordinal` counts events, from 1."""

    ordinal: int
    change_id: str
    from_run: str
    to_run: str
    writer_ids: frozenset[str]
    undoes: str | None


class Decisions:
    """All decisions of the log, in its order."""

    def __init__(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """`bodies`: the events' records without their envelopes."""
        self.all = tuple(
            Decision(
                ordinal=ordinal,
                change_id=str(body["change_id"]),
                from_run=str(body["from_run_id"]),
                to_run=str(body["to_run_id"]),
                writer_ids=frozenset(map(str, body.get("writer_ids") or ())),
                undoes=body.get("undoes"),
            )
            for ordinal, body in enumerate(bodies, 1)
        )
        self._undone = {decision.undoes for decision in self.all if decision.undoes}
        # Undone ones too: the tables of a run must be written anew when a decision is taken back.
        self._neighbours: dict[str, set[str]] = {}
        self._ordinals: dict[str, int] = {}
        for decision in self.all:
            pair = {decision.from_run, decision.to_run}
            for run_id in pair:
                self._neighbours.setdefault(run_id, set()).update(pair)
                self._ordinals[run_id] = decision.ordinal

    def related(self, run_id: str) -> frozenset[str]:
        """The runs that ever exchanged processes with this one, by however many steps, and itself."""
        found, unseen = {run_id}, [run_id]
        while unseen:
            fresh = self._neighbours.get(unseen.pop(), set()) - found
            found |= fresh
            unseen += fresh
        return frozenset(found)

    def newest(self, run_ids: Iterable[str]) -> int:
        """The ordinal of the last decision that names any of these; 0 without one."""
        return max((self._ordinals.get(run_id, 0) for run_id in run_ids), default=0)

    def named_since(self) -> dict[str, int]:
        """Every run that a decision names, with the ordinal of the last one."""
        return dict(self._ordinals)

    def homes(self, told: Mapping[str, str], parents: Mapping[str, str | None]) -> dict[str, str]:
        """Writer to run, for all of `told` (writer to the run it tells); `parents`: writer to who made it."""
        homes = dict(told)
        for decision in self.all:
            if decision.undoes or decision.change_id in self._undone:
                continue
            for writer, home in homes.items():
                if home == decision.from_run and _is_meant(decision, writer, parents):
                    homes[writer] = decision.to_run
        return homes


def _is_meant(decision: Decision, writer: str, parents: Mapping[str, str | None]) -> bool:
    if not decision.writer_ids:
        return True
    return any(ancestor in decision.writer_ids for ancestor in _line(writer, parents))


def _line(writer: str, parents: Mapping[str, str | None]) -> Sequence[str]:
    """A process and who made it, up to the first."""
    line: list[str] = []
    current: str | None = writer
    while current is not None and current not in line:
        line.append(current)
        current = parents.get(current)
    return line


@dataclass(slots=True)
class Moved:
    """Processes turned out to be of another run or attempt than before: what they held is to be dealt anew.

    `is_decided`: a decision came into force; `since_us`: the runs that held it, and from when on (microseconds since
    1970)."""

    is_decided: bool = False
    since_us: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Moved") -> None:
        """These too."""
        self.is_decided = self.is_decided or other.is_decided
        for run_id, since_us in other.since_us.items():
            self.since_us[run_id] = min(since_us, self.since_us.get(run_id, since_us))


@dataclass(frozen=True, slots=True)
class Family:
    """Runs that exchanged processes, divided as it is decided.

    `events`: of each run that has any; `told`, `homes`: writer to the run that it tells, and that it is of;
    `told_ends`: behind the newest event that tells a run."""

    run_ids: frozenset[str]
    version: int
    events: Mapping[str, Sequence[RunEvent]]
    told: Mapping[str, str]
    homes: Mapping[str, str]
    told_ends: Mapping[str, int]

    def moved(self, left: Mapping[str, str], *, settled: int) -> Moved:
        """What processes change that left a run (`left`: writer to that run).

        `settled`: the newest version that is known of any process of any run."""
        since_us: dict[str, int] = {}
        for events in self.events.values():
            for event in events:
                if (run_id := left.get(event.writer_id)) is not None:
                    since_us[run_id] = min(event.at_us, since_us.get(run_id, event.at_us))
        is_new = bool(self.homes) and self.version // EVENTS_A_DECISION > settled // EVENTS_A_DECISION
        return Moved(is_new, since_us)


def divide(
    told: Mapping[str, Sequence[RunEvent]], run_ids: frozenset[str], *, decisions: Decisions
) -> Family:
    """Give each event of these runs (by the run that it tells) to the run that its process is of."""
    writers: dict[str, str] = {}
    parents: dict[str, str | None] = {}
    for run_id, events in sorted(told.items()):
        for event in events:
            writers.setdefault(event.writer_id, run_id)
        parents |= {writer.writer_id: writer.parent for writer in collect_writers(events).values()}
    homes = decisions.homes(writers, parents)
    divided: dict[str, list[RunEvent]] = {}
    for _, events in sorted(told.items()):
        for event in events:
            divided.setdefault(homes[event.writer_id], []).append(event)
    told_ends = {run_id: max(event.offset for event in events) + 1 for run_id, events in told.items()}
    version = decisions.newest(run_ids) * EVENTS_A_DECISION + sum(told_ends.values())
    return Family(run_ids, version, divided, writers, homes, told_ends)


def gone_rows(
    rows: Sequence[Mapping[str, Any]], keys: Collection[str], family: Family
) -> list[dict[str, Any]]:
    """For each run of a family the rows that others of it have now and it may have had, marked as gone.

    `rows`: all that are current, with `run_id` as 16 bytes; `keys`: what tells the rows of one run apart."""
    known = {tuple(row[key] for key in keys): row for row in rows}
    current = {(row["run_id"], *(row[key] for key in keys)) for row in rows}
    return [
        {**row, "run_id": run_id, "gone": True}
        for run_id in sorted(UUID(text).bytes for text in family.run_ids)
        for place, row in known.items()
        if (run_id, *place) not in current
    ]
