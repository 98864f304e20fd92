"""The call `run.log(data, step)`: the shortest way from what a person wrote to the rows of the run.

What `log` does not know (`stp=3`, `commit=False`, `loss=0.5`, a third argument) is told once, with the nearest known
name, and left out; the rest of the call is recorded. To take any argument costs a call about 50 ns.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from .notices import Notices
from .shapes import RowWriter
from .spelling import nearest_name

__all__ = ["log_function"]

_KNOWN = ("data", "step")


def log_function(rows: RowWriter, notices: Notices) -> Callable[..., None]:
    """The `log` of a run that writes by `rows`."""
    by_length, by_keys, slow = rows.by_length, rows.by_keys, rows.slow
    next_step = itertools.count().__next__

    def log(data: Any = None, step: int | None = None, *more: Any, **unknown: Any) -> None:
        """Record one call; see Run for what each kind of value and step becomes. Never raises."""
        if more or unknown:
            _tell_wrong_call(data, more, unknown, notices)
        if step is None:
            step = next_step()
        try:
            row = by_length[len(data)] if data.__class__ is dict else by_keys
        except Exception as refusal:  # an unknown length, or no dict at all
            slow(data, step, refusal)
        else:
            row(data, step)

    return log


def _tell_wrong_call(data: Any, more: tuple[Any, ...], unknown: Mapping[str, Any], notices: Notices) -> None:
    if more:
        notices.once("log more", "log() takes a dict and a step; what follows them is ignored")
    for name in unknown:
        if data is None and nearest_name(name, _KNOWN) is None:
            meant = f"give a dict, log({{{name[:200]!r}: ...}})"
            notices.once(f"log argument {name}", f"log() has no argument {name[:200]!r}: {meant}")
        else:
            notices.unknown_arguments("log", (name,), _KNOWN)
