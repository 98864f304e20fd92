"""Real SLURM and the real agent: a job's GPU is held from its begin to its end, and its account pays."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.fake_nvml_library import SCENARIO
from support.gpus import Machine
from support.installation import BIN, Installation
from support.polling import poll_until
from support.slurm import slurm_cluster

# A job that does nothing until it is told to begin its run, and then until it is told to end it and itself.
JOB = """
import time, pathlib, trainledger
def wait(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.1)
wait("begin")
with trainledger.init(project="claims", name="held", team="red") as run:
    run.log({"loss": 1.0})
    wait("end-run")
wait("end-job")
"""


@dataclass
class Held:
    """What the tables said while the job waited, ran, and after it."""

    job: str
    gpus: list[str]
    before: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    writers: list[dict[str, Any]]


def lines_of(node: Installation, device: str, kind: str) -> list[dict[str, Any]]:
    return node.sql(f"SELECT * FROM cost_lines WHERE resource = 'device:{device}' AND kind = '{kind}'")


def holders_of(node: Installation, device: str) -> list[str]:
    """Who is on the device or has it reserved."""
    (row,) = node.sql(f"SELECT holders FROM gpus WHERE device_id = '{device}'")
    return list(row["holders"])


@pytest.fixture(scope="module")
def held(built_machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    built_machine.empty()
    scenario = built_machine.scenario
    gpus = [scenario.gpu(number) for number in range(3)]
    scenario.write()
    node = Installation(tmp_path_factory.mktemp("claims"))
    node.environment |= {
        "LD_LIBRARY_PATH": str(built_machine.library.parent), SCENARIO: str(scenario.path),
        "TRAINLEDGER_CAPTURE": "off", "TRAINLEDGER_SCHEDULERS": "slurm",
    }  # fmt: skip
    (node.folder / "job.py").write_text(JOB)
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    stranger = subprocess.Popen(["sleep", "300"])
    try:
        with slurm_cluster(folder, gpus=2) as cluster, node.up() as up:
            node.environment |= cluster
            node.json("price", "set", "--node", "*", "--usd-per-hour", "360")
            # The first GPU is taken by another job, so that the one in question is not number 0.
            command = ["sbatch", "--parsable", "-w", "node-a", "--gres=gpu:1"]
            other = submit(node, [*command, "--wrap", "sleep 300"])
            job = submit(node, [*command, "--account=physics", "--wrap", f"{BIN / 'python'} job.py"])
            before = poll_until(lambda: lines_of(node, gpus[1], "untracked"), deadline_s=120, pause_s=1)
            scenario.process(1, stranger.pid).write()
            (node.folder / "begin").touch()
            poll_until(
                lambda: money(lines_of(node, gpus[1], "run")) > 0,
                deadline_s=120,
                pause_s=1,
            )
            poll_until(
                lambda: any("intruder" in row["evidence"] for row in lines_of(node, gpus[1], "untracked")),
                deadline_s=120,
                pause_s=1,
            )
            assert any(name.startswith("user:") for name in holders_of(node, gpus[1]))
            # Before the job ends: from then on who is on the GPU pays for it.
            scenario.without("proc").write()
            poll_until(
                lambda: not any(name.startswith("user:") for name in holders_of(node, gpus[1])),
                deadline_s=120,
                pause_s=1,
            )
            (node.folder / "end-run").touch()
            (node.folder / "end-job").touch()
            poll_until(lambda: job not in queue(node), deadline_s=60, pause_s=0.2)
            poll_until(lambda: lines_of(node, gpus[1], "idle"), deadline_s=120, pause_s=1)
            subprocess.run(["scancel", other], env=node.environment, check=True)
            assert up.stop() == 0
            assert "Traceback" not in up.errors.read_text()
    finally:
        stranger.kill()
        stranger.wait()
        shutil.rmtree(folder)
    lines = node.sql("SELECT * FROM cost_lines ORDER BY resource, kind, owner, account")
    yield Held(job, gpus, before, lines, node.sql("SELECT * FROM run_writers"))


def submit(node: Installation, command: list[str]) -> str:
    done = subprocess.run(command, cwd=node.folder, env=node.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def queue(node: Installation) -> list[str]:
    command = ["squeue", "--noheader", "--format=%A"]
    done = subprocess.run(command, env=node.environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def found(held: Held, device: str, kind: str, account: str | None = None) -> list[dict[str, Any]]:
    """A row an hour: there may be two."""
    rows = [
        row
        for row in held.lines
        if (row["resource"], row["kind"], row["account"]) == (f"device:{device}", kind, account)
    ]
    assert rows
    return rows


def money(rows: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(row["cost"]) for row in rows), Decimal(0))


def test_a_job_without_a_run_is_untracked_and_its_account_pays_for_its_gpu(held: Held) -> None:
    row = held.before[0]
    assert (row["account"], row["team"]) == ("account:physics", "physics")
    assert row["payer_evidence"] == "slurm account physics"
    assert row["evidence"] == f"slurm job {held.job}, SLURM_JOB_GPUS"


def test_a_run_in_the_job_holds_its_gpu_though_it_never_used_it(held: Held) -> None:
    rows = found(held, held.gpus[1], "run", "account:physics")
    assert money(rows) > 0
    assert {row["used_hours"] for row in rows} <= {0, None} and sum(row["unused_hours"] for row in rows) > 0
    told = "slurm account physics may not use the declared team red"
    assert {(row["team"], row["declared_team"], row["payer_evidence"]) for row in rows} == {
        ("physics", "red", told)
    }
    # It was on none, but SLURM told it which to use.
    assert [writer["device_ids"] for writer in held.writers] == [[held.gpus[1]]]
    host = [row for row in held.lines if row["resource"] == "host" and row["kind"] == "run"]
    assert {row["account"] for row in host} == {"account:physics"}


def test_who_is_on_a_gpu_of_a_job_without_being_in_it_pays_nothing_and_is_told(held: Held) -> None:
    rows = found(held, held.gpus[1], "untracked")
    assert money(rows) == 0 and {row["evidence"] for row in rows} == {"intruder"}


def test_a_gpu_that_no_job_has_is_idle_and_so_is_one_whose_job_ended(held: Held) -> None:
    free = {row["kind"] for row in held.lines if row["resource"] == f"device:{held.gpus[2]}"}
    assert "idle" in free and free <= {"idle", "unknown"}
    assert money(found(held, held.gpus[1], "idle")) > 0
    # The other job had no account: its user pays.
    assert {(row["team"], row["owner"]) for row in found(held, held.gpus[0], "untracked")} == {(None, "root")}
