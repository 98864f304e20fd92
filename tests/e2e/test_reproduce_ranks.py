"""Runs of several processes, on one node or more, are repeated with as many, by the launcher that they had."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import BIN, Installation
from support.nasty_repository import GitFolder, plain_environment
from support.polling import poll_until
from trainledger_schemas.ids import id_text
from trainledger_schemas.journal import HEADER_BYTES, SegmentHeader

# The real one. It needs an interpreter for the ranks, which has the SDK.
TORCHRUN = "/usr/bin/torchrun -r 1 -t 1 --monitor_interval 0.1 --no_python"

# Ranks that meet at MASTER_ADDR: each gives a number and gets the sum, so none ends without the others. The address is
# 0.0.0.0, this machine again, because a loopback address tells the SDK that all ranks are on one node.
TRAIN = b"""
import os, socket, sys, time
import trainledger

rank = int(os.environ.get("RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)
size = int(os.environ.get("WORLD_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1)

def all_reduce(value):
    # The port itself is that of torchrun's store.
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) + 1
    if rank == 0:
        with socket.create_server(address) as server:
            server.settimeout(60)
            peers = [server.accept()[0] for _ in range(size - 1)]
        total = value + sum(float(peer.recv(100)) for peer in peers)
        for peer in peers:
            peer.sendall(repr(total).encode())
        return total
    for _ in range(600):
        try:
            with socket.create_connection(address, 60) as peer:
                peer.sendall(repr(value).encode())
                return float(peer.recv(100))
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("nobody there")

run = trainledger.init(project="ranks", name="ranks", config={"seed": 1})
for step in range(3):
    run.log({"loss": 1 / (1 + step + rank)})
if "MASTER_PORT" in os.environ:
    run.log({"sum": all_reduce(1.5 * rank)})
"""
FORKING = b"""
import multiprocessing, os

def work(rank):
    os.environ.update(RANK=str(rank), WORLD_SIZE="3", LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="3",
                      MASTER_ADDR="127.0.0.1")
    import trainledger
    run = trainledger.init(project="ranks", name="ranks")
    run.log({"loss": 1 / (1 + rank)})

if __name__ == "__main__":
    multiprocessing.set_start_method("METHOD")
    ranks = [multiprocessing.Process(target=work, args=(rank,)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
"""


class Ranks:
    """A repository with local changes, and its launches."""

    def __init__(self, folder: Path) -> None:
        self.tool = Installation(folder)
        kept = {name: self.tool.environment[name] for name in ("PATH", "TRAINLEDGER_DIR", "TRAINLEDGER_HOME")}
        self.tool.environment |= plain_environment(folder / "user") | kept
        self.tool.environment |= {
            "PYTHONHASHSEED": "0",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
        programs = folder / "bin"
        programs.mkdir()
        # A remote shell whose machines are all this one: it drops the name and runs the rest.
        remote = programs / "rsh"
        remote.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
        remote.chmod(0o755)
        self.tool.environment["PATH"] = f"{programs}:{self.tool.environment['PATH']}"
        self.repository = GitFolder(folder / "project", self.tool.environment)
        self.repository.write("train.py", b"old\n")
        self.repository.commit_all()
        self.repository.write("train.py", TRAIN)

    def launch(self, size: int, *commands: str, **environment: str) -> str:
        """Start commands at once, wait for all of them, `size` ranks in all, and for the captures; the run's id."""
        running = [
            subprocess.Popen(
                command.split(),
                cwd=self.repository.folder,
                env=self.tool.environment | environment,
                stderr=subprocess.PIPE,
            )
            for command in commands
        ]
        assert [(process.communicate(timeout=120)[1], process.returncode)[1] for process in running] == [
            0
        ] * len(running)
        # All ranks have one run; each capture makes its journal when it has all that it wants to say.
        poll_until(lambda: len(self.journals()) == size + len(commands), deadline_s=60)
        header = SegmentHeader.parse(self.journals()[0].read_bytes()[:HEADER_BYTES])
        return id_text(header.run_id)

    def journals(self) -> list[Path]:
        """The first segments of all processes."""
        return list(self.tool.journals.glob("*/*/000000.tlj"))

    def ranks(self, run: str) -> list[int]:
        """The ranks that wrote for a run."""
        sql = (
            f"SELECT DISTINCT rank FROM run_writers WHERE run_id = '{run}' AND rank IS NOT NULL ORDER BY rank"
        )
        return [row["rank"] for row in self.tool.sql(sql)]


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    yield Ranks(tmp_path)
    shutil.rmtree(tmp_path / "home", ignore_errors=True)


def free_port() -> int:
    """One whose successor is free as well: torchrun's store has the port, the ranks meet at the next one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = int(server.getsockname()[1])
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except OSError:
                continue


def test_mpirun_is_repeated_with_four_ranks_and_with_two_on_request(ranks: Ranks) -> None:
    run = ranks.launch(4, "mpirun --oversubscribe -n 4 python train.py")
    (result,) = ranks.tool.json("reproduce", run, "--yes")
    assert (result["outcome"], result["points"], result["deviations"]) == ("identical", 12, [])
    assert result["proves"] and ranks.ranks(result["repetition"]) == [0, 1, 2, 3]
    done = ranks.tool.command("reproduce", run, "--yes", "--ranks", "2")
    assert "equal results do not prove the run" in done.stdout
    assert done.returncode == 1 and "differs: ranks: 4 then, 2 now" in done.stderr
    sql = "SELECT outcome, proves FROM reproductions ORDER BY at"
    assert ranks.tool.sql(sql) == [
        {"outcome": "identical", "proves": True},
        {"outcome": "different", "proves": False},
    ]


def test_two_nodes_are_repeated_from_one_with_a_recipe_over_a_remote_shell(ranks: Ranks) -> None:
    port = free_port()
    # That of Debian works with Python 3.11 only if it redirects a stream.
    node = f"{TORCHRUN} --nnodes=2 --nproc_per_node=2 --master_addr=0.0.0.0 --master_port={port} --node_rank="
    run = ranks.launch(4, f"{node}0 python train.py", f"{node}1 python train.py")
    plan = ranks.tool.json("reproduce", run, "--plan")
    lines = [row["what"] for row in plan if row["step"].startswith(("on node", "runs"))]
    assert [line.split(" --as")[0] for line in lines[::2]] == [f"trainledger reproduce {run}"] * 2
    assert "--node_rank=1 --master_addr=FIRST_NODE" in lines[3] and "--nnodes=2" in lines[3]
    done = ranks.tool.command("reproduce", run, "--yes")
    assert done.returncode == 2 and "--hosts" in done.stderr and "--node-rank 1" in done.stderr
    shutil.rmtree(ranks.repository.folder)
    options = ("--hosts", "one,two", "--rsh", "rsh", "--master", f"0.0.0.0:{free_port()}", "--yes")
    # Nothing but the recipe is needed where a node runs: its own folders are empty.
    (result,) = ranks.tool.json("reproduce", run, *options)
    assert (result["outcome"], result["points"], result["deviations"]) == ("identical", 16, [])
    assert result["proves"] and ranks.ranks(result["repetition"]) == [0, 1, 2, 3]


def test_nodes_are_started_by_hand_from_a_recipe_and_the_first_compares(ranks: Ranks, tmp_path: Path) -> None:
    variables = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "LOCAL_RANK": "0",
    }
    scripts = []
    for rank in "01":
        # As people start ranks through ssh, one on each machine.
        script = tmp_path / f"rank{rank}.sh"
        script.write_text(f"#!/bin/sh\nRANK={rank} LOCAL_WORLD_SIZE=1 exec python train.py\n")
        script.chmod(0o755)
        scripts.append(str(script))
    run = ranks.launch(2, *scripts, **variables)
    recipe = tmp_path / "run.recipe"
    assert ranks.tool.command("reproduce", run, "--pack", str(recipe)).returncode == 0
    assert recipe.stat().st_mode & 0o777 == 0o600
    port = free_port()
    words = ["--as", "6b1f0c5e-6a0e-4a52-9e5c-111111111111", "--master", f"0.0.0.0:{port}", "--yes"]
    nodes = [
        subprocess.Popen(
            [str(BIN / "trainledger"), "reproduce", place, "--node-rank", str(number), *words],
            env=ranks.tool.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, place in enumerate((run, str(recipe)))
    ]
    ends = [node.communicate(timeout=120) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ends
    assert "identical: run 6b1f0c5e" in ends[0][0] and "identical" not in ends[1][0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_program_that_starts_its_ranks_itself_is_started_once(ranks: Ranks, method: str) -> None:
    ranks.repository.write("train.py", FORKING.replace(b"METHOD", method.encode()))
    run = ranks.launch(3, "python train.py")
    (result,) = ranks.tool.json("reproduce", run, "--yes")
    assert (result["outcome"], result["points"]) == ("identical", 3)


def test_srun_is_rebuilt_from_its_variables(ranks: Ranks, tmp_path: Path) -> None:
    # A rank of srun has no launcher above it: on its node a daemon of SLURM started it.
    srun = tmp_path / "bin" / "srun"
    srun.write_text(
        f"#!{sys.executable}\nimport os, subprocess, sys\n"
        "size = next(w for w in sys.argv if w.startswith('--ntasks=')).split('=')[1]\n"
        "command = [w for w in sys.argv[1:] if not w.startswith('--ntasks') and not w.startswith('--nodes')]\n"
        "job = {'SLURM_JOB_ID': str(os.getpid()), 'SLURM_STEP_ID': '0', 'SLURM_STEP_NUM_TASKS': size}\n"
        "ranks = [subprocess.Popen(['setsid', *command], env=os.environ | job | {'SLURM_PROCID': str(rank),\n"
        "         'SLURM_LOCALID': str(rank), 'SLURM_NTASKS_PER_NODE': size}) for rank in range(int(size))]\n"
        "sys.exit(any([rank.wait() for rank in ranks]))\n"
    )
    srun.chmod(0o755)
    run = ranks.launch(3, "srun --ntasks=3 --nodes=1 python train.py")
    (result,) = ranks.tool.json("reproduce", run, "--yes")
    assert (result["outcome"], result["points"]) == ("identical", 9)
