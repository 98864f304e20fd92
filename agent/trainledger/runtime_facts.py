"""The claim `runtime_seen`: random generators, determinism flags and loaded libraries of the training process."""

from collections.abc import Mapping
from typing import Any

from trainledger_schemas.clock import wall_ns

from .randomness import Generators

__all__ = ["RuntimeFacts"]


class RuntimeFacts:
    """Looks at the process of one run; `parameters` are the run's."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._generators = Generators(parameters)

    def claim(self, stage: str) -> dict[str, Any]:
        """What is to be seen at `stage`: init, seed or finish. Libraries at the last: they are loaded bit by bit."""
        return {
            "type": "runtime_seen",
            "at_us": wall_ns() // 1000,
            "stage": stage,
            "randomness": self._generators.look(stage),
            "libraries": _libraries() if stage == "finish" else {},
        }


def _libraries() -> dict[str, str]:
    # Not at the top: what is loaded at the beginning is not told, and `init` need not wait for it.
    from .loaded_libraries import read_libraries

    return read_libraries()
