"""GPUs that cost and are not used: which are told, once, from measured minutes to the message."""

from collections.abc import Mapping, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from support.webhook import Webhook
from trainledger_ingest.alert_channels import alert_channels
from trainledger_ingest.alert_watch import RuleAlerts
from trainledger_ingest.idle_gpu_alerts import IdleGpus, idle_since
from trainledger_schemas.clock import SystemClock

S = 1_000_000
MINUTE = 60 * S
T0 = datetime(2026, 11, 27, 4, tzinfo=UTC)


def judged(
    busy: Set[int], *, missing: Set[int] = frozenset(), until: int = 60, now: int = 60
) -> list[int] | None:
    """Minutes from T0 of the episode and of the last use; None when the device is not idle."""
    numbers = [n for n in range(until) if n not in missing]
    row = {
        "node_id": "n",
        "device_id": "g",
        "minutes_s": [round(T0.timestamp()) + 60 * n for n in numbers],
        "busy": [n in busy for n in numbers],
    }
    found = idle_since([row], minutes_least=30, now=T0 + timedelta(minutes=now))
    times = [(idle.episode, idle.since) for idle in found.values()]
    return [round((at - T0) / timedelta(minutes=1)) for at in times[0]] if times else None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (judged(set(range(31))), None),
        (judged(set(range(30))), [30, 30]),
        (judged(set()), [0, 0]),
        (judged(set(range(10)) | {20}), [21, 21]),
        (judged({20, 25}), [0, 26]),
        (judged(set(), missing=set(range(40, 44))), None),
        (judged(set(), missing=set(range(40, 43))), [0, 0]),
        (judged(set(), now=66), None),
    ],
    ids=[
        "too short",
        "long enough",
        "all",
        "used then",
        "blips",
        "not measured",
        "measured enough",
        "node silent",
    ],
)
def test_idle_is_a_measured_stretch_without_use(found: list[int] | None, expected: list[int] | None) -> None:
    assert found == expected


def test_a_held_and_a_priced_idle_gpu_are_told_once_with_what_they_cost(tmp_path: Path) -> None:
    tables = FilledTables(fresh_store(), tmp_path)
    now_us = SystemClock().wall_ns() // 1000
    start = now_us - 90 * MINUTE
    gpus = {"GPU-held": 45, "GPU-free": 50, "GPU-used": 90}
    devices = [{"device_id": gpu, "model": "H100", "memory_bytes": 1, "mig_profile": None} for gpu in gpus]
    tables.event("devices", start, at_us=start, devices=devices)
    holder = {
        "resource": "device:GPU-held", "kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11),
        "owner": "ann", "numerator": 1, "denominator": 1, "evidence": "scheduler", "part_id": "",
        "part_numerator": 0, "part_denominator": 0,
    }  # fmt: skip
    tables.started(1, 11, start)
    for minute in range(0, 91, 5):
        at_us = start + minute * MINUTE
        tables.event("allocation", at_us, at_us=at_us, key_frame=True, holders=[holder])
    for minute in range(90):
        begin = start + minute * MINUTE
        stats = [
            {"device": gpu, "name": "gpu_util_pct", "samples": 10} | dict.fromkeys(
                ("minimum", "mean", "maximum", "last"), 90.0 if minute < busy else 1.0)
            for gpu, busy in gpus.items()
        ]  # fmt: skip
        tables.event("hardware", begin + MINUTE, start_us=begin, end_us=begin + MINUTE, stats=stats)
    tables.alive(start, now_us)
    tables.take_in()

    def append(kind: str, fields: Mapping[str, Any]) -> None:
        tables.event(kind, now_us, at_us=now_us, set_by="t", **fields)
        tables.take_in()

    with Webhook() as hook:
        channels = alert_channels({"TRAINLEDGER_ALERT_WEBHOOK": hook.url})

        def check(minutes: int = 30) -> list[str]:
            query, views = tables.session.query, tables.session.views
            rule = IdleGpus(query, views, minutes=minutes)
            alerts = RuleAlerts(rule, query, views, append=append, channels=channels, clock=SystemClock())
            return [alert.text for alert in alerts.check()]

        assert check(60) == []
        # Nobody holds the other one, and it costs nothing as far as is known.
        (held,) = check()
        assert held.startswith(f"H100 GPU-held of node node-1, held by {id_of(1)}, is not used for 4")
        assert held.endswith(" min") and check() == []
        tables.price(1, start, nano=30 * 10**9)
        tables.take_in()
        (free,) = check()
        assert free.startswith("H100 GPU-free of node node-1, free, is not used for ") and check() == []
        # 9 an hour: a third of nine tenths of the node.
        posted = hook.posted[1]
        assert posted["cost"] == pytest.approx(9 * posted["idle_minutes"] / 60, abs=0.2)
        assert (posted["currency"], len(hook.posted)) == ("USD", 2)
