"""Real launchers on one machine: their ranks are one run, each with its state, its points and its output.

All launches are made at once, each in a project of its own, and then looked at together: a command of the tables
costs more than a launch.
"""

import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.installation import BIN, Installation

TRAIN = """
import os, sys, time
import trainledger
run = trainledger.init(config={"lr": 0.1})
rank = run._launch.rank
for step in range(3):
    run.log({"loss": float(rank * 10 + step)}, step=step)
print(f"I am rank {rank}", flush=True)
if len(sys.argv) > 1:
    exec(sys.argv[1])
run.finish()
"""
# Two launches of two ranks, one after the other, from one process.
LOOP = """
import multiprocessing, os, sys

def work(rank, barrier):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    import trainledger
    with trainledger.init() as run:
        run.log({"loss": float(rank)})
        barrier.wait(60)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    for launch in range(2):
        barrier = context.Barrier(2)
        ranks = [context.Process(target=work, args=(rank, barrier)) for rank in range(2)]
        for process in ranks: process.start()
        for process in ranks: process.join()
        assert not any(process.exitcode for process in ranks)
"""
PYTHON, WRAPPED = str(BIN / "python"), ("trainledger", "run", "--")
MPIRUN = ("mpirun", "--oversubscribe", "--allow-run-as-root", "-n")
# That of Debian works with Python 3.11 only if it redirects a stream.
PORT = "PORT"
TORCHRUN = (
    "/usr/bin/torchrun",
    *f"-r 1 -t 1 --monitor_interval 0.1 --master_port {PORT} --no_python --nproc_per_node".split(),
)
# Made by .ci/install.sh; its options leave out the one that torchrun here needs, which is read from the environment.
ACCELERATE_PROGRAM = Path(__file__).parents[2] / "build" / "launchers" / "bin" / "accelerate"
ACCELERATE = (
    str(ACCELERATE_PROGRAM),
    *"launch --multi_gpu --mixed_precision no --dynamo_backend no --tee 1 --no_python --num_processes 2".split(),
    *("--main_process_port", PORT),
)
needs_accelerate = pytest.mark.skipif(
    not ACCELERATE_PROGRAM.exists() and "CI" not in os.environ, reason="run .ci/install.sh"
)
# All ranks have begun before one of them dies.
MEET = """
place = os.environ["TRAINLEDGER_PROJECT"].replace(" ", "-")
open(f"{place}-{rank}", "w").close()
while not all(os.path.exists(f"{place}-{r}") for r in range(run._launch.world_size)): time.sleep(0.01)
"""
DIE_ONCE = f"""{MEET}
if rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0": os.kill(os.getpid(), 9)
time.sleep(1)
"""
DIE = f"{MEET}\nif rank == 2: os.kill(os.getpid(), 9)\ntime.sleep(30)"
A_RANK_EACH = f"for r in 0 1 2; do RANK=$r WORLD_SIZE=3 {PYTHON} train.py 'time.sleep(1)' & done; wait"
TRAINING = (PYTHON, "train.py")
TWO_MACHINES = " ".join((*WRAPPED, *ACCELERATE[:-1], "$1", "--num_machines 2 --main_process_ip 127.0.0.1"))
BOTH_IN_A_WRAPPER = " & ".join(f"{TWO_MACHINES} --machine_rank {r} {PYTHON} train.py" for r in (0, 1))
COMMANDS: dict[str, tuple[str, ...]] = {
    "openmpi": (*MPIRUN, "4", *TRAINING),
    "openmpi, a shell between": (*MPIRUN, "3", "sh", "rank.sh"),
    "openmpi, a wrapper each": (*MPIRUN, "3", *WRAPPED, *TRAINING),
    "openmpi in a wrapper": (*WRAPPED, *MPIRUN, "3", *TRAINING),
    "mpich": ("mpiexec.hydra", "-n", "3", *TRAINING),
    "torchrun": (*TORCHRUN, "3", *TRAINING),
    "torchrun, a wrapper each": (*TORCHRUN, "2", str(BIN / "trainledger"), *WRAPPED[1:], *TRAINING),
    "torchrun that restarts": (*TORCHRUN, "2", "--max_restarts", "1", *TRAINING, DIE_ONCE),
    "accelerate that restarts": (
        *ACCELERATE,
        "--num_machines",
        "1",
        "--max_restarts",
        "1",
        *TRAINING,
        DIE_ONCE,
    ),
    "accelerate twice, a wrapper each": ("sh", "-c", f"{BOTH_IN_A_WRAPPER} & wait", "sh", PORT),
    "a rank is killed": (*MPIRUN, "3", *WRAPPED, *TRAINING, DIE),
    "a loop of a shell": ("sh", "-c", A_RANK_EACH),
    "multiprocessing, spawn": (PYTHON, "loop.py", "spawn"),
    "multiprocessing, fork": (PYTHON, "loop.py", "fork"),
    "multiprocessing, forkserver": (PYTHON, "loop.py", "forkserver"),
}


@dataclass
class Recorded:
    """What the tables say of one of the commands, and what it printed."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    writers: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    logs: list[dict[str, Any]] = field(default_factory=list)
    printed: str = ""

    @property
    def run(self) -> dict[str, Any]:
        (row,) = self.runs
        return row

    def places(self, *columns: str) -> list[tuple[Any, ...]]:
        return [tuple(row[column] for column in columns) for row in self.writers]


def free_ports() -> list[int]:
    """One port for each command: torchrun listens on it."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in COMMANDS]
        return [int(made.getsockname()[1]) for made in sockets]


def is_there(name: str) -> bool:
    return not name.startswith("accelerate") or ACCELERATE_PROGRAM.exists()


def launch(node: Installation, name: str, port: int) -> "subprocess.Popen[str]":
    command = [str(port) if word == PORT else word for word in COMMANDS[name]]
    return subprocess.Popen(
        command,
        cwd=node.folder,
        env=node.environment
        | {"TRAINLEDGER_PROJECT": name, "PET_REDIRECTS": "1", "PET_MONITOR_INTERVAL": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Recorded]:
    node = Installation(tmp_path_factory.mktemp("node"))
    node.environment |= {"TRAINLEDGER_CAPTURE": "off", "TRAINLEDGER_NODE": "node-a", "OMP_NUM_THREADS": "1"}
    (node.folder / "train.py").write_text(TRAIN)
    (node.folder / "loop.py").write_text(LOOP)
    (node.folder / "rank.sh").write_text(f"{PYTHON} train.py; true\n")
    found = {name: Recorded() for name in COMMANDS}
    ports = zip(COMMANDS, free_ports(), strict=False)
    launched = {name: launch(node, name, port) for name, port in ports if is_there(name)}
    for name, process in launched.items():
        found[name].printed = process.communicate(timeout=100)[0]
        assert bool(process.returncode) == (DIE in COMMANDS[name]), found[name].printed[-3000:]
    project = {}
    for run in node.json("ls"):
        project[run["run_id"]] = run["project"]
        found[run["project"]].runs.append(run)
    for table, order in (
        ("run_writers WHERE decides", "attempt, rank, started_at"),
        ("metrics", "attempt, rank, step"),
        ("logs WHERE stream = 'stdout'", "rank, line_no"),
    ):
        for row in node.sql(f"SELECT * FROM {table} ORDER BY {order}"):
            kept = found[project[row["run_id"]]]
            {"run_w": kept.writers, "metri": kept.points}.get(table[:5], kept.logs).append(row)
    return found


@pytest.mark.parametrize(
    ("name", "ranks", "launcher"),
    [
        ("openmpi", 4, "openmpi"),
        ("openmpi, a shell between", 3, "openmpi"),
        ("mpich", 3, "mpich"),
        ("torchrun", 3, "torchrun"),
    ],
)
def test_ranks_of_a_launcher_are_one_run(
    recorded: Mapping[str, Recorded], name: str, ranks: int, launcher: str
) -> None:
    found = recorded[name]
    assert found.printed.count("trainledger: run ") == 1
    assert (found.run["state"], found.run["ranks"], found.run["attempts"]) == ("finished", ranks, 1)
    assert found.places("attempt", "rank", "local_rank", "world_size", "launcher", "joined", "state") == [
        (1, rank, rank, ranks, launcher, "strong", "finished") for rank in range(ranks)
    ]
    assert [(p["rank"], p["step"], p["value"]) for p in found.points] == [
        (rank, step, rank * 10.0 + step) for rank in range(ranks) for step in range(3)
    ]


@pytest.mark.parametrize("name", ["openmpi, a wrapper each", "torchrun, a wrapper each"])
def test_ranks_under_a_wrapper_each_are_one_run_with_the_output_of_each(
    recorded: Mapping[str, Recorded], name: str
) -> None:
    found = recorded[name]
    ranks = found.run["ranks"]
    assert (found.run["state"], ranks, found.run["attempts"]) == ("finished", 3 if "mpi" in name else 2, 1)
    assert found.places("rank", "state") == [(r, "finished") for rank in range(ranks) for r in (rank, rank)]
    assert [(line["rank"], line["text"]) for line in found.logs] == [
        (rank, f"I am rank {rank}") for rank in range(ranks)
    ]


def test_ranks_of_a_launcher_under_one_wrapper_are_one_run(recorded: Mapping[str, Recorded]) -> None:
    found = recorded["openmpi in a wrapper"]
    assert (found.run["state"], found.run["ranks"], found.run["attempts"]) == ("finished", 3, 1)
    assert {w["rank"] for w in found.writers} == {None, 0, 1, 2}


@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("accelerate", marks=needs_accelerate)])
def test_a_launcher_that_starts_all_again_makes_the_next_attempt_and_keeps_the_points_of_both(
    recorded: Mapping[str, Recorded], launcher: str
) -> None:
    found = recorded[f"{launcher} that restarts"]
    assert set(found.places("launcher", "joined")) == {(launcher, "strong")}
    assert found.places("attempt", "rank", "state") == [
        (1, 0, "crashed"), (1, 1, "crashed"), (2, 0, "finished"), (2, 1, "finished")
    ]  # fmt: skip
    assert (found.run["state"], found.run["attempts"], found.run["ranks"]) == ("finished", 2, 2)
    assert [(p["attempt"], p["rank"], p["step"]) for p in found.points] == [
        (attempt, rank, step) for attempt in (1, 2) for rank in (0, 1) for step in range(3)
    ]


@needs_accelerate
def test_wrappers_around_accelerate_for_two_machines_on_this_one_are_one_run(
    recorded: Mapping[str, Recorded],
) -> None:
    found = recorded["accelerate twice, a wrapper each"]
    assert (found.run["state"], found.run["ranks"], found.run["attempts"]) == ("finished", 2, 1), (
        found.printed
    )
    assert {(w["rank"], w["joined"]) for w in found.writers} == {
        (None, "weak"), (0, "wrapper"), (1, "wrapper")
    }  # fmt: skip


def test_a_rank_that_is_killed_is_named(recorded: Mapping[str, Recorded]) -> None:
    run = recorded["a rank is killed"].run
    assert (run["state"], run["ranks"]) == ("killed", 3)
    assert run["state_reason"].startswith("rank 2 on node node-a: signal: signal 9"), run["state_reason"]


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_of_multiprocessing_with_a_rank_each_are_one_run_a_launch(
    recorded: Mapping[str, Recorded], method: str
) -> None:
    found = recorded[f"multiprocessing, {method}"]
    assert [(run["state"], run["ranks"], run["attempts"]) for run in found.runs] == [("finished", 2, 1)] * 2
    assert set(found.places("rank", "joined", "launcher")) == {(0, "strong", "bare"), (1, "strong", "bare")}


def test_a_loop_of_a_shell_over_ranks_is_one_run_and_marked_as_a_guess(
    recorded: Mapping[str, Recorded],
) -> None:
    found = recorded["a loop of a shell"]
    assert "TRAINLEDGER_RUN_ID" in found.printed
    assert (found.run["ranks"], set(found.places("joined"))) == (3, {("weak",)})
