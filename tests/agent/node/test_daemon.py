"""The agent as `up` and the one-shots use it: real journals, real processes, a real spool."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.burners import Burner, burning
from support.journals import JournalFile, read_records
from support.polling import poll_until
from trainledger.node.daemon import NodeAgent
from trainledger.node.gpu_vendors import NVIDIA
from trainledger.node.node_settings import AgentSettings
from trainledger.node.reader_lock import ReaderKind
from trainledger_schemas.clock import Clock, ManualClock, SystemClock, read_boot_id
from trainledger_schemas.events import TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS, Event
from trainledger_schemas.ids import id_text

LOCK_THEN_BURN = (
    "import fcntl\nf = open({lock!r}, 'r+b')\nfcntl.lockf(f, fcntl.LOCK_EX)\n"
    "print('locked', flush=True)\nsys.stdin.readline()\nburn({burn})\n"
)


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another test loaded into this process."""
    monkeypatch.setattr("trainledger.node.gpu_watch.VENDORS", [replace(NVIDIA, is_there=lambda: False)])


class Node:
    """A home and a node folder, and the events that agents spooled there."""

    def __init__(self, folder: Path) -> None:
        self.home, self.journals = folder / "home", folder / "journals"
        self.journals.mkdir()

    @contextmanager
    def agent(
        self, *, kind: ReaderKind = "up", clock: Clock | None = None, settings: AgentSettings | None = None
    ) -> Iterator[NodeAgent]:
        agent = NodeAgent.open(
            self.home,
            self.journals,
            kind=kind,
            settings=settings or AgentSettings(schedulers=()),
            clock=clock or SystemClock(),
        )
        try:
            yield agent
        finally:
            agent.close(leaving=False)

    def events(self, topic: str, kind: str | None = None) -> list[Any]:
        return [event.record for event in self.typed(topic) if kind in (None, event.type)]

    def typed(self, topic: str) -> list[Event]:
        return [Event(kind, record) for kind, record in read_records(self.home / "spool", topic)]

    @contextmanager
    def live_writer(self, *, number: int = 1, burn: float = 0.0) -> Iterator[tuple[Burner, JournalFile]]:
        """A process that holds the lock of its own journal; it burns at the next `go`."""
        journal_id = bytes([number]) * 16
        with burning(LOCK_THEN_BURN.format(lock=str(self._lock_path(journal_id)), burn=burn)) as burner:
            journal = JournalFile(
                self.journals,
                run_id=bytes([number + 100]) * 16,
                journal_id=journal_id,
                boot_id=read_boot_id(),
                pid=burner.pid,
                start_ticks=burner.start_ticks,
            )
            burner.go()
            assert burner.line() == "locked"
            yield burner, journal

    def _lock_path(self, journal_id: bytes) -> Path:
        return self.journals / str(os.geteuid()) / id_text(journal_id) / "writer.lock"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_drain_spools_all_that_was_written_and_what_the_run_used(node: Node) -> None:
    with node.agent() as agent, node.live_writer(burn=0.5) as (burner, journal):
        agent.step()
        journal.rows(300)
        burner.go()
        used_us = burner.used_us()
        agent.drain()
        assert (
            sum(len(block["step_delta"]) for event in node.events(TOPIC_METRICS) for block in event["blocks"])
            == 300
        )
        usage = [item for event in node.events(TOPIC_NODES, "process_usage") for item in event["usage"]]
        present = node.events(TOPIC_NODES, "node_present")[-1]
    runs = [item for item in usage if item["kind"] == "run"]
    assert {item["run_id"] for item in runs} == {bytes([101]) * 16}
    assert sum(item["cpu_us"] for item in runs) == pytest.approx(used_us, rel=0.15, abs=40_000)
    assert present["writers"] == [{"run_id": bytes([101]) * 16, "writer_id": bytes([1]) * 16}]
    assert present["leaving"] is False


def test_first_events_of_an_agent_are_its_presence_and_its_devices(node: Node) -> None:
    with node.agent():
        first, second = node.typed(TOPIC_NODES)[:2]
    assert (first.type, second.type) == ("node_present", "devices")
    assert second.record["devices"] == []
    assert first.record["cores"] >= 1
    assert first.record["memory_bytes"] > 0
    assert first.record["busy_us"] > 0
    assert first.record["envelope"]["node_id"] == first.record["host"]


def test_clean_stop_ends_with_an_event_that_says_so(node: Node) -> None:
    with node.agent() as agent:
        agent.step()
        agent.close(leaving=True)
        agent.close(leaving=True)
    last = node.typed(TOPIC_NODES)[-1]
    assert last.type == "node_present"
    assert last.record["leaving"] is True
    usage = node.events(TOPIC_NODES, "process_usage")[-1]
    assert usage["end_us"] <= last.record["at_us"]


def test_one_shot_spools_evidence_and_says_nothing_of_the_node(node: Node) -> None:
    journal = JournalFile(node.journals)
    journal.rows(10)
    journal.exit()
    with node.agent(kind="one-shot") as agent:
        report = agent.one_shot()
    assert report.points == 20
    kinds = [event.type for event in node.typed(TOPIC_RUNS)]
    assert "writer_seen" in kinds
    assert "writer_gone" in kinds
    assert node.typed(TOPIC_NODES) == []


def test_events_of_agents_one_after_another_have_one_producer_and_growing_numbers(node: Node) -> None:
    for _ in range(3):
        with node.agent() as agent:
            agent.drain()
    envelopes = [record["envelope"] for record in node.events(TOPIC_NODES)]
    assert len({envelope["producer_id"] for envelope in envelopes}) == 1
    numbers = [envelope["seq"] for envelope in envelopes]
    assert numbers == sorted(set(numbers))


def test_allocation_is_said_when_a_run_comes_and_when_it_goes(node: Node) -> None:
    with node.agent() as agent:
        agent.drain()
        with node.live_writer() as (burner, _):
            agent.drain()
            agent.drain()

        def is_gone() -> bool:
            agent.drain()
            return not node.events(TOPIC_NODES, "allocation")[-1]["holders"]

        poll_until(is_gone)
    said = [record["holders"] for record in node.events(TOPIC_NODES, "allocation")]
    assert [len(holders) for holders in said] == [0, 1, 0]
    holder = said[1][0]
    assert (holder["resource"], holder["kind"], holder["denominator"]) == ("host", "run", 0)
    assert holder["run_id"] == bytes([101]) * 16
    assert holder["evidence"] == "process tree"
    assert burner.pid > 0


def test_presence_is_said_each_thirty_seconds_and_a_key_frame_each_five_minutes(node: Node) -> None:
    clock = ManualClock()
    with node.agent(clock=clock) as agent:
        agent.step()
        for _ in range(301):
            clock.advance(1)
            agent.step()
    present = node.events(TOPIC_NODES, "node_present")
    assert len(present) == 1 + 10 + 1  # at the start, each 30 s, and at the end
    frames = [record["key_frame"] for record in node.events(TOPIC_NODES, "allocation")]
    assert frames == [False, True]
    assert len(node.events(TOPIC_NODES, "hardware")) >= 30


def test_journals_are_polled_once_a_second_however_often_the_loop_turns(node: Node) -> None:
    clock = ManualClock()
    with node.agent(clock=clock) as agent:
        agent.step()
        JournalFile(node.journals).rows(5)
        clock.advance(0.2)
        agent.step()
        assert node.events(TOPIC_METRICS) == []
        clock.advance(0.9)
        agent.step()
        assert len(node.events(TOPIC_METRICS)) == 1


def test_round_that_fails_is_counted_and_the_next_goes_on(node: Node) -> None:
    stop = threading.Event()
    settings = AgentSettings(poll_interval_s=0.1, loop_interval_s=0.05, schedulers=())
    with node.agent(settings=settings) as agent:
        hidden = node.home / "spool" / "hidden"
        loop = threading.Thread(target=agent.run, args=(stop,))
        loop.start()
        try:
            # The cursor file cannot be replaced by a file while it is a folder with something in it.
            cursor = node.home / "spool" / "journals.cursor"
            cursor.unlink(missing_ok=True)
            (cursor / "in the way").mkdir(parents=True)
            journal = JournalFile(node.journals)
            journal.rows(5)
            poll_until(lambda: agent.status().failures > 0)
            shutil.move(cursor, hidden)
            poll_until(lambda: node.events(TOPIC_METRICS))
        finally:
            stop.set()
            loop.join()


def test_a_round_with_twenty_live_journals_costs_less_than_a_hundredth_of_a_core(node: Node) -> None:
    writers = []
    with node.agent() as agent:
        try:
            for number in range(1, 21):
                stack = node.live_writer(number=number)
                writers.append(stack)
                _, journal = stack.__enter__()
                journal.rows(50)
            agent.drain()
            assert agent.status().live_writers == 20
            clock_ns = time.process_time_ns()
            rounds = 5
            for _ in range(rounds):
                agent._polled_ns = None
                agent.step()
            spent_ms = (time.process_time_ns() - clock_ns) / rounds / 1e6
        finally:
            for stack in writers:
                stack.__exit__(None, None, None)
    assert spent_ms < 10.0
