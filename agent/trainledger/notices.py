"""What the SDK tells a person: at most one line on stderr for each kind of trouble, and never an exception.

A training loop may meet the same trouble a million times a minute; it is told once, and the counts come again
when the run ends. Limit: NOTICES_MAX different lines a process, then one last line and silence.
"""

import itertools
import sys
from collections.abc import Iterable

from .interruption import is_from_handler
from .spelling import nearest_name

__all__ = ["NOTICES_MAX", "Notices"]

NOTICES_MAX = 100


class Notices:
    """Lines said so far in this process, and counts of what was left out."""

    __slots__ = ("_counters", "_said")

    def __init__(self) -> None:
        self._said: set[str] = set()
        # Counters in C: threads count without a lock, which a signal handler could not wait for.
        self._counters: dict[str, itertools.count[int]] = {}

    def say(self, text: str) -> None:
        """Write one line on stderr; a closed or missing stderr is no trouble of the training."""
        stream = sys.stderr
        if stream is None:
            return
        try:
            stream.write(f"trainledger: {text}\n")
            stream.flush()
        except Exception as error:  # closed, full, or an object of the user's
            if is_from_handler(error):
                raise

    def once(self, about: str, text: str) -> None:
        """Say `text` unless something was said about the same thing before."""
        if about in self._said or len(self._said) > NOTICES_MAX:
            return
        self._said.add(about)
        if len(self._said) > NOTICES_MAX:
            self.say("more kinds of trouble than can be told; nothing more is said until the run ends")
        else:
            self.say(text)

    def unknown_arguments(self, call: str, unknown: Iterable[str], known: Iterable[str]) -> None:
        """Say of each keyword that `call` does not know that it is ignored, with the nearest of `known`.

        A training must not die at its last line because of a keyword that another library has.
        """
        for name in unknown:
            nearest = nearest_name(name, known)
            meant = f"; did you mean {nearest!r}?" if nearest else "; it is ignored"
            self.once(f"{call} argument {name}", f"{call}() has no argument {name[:200]!r}{meant}")

    def count(self, what: str) -> None:
        """Add one to a count that is told when the run ends."""
        next(self._counters.setdefault(what, itertools.count()))

    def sum_up(self) -> None:
        """Say the counts in one line, if there are any, and start them again at nothing."""
        counters, self._counters = self._counters, {}
        if counters:
            counts = ", ".join(f"{next(counter)} {what}" for what, counter in sorted(counters.items()))
            self.say(f"not recorded: {counts}")
