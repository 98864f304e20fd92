"""Runs whose GPUs wait for input: each window by hand, and what was not measured is no evidence."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from support.random_cluster import BEGIN_US, S
from trainledger_ingest.reports.input_waits import read_input_waits

WINDOW_US = 10 * S
WINDOWS = 60
GPUS = ("GPU-a", "GPU-b")
READ_MIN = 20 << 20


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def fill(tables: FilledTables, seed: int) -> list[dict[str, Any]]:
    """Ten minutes of a run on two GPUs; what was measured in each window of each, None where it was not."""
    chance = Random(seed)
    lazy, found = chance.random(), list[dict[str, Any]]()
    devices = [{"device_id": gpu, "model": "m", "memory_bytes": 1, "mig_profile": None} for gpu in GPUS]
    tables.event("devices", BEGIN_US, at_us=BEGIN_US, devices=devices)
    tables.started(1, 11, BEGIN_US, name="loader", team="red")
    holders = [
        {"resource": f"device:{gpu}", "kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11), "owner": "ann",
         "numerator": 1, "denominator": 1, "evidence": "claim"}
        for gpu in GPUS
    ]  # fmt: skip
    tables.event("allocation", BEGIN_US, at_us=BEGIN_US, key_frame=False, holders=holders)
    for window in range(WINDOWS):
        start_us = BEGIN_US + window * WINDOW_US
        cpu_us = chance.choice((0, WINDOW_US, 2 * WINDOW_US, chance.randrange(3 * WINDOW_US)))
        reads = chance.choice((None, 0, READ_MIN, chance.randrange(2 * READ_MIN)))
        parts, stats = [], list[dict[str, Any]]()
        for gpu in GPUS:
            quality = chance.choice(("exclusive", "exclusive", "exclusive", "estimated"))
            busy_us = chance.choice((None, chance.randrange(WINDOW_US)))
            if busy_us is not None and chance.random() < lazy:
                busy_us //= 4
            swing = chance.choice((None, (0.0, 100.0), (10.0, 80.0), (30.0, 60.0)))
            parts.append(
                {"device_id": gpu, "part_id": "", "observed_us": WINDOW_US, "busy_us": busy_us, "energy_mj": None,
                 "memory_peak_bytes": 1, "quality": "unknown" if busy_us is None else quality}
            )  # fmt: skip
            if swing:
                stats.append(stat(gpu, "gpu_util_pct", *swing))
            if quality == "exclusive" and busy_us is not None:
                found.append(
                    {"window": window, "busy": busy_us, "cpu": cpu_us, "reads": reads, "swing": swing}
                )
        if reads is not None:
            half = reads * 10 // 2 / 10
            stats += [stat("host", name, half, half) for name in ("disk_read_bytes", "net_rx_bytes")]
        usage = [
            {"kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11), "owner": "ann", "cpu_us": cpu_us,
             "memory_peak_bytes": 1, "devices": parts}
        ]  # fmt: skip
        end_us = start_us + WINDOW_US
        tables.present(start_us)
        tables.event("process_usage", end_us, start_us=start_us, end_us=end_us, cores=8, usage=usage)
        if stats:
            tables.event("hardware", end_us, start_us=start_us, end_us=end_us, stats=stats)
    tables.present(BEGIN_US + WINDOWS * WINDOW_US)
    tables.price(1, BEGIN_US, nano=36_000_000_000)
    tables.take_in()
    return found


def stat(device: str, name: str, low: float, high: float) -> dict[str, Any]:
    return {
        "device": device, "name": name, "minimum": low, "mean": (low + high) / 2, "maximum": high, "last": high,
        "samples": 10,
    }  # fmt: skip


def expected(found: list[dict[str, Any]], cost: Decimal) -> dict[str, Any]:
    """By the rule in docs/waste.md; times in whole windows."""
    low, cpu, read, swing, starved, unseen = (
        [item for item in found if 2 * item["busy"] < WINDOW_US] for _ in range(6)
    )
    then = {w: sum(item["window"] == w for item in found) for w in range(WINDOWS)}
    cpu = [i for i in low if Fraction(i["cpu"], WINDOW_US) >= Fraction(9, 10) * then[i["window"]]]
    # Ten samples of each of two counters, half of the reads in each.
    read = [i for i in low if i["reads"] is not None and Fraction(i["reads"] * 10, 10) >= READ_MIN]
    swing = [i for i in low if i["swing"] and i["swing"][0] <= 10 and i["swing"][1] >= 80]
    starved = [i for i in low if any(i in part for part in (cpu, read, swing))]
    unseen = [i for i in low if i not in starved and (i["reads"] is None or i["swing"] is None)]
    idle = sum(WINDOW_US - i["busy"] for i in starved)
    return {
        "observed_s": 10.0 * len(found), "low_s": 10.0 * len(low), "cpu_s": 10.0 * len(cpu), "read_s": 10.0 * len(read),
        "swing_s": 10.0 * len(swing), "starved_s": 10.0 * len(starved), "unseen_s": 10.0 * len(unseen),
        "is_starved": None if 10 * len(found) < 300 else 5 * len(starved) >= len(found),
        "evidence": [n for n, part in (("cpu", cpu), ("read", read), ("swing", swing)) if low and 2 * len(part) >= len(low)],
        "cost_waited": int(cost.scaleb(9)) * idle // (len(found) * WINDOW_US),
    }  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_waits_for_input_is_what_the_rule_says(tables: FilledTables, seed: int) -> None:
    found = fill(tables, seed)
    (cost,) = tables.rows(
        "cost_lines", columns="sum(cost) AS cost", rest=f"WHERE run_id = '{id_of(1)}' AND resource != 'host'"
    )
    wanted = expected(found, cost["cost"])
    (row,) = tables.rows("input_waits")
    shown: dict[str, Any] = {name: row[name] for name in wanted}
    shown["is_starved"] = None if row["is_starved"] is None else bool(row["is_starved"])
    shown["evidence"] = list(row["evidence"])
    shown["cost_waited"] = int(row["cost_waited"].scaleb(9))
    assert shown == wanted
    assert (row["gpus"], row["currency"]) == (2, "USD")
    busy = Fraction(sum(item["busy"] for item in found), len(found) * WINDOW_US)
    assert row["busy_pct"] == pytest.approx(float(100 * busy))
    (report,) = read_input_waits(tables.session, start=None, end=None, is_all=True)
    assert report["name"] == "loader" and report["starved_s"] == wanted["starved_s"]
    starved = read_input_waits(tables.session, start=None, end=None, is_all=False)
    assert len(starved) == (1 if wanted["is_starved"] else 0)


def test_less_than_five_minutes_say_nothing(tables: FilledTables) -> None:
    tables.started(1, 11, BEGIN_US)
    part = {
        "device_id": "GPU-a", "part_id": "", "observed_us": WINDOW_US, "busy_us": 0, "energy_mj": None,
        "memory_peak_bytes": 1, "quality": "exclusive",
    }  # fmt: skip
    usage = [
        {"kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11), "owner": "ann", "cpu_us": 2 * WINDOW_US,
         "memory_peak_bytes": 1, "devices": [part]}
    ]  # fmt: skip
    tables.event(
        "process_usage",
        BEGIN_US + WINDOW_US,
        start_us=BEGIN_US,
        end_us=BEGIN_US + WINDOW_US,
        cores=8,
        usage=usage,
    )
    tables.take_in()
    (row,) = tables.rows("input_waits")
    assert (row["is_starved"], row["starved_s"], row["cost_waited"]) == (None, 10.0, None)
    assert not read_input_waits(tables.session, start=None, end=None, is_all=False)
