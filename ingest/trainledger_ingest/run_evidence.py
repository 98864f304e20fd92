"""The events of one run, sorted into what each of its writers said and what was seen of it.

A writer is one process: the id of its journal. Everything here is pure and does not depend on the order in
which the events arrive: they are sorted by their own time and place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RunEvent", "WriterEvidence", "assign_attempts", "collect_writers"]


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of topic runs; `body` is its record without the envelope, ids as UUID text."""

    offset: int
    type: str
    writer_id: str
    node_id: str
    at_us: int
    body: Mapping[str, Any]


@dataclass(slots=True)
class WriterEvidence:
    """What is known of one process. `attempt` is 0 until `assign_attempts` has run."""

    writer_id: str
    node_id: str = ""
    started: RunEvent | None = None
    seen: RunEvent | None = None
    gone: RunEvent | None = None
    exits: list[RunEvent] = field(default_factory=list)
    gap_points: int = 0
    last_us: int = 0
    attempt: int = 0
    used_devices: set[str] = field(default_factory=set)
    named_devices: list[str] = field(default_factory=list)

    @property
    def devices(self) -> list[str]:
        """The devices it was on; before it was on one, those that it was told to use."""
        return sorted(self.used_devices) or self.named_devices

    @property
    def parent(self) -> str | None:
        """The writer of the process that made this one, where it is known."""
        for event in (self.started, self.seen):
            if event is not None and event.body.get("parent_writer"):
                return str(event.body["parent_writer"])
        return None

    @property
    def role(self) -> str:
        """sdk, wrapper, or capture for a process that only describes another."""
        return str(self.started.body.get("role", "sdk")) if self.started else "capture"

    @property
    def joined(self) -> str:
        """Why this process writes for this run: new, environment, parent, wrapper or resume."""
        return str(self.started.body.get("joined", "new")) if self.started else "parent"

    @property
    def rank(self) -> int | None:
        """Rank in the launch, if there is one."""
        return self.started.body.get("rank") if self.started else None

    @property
    def joined_by(self) -> str:
        """`joined`, where a run is joined by its launch with how well that is known: strong or weak."""
        join = self.started.body.get("join") if self.started else None
        return str(join) if join and self.joined == "environment" else self.joined

    @property
    def place(self) -> str:
        """Which rank on which node, for people."""
        return f"rank {self.rank} on node {self.node_id}"

    @property
    def decides(self) -> bool:
        """Whether its end says how the run ended: children of a local process never do."""
        return self.started is not None and self.joined != "parent"

    @property
    def start_us(self) -> int:
        """When it began, or was first seen."""
        event = self.started or self.seen
        return event.at_us if event else self.last_us

    @property
    def end_us(self) -> int | None:
        """When it ended, if it did."""
        if self.exits:
            return max(event.at_us for event in self.exits)
        return self.gone.at_us if self.gone else None


def collect_writers(events: Iterable[RunEvent]) -> dict[str, WriterEvidence]:
    """Sort the events of one run by writer; repeats of an event change nothing."""
    writers: dict[str, WriterEvidence] = {}
    for event in sorted(events, key=lambda e: (e.at_us, e.offset)):
        if event.type == "blobs_stored":
            continue  # the agent's work, perhaps days later: no sign of life of the process
        writer = writers.setdefault(event.writer_id, WriterEvidence(event.writer_id))
        writer.last_us = max(writer.last_us, event.at_us)
        writer.node_id = writer.node_id or event.node_id
        if event.type == "run_started":
            writer.started = writer.started or event
        elif event.type == "writer_seen":
            writer.seen = event
        elif event.type == "writer_devices":
            writer.used_devices |= set(event.body["device_ids"])
            writer.named_devices = list(event.body["named_ids"])
        elif event.type == "writer_gone":
            writer.gone = writer.gone or event
        elif event.type == "run_exited":
            writer.exits.append(event)
        elif event.type == "writer_gap":
            writer.gap_points += int(event.body.get("points", 0))
    return writers


def assign_attempts(writers: Mapping[str, WriterEvidence]) -> int:
    """Give each writer its attempt, from 1, and return the number of attempts.

    A new attempt begins when a rank of the current one starts again, when the scheduler's restart count grows, or
    when somebody resumes the run. The count of torchrun differs between nodes, so it decides nothing. Processes
    without a rank start again only if their forerunner had ended; what a wrapped command starts belongs to the
    wrapper's attempt unless it has ranks that start again.
    """
    attempt = 1
    by_rank: dict[tuple[str, int | None], WriterEvidence] = {}
    restarts = 0
    deciding = sorted((w for w in writers.values() if w.decides), key=lambda w: (w.start_us, w.writer_id))
    for writer in deciding:
        place = (writer.role, writer.rank)
        count = int((writer.started.body.get("scheduler_restart") if writer.started else 0) or 0)
        if by_rank and (count > restarts or _starts_again(writer, by_rank.get(place))):
            attempt += 1
            by_rank = {}
        restarts = max(restarts, count)
        by_rank[place] = writer
        writer.attempt = attempt
    for writer in writers.values():
        if not writer.attempt:
            writer.attempt = _inherited_attempt(writer, writers)
    return attempt


def _starts_again(writer: WriterEvidence, before: WriterEvidence | None) -> bool:
    if writer.joined == "resume":
        return True
    if before is None:
        return False
    if writer.rank is not None:
        return True
    if writer.joined == "wrapper":
        return False
    ended_us = before.end_us
    return ended_us is not None and ended_us <= writer.start_us


def _inherited_attempt(writer: WriterEvidence, writers: Mapping[str, WriterEvidence]) -> int:
    visited: set[str] = set()
    current: WriterEvidence | None = writer
    while current is not None and current.writer_id not in visited:
        if current.attempt:
            return current.attempt
        visited.add(current.writer_id)
        current = writers.get(current.parent or "")
    return 1
