"""GPUs now and over time: who holds them and whether they are used; what was not measured is unknown."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, fixed_id
from support.ingest_store import fresh_store
from support.random_cluster import GPU_BYTES, MODEL, RandomCluster, S
from support.slow_gpus import SlowGpu, slow_gpu
from trainledger_ingest.reports.gpus import gpu_cells, gpus_now, gpus_over_time, run_labels
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import UsageError


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def now_us() -> int:
    return SystemClock().wall_ns() // 1000


@pytest.mark.parametrize("seed", [1, 2])
def test_each_gpu_is_as_the_slow_calculation_has_it(tables: FilledTables, seed: int) -> None:
    cluster = RandomCluster(tables, seed, now_us() // HOUR_US * HOUR_US - 2 * HOUR_US)
    rows = tables.rows("gpus", rest="ORDER BY device_id")
    assert [row["device_id"] for row in rows] == ["GPU-a", "GPU-b"]
    for row in rows:
        since = row["held_since"]
        found = SlowGpu(
            str(row["state"]),
            tuple(row["holders"]),
            bool(row["is_claimed"]),
            None if since is None else round(since.timestamp()) * S,
            row["util_pct"],
            row["observed_s"],
            row["idle_s"],
        )
        wanted = slow_gpu(cluster, "node-1", row["device_id"])
        if wanted.util_pct is not None:
            wanted = replace(wanted, util_pct=pytest.approx(wanted.util_pct))  # type: ignore[arg-type] # compared only
        assert found == wanted
        assert (row["model"], row["mem_total_bytes"]) == (MODEL, GPU_BYTES)


@pytest.mark.parametrize("seed", [1])
def test_hours_over_time_are_those_of_the_lines_and_fill_the_time_of_each_device(
    tables: FilledTables, seed: int
) -> None:
    RandomCluster(tables, seed)
    exact: dict[tuple[str, str], Fraction] = {}
    generation = tables.schema.generation
    for hour in tables.store.rows(f"SELECT * FROM {generation}.node_hours FINAL"):
        columns: Any = [hour[name] for name in ("kinds", "resources", "held", "used", "unseen")]
        lines = list(zip(*columns, strict=True))
        for device in {line[1] for line in lines} - {"host"}:
            mine = [line for line in lines if line[1] == device]
            whole = sum(line[2] for line in mine)
            present = Fraction(int(str(hour["presence_us"])), 3_600 * S)
            for kind, _, held, used, unseen in mine:
                parts = {
                    "held": held,
                    "used": used or 0,
                    "unknown": unseen,
                    "unused": held - (used or 0) - unseen,
                }
                if kind in ("idle", "unknown"):
                    parts = {"idle" if kind == "idle" else "unseen": held}
                for name, part in parts.items():
                    key = (device.removeprefix("device:"), f"{name}_hours")
                    exact[key] = exact.get(key, Fraction(0)) + present * part / whole
    rows = gpus_over_time(tables.session, by="gpu", start=None, end=None).to_pylist()
    assert [row["gpu"] for row in rows] == ["GPU-a", "GPU-b"]
    for row in rows:
        for name, value in row.items():
            if name != "gpu":
                assert value == pytest.approx(float(exact.get((row["gpu"], name), 0)), abs=1e-9), name
        there = row["held_hours"] + row["idle_hours"] + row["unseen_hours"]
        assert there == pytest.approx(2.0)
        assert row["used_hours"] + row["unused_hours"] + row["unknown_hours"] == pytest.approx(
            row["held_hours"]
        )
    hours = gpus_over_time(tables.session, by="hour", start=None, end="2023-11-14 23:00:00").to_pylist()
    assert [row["hour"] for row in hours] == [datetime(2023, 11, 14, 22, tzinfo=UTC)]


def test_a_mig_instance_that_is_claimed_and_never_used_is_held_unused_and_its_device_is_no_row(
    tables: FilledTables,
) -> None:
    now = now_us()
    parts = [
        {"device_id": f"MIG-{n}", "model": MODEL, "memory_bytes": 40 << 30, "mig_profile": "3g.40gb",
         "parent_id": "GPU-a", "part_numerator": 4, "part_denominator": 8}
        for n in (1, 2)
    ]  # fmt: skip
    whole = {"device_id": "GPU-a", "model": MODEL, "memory_bytes": GPU_BYTES, "mig_profile": None}
    tables.event("devices", now - 3600 * S, at_us=now - 3600 * S, devices=[whole, *parts])
    holder = {
        "resource": "device:GPU-a", "kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11), "owner": "ann",
        "numerator": 1, "denominator": 1, "evidence": "scheduler", "part_id": "MIG-1", "part_numerator": 4,
        "part_denominator": 8,
    }  # fmt: skip
    tables.started(1, 11, now - 3600 * S, name="sleeper", team="red")
    for second in range(1200, -1, -300):
        tables.event("allocation", now - second * S, at_us=now - second * S, key_frame=True, holders=[holder])
    stats = [
        {
            "device": "MIG-1",
            "name": name,
            "minimum": mean,
            "mean": mean,
            "maximum": mean,
            "last": mean,
            "samples": 10,
        }
        for name, mean in (("sm_active_pct", 0.0), ("observed_s", 6.0), ("mem_used_bytes", 7.0 * 2**30))
    ]
    for second in range(1200, 0, -60):
        tables.event(
            "hardware",
            now - (second - 60) * S,
            start_us=now - second * S,
            end_us=now - (second - 60) * S,
            stats=stats,
        )
    tables.present(now)
    tables.take_in()
    table = gpus_now(tables.session, is_all=False)
    one, two = table.to_pylist()
    assert (one["device_id"], one["state"], one["is_claimed"], one["util_pct"]) == (
        "MIG-1",
        "held unused",
        True,
        0.0,
    )
    assert (one["idle_s"], one["observed_s"], one["holders"]) == (1200.0, 600.0, [id_of(1)])
    assert (two["device_id"], two["state"], two["util_pct"], two["idle_s"]) == ("MIG-2", "free", None, None)
    labels = run_labels(tables.session, [id_of(1)])
    cells = gpu_cells(one, labels, now=datetime.fromtimestamp(now / 1e6, UTC))
    assert cells[3:] == [
        "held unused",
        f"sleeper {id_of(1)[:8]} (red)",
        "20 min 0 s",
        "0 %",
        "20 min 0 s",
        "7.0/40 GiB",
    ]
    assert gpu_cells(two, {}, now=datetime.fromtimestamp(now / 1e6, UTC))[3:8] == [
        "free", "-", "-", "unknown", "unknown",
    ]  # fmt: skip


def test_without_a_word_on_who_holds_it_for_eleven_minutes_a_gpu_is_unknown_and_not_free(
    tables: FilledTables,
) -> None:
    now = now_us()
    device = {"device_id": "GPU-a", "model": MODEL, "memory_bytes": 0, "mig_profile": None}
    tables.event("devices", now - 3600 * S, at_us=now - 3600 * S, devices=[device])
    tables.event("allocation", now - 700 * S, at_us=now - 700 * S, key_frame=True, holders=[])
    tables.present(now)
    tables.take_in()
    (row,) = tables.rows("gpus")
    assert (row["state"], row["mem_total_bytes"], row["is_live"]) == ("unknown", None, True)
    tables.event("allocation", now, at_us=now, key_frame=True, holders=[])
    tables.take_in()
    assert tables.rows("gpus")[0]["state"] == "free"
    lost = {**device, "problem": "lost"}
    tables.event("devices", now, at_us=now, devices=[lost])
    tables.take_in()
    assert tables.rows("gpus")[0]["state"] == "lost"


def test_a_group_that_there_is_not_is_refused(tables: FilledTables) -> None:
    with pytest.raises(UsageError, match="the groups are hour, day"):
        gpus_over_time(tables.session, by="colour", start=None, end=None)
