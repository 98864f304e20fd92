"""What `torchrun` or `accelerate launch` is told on its command line, as the variables that torchrun also reads. Pure.

For a wrapper around it on each of several nodes (`trainledger run -- torchrun --nnodes 2 ...`), which has no rank but
belongs to one launch with the others. What stands in a file of Accelerate's is not read.
"""

from collections.abc import Mapping, Sequence

__all__ = ["launcher_variables"]

_TORCHRUN = {
    name: f"PET_{name.upper()}"
    for name in "nnodes node_rank master_addr master_port rdzv_id rdzv_endpoint".split()
}
_ACCELERATE = {
    "num_machines": "PET_NNODES",
    "machine_rank": "PET_NODE_RANK",
    "main_process_ip": "PET_MASTER_ADDR",
    "main_process_port": "PET_MASTER_PORT",
}
# By the program's name, or a module's behind `-m`.
_PROGRAMS = {
    "torchrun": _TORCHRUN,
    "torch.distributed.run": _TORCHRUN,
    "torch.distributed.launch": _TORCHRUN,
    "accelerate": _ACCELERATE,
    "accelerate-launch": _ACCELERATE,
    "accelerate.commands.accelerate_cli": _ACCELERATE,
    "accelerate.commands.launch": _ACCELERATE,
}
_WORDS_BEFORE_MAX = 4
# Options without a value; every other one takes the next word. Torch 2.9 and Accelerate 1.15.
_SWITCHES = frozenset(
    "standalone m module no_python run_path help h use_env q quiet cpu debug downcast_bf16 dynamo_use_dynamic "
    "dynamo_use_fullgraph enable_cpu_affinity fp8_use_autocast_during_eval ipex multi_gpu no_tpu_cluster same_network "
    "tpu tpu_cluster tpu_use_sudo use_deepspeed use_fsdp use_megatron_lm use_xpu use_parallelism_config "
    "dynamo_use_regional_compilation".split()
)


def launcher_variables(command: Sequence[str]) -> dict[str, str]:
    """The variables that say what the options of this command say; empty for any other command.

    The options of a launcher end at the first word that is no option, and no value of one: the script.
    """
    names, words = _options(command)
    found: dict[str, str] = {}
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not equals and name not in _SWITCHES and words:
            value = words.pop(0)
        if name in names and value:
            found[names[name]] = value
    return found


def _options(command: Sequence[str]) -> tuple[Mapping[str, str], list[str]]:
    """The options that count, by their variables, and the words behind the launcher."""
    for place, word in enumerate(command[:_WORDS_BEFORE_MAX]):
        names = _PROGRAMS.get(word.rpartition("/")[2])
        words = list(command[place + 1 :])
        if names is not None and word.endswith(("accelerate", "accelerate_cli")):
            names, words = (names, words[1:]) if words[:1] == ["launch"] else (None, [])
        if names is not None:
            return names, words
    return {}, []
