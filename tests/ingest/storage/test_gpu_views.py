"""What GPUs did and cost, in the public views, from events of a node: numbers worked out by hand."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.reports.description import describe_run

S = 1_000_000
BEGIN = START_US - START_US % HOUR_US
SHARED, IDLE, CUT = "GPU-shared", "GPU-idle", "GPU-cut"


def device(device_id: str, **more: Any) -> dict[str, Any]:
    return {"device_id": device_id, "model": "H100", "memory_bytes": 80 << 30, "mig_profile": None, **more}


def holder(device_id: str, kind: str, run: int | None = None, **more: Any) -> dict[str, Any]:
    """Somebody on a device without a claim; the writer of run N is 10 N + 1."""
    return {
        "resource": f"device:{device_id}", "kind": kind, "run_id": fixed_id(run) if run else None,
        "writer_id": fixed_id(10 * run + 1) if run else None, "owner": "ann" if run else None, "numerator": 0,
        "denominator": 0, "evidence": "process list", **more,
    }  # fmt: skip


def used(device_id: str, seconds: float | None, quality: str = "exclusive", **more: Any) -> dict[str, Any]:
    """What a run used of a device in a window of a minute."""
    busy_us = None if seconds is None else round(seconds * S)
    return {
        "device_id": device_id, "part_id": "", "observed_us": 60 * S, "busy_us": busy_us, "memory_peak_bytes": 5 << 30,
        "energy_mj": 600_000, "quality": quality, **more,
    }  # fmt: skip


def usage(tables: FilledTables, minute: int, runs: dict[int, list[dict[str, Any]]], whole: list[Any]) -> None:
    rows = [
        {
            "kind": "run", "run_id": fixed_id(run), "writer_id": fixed_id(10 * run + 1), "owner": "ann", "cpu_us": 0,
            "memory_peak_bytes": 1, "devices": devices,
        }
        for run, devices in runs.items()
    ]  # fmt: skip
    start, end = BEGIN + minute * 60 * S, BEGIN + (minute + 1) * 60 * S
    tables.event(
        "process_usage", end, start_us=start, end_us=end, cores=4, usage=rows,
        devices=[{"part_id": "", "observed_us": 60 * S, "energy_mj": 1, **item} for item in whole],
    )  # fmt: skip


def stats(tables: FilledTables, device_id: str, second: int, **means: float) -> None:
    start, end = BEGIN + second * S, BEGIN + (second + 10) * S
    rows = [
        {
            "device": device_id, "name": name, "minimum": mean, "mean": mean, "maximum": mean, "last": mean,
            "samples": 1 if name == "energy_j" else 10,
        }
        for name, mean in means.items()
    ]  # fmt: skip
    tables.event("hardware", end, start_us=start, end_us=end, stats=rows)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """Ten minutes of a node at 36 an hour with two GPUs: runs 1 and 2 share one, nobody is on the other."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("gpus"))
    for run in (1, 2):
        tables.started(run, 10 * run + 1, BEGIN, team="red")
    tables.alive(BEGIN, BEGIN + 600 * S)
    tables.event("devices", BEGIN, at_us=BEGIN, devices=[device(SHARED), device(IDLE)])
    holders = [holder(SHARED, "run", 1), holder(SHARED, "run", 2)]
    tables.event("allocation", BEGIN, at_us=BEGIN, key_frame=False, holders=holders)
    for minute in range(10):
        quality = "estimated" if minute == 3 else "shared-measured"
        runs = {1: [used(SHARED, 18, quality)], 2: [used(SHARED, 12)]}
        whole = [{"device_id": SHARED, "busy_us": 30 * S}, {"device_id": IDLE, "busy_us": 0}]
        usage(tables, minute, runs, whole)
    for second, percent in ((0, 40.0), (10, 60.0)):
        known = {"gpu_util_pct": percent, "mem_used_bytes": 2.0**30, "power_w": 400.0, "energy_j": 4000.0}
        stats(tables, SHARED, second, **known, throttled_s=0.5, observed_s=1.0)
    tables.price(1, START_US, nano=36_000_000_000)
    tables.take_in()
    yield tables


def lines(tables: FilledTables, **wanted: object) -> dict[tuple[str, str | None], dict[str, Any]]:
    """Lines of the devices by (kind, run)."""
    node = wanted.get("node", "node-1")
    rows = tables.rows("cost_lines", rest=f"WHERE resource != 'host' AND node_id = '{node}'")
    return {(row["kind"], None if row["run_id"] is None else str(row["run_id"])): row for row in rows}


def test_two_runs_share_the_price_of_their_gpu_and_the_other_is_idle(tables: FilledTables) -> None:
    found = lines(tables)
    # 6.00 for ten minutes, a tenth of it for the host; 2.70 for each GPU.
    assert {key: row["cost"] for key, row in found.items()} == {
        ("run", id_of(1)): Decimal("1.350000000"),
        ("run", id_of(2)): Decimal("1.350000000"),
        ("idle", None): Decimal("2.700000000"),
    }
    assert found["run", id_of(1)]["evidence"] == "process list"
    (bill,) = tables.rows("node_bills")
    assert (bill["bill"], bill["difference"]) == (Decimal("6.000000000"), 0)


def test_used_is_what_the_device_was_busy_and_changes_nobodys_share(tables: FilledTables) -> None:
    found = lines(tables)
    for run in (1, 2):
        row = found["run", id_of(run)]
        assert row["used_hours"] / row["held_hours"] == pytest.approx(0.5)
    assert found["idle", None]["used_hours"] == 0


def test_gpu_hours_are_hours_of_devices_and_not_of_nodes(tables: FilledTables) -> None:
    found = lines(tables)
    assert found["run", id_of(1)]["device_hours"] == pytest.approx(1 / 12)
    assert found["idle", None]["device_hours"] == pytest.approx(1 / 6)
    hours = {str(row["run_id"]): row["gpu_hours"] for row in tables.rows("runs")}
    assert hours == {id_of(1): pytest.approx(1 / 12), id_of(2): pytest.approx(1 / 12)}
    daily = {row["kind"]: row for row in tables.rows("cost_daily") if row["gpu_hours_held"]}
    assert daily["run"]["gpu_hours_held"] == pytest.approx(1 / 6)
    assert daily["run"]["gpu_hours_used"] == pytest.approx(1 / 12)
    assert daily["idle"]["gpu_hours_held"] == pytest.approx(1 / 6)


def test_a_run_knows_how_much_of_gpus_it_used_and_how_well_that_is_known(tables: FilledTables) -> None:
    found = {str(row["run_id"]): row for row in tables.rows("run_usage")}
    one, two = found[id_of(1)], found[id_of(2)]
    assert (one["gpu_busy_s"], one["energy_j"], one["gpu_mem_peak_bytes"]) == (180.0, 6000.0, 5 << 30)
    assert (one["gpu_observed_s"], one["observed_s"]) == (600.0, 600.0)
    assert (one["gpu_quality"], two["gpu_quality"]) == ("estimated", "exclusive"), "the weakest counts"


def test_show_has_a_line_of_what_the_run_did_on_gpus(tables: FilledTables) -> None:
    (section,) = [item for item in describe_run(tables.session, id_of(1)).sections if item.title == "GPUs"]
    assert section.rows == (("1", "-", "30 %", "10 min 0 s", "5120 MiB", "0.002 kWh", "estimated"),)


def test_a_minute_of_a_gpu_has_means_sums_and_the_runs_that_were_on_it(tables: FilledTables) -> None:
    (minute,) = tables.rows("gpu_minutes")
    assert (minute["device_id"], minute["model"], minute["mig_profile"]) == (SHARED, "H100", None)
    assert (minute["util_pct"], minute["power_w"], minute["mem_used_bytes"]) == (50.0, 400.0, 2.0**30)
    assert (minute["energy_j"], minute["throttled_s"], minute["observed_s"]) == (8000.0, 10.0, 20.0)
    assert minute["mem_total_bytes"] is None
    assert [str(run_id) for run_id in minute["run_ids"]] == [id_of(1), id_of(2)]


def test_everything_that_was_measured_is_there_by_the_minute(tables: FilledTables) -> None:
    (power,) = tables.rows("hardware_minutes", rest=f"WHERE device_id = '{SHARED}' AND name = 'power_w'")
    assert (power["mean"], power["last"], power["samples"], power["quality"]) == (
        400.0,
        400.0,
        20,
        "measured",
    )
    (use,) = tables.rows("hardware_minutes", rest=f"WHERE device_id = '{SHARED}' AND name = 'gpu_util_pct'")
    assert (use["minimum"], use["mean"], use["maximum"], use["last"]) == (40.0, 50.0, 60.0, 60.0)


def test_a_gpu_that_nobody_can_observe_is_unknown_and_never_idle(tables: FilledTables) -> None:
    node = "node-lost"
    tables.alive(BEGIN, BEGIN + 600 * S, node=node)
    tables.event("devices", BEGIN, node=node, at_us=BEGIN, devices=[device("GPU-x", problem="lost")])
    lost = [holder("GPU-x", "unknown", evidence="device lost")]
    tables.event("allocation", BEGIN, node=node, at_us=BEGIN, key_frame=False, holders=lost)
    tables.take_in()
    found = lines(tables, node=node)
    assert {key: (row["cost"], row["evidence"]) for key, row in found.items()} == {
        ("unknown", None): (Decimal("5.400000000"), "device lost")
    }
    assert found["unknown", None]["used_hours"] is None


def test_mig_instances_hold_their_slices_and_the_rest_of_the_device_is_idle(tables: FilledTables) -> None:
    node = "node-mig"
    part = device("MIG-1", mig_profile="3g.40gb", parent_id=CUT, part_numerator=4, part_denominator=8)
    tables.alive(BEGIN, BEGIN + 600 * S, node=node)
    tables.event("devices", BEGIN, node=node, at_us=BEGIN, devices=[device(CUT), part])
    on_part = holder(CUT, "run", 1, part_id="MIG-1", part_numerator=4, part_denominator=8)
    tables.event("allocation", BEGIN, node=node, at_us=BEGIN, key_frame=False, holders=[on_part])
    tables.take_in()
    found = lines(tables, node=node)
    assert {key: row["cost"] for key, row in found.items()} == {
        ("run", id_of(1)): Decimal("2.700000000"),
        ("idle", None): Decimal("2.700000000"),
    }


def granules(tables: FilledTables, query: str) -> dict[str, float]:
    """Which share of each table a query has to read, after all indexes, by the engine's own plan."""
    shares: dict[str, float] = {}
    table = ""
    for row in tables.store.rows(f"EXPLAIN indexes = 1 {query}"):
        (line,) = (str(value).strip(" │├└─") for value in row.values())
        if line.startswith("ReadFromMergeTree"):
            table = line.split(".")[-1].rstrip(")")
        elif line.startswith("Granules:") and table:
            chosen, of = line.removeprefix("Granules:").strip().split("/")
            # Each index line says what is left of what the one before it left; the first holds all.
            shares[table] = shares.get(table, 1.0) * int(chosen) / int(of)
    return shares


def test_an_hour_of_gpu_minutes_reads_that_hour_of_its_tables(tables: FilledTables) -> None:
    begin = "toDateTime64('2026-01-01 00:00:00', 6, 'UTC')"
    place = "202601, 'node-1'"
    # Two devices for ten days, a window each ten seconds; a run a day.
    span = f"{begin} + intDiv(number, 2) * 10, {begin} + intDiv(number, 2) * 10 + 10"
    device = "concat('GPU-', toString(number % 2))"
    at = "'t', 0, number, 0 FROM numbers(2 * 8640 * 10)"
    run = "toUUID(concat('00000000-0000-0000-0000-00000000000', toString(intDiv(number, 2 * 8640))))"
    generation = tables.schema.generation
    tables.store.command(
        f"INSERT INTO {generation}.hardware_stats (month, node_id, device, name, start_at, end_at, minimum, mean, "
        f"maximum, last, samples, topic, partition, offset, idx) SELECT {place}, {device}, 'power_w', {span}, "
        f"1, 1, 1, 1, 10, {at}"
    )
    tables.store.command(
        f"INSERT INTO {generation}.run_gpu_windows (month, run_id, writer_id, node_id, device_id, part_id, start_at, "
        f"end_at, observed_us, quality, topic, partition, offset, idx) SELECT 202601, {run}, {run}, "
        f"'node-1', {device}, '', {span}, 1, 'exclusive', {at}"
    )
    hour = "minute >= '2026-01-01 12:00:00' AND minute < '2026-01-01 13:00:00'"
    query = f"SELECT * FROM {tables.schema.views_database}.gpu_minutes WHERE {hour}"
    shares = granules(tables, query)
    assert shares["hardware_stats"] < 0.3 and shares["run_gpu_windows"] < 0.3, shares
    assert len(tables.store.rows(query)) == 2 * 60
    of_one = granules(tables, f"{query} AND node_id = 'node-1' AND device_id = 'GPU-1'")
    assert of_one["hardware_stats"] < shares["hardware_stats"] and of_one["run_gpu_windows"] < 0.3, of_one
