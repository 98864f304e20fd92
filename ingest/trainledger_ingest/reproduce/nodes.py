"""Which node of a repetition this is, and running nodes on other machines through a remote shell.

A node that is started from here reads its recipe from stdin and goes on reading: when that ends, whoever started it is
gone, and it ends its command. So nothing is left running on other machines after Ctrl-C or a lost connection.
"""

import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from trainledger_schemas.errors import UsageError

from .launch_shape import DEFAULT_PORT, LaunchShape, NodePlace

__all__ = ["choose_place", "first_host", "node_of", "run_on_hosts"]

STOP_WAIT_S = 30.0
_FIRST = re.compile(r"([^\[,]*)(?:\[(\d+)[^\]]*\])?([^,]*)")


def choose_place(
    shape: LaunchShape,
    *,
    node_rank: int | None,
    master: tuple[str, int] | None,
    environ: Mapping[str, str],
) -> NodePlace | None:
    """The place that was asked for or that SLURM gave this node; None without one. Raises UsageError."""
    is_over_nodes = shape.is_one_a_node and shape.nodes > 1
    told = node_of(environ) if is_over_nodes else None
    if node_rank is None and told is None:
        return None
    if not is_over_nodes:
        raise UsageError(
            "--node-rank: this run had one node, or one command started all of them; leave it away, and run it once"
        )
    if node_rank is None and told is not None:
        node_rank = told[0]
        if told[1] != shape.nodes:
            raise UsageError(f"the run had {shape.nodes} nodes, this job step has {told[1]}; ask for as many")
        hosts = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
        master = master or (first_host(hosts), DEFAULT_PORT)
    if node_rank is None or node_rank >= shape.nodes:
        raise UsageError(f"--node-rank {node_rank}: the run had nodes 0 to {shape.nodes - 1}")
    if master is None:
        raise UsageError("--node-rank: say with --master HOST[:PORT] where the others reach the first node")
    return NodePlace(node_rank, shape.nodes, *master)


def node_of(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """The number of this node and how many there are, where the scheduler says so for one task a node."""
    try:
        node, nodes = int(environ["SLURM_NODEID"]), int(environ["SLURM_STEP_NUM_NODES"])
        tasks = int(environ["SLURM_STEP_NUM_TASKS"])
    except (KeyError, ValueError):
        return None
    return (node, nodes) if nodes > 1 and tasks == nodes else None


def first_host(nodes: str) -> str:
    """The first of a list of hosts as SLURM writes them: node[03-08,11],other."""
    found = _FIRST.match(nodes)
    return "" if found is None else "".join(part or "" for part in found.groups())


def run_on_hosts(
    commands: Sequence[tuple[str, Sequence[str]]],
    *,
    shell: str,
    recipe: Path,
    say: Callable[[str], None],
) -> dict[str, int]:
    """Run a command on each host at the same time; exit status by host. `say` gets what they print, line by line.

    The first that fails ends the others: they would wait for it for ever. Blocks."""
    done = threading.Event()
    statuses: dict[str, int] = {}
    running = [_Node(host, [*shlex.split(shell), host, shlex.join(command)]) for host, command in commands]
    threads = [
        threading.Thread(target=node.follow, args=(recipe, say, statuses, done), daemon=True)
        for node in running
    ]
    for thread in threads:
        thread.start()
    try:
        while len(statuses) < len(running) and not any(statuses.values()):
            done.wait()
            done.clear()
    finally:
        for node in running:
            node.let_go()
        for node, thread in zip(running, threads, strict=True):
            thread.join(STOP_WAIT_S)
            node.kill()
            thread.join(STOP_WAIT_S)
    return statuses


class _Node:
    """A remote shell whose command runs for as long as its stdin is open."""

    def __init__(self, host: str, command: Sequence[str]) -> None:
        self._host = host
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._is_released = threading.Event()

    def follow(
        self, recipe: Path, say: Callable[[str], None], statuses: dict[str, int], done: threading.Event
    ) -> None:
        """Send the recipe, tell what it prints, note how it ends."""
        feeder = threading.Thread(target=self._feed, args=(recipe,), daemon=True)
        feeder.start()
        output: IO[bytes] | None = self._process.stdout
        for line in output or ():
            say(f"[{self._host}] {line.decode('utf-8', 'replace').rstrip()}")
        status = self._process.wait()
        self._is_released.set()
        feeder.join()
        statuses[self._host] = status
        done.set()

    def let_go(self) -> None:
        """Close its stdin: a command that still runs is ended by the node."""
        self._is_released.set()

    def kill(self) -> None:
        """End the remote shell if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()

    def _feed(self, recipe: Path) -> None:
        stdin = self._process.stdin
        if stdin is None:
            return
        try:
            with recipe.open("rb") as file:
                while block := file.read(1 << 20):
                    stdin.write(block)
            stdin.flush()
            self._is_released.wait()
            stdin.close()
        except OSError:
            return  # it ended before it had read all; its status tells
