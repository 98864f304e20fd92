"""How many ranks and nodes a launch had is read from its command, and the command is changed to other numbers."""

from typing import Any

import pytest

from trainledger_ingest.reproduce.command import Launching, build_command
from trainledger_ingest.reproduce.launch_shape import (
    LaunchShape,
    NodePlace,
    command_on_node,
    forward_variables,
    read_shape,
    with_ranks,
)
from trainledger_ingest.reproduce.nodes import choose_place, first_host
from trainledger_schemas.errors import UsageError

PLACE = NodePlace(1, 2, "gpu-a", 4000)


def shape_of(
    launcher: str, *, ranks: int = 1, nodes: int = 1, argv: str = "python t.py", **variables: str
) -> LaunchShape:
    told = {"launcher": launcher.split(), "argv": argv.split(), "variables": variables}
    return read_shape(told, ranks=ranks, nodes=nodes)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (shape_of("torchrun --nnodes=2 --nproc-per-node 4 t.py"), ("torchrun", 8, 2, 4, True, True)),
        (shape_of("torchrun --nnodes=1:4 --nproc_per_node=4 t.py", ranks=12, nodes=3), ("torchrun", 12, 3, 4, True, True)),
        (shape_of("torchrun t.py", PET_NNODES="2", WORLD_SIZE="16"), ("torchrun", 16, 2, 8, True, True)),
        (shape_of("python -m torch.distributed.run --nproc-per-node=2 t.py --nnodes=9"), ("torchrun", 2, 1, 2, True, True)),
        (shape_of("accelerate launch --num_processes 4 --num_machines 2 t.py"), ("accelerate", 4, 2, 2, True, True)),
        (shape_of("mpirun -np 6 python t.py -n 3", ranks=6, nodes=2), ("mpirun", 6, 2, 3, False, True)),
        (shape_of("", ranks=4, OMPI_COMM_WORLD_SIZE="4"), ("mpirun", 4, 1, 4, False, False)),
        (shape_of("", ranks=4, SLURM_STEP_NUM_TASKS="4", SLURM_NNODES="2"), ("srun", 4, 2, 2, False, False)),
        (shape_of("", ranks=2, WORLD_SIZE="4", LOCAL_WORLD_SIZE="2"), ("bare", 4, 2, 2, True, False)),
        (shape_of("", argv="mpirun -n 4 python t.py", ranks=4), ("mpirun", 4, 1, 4, False, True)),
        (shape_of("python t.py", ranks=3, WORLD_SIZE="3"), ("single", 3, 1, 3, False, True)),
        (shape_of("", ranks=3), ("single", 3, 1, 3, False, True)),
        (shape_of(""), ("single", 1, 1, 1, False, True)),
    ],
)  # fmt: skip
def test_shape(shape: LaunchShape, wanted: tuple[Any, ...]) -> None:
    found = (shape.kind, shape.ranks, shape.nodes, shape.per_node, shape.is_one_a_node, shape.is_known)
    assert found == wanted


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        ("mpirun --oversubscribe -np 4 python t.py -np 4", "mpirun -n 2 --oversubscribe python t.py -np 4"),
        ("torchrun --nnodes=2 --nproc-per-node=4 --node-rank=1 --master-addr=x --rdzv-id 7 t.py --nnodes=3",
         "torchrun --nproc_per_node=2 --nnodes=1 t.py --nnodes=3"),
        ("/venv/bin/python /venv/bin/torchrun t.py", "/venv/bin/python /venv/bin/torchrun --nproc_per_node=2 --nnodes=1 t.py"),
        ("accelerate launch --num_processes 4 t.py", "accelerate launch --num_processes=2 --num_machines=1 t.py"),
        ("srun -N2 --ntasks=8 python t.py", "srun --ntasks=2 --nodes=1 -N2 python t.py"),
    ],
)  # fmt: skip
def test_another_number_of_ranks(command: str, changed: str) -> None:
    assert with_ranks(command.split(), 2) == changed.split()


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        ("torchrun --nnodes=2 --node-rank=0 --master-addr=old --nproc-per-node=4 --standalone --rdzv-id 7 t.py --lr 1",
         "torchrun --nnodes=2 --node_rank=1 --master_addr=gpu-a --master_port=4000 --nproc-per-node=4 t.py --lr 1"),
        ("torchrun t.py",
         "torchrun --nnodes=2 --node_rank=1 --master_addr=gpu-a --master_port=4000 --nproc_per_node=8 t.py"),
        ("accelerate launch --num_machines 2 --machine_rank 0 t.py",
         "accelerate launch --num_machines=2 --machine_rank=1 --main_process_ip=gpu-a --main_process_port=4000 t.py"),
    ],
)  # fmt: skip
def test_command_of_one_node(command: str, changed: str) -> None:
    assert command_on_node(command.split(), PLACE, per_node=8) == changed.split()


def test_a_launcher_of_all_nodes_has_no_command_for_one() -> None:
    for command in ("mpirun -n 4 python t.py", "python t.py"):
        with pytest.raises(UsageError, match="one command"):
            command_on_node(command.split(), PLACE, per_node=2)
    with pytest.raises(UsageError, match="--ranks"):
        with_ranks(["python", "t.py"], 2)


def test_mpirun_over_nodes_gives_them_the_run_and_its_variables() -> None:
    shape = shape_of("mpirun --host a,b -n 4 python t.py", ranks=4, nodes=2)
    run = {"launcher": "mpirun --host a,b -n 4 python t.py".split(), "cwd": "/old", "code_root": "/old",
           "variables": {"PYTHONHASHSEED": "0"}}  # fmt: skip
    command = build_command(run, "/new", launching=Launching(shape), environ={})
    assert command.argv[:6] == ["mpirun", "-x", "PYTHONHASHSEED", "-x", "TRAINLEDGER_RUN_ID", "--host"]
    assert any("--into" in note for note in command.notes)
    assert forward_variables(["mpiexec.hydra", "-n", "2", "a.out"], ["A"]) == [
        "mpiexec.hydra",
        "-n",
        "2",
        "a.out",
    ]


@pytest.mark.parametrize(
    ("variables", "head"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "4"}, ["mpirun", "-n", "4", "python"]),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_CPUS_PER_TASK": "2"}, ["srun", "--ntasks=4", "--nodes=1", "--cpus-per-task=2"]),
    ],
)  # fmt: skip
def test_a_rank_alone_gets_its_launcher_back(variables: dict[str, str], head: list[str]) -> None:
    run = {"argv": ["python", "t.py"], "variables": variables}
    shape = read_shape(run, ranks=4, nodes=1)
    command = build_command(run, "/new", launching=Launching(shape), environ={}, exists=lambda _: True)
    assert command.argv[:4] == head and any("rebuilt" in note for note in command.notes)


SLURM = {
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "n[03,07]",
}


def test_place_among_nodes_is_told_or_that_of_slurm() -> None:
    two = shape_of("torchrun --nnodes=2 --nproc-per-node=4 t.py")
    assert choose_place(two, node_rank=None, master=None, environ={}) is None
    assert choose_place(two, node_rank=1, master=("gpu-a", 4000), environ={}) == PLACE
    assert choose_place(two, node_rank=None, master=None, environ=SLURM) == NodePlace(1, 2, "n03")
    for options in ({"node_rank": 2, "master": ("a", 1)}, {"node_rank": 1, "master": None}):
        with pytest.raises(UsageError, match="--node-rank"):
            choose_place(two, environ={}, **options)
    with pytest.raises(UsageError, match="one command"):
        choose_place(shape_of("mpirun -n 4 a.out", nodes=2), node_rank=0, master=("a", 1), environ={})
    with pytest.raises(UsageError, match="this job step has 3"):
        three = SLURM | {"SLURM_STEP_NUM_NODES": "3", "SLURM_STEP_NUM_TASKS": "3"}
        choose_place(two, node_rank=None, master=None, environ=three)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node[03-08,11],other", "node03"), ("a,b", "a"), ("gpu7", "gpu7"), ("r1n[2]-ib", "r1n2-ib")],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
