"""How the processes of a run were started, read from its launcher's command line and variables, and starting as many
again: with other numbers, on one node of several, under another address. Pure.

    torchrun, accelerate     one command a node, told how many nodes there are and which one it is
    mpirun, srun, deepspeed  one command for all nodes
    bare                     nobody known: each process had RANK, WORLD_SIZE, MASTER_ADDR ... from a script
    single                   one process, or one that starts the others itself (multiprocessing)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.errors import UsageError

__all__ = [
    "DEFAULT_PORT",
    "LaunchShape",
    "NodePlace",
    "command_on_node",
    "forward_variables",
    "read_shape",
    "with_ranks",
]

DEFAULT_PORT = 29500


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Which of how many nodes a command is for, and where rank 0 is reached."""

    node_rank: int
    nodes: int
    address: str
    port: int = DEFAULT_PORT


@dataclass(frozen=True, slots=True)
class _Family:
    """The names of a launcher's options; the first of each is the one that is written: torchrun has known the one with
    _ for longer than the one with -."""

    name: str
    programs: tuple[str, ...]
    ranks: tuple[str, ...] = ()
    ranks_per_node: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    node_rank: tuple[str, ...] = ()
    address: tuple[str, ...] = ()
    port: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    is_one_a_node: bool = False


_FAMILIES = (
    _Family(
        "torchrun",
        ("torchrun", "torch.distributed.run", "torch.distributed.launch"),
        ranks_per_node=("--nproc_per_node", "--nproc-per-node"),
        nodes=("--nnodes",),
        node_rank=("--node_rank", "--node-rank"),
        address=("--master_addr", "--master-addr"),
        port=("--master_port", "--master-port"),
        unwanted=("--rdzv-endpoint", "--rdzv_endpoint", "--rdzv-backend", "--rdzv_backend", "--rdzv-id", "--rdzv_id",
                  "--rdzv-conf", "--rdzv_conf", "--standalone"),
        is_one_a_node=True,
    ),
    _Family(
        "accelerate",
        ("accelerate", "accelerate.commands.launch"),
        ranks=("--num_processes", "--num-processes"),
        nodes=("--num_machines", "--num-machines"),
        node_rank=("--machine_rank", "--machine-rank"),
        address=("--main_process_ip", "--main-process-ip"),
        port=("--main_process_port", "--main-process-port"),
        is_one_a_node=True,
    ),
    _Family(
        "mpirun",
        ("mpirun", "mpiexec", "mpiexec.hydra", "orterun", "horovodrun"),
        ranks=("-n", "-np", "--np", "-c", "--n"),
    ),
    _Family("srun", ("srun",), ranks=("--ntasks", "-n"), nodes=("--nodes", "-N")),
    _Family(
        "deepspeed",
        ("deepspeed", "deepspeed.launcher.runner"),
        ranks_per_node=("--num_gpus",),
        nodes=("--num_nodes",),
    ),
)  # fmt: skip
_FLAGS = frozenset({"--standalone"})


@dataclass(frozen=True, slots=True)
class LaunchShape:
    """`kind`: see the module. `ranks` in all, `nodes`, and `per_node` where each has as many. `is_one_a_node`: each
    node is given a command of its own. `is_known`: False where the command that starts all ranks is not recorded."""

    kind: str
    ranks: int
    nodes: int
    per_node: int | None
    is_one_a_node: bool
    is_known: bool = True


def read_shape(provenance: Mapping[str, Any], *, ranks: int, nodes: int) -> LaunchShape:
    """The shape of a launch; `ranks` and `nodes` are what was seen of it, its own word wins."""
    launcher = provenance.get("launcher")
    command = launcher or provenance.get("argv") or ()
    variables: Mapping[str, str] = provenance.get("variables") or {}
    found = _find_family(command)
    told_ranks = _first_number(
        variables, "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"
    )
    ranks = max(ranks, told_ranks or 1)
    told_nodes = _first_number(
        variables, "GROUP_WORLD_SIZE", "PET_NNODES", "SLURM_STEP_NUM_NODES", "SLURM_NNODES"
    )
    local = _first_number(variables, "LOCAL_WORLD_SIZE")
    if told_nodes is None and told_ranks and local and told_ranks % local == 0:
        told_nodes = told_ranks // local
    if found is None:
        # What stands above the ranks, or was not told that it is one of them, starts the others itself.
        kind = "single" if launcher or told_ranks in (None, 1) else _kind_without_launcher(variables, ranks)
        nodes = max(nodes, (told_nodes or 1) if kind != "single" else 1)
        return LaunchShape(
            kind, ranks, nodes, _even(ranks, nodes), kind == "bare" and nodes > 1, kind == "single"
        )
    family, place = found
    option = _option_value(command, place, family.nodes)
    # Elastic launches say 1:4; what took part counts then.
    nodes = int(option) if option and option.isdecimal() else max(nodes, told_nodes or 1)
    total, each = (
        _number(_option_value(command, place, family.ranks)),
        _number(_option_value(command, place, family.ranks_per_node)),
    )
    ranks = total or (each * nodes if each else ranks)
    return LaunchShape(family.name, ranks, nodes, _even(ranks, nodes), family.is_one_a_node)


def with_ranks(command: Sequence[str], ranks: int) -> list[str]:
    """The launcher's command with another number of ranks, on one node. Raises UsageError for one without launcher."""
    found = _find_family(command)
    if found is None:
        raise UsageError(
            "--ranks: the command has no launcher whose number of processes could be changed; give the command "
            "behind --"
        )
    family, place = found
    changed = list(command)
    if family.is_one_a_node:
        for names in (family.node_rank, family.address, family.port, family.unwanted):
            changed = _without(changed, place, names)
    if family.nodes:
        changed = _with_option(changed, place, family.nodes, "1")
    return _with_option(changed, place, family.ranks or family.ranks_per_node, str(ranks))


def command_on_node(command: Sequence[str], node: NodePlace, *, per_node: int | None) -> list[str]:
    """The command that one node is given. Raises UsageError where the launcher has no such command."""
    found = _find_family(command)
    if found is None or not found[0].is_one_a_node:
        raise UsageError(
            "--node-rank: this run's launcher starts all nodes by one command; run it on one of them"
        )
    family, place = found
    changed = _without(list(command), place, family.unwanted)
    values = [
        (family.nodes, str(node.nodes)),
        (family.node_rank, str(node.node_rank)),
        (family.address, node.address),
        (family.port, str(node.port)),
    ]
    # What a pod was told by PET_ variables is said on the command line.
    if family.ranks_per_node and per_node and _option_value(command, place, family.ranks_per_node) is None:
        values.append((family.ranks_per_node, str(per_node)))
    for names, value in reversed(values):
        changed = _with_option(changed, place, names, value)
    return changed


def forward_variables(command: Sequence[str], names: Sequence[str]) -> list[str]:
    """An mpirun of Open MPI that gives these variables to its other nodes as well; any other command as it is."""
    found = _find_family(command)
    if found is None or found[0].name != "mpirun" or "hydra" in " ".join(command[: found[1]]):
        return list(command)
    told = [word for name in sorted(names) for word in ("-x", name)]
    return [*command[: found[1]], *told, *command[found[1] :]]


def _kind_without_launcher(variables: Mapping[str, str], ranks: int) -> str:
    if _first_number(variables, "SLURM_STEP_NUM_TASKS") == ranks:
        return "srun"
    return "mpirun" if "OMPI_COMM_WORLD_SIZE" in variables or "PMI_SIZE" in variables else "bare"


def _find_family(command: Sequence[str]) -> tuple[_Family, int] | None:
    """The launcher and where its options begin."""
    for index, word in enumerate(command[:8]):
        name = word.rpartition("/")[2]
        for family in _FAMILIES:
            if name in family.programs:
                is_launch = index + 1 < len(command) and command[index + 1] == "launch"
                return family, index + 1 + is_launch
    return None


def _end_of_options(command: Sequence[str], place: int) -> int:
    """Where the training's own command begins, as far as can be told without knowing all options."""
    for index in range(place, len(command)):
        name = command[index].rpartition("/")[2]
        if name.endswith(".py") or name.startswith(("python", "pypy")) or name in ("-m", "--module", "--"):
            return index
    return len(command)


def _option_value(command: Sequence[str], place: int, names: Sequence[str]) -> str | None:
    end = _end_of_options(command, place)
    for index in range(place, end):
        name, equals, value = command[index].partition("=")
        if name in names:
            return value if equals else (command[index + 1] if index + 1 < end else None)
    return None


def _without(command: list[str], place: int, names: Sequence[str]) -> list[str]:
    end = _end_of_options(command, place)
    kept, index = command[:place], place
    while index < end:
        name, equals, _ = command[index].partition("=")
        if name in names:
            index += 1 if equals or name in _FLAGS else 2
            continue
        kept.append(command[index])
        index += 1
    return kept + command[max(index, end) :]


def _with_option(command: list[str], place: int, names: Sequence[str], value: str) -> list[str]:
    cleaned = _without(command, place, names)
    written = [names[0], value] if not names[0].startswith("--") else [f"{names[0]}={value}"]
    return [*cleaned[:place], *written, *cleaned[place:]]


def _even(ranks: int, nodes: int) -> int | None:
    return ranks // nodes if nodes and ranks % nodes == 0 else None


def _first_number(variables: Mapping[str, str], *names: str) -> int | None:
    return next((n for n in (_number(variables.get(name)) for name in names) if n is not None), None)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 10 else None
