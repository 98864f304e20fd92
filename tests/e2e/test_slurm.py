"""Real SLURM, two nodes on this machine: what srun starts is one run a step, and a requeued job its next attempt."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.installation import BIN, Installation
from support.polling import poll_until
from support.slurm import slurm_cluster

TRAIN = """
import os, sys, time
import trainledger
run = trainledger.init()
again = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
for step in range(3):
    run.log({"loss": float(run._launch.rank)}, step=step)
print(f"I am rank {run._launch.rank}", flush=True)
if sys.argv[1:] == ["waits"] and not again:
    open(f"began-{run._launch.rank}", "w").close()
    time.sleep(100)
"""
PYTHON = str(BIN / "python")
TRAINING = (PYTHON, "train.py")
TORCHRUN = (
    "/usr/bin/torchrun -r 1 -t 1 --nnodes 2 --nproc_per_node 2 --node_rank $SLURM_NODEID --master_addr "
    f"{socket.gethostname()} --master_port $PORT --no_python {PYTHON} train.py"
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "srun": ("srun", "-N2", "-n4", *TRAINING),
    "a wrapper each": ("srun", "-N2", "-n3", "trainledger", "run", "--", *TRAINING),
    "twice in a step": ("srun", "-n2", "sh", "-c", f"{PYTHON} train.py && {PYTHON} train.py"),
    "two steps": ("sbatch", "--wait", "-n2", "--wrap", f"srun {PYTHON} train.py; srun {PYTHON} train.py"),
    "torchrun": ("srun", "-N2", "-n2", "sh", "-c", TORCHRUN),
    "a task alone": ("srun", "-n1", PYTHON, "alone.py"),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, list[dict[str, Any]]]]:
    node = Installation(tmp_path_factory.mktemp("slurm"))
    # The socket of munge must have a short path.
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    node.environment |= {"TRAINLEDGER_CAPTURE": "off", "OMP_NUM_THREADS": "1", "PORT": str(port)}
    (node.folder / "train.py").write_text(TRAIN)
    (node.folder / "alone.py").write_text(
        "import trainledger\nwith trainledger.init() as run: run.log({'x': 1.0})"
    )
    try:
        with slurm_cluster(folder) as cluster:
            node.environment |= cluster
            jobs = {name: start(node, name, *command) for name, command in COMMANDS.items()}
            requeue(node)
            for name, job in jobs.items():
                printed = job.communicate(timeout=100)[0]
                assert job.returncode == 0, f"{name}: {printed[-3000:]}"
            poll_until(lambda: not squeue(node), deadline_s=60, pause_s=0.2)
    finally:
        shutil.rmtree(folder)
    found: dict[str, list[dict[str, Any]]] = {}
    for run in node.json("ls"):
        run["writers"] = []
        found.setdefault(run["project"], []).append(run)
    by_id = {run["run_id"]: run for runs in found.values() for run in runs}
    for row in node.sql("SELECT * FROM run_writers WHERE decides ORDER BY attempt, rank, started_at"):
        by_id[row["run_id"]]["writers"].append(row)
    yield found


def start(node: Installation, project: str, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=node.folder,
        env=node.environment | {"TRAINLEDGER_PROJECT": project},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def squeue(node: Installation, shown: str = "%A", *more: str) -> list[str]:
    command = ["squeue", "--noheader", f"--format={shown}", *more]
    done = subprocess.run(command, env=node.environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def requeue(node: Installation) -> None:
    """A job that its scheduler starts again while it runs."""
    asked = ("sbatch", "--parsable", "--requeue", "-n2", "--wrap", f"srun {PYTHON} train.py waits")
    process = start(node, "requeued", *asked)
    job = process.communicate(timeout=60)[0].strip()
    poll_until(lambda: all((node.folder / f"began-{rank}").exists() for rank in (0, 1)), deadline_s=60)
    subprocess.run(["scontrol", "requeue", job], env=node.environment, check=True)

    def starts() -> bool:
        # SLURM waits two minutes before it starts a job again, unless it is told not to.
        if squeue(node, "%T", "--jobs", job) == ["PENDING"]:
            command = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
            subprocess.run(command, env=node.environment, check=True)
            return True
        return False

    poll_until(starts, deadline_s=30, pause_s=0.2)


def places(run: Mapping[str, Any], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in run["writers"]]


def test_tasks_of_srun_on_two_nodes_are_one_run(recorded: Mapping[str, list[dict[str, Any]]]) -> None:
    (run,) = recorded["srun"]
    assert (run["state"], run["ranks"], run["attempts"]) == ("finished", 4, 1)
    assert places(run, "rank", "world_size", "launcher", "joined") == [
        (rank, 4, "slurm", "strong") for rank in range(4)
    ]
    assert {row["node_rank"] for row in run["writers"]} == {0, 1}


def test_a_wrapper_in_each_task_joins_too(recorded: Mapping[str, list[dict[str, Any]]]) -> None:
    (run,) = recorded["a wrapper each"]
    assert (run["state"], run["ranks"], run["attempts"]) == ("finished", 3, 1)
    assert places(run, "rank") == [(rank,) for rank in (0, 0, 1, 1, 2, 2)]


@pytest.mark.parametrize("project", ["twice in a step", "two steps"])
def test_trainings_one_after_the_other_are_runs_of_their_own(
    recorded: Mapping[str, list[dict[str, Any]]], project: str
) -> None:
    assert [(run["ranks"], run["attempts"]) for run in recorded[project]] == [(2, 1)] * 2


def test_torchrun_in_each_task_is_one_run_with_the_ranks_of_torchrun(
    recorded: Mapping[str, list[dict[str, Any]]],
) -> None:
    (run,) = recorded["torchrun"]
    assert places(run, "rank", "local_rank", "node_rank", "launcher", "joined") == [
        (rank, rank % 2, rank // 2, "torchrun", "strong") for rank in range(4)
    ]


def test_a_task_alone_has_no_rank(recorded: Mapping[str, list[dict[str, Any]]]) -> None:
    (run,) = recorded["a task alone"]
    assert places(run, "rank", "launcher", "joined") == [(None, "single", "new")]


def test_a_job_that_was_requeued_goes_on_as_the_next_attempt_of_its_run(
    recorded: Mapping[str, list[dict[str, Any]]],
) -> None:
    (run,) = recorded["requeued"]
    assert (run["state"], run["attempts"], run["ranks"]) == ("finished", 2, 2)
    assert places(run, "attempt", "rank", "state") == [
        (1, 0, "crashed"), (1, 1, "crashed"), (2, 0, "finished"), (2, 1, "finished")
    ]  # fmt: skip
