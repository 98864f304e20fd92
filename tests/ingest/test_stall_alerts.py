"""Runs that stand still: which, when, and once, from events to findings."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_store import fresh_store
from support.webhook import Webhook
from trainledger_ingest.alert_channels import alert_channels
from trainledger_ingest.alert_watch import RuleAlerts
from trainledger_ingest.stall_alerts import StalledRuns, stall_findings
from trainledger_schemas.clock import SystemClock

S = 1_000_000
MINUTE = 60 * S


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
    assert bool(stall_findings([row(silent_s, median_s)], least_s=600)) == is_told


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
        (text,) = check()
        assert text.startswith(
            f"run {id_of(1)} (iris slow) lives and has made no step for 20 min: step 400 at "
        )
        assert text.endswith(", a step took 6 s") and check() == []
        assert (hook.posted[0]["rule"], hook.posted[0]["project"]) == ("stalled run", "iris")
        # Steps of before it was told that come late are the same stall.
        logged(1, 11, 43)
        tables.take_in()
        assert check() == [] and len(hook.posted) == 1
        logged(1, 11, 48)
        tables.take_in()
        assert len(check()) == 1 and check() == [] and hook.posted[1]["step"] == 480
