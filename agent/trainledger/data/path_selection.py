"""Which files of a folder count, by patterns as in `use_dataset(..., include=, exclude=)`.

A pattern is of fnmatch (`*` any characters, `/` too; `?`; `[a-z]`), capitals count. Without a slash it is held against
the name of the file and of each folder above it; with one, against the path from the top, and the path of each
folder above. A file counts that an include pattern meets (all do where there is none) and no exclude pattern.
"""

import fnmatch
import os
import re
from collections.abc import Sequence

__all__ = ["PathSelection"]


class PathSelection:
    """Patterns, compiled once."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self.include = tuple(include)
        self.exclude = tuple(exclude)
        self._include = _compiled(self.include)
        self._exclude = _compiled(self.exclude)

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    @property
    def scope(self) -> str:
        """A text that only equal patterns have."""
        return repr((self.include, self.exclude)) if self else ""

    def enters(self, folder: bytes) -> bool:
        """Whether there may be something in a folder (path from the top) that counts."""
        return not _meets(self._exclude, folder)

    def takes(self, path: bytes) -> bool:
        """Whether a file or link counts; folders above it were entered."""
        if _meets(self._exclude, path):
            return False
        parts = path.split(b"/")
        above = (b"/".join(parts[:end]) for end in range(len(parts), 0, -1))
        return not self.include or any(_meets(self._include, place) for place in above)


def _compiled(patterns: Sequence[str]) -> list[tuple[bool, re.Pattern[str]]]:
    cleaned = [pattern.removeprefix("./").strip("/") or "*" for pattern in patterns]
    return [("/" in pattern, re.compile(fnmatch.translate(pattern))) for pattern in cleaned]


def _meets(patterns: list[tuple[bool, re.Pattern[str]]], path: bytes) -> bool:
    text = os.fsdecode(path)
    name = text.rpartition("/")[2]
    return any(pattern.match(text if of_path else name) for of_path, pattern in patterns)
