"""How far the hashing of a large dataset is, told now and then while it goes on.

Nothing is told of what takes less than FIRST_S. How much there is in all is looked up by a thread of its own once
it takes longer, so that small data never pays for it.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from trainledger_schemas.clock import Clock

from .folder_listing import list_folder
from .path_selection import PathSelection

__all__ = ["HashingProgress", "Tell", "tree_bytes"]

FIRST_S = 5.0
# Each time twice as long, up to this: an hour of hashing is about 60 events.
LONGEST_S = 60.0
SIZING_S = 1.0

Tell = Callable[[int, int | None], None]
"""Takes the bytes that are done and those there are in all, None while that is not known."""


class HashingProgress:
    """Counts bytes. `sizing`: how many there are, in a thread of its own; it may raise OSError."""

    def __init__(self, tell: Tell, sizing: Callable[[], int], *, clock: Clock) -> None:
        self._tell = tell
        self._sizing = sizing
        self._clock = clock
        self._done = 0
        self._expected: int | None = None
        self._wait_s = FIRST_S
        self._is_sizing = False
        self._next_ns = clock.monotonic_ns() + round(FIRST_S * 1e9)

    def add(self, size_bytes: int) -> None:
        """So many bytes more were hashed, or are known to be as they were."""
        self._done += size_bytes
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._next_ns:
            return
        if not self._is_sizing:
            self._is_sizing = True
            threading.Thread(target=self._size, daemon=True).start()
            self._next_ns = now_ns + round(SIZING_S * 1e9)
            return
        self._wait_s = min(2 * self._wait_s, LONGEST_S)
        self._next_ns = now_ns + round(self._wait_s * 1e9)
        expected = self._expected
        self._tell(self._done if expected is None else min(self._done, expected), expected)

    def _size(self) -> None:
        try:
            self._expected = self._sizing()
        except OSError:
            return  # it is told without


def tree_bytes(top: Path, selection: PathSelection) -> int:
    """Bytes of all files of a folder that count, or of a file; what cannot be read is left out. Raises OSError."""
    if not top.is_dir():
        return top.stat().st_size
    size, folders = 0, [b""]
    start = os.path.realpath(os.fsencode(top))
    while folders:
        inner = folders.pop()
        try:
            listing = list_folder(os.path.join(start, inner) if inner else start)
        except OSError:
            continue
        prefix = inner + b"/" if inner else b""
        size += sum(key[2] for name, key in listing.files if selection.takes(prefix + name))
        folders += [prefix + name for name in listing.folders if selection.enters(prefix + name)]
    return size
