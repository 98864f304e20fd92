"""Whom CPU time is counted for, against an oracle that follows each piece of it from hand to hand.

The kernel hands the time of a child to its parent when the parent waits for it. So the oracle is: a piece belongs to
whoever holds it when it is read for the first time. What a run's process used and handed to a shell before it was
read is the owner's untracked time, and nothing that a shell's other children used is ever a run's.
"""

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.burners import WriterStandIn
from trainledger.node.process_table import ProcessTable
from trainledger.node.processes import ProcessSampler

# Somebody's processes, whoever runs the test.
UID = os.getuid() or 23456
SHELL = 10
UNTRACKED = 0
TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
STEPS = ("unseen", "burn", "start", "start run", "end", "end run", "look", "look at runs")


@dataclass
class Piece:
    """Ticks that were used together."""

    ticks: int
    is_read: bool = False


@dataclass
class Process:
    """A live process; `run` is its own writer's number, or 0."""

    pid: int
    parent: int
    run: int = 0
    own: list[Piece] = field(default_factory=list)
    children: list[Piece] = field(default_factory=list)


class World:
    """Made-up processes under one shell, the sampler that looks at them, and the oracle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.live: dict[int, Process] = {}
        self.pids = SHELL
        self.runs = UNTRACKED
        self.expected: Counter[int] = Counter()
        self.watched: set[int] = set()
        self.seen: set[int] = set()
        self.born(0)
        self.sampler = ProcessSampler(ProcessTable(folder), name_of=str)
        self.look()

    def born(self, parent: int, run: int = UNTRACKED) -> None:
        process = Process(self.pids, parent, run)
        self.live[process.pid] = process
        place = self.folder / str(process.pid)
        place.mkdir()
        if os.getuid() == 0:
            os.chown(place, UID, UID)
        self.write(process)
        self.pids += 1

    def write(self, process: Process) -> None:
        own, children = (sum(piece.ticks for piece in pieces) for pieces in (process.own, process.children))
        fields = f"{process.pid} (x) S {process.parent} 0 0 0 -1 0 0 0 0 0 {own} 0 {children} 0 20 0 1 0 {process.pid} 0 1 0"
        (self.folder / str(process.pid) / "stat").write_text(fields)

    def end(self, process: Process) -> None:
        for child in [child for child in self.live.values() if child.parent == process.pid]:
            self.end(child)
        del self.live[process.pid]
        shutil.rmtree(self.folder / str(process.pid))
        parent = self.live[process.parent]
        parent.children += [*process.own, *process.children]
        self.write(parent)

    def holder(self, process: Process) -> int:
        while process.run == UNTRACKED and process.parent in self.live:
            process = self.live[process.parent]
        return process.run

    def read(self, pids: set[int], holders: dict[int, int]) -> None:
        for pid in pids & self.live.keys():
            for piece in [*self.live[pid].own, *self.live[pid].children]:
                if not piece.is_read:
                    piece.is_read = True
                    self.expected[holders[pid]] += piece.ticks

    def writers(self) -> list[WriterStandIn]:
        return [
            WriterStandIn(process.run.to_bytes(16), process.run.to_bytes(16), process.pid, UID, process.pid)
            for process in self.live.values()
            if process.run
        ]

    def look(self) -> None:
        self.sampler.look(self.writers())
        holders = {pid: self.holder(process) for pid, process in self.live.items()}
        self.read(set(self.live), holders)
        of_runs = {pid for pid, holder in holders.items() if holder}
        self.seen = of_runs | {self.live[pid].parent for pid in of_runs}

    def look_at_runs(self) -> None:
        self.sampler.look_at_runs()
        self.read(self.seen, {pid: self.holder(process) for pid, process in self.live.items()})

    def step(self, what: str, choice: int, ticks: int) -> None:
        process = list(self.live.values())[choice % len(self.live)]
        if what == "unseen":
            process.children.append(Piece(ticks))
            self.write(process)
        elif what == "burn":
            process.own.append(Piece(ticks))
            self.write(process)
        elif what in ("start", "start run"):
            self.runs += what == "start run"
            self.born(process.pid, self.runs if what == "start run" else UNTRACKED)
        elif what == "end" and process.pid != SHELL:
            self.end(process)
        elif what == "end run" and process.run:
            # Its process lives on; the agent looks when a writer has gone.
            self.look()
            process.run = UNTRACKED
            self.look()
        elif what == "look":
            self.look()
        elif what == "look at runs":
            self.look_at_runs()

    def counted(self) -> Counter[int]:
        counted: Counter[int] = Counter()
        for item in self.sampler.take(0):
            run_id = item["run_id"]
            holder = int.from_bytes(run_id) if isinstance(run_id, bytes) else UNTRACKED
            counted[holder] += int(str(item["cpu_us"])) // TICK_US
        return counted


STEP = st.tuples(st.sampled_from(STEPS), st.integers(0, 5), st.integers(1, 300))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
# A child that had died a look before its parent waited for it, and for another that nobody saw.
@example([("start", 0, 1), ("look", 0, 1), ("end", 1, 1), ("look", 0, 1), ("unseen", 0, 1)])
# One that only a full look sees dies before a look at runs and their parents.
@example(
    [
        ("start", 0, 1),
        ("unseen", 1, 1),
        ("start run", 0, 1),
        ("look", 0, 1),
        ("end", 1, 1),
        ("look at runs", 0, 1),
    ]
)
def test_each_tick_is_of_whoever_holds_it_when_it_is_read_first(steps: list[tuple[str, int, int]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        world = World(folder)
        for what, choice, ticks in steps:
            world.step(what, choice, ticks)
        world.look()
        assert +world.counted() == +world.expected
    finally:
        shutil.rmtree(folder)


def test_what_ran_in_the_shell_after_a_run_is_not_the_runs(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.step("start run", 0, 0)
    world.look()
    run = world.live[world.pids - 1]
    run.own.append(Piece(8))
    world.write(run)
    world.look_at_runs()
    world.end(run)
    world.step("unseen", 0, 300)
    world.look_at_runs()
    assert +world.counted() == Counter({run.run: 8, UNTRACKED: 300})


def test_unseen_children_of_a_runs_process_are_the_runs(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.step("start run", 0, 0)
    world.look()
    world.step("start", 1, 0)
    world.look()
    world.end(world.live[world.pids - 1])
    world.step("unseen", 1, 300)
    world.look_at_runs()
    assert +world.counted() == Counter({1: 300})
