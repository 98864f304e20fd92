"""Record machine-learning training: `init`, `log`, `finish`, and `run`, the current run.

A point is safe from the death of the process, SIGKILL and OOM included, when `log()` returns. Within a second
the agent has fsynced it (file and folder); safe from power loss only then.
"""

from typing import TYPE_CHECKING, Any

from .active_run import Run, current_run
from .active_run import finish_current as finish
from .joining import log_current as log
from .starting import init

if TYPE_CHECKING:
    from .seeding import seed

    run: Run | None

__all__ = ["Run", "finish", "init", "log", "run", "seed"]


def __getattr__(name: str) -> Any:
    # `trainledger.run` is whatever run is current when it is asked for.
    if name == "run":
        return current_run()
    if name == "seed":
        # Loaded when it is asked for: most trainings seed their libraries themselves.
        from .seeding import seed

        return seed
    raise AttributeError(f"module 'trainledger' has no attribute {name!r}")
