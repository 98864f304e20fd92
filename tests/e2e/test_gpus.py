"""From a GPU to the bill: the agent's measurements of a fake library, real processes, the real tables."""

from decimal import Decimal
from pathlib import Path

import pytest

from support.burners import burning
from support.filled_tables import FilledTables
from support.gpu_node import Node, writer
from support.gpus import Machine
from support.ingest_store import fresh_store
from trainledger_schemas.ids import id_text

S = 1_000_000
MINUTES = 4


def test_two_runs_on_one_gpu_and_an_idle_one_come_out_as_the_driver_measured_them(
    machine: Machine, tmp_path: Path
) -> None:
    shared, idle = machine.scenario.gpu(0), machine.scenario.gpu(1)
    begin_us = machine.clock.wall_ns() // 1000
    with burning("sys.stdin.readline()") as one, burning("sys.stdin.readline()") as two:
        writers = [writer(one.pid, 1), writer(two.pid, 2)]
        machine.scenario.set(0, util=80, power_mw=500_000, energy_mj=0).process(0, one.pid).process(
            0, two.pid
        ).write()
        node = Node(machine)
        for second in range(MINUTES * 60):
            at_us = begin_us + second * S
            machine.scenario.without("use", "set 0 energy").set(0, energy_mj=500_000 * second)
            machine.scenario.use(0, one.pid, at_us, 60).use(0, two.pid, at_us, 20).write()
            node.turn(1, writers)
        node.flush(writers)
    tables = FilledTables(fresh_store(), tmp_path)
    tables.alive(begin_us, begin_us + MINUTES * 60 * S)
    for name, fields in node.events:
        at_us = int(str(fields.get("at_us", fields.get("end_us"))))
        tables.event(name, at_us, **fields)
    tables.price(1, begin_us, nano=36_000_000_000)
    tables.take_in()
    runs = {id_text(item.run_id): share for item, share in zip(writers, (0.6, 0.2), strict=True)}
    for row in tables.rows("run_usage"):
        # Until the driver was asked twice the shares are estimated as equal ones.
        assert row["gpu_busy_s"] / row["gpu_observed_s"] == pytest.approx(runs[str(row["run_id"])], abs=0.02)
        assert row["gpu_quality"] == "estimated"
        assert row["energy_j"] == pytest.approx(500 * MINUTES * 60 * runs[str(row["run_id"])] / 0.8, rel=0.07)
    lines = tables.rows("cost_lines", rest="WHERE resource != 'host'")
    cost = {(row["kind"], row["resource"]): Decimal(0) for row in lines}
    for row in lines:
        cost[row["kind"], row["resource"]] += row["cost"]
    (bill,) = tables.rows("node_bills")
    half = bill["bill"] * Decimal("0.45")
    assert float(cost["idle", f"device:{idle}"]) == pytest.approx(float(half), rel=0.01)
    assert float(cost["run", f"device:{shared}"]) == pytest.approx(float(half), rel=0.01)
    assert bill["difference"] == 0
    minutes = tables.rows("gpu_minutes", rest=f"WHERE device_id = '{shared}'")
    assert {row["util_pct"] for row in minutes} == {80.0}
    assert {len(row["run_ids"]) for row in minutes} == {2}
