"""Runs that stand still: which, when, and once, from events to findings."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from support.webhook import Webhook
from trainledger_ingest.alert_channels import alert_channels
from trainledger_ingest.alert_rules import Delivered, due_findings
from trainledger_ingest.alert_watch import RuleAlerts
from trainledger_ingest.reports.description import describe_run
from trainledger_ingest.stall_alerts import StalledRuns, stall_findings
from trainledger_schemas.clock import SystemClock

S = 1_000_000
MINUTE = 60 * S


def utc(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / S, UTC)


def text_of(at_us: int) -> str:
    return f"{utc(at_us):%Y-%m-%d %H:%M:%S} UTC"


def row(silent_s: float, median_s: float | None) -> Mapping[str, Any]:
    return {
        "run_id": "r", "step": 1, "moved_at": datetime(2026, 11, 27, tzinfo=UTC), "silent_s": silent_s,
        "median_step_s": median_s,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("silent_s", "median_s", "is_told"),
    [(599, 0.1, False), (600, 0.1, True), (600, None, True), (1999, 100.0, False), (2000, 100.0, True)],
    ids=["short", "ten minutes", "one step", "slow steps", "twenty slow steps"],
)
def test_a_run_stands_still_after_ten_minutes_and_twenty_of_its_steps(
    silent_s: float, median_s: float | None, is_told: bool
) -> None:
    assert bool(stall_findings([row(silent_s, median_s)], {}, least_s=600)) == is_told


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def test_a_stall_is_told_once_and_again_after_the_run_moved(tables: FilledTables) -> None:
    now_us = SystemClock().wall_ns() // 1000
    start = now_us - 60 * MINUTE

    def logged(run: int, writer: int, *minutes: int) -> None:
        tables.logged(run, writer, *((start + minute * MINUTE, minute * 10, 0.5) for minute in minutes))

    # 1 stands still for 20 minutes; 2 has steps of two minutes; 3 has a rank that moves; 4 ended; 5 stood still until its node fell silent.
    tables.started(1, 11, start, project="iris", name="slow")
    logged(1, 11, *range(41))
    tables.started(2, 12, start)
    tables.logged(2, 12, *((start + 2 * step * MINUTE, step, 0.5) for step in range(21)))
    tables.started(3, 13, start, rank=0, world_size=2)
    tables.started(3, 23, start, rank=1, world_size=2)
    logged(3, 13, *range(41))
    logged(3, 23, *range(58))
    tables.started(4, 14, start)
    logged(4, 14, *range(41))
    tables.exited(4, 14, start + 41 * MINUTE)
    tables.started(5, 15, start, node="node-2")
    logged(5, 15, *range(21))
    tables.present(start + 41 * MINUTE, node="node-2")
    tables.present(now_us)
    tables.take_in()

    def append(kind: str, fields: Mapping[str, Any]) -> None:
        tables.event(kind, now_us, at_us=start + 45 * MINUTE, set_by="t", **fields)
        tables.take_in()

    with Webhook() as hook:
        channels = alert_channels({"TRAINLEDGER_ALERT_WEBHOOK": hook.url})

        def check(minutes: int = 10) -> list[str]:
            query, views = tables.session.query, tables.session.views
            rule = StalledRuns(query, views, minutes=minutes)
            alerts = RuleAlerts(rule, query, views, append=append, channels=channels, clock=SystemClock())
            return [alert.text for alert in alerts.check()]

        assert check(25) == []
        # Of run 3 one rank of two stands still, and is told as that.
        text, other = check()
        assert text.startswith(
            f"run {id_of(1)} (iris slow) lives and has made no step for 20 min: step 400 at "
        )
        assert text.endswith(", a step took 6 s") and check() == []
        assert other.startswith(
            f"run {id_of(3)} (p): rank 0 on node node-1 lives and has made no step for 20 min: step 400"
        )
        assert (hook.posted[0]["rule"], hook.posted[0]["project"]) == ("stalled run", "iris")
        # Steps of before it was told that come late are the same stall.
        logged(1, 11, 43)
        tables.take_in()
        assert check() == [] and len(hook.posted) == 2
        logged(1, 11, 48)
        tables.take_in()
        assert len(check()) == 1 and check() == [] and hook.posted[2]["step"] == 480


def test_of_a_run_of_eight_ranks_those_are_named_that_the_others_wait_for_or_that_fell_behind(
    tables: FilledTables,
) -> None:
    now_us = SystemClock().wall_ns() // 1000
    start = now_us - 60 * MINUTE

    def launch(run: int, ends: Mapping[int, int], **more: Any) -> None:
        for rank, end in ends.items():
            node = f"node-{1 + rank // 4}"
            tables.started(run, 100 * run + rank, start, node=node, rank=rank, world_size=len(ends), **more)
            for minute in {*range(0, end, 10), *range(max(end - 2, 0), end)}:
                tables.logged(run, 100 * run + rank, (start + minute * MINUTE, minute * 10, 0.5))

    # 1: rank 5 is a step behind all others, and none moves; 2: the others go on; 3: rank 5 died, and the others wait.
    launch(1, {rank: 40 if rank == 5 else 41 for rank in range(8)}, project="iris", name="deep")
    launch(2, {rank: 20 if rank == 5 else 58 for rank in range(8)})
    launch(3, dict.fromkeys(range(8), 31))
    tables.event(
        "writer_gone", now_us, node="node-2", run_id=fixed_id(3), writer_id=fixed_id(305), at_us=start + 31 * MINUTE,
        evidence="lock_free", exit_seen=False,
    )  # fmt: skip
    # 4: rank 0 alone logs and evaluates; 5: rank 3 never began to log; 6: all stand at the same step.
    launch(4, {0: 58} | dict.fromkeys(range(1, 8), 0))
    launch(5, {0: 58, 1: 58, 2: 58, 3: 0})
    launch(6, dict.fromkeys(range(4), 31))
    # 7: rank 0 alone logs, and another one died: the others wait.
    launch(7, {0: 31, 1: 0, 2: 0})
    tables.exited(7, 701, start + 31 * MINUTE, "killed", cause="signal", signal=9)
    tables.present(now_us, node="node-1")
    tables.present(now_us, node="node-2")
    tables.take_in()
    rule = StalledRuns(tables.session.query, tables.session.views, minutes=10)

    def told() -> dict[str, str]:
        groups = due_findings(rule.findings(utc(now_us)), Delivered(()), channel="x", now=utc(now_us))
        alerts = [rule.alert(group) for group in groups]
        return {str(alert.facts["run_id"]): alert.text for alert in alerts}

    texts = told()
    assert sorted(texts) == [id_of(run) for run in (1, 2, 3, 5, 6, 7)]
    assert texts[id_of(1)] == (
        f"run {id_of(1)} (iris deep) lives and has made no step for 20 min: step 400 at {text_of(start + 40 * MINUTE)}, "
        "a step took 6 s; the others wait for rank 5 on node node-2, which lives and has made no step for 21 min: step 390 at "
        f"{text_of(start + 39 * MINUTE)}"
    )
    assert texts[id_of(2)] == (
        f"run {id_of(2)} (p): rank 5 on node node-2 lives and has made no step for 41 min: step 190 at "
        f"{text_of(start + 19 * MINUTE)}, a step took 6 s; 7 other ranks go on, up to step 570"
    )
    assert texts[id_of(3)].endswith(
        f"; the others wait for rank 5 on node node-2, which crashed at {text_of(start + 31 * MINUTE)}"
    )
    assert "rank 3 on node node-1 lives and has made no step for 60 min, none since" in texts[id_of(5)]
    assert "wait" not in texts[id_of(6)]
    assert "wait for rank 1 on node node-1, which was killed at" in texts[id_of(7)]
    shown = {run: dict(describe_run(tables.session, id_of(run)).facts) for run in (2, 3, 4)}
    assert (
        texts[id_of(3)].endswith(shown[3]["stands still"]) and "wait for rank 5" in shown[3]["stands still"]
    )
    assert texts[id_of(2)].endswith(shown[2]["ranks stand still"]) and "stands still" not in shown[2]
    assert not {"stands still", "ranks stand still"} & set(shown[4])
