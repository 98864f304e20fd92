"""What `torchrun` is told on its command line, as the variables that it also reads: PET_NNODES for --nnodes. Pure.

For a wrapper around it on each of several nodes (`trainledger run -- torchrun --nnodes 2 ...`), which has no rank but
belongs to one launch with the others.
"""

from collections.abc import Sequence

__all__ = ["torchrun_variables"]

_OPTIONS = frozenset("nnodes node_rank master_addr master_port rdzv_id rdzv_endpoint".split())
_PROGRAMS = ("torchrun", "torch.distributed.run", "torch.distributed.launch")
_WORDS_BEFORE_MAX = 4
# Options without a value; every other one takes the next word.
_SWITCHES = frozenset("standalone m module no_python run_path help h use_env".split())


def torchrun_variables(command: Sequence[str]) -> dict[str, str]:
    """The variables that say what the options of this command say; empty for any other command.

    The options of torchrun end at the first word that is no option, and no value of one: the script.
    """
    begin = next((i + 1 for i, word in enumerate(command[:_WORDS_BEFORE_MAX]) if _is_torchrun(word)), None)
    found: dict[str, str] = {}
    words = list(command[begin:]) if begin is not None else []
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not equals and name not in _SWITCHES and words:
            value = words.pop(0)
        if name in _OPTIONS and value:
            found[f"PET_{name.upper()}"] = value
    return found


def _is_torchrun(word: str) -> bool:
    return word.rpartition("/")[2] in _PROGRAMS
