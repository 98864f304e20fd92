"""From a GPU to the bill: the agent's measurements of a fake library, real processes, the real tables."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from support.burners import burning
from support.fake_nvml_library import SCENARIO
from support.filled_tables import FilledTables
from support.gpu_node import Node, writer
from support.gpus import Machine
from support.ingest_store import fresh_store
from support.installation import Installation
from support.polling import poll_until
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
        assert row["gpu_busy_s"] / row["gpu_observed_s"] == pytest.approx(runs[str(row["run_id"])], abs=0.02)
        assert row["gpu_quality"] == "shared-measured"
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


def test_faults_of_gpus_are_rows_each_once_with_what_the_driver_said(
    machine: Machine, tmp_path: Path
) -> None:
    faulty, lost, well = (machine.scenario.gpu(number) for number in range(3))
    machine.scenario.set(0, ecc=7).write()
    node = Node(machine)
    node.turn(12)
    begin_us = machine.clock.wall_ns() // 1000
    machine.scenario.set(0, ecc=9, rows=1, rows_failed=1).add("xid 0 94", "xid 0 94", "xid 1 79").write()
    node.turn(12)
    machine.scenario.add("code 1 * 15").write()
    node.turn(22)
    tables = FilledTables(fresh_store(), tmp_path)
    tables.alive(begin_us, begin_us + 60 * S)
    for name, fields in node.events:
        tables.event(name, int(str(fields.get("at_us", fields.get("end_us")))), **fields)
    tables.take_in()
    rows = tables.rows("hardware_errors", rest="ORDER BY device_id, error")
    assert [(row["device_id"], row["error"], row["code"], row["errors"]) for row in rows] == [
        (faulty, "ecc_uncorrected", None, 2),
        (faulty, "row_remap_failed", None, 1),
        (faulty, "xid", 94, 2),
        (lost, "lost", None, 1),
        (lost, "xid", 79, 1),
    ]
    assert {row["model"] for row in rows} == {"NVIDIA H100 80GB HBM3"} and well
    assert len({row["event_ref"] for row in rows}) == 5


TRAIN = (
    "import sys, trainledger\n"
    "with trainledger.init(project='p', name='one') as run:\n"
    "    run.log({'loss': 1.0})\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
)


# The training is in a container, where its process has another id than on the machine; the driver knows the machine's.
CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


def test_up_measures_gpus_and_deals_their_price_to_the_run_in_a_container_on_them(
    machine: Machine, tmp_path: Path
) -> None:
    shared, idle = machine.scenario.gpu(0), machine.scenario.gpu(1)
    machine.scenario.write()
    installation = Installation(tmp_path)
    installation.environment |= {
        "LD_LIBRARY_PATH": str(machine.library.parent),
        SCENARIO: str(machine.scenario.path),
    }
    with installation.up() as up:
        installation.json("price", "set", "--node", "*", "--usd-per-hour", "36")
        train = subprocess.Popen(
            [*CONTAINER, sys.executable, str(installation.write_script(TRAIN))],
            cwd=tmp_path, env=installation.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert train.stdout is not None and train.stdout.readline() == "ready\n"
            (pid,) = Path(f"/proc/{train.pid}/task/{train.pid}/children").read_text().split()
            machine.scenario.set(0, util=80, used_mib=900).process(0, int(pid), 900).write()
            (usage,) = poll_until(
                lambda: installation.sql("SELECT * FROM run_usage WHERE gpu_observed_s > 1"),
                deadline_s=150,
                pause_s=2,
            )
            assert usage["gpu_busy_s"] == pytest.approx(0.8 * usage["gpu_observed_s"], rel=0.01)
            assert (usage["gpu_quality"], usage["gpu_mem_peak_bytes"]) == ("exclusive", 900 << 20)
            (held,) = poll_until(
                lambda: [row for row in installation.json("gpus") if row["state"] == "in use"],
                deadline_s=150,
                pause_s=2,
            )
            assert (held["device_id"], held["holders"]) == (shared, [usage["run_id"]])
            assert held["util_pct"] > 0 and held["is_live"]
            train.communicate("\n", timeout=30)
        finally:
            train.kill()
            train.wait()
        lines = installation.sql("SELECT kind, resource, cost FROM cost_lines WHERE resource != 'host'")
        assert {("run", f"device:{shared}"), ("idle", f"device:{idle}")} <= {
            (row["kind"], row["resource"]) for row in lines
        }
        assert all(Decimal(row["cost"]) > 0 for row in lines)
        assert "80 %" in installation.command("show", "one").stdout
        (fits,) = installation.json("waste", "memory", "--run", "one")
        assert (fits["mem_peak_bytes"], fits["fits_profile"], fits["fits_gpu_gib"]) == (
            900 << 20,
            "1g.10gb",
            8,
        )
        assert Decimal(fits["could_save"]) <= Decimal(fits["cost"])
        table = installation.command("waste", "memory").stdout
        assert "1g.10gb (14% of its compute)" in table and "where memory alone decides" in table
        assert "one" in installation.command("waste", "input", "--all").stdout
        assert "for 1 of loss" in installation.command("waste", "metric", "loss", "--goal", "min").stdout
        energy = {row["run"]: row for row in installation.json("energy", "--by", "run")}
        assert set(energy) == {usage["run_id"], None} and energy[None]["kgco2e"] is None
        assert "is not measured, and not in here" in installation.command("energy").stdout
        assert up.stop() == 0
    (writer,) = installation.sql("SELECT device_ids FROM run_writers")
    assert writer["device_ids"] == [shared]
    models = {row["model"] for row in installation.sql("SELECT DISTINCT model FROM gpu_minutes")}
    assert models == {"NVIDIA H100 80GB HBM3"}
    assert "Traceback" not in up.errors.read_text()
