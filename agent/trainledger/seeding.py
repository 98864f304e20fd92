"""`trainledger.seed`: one number for all generators, on record."""

import operator
import sys

from .active_run import current_run
from .notices import Notices
from .randomness import seed_libraries

__all__ = ["seed"]

_notices = Notices()


def seed(number: int) -> int:
    """Seed Python's `random`, numpy, torch (all devices) and tensorflow, as far as they are loaded; returns the number.

    Call it after the imports. The number is recorded with the run, whenever that begins. A generator of your own
    takes it as well: `numpy.random.default_rng(trainledger.seed(3))`. PYTHONHASHSEED cannot be set any more once
    Python runs; that is told once. Raises TypeError for what is no whole number, ValueError for a negative one.
    """
    number = operator.index(number)
    if number < 0:
        raise ValueError("a seed is 0 or greater")
    seed_libraries(number)
    if sys.flags.hash_randomization:
        _notices.once(
            "hash",
            "PYTHONHASHSEED is not set, so the order of sets is another each time; start with PYTHONHASHSEED=0",
        )
    run = current_run()
    if run is not None:
        run._see_runtime("seed")
    return number
