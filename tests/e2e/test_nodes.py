"""Ranks on several nodes: network namespaces with an agent each, torchrun on each, one broker, one set of tables.

The ranks talk to rank 0 over the bridge in each step, as those of a process group do: when one dies, all notice.
"""

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from support.broker import Broker
from support.installation import BIN, Installation
from support.network_nodes import NetworkNode, network_nodes

pytestmark = pytest.mark.kafka

TRAIN = """
import os, signal, socket, sys, time
import trainledger
rank, size, restart = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"))
place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) + 1 + restart)
run = trainledger.init()
if rank == 0:
    with socket.create_server(place) as server:
        peers = [server.accept()[0] for _ in range(size - 1)]
else:
    while True:
        try:
            peers = [socket.create_connection(place)]; break
        except OSError:
            time.sleep(0.05)

def all_meet():
    if rank == 0:
        for peer in peers:
            if not peer.recv(1): raise RuntimeError("a peer is gone")
        for peer in peers: peer.sendall(b"x")
    else:
        peers[0].sendall(b"x")
        if not peers[0].recv(1): raise RuntimeError("rank 0 is gone")

for step in range(4 * restart, 4 * restart + 6):
    all_meet()
    run.log({"loss": float(rank)}, step=step)
    print(f"rank {rank} step {step}", flush=True)
    if step == 4 and rank == 3 and restart == 0 and sys.argv[1] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
all_meet()
"""
WRAPPED = (str(BIN / "trainledger"), "run", "--")
COLUMNS = "attempt, rank, local_rank, node_id, node_rank, state, joined, signal"


def mpirun(nodes: list[NetworkNode], project: str) -> int:
    """mpirun on the first node, which starts its daemon on the other as it does by ssh."""
    shell = nodes[0].installation.folder / "shell"
    cases = "\n".join(
        f"{n.address}) exec {n.shell()} TRAINLEDGER_PROJECT='{project}' sh -c \"$*\" ;;" for n in nodes
    )
    shell.write_text(f"#!/bin/sh\nhost=$1; shift\ncase $host in\n{cases}\nesac\n")
    shell.chmod(0o755)
    hosts = ",".join(f"{node.address}:2" for node in nodes)
    options = (
        f"--allow-run-as-root --mca plm_rsh_agent {shell} --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth0 "
        f"-H {hosts} -n 4"
    )
    log = "import trainledger\nwith trainledger.init() as run:\n    for n in range(6): run.log({'loss': 1.0})"
    process = nodes[0].start(
        "mpirun", *options.split(), str(BIN / "python"), "-c", log, TRAINLEDGER_PROJECT=project
    )
    process.communicate(timeout=60)
    return process.returncode


def launch(
    nodes: list[NetworkNode], project: str, *command: str, restarts: int = 0, around: Sequence[str] = ()
) -> list[int]:
    """torchrun on both nodes, two ranks each, with a static rendezvous: there is no id that the ranks share."""
    port = "29500"
    started = []
    for number, node in enumerate(nodes):
        options = (
            f"-r 1 -t 1 --monitor_interval 0.1 --no_python --nnodes 2 --nproc_per_node 2 --node_rank {number} "
            f"--master_addr {nodes[0].address} --master_port {port} --max_restarts {restarts}"
        )
        started.append(
            node.start(
                *around,
                "/usr/bin/torchrun",
                *options.split(),
                *command,
                TRAINLEDGER_PROJECT=project,
                OMP_NUM_THREADS="1",
            )
        )
    ended = []
    for process in started:
        printed = process.communicate(timeout=120)[0]
        ended.append(process.returncode)
        assert "Address already in use" not in printed, printed[-2000:]
    return ended


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    folder = tmp_path_factory.mktemp("n")
    with Broker(folder / "broker") as broker:
        reader = Installation(folder / "reader")
        reader.folder.mkdir()
        kafka = {"TRAINLEDGER_KAFKA": broker.bootstrap}
        assert reader.command("admin", "topics", **kafka).returncode == 0
        with network_nodes(folder, ["node-a", "node-b"], loopback_port=broker.port) as nodes:
            for node in nodes:
                node.installation.environment |= kafka | {"TRAINLEDGER_CAPTURE": "off"}
                (node.installation.folder / "train.py").write_text(TRAIN)
            agents = [node.agent() for node in nodes]
            training = (str(BIN / "python"), "train.py")
            ends = {"restarts": launch(nodes, "restarts", *training, "dies", restarts=1)}
            ends["mpirun"] = [mpirun(nodes, "mpirun")]
            ends["dies"] = launch(nodes, "dies", *WRAPPED, *training, "dies")
            # The agent of node b dies, and what its ranks say meanwhile is read by the next one.
            _end(agents.pop(), signal.SIGKILL)
            ends["no agent"] = launch(nodes, "no agent", *training, "lives", around=WRAPPED)
            agents.append(nodes[1].agent())
            for agent in agents:
                _end(agent, signal.SIGTERM)
            for node in nodes:
                done = node.start(str(BIN / "trainledger"), "agent", "--once")
                assert done.communicate(timeout=60) and done.returncode == 0
        assert reader.command("ingest", "--once", **kafka).returncode == 0
        yield {"ends": ends, "runs": reader.json("ls", **kafka), "reader": reader, "kafka": kafka}


def _end(process: "subprocess.Popen[str]", number: int) -> None:
    process.send_signal(number)
    process.communicate(timeout=60)


def run_of(recorded: Mapping[str, Any], project: str) -> dict[str, Any]:
    (row,) = [row for row in recorded["runs"] if row["project"] == project]
    return dict(row)


def rows(recorded: Mapping[str, Any], sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = recorded["reader"].sql(sql, **recorded["kafka"])
    return found


def test_ranks_on_two_nodes_are_one_run_and_a_restart_of_all_is_its_next_attempt(
    recorded: Mapping[str, Any],
) -> None:
    assert recorded["ends"]["restarts"] == [0, 0]
    run = run_of(recorded, "restarts")
    assert (run["state"], run["attempts"], run["ranks"], run["nodes"]) == ("finished", 2, 4, 2)
    found = rows(
        recorded, f"SELECT {COLUMNS} FROM run_writers WHERE run_id = '{run['run_id']}' ORDER BY attempt, rank"
    )
    assert [
        (w["attempt"], w["rank"], w["local_rank"], w["node_id"], w["node_rank"], w["joined"]) for w in found
    ] == [
        (attempt, rank, rank % 2, f"node-{'ab'[rank // 2]}", rank // 2, "weak")
        for attempt in (1, 2)
        for rank in range(4)
    ]
    assert found[3]["state"] == "crashed" and {w["state"] for w in found[4:]} == {"finished"}
    points = rows(
        recorded,
        "SELECT attempt, rank, groupArray(step) AS steps FROM (SELECT * FROM metrics WHERE run_id = "
        f"'{run['run_id']}' ORDER BY step) GROUP BY ALL ORDER BY ALL",
    )
    assert [(p["attempt"], p["rank"], p["steps"]) for p in points] == [
        (attempt, rank, list(range(5)) if attempt == 1 else list(range(4, 10)))
        for attempt in (1, 2)
        for rank in range(4)
    ]


def test_ranks_of_mpirun_on_two_nodes_are_one_run_that_is_no_guess(recorded: Mapping[str, Any]) -> None:
    assert recorded["ends"]["mpirun"] == [0]
    run = run_of(recorded, "mpirun")
    assert (run["state"], run["attempts"], run["ranks"], run["nodes"]) == ("finished", 1, 4, 2)
    found = rows(
        recorded, f"SELECT {COLUMNS} FROM run_writers WHERE run_id = '{run['run_id']}' ORDER BY rank"
    )
    assert [(w["rank"], w["node_id"], w["joined"]) for w in found] == [
        (rank, f"node-{'ab'[rank // 2]}", "strong") for rank in range(4)
    ]


def test_a_rank_that_is_killed_on_another_node_is_the_first_that_the_reason_names(
    recorded: Mapping[str, Any],
) -> None:
    assert all(recorded["ends"]["dies"])
    run = run_of(recorded, "dies")
    assert (run["state"], run["attempts"], run["ranks"], run["nodes"]) == ("failed", 1, 4, 2)
    assert run["state_reason"].startswith(
        "first rank 3 on node node-b: signal: signal 9; then rank 0 on node node-a"
    )
    lines = rows(
        recorded,
        f"SELECT rank, count() AS n FROM logs WHERE run_id = '{run['run_id']}' AND stream = 'stdout' GROUP BY rank ORDER BY rank",
    )
    assert [(line["rank"], line["n"]) for line in lines] == [(0, 5), (1, 5), (2, 5), (3, 5)]


def test_a_node_whose_agent_was_killed_says_all_once_it_is_back(recorded: Mapping[str, Any]) -> None:
    """And a wrapper around torchrun on each node makes no runs of their own."""
    assert recorded["ends"]["no agent"] == [0, 0]
    run = run_of(recorded, "no agent")
    assert (run["state"], run["ranks"], run["nodes"]) == ("finished", 4, 2)
    counts = rows(
        recorded,
        f"SELECT rank, count() AS n FROM metrics WHERE run_id = '{run['run_id']}' GROUP BY rank ORDER BY rank",
    )
    assert [(c["rank"], c["n"]) for c in counts] == [(rank, 6) for rank in range(4)]


def test_launches_with_the_same_address_are_runs_of_their_own(recorded: Mapping[str, Any]) -> None:
    assert len({row["run_id"] for row in recorded["runs"]}) == len(recorded["runs"]) == 4
