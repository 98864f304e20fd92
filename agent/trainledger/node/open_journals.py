"""Journal folders of live writers, kept open from one pass to the next.

To open a folder takes six system calls and its segment and lock as many again, each second and for each journal;
kept open they cost three looks at what is open. A folder that was replaced under the same name is told by its
inode and opened anew. Limit: `held_max` folders, with four descriptors each; what is over that is opened and closed
at each use.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .journal_folder import JournalFolder, JournalPlace

__all__ = ["DESCRIPTORS_PER_FOLDER", "OpenJournals"]

# The folder, the one above it, the lock and a segment.
DESCRIPTORS_PER_FOLDER = 4


class OpenJournals:
    """The folders that are held; for one thread. `close` when done."""

    def __init__(self, node_folder: Path, *, held_max: int) -> None:
        self._node_folder = node_folder
        self._held_max = held_max
        self._held: dict[JournalPlace, JournalFolder] = {}

    @contextmanager
    def use(self, place: JournalPlace) -> Iterator[JournalFolder]:
        """The folder, open for as long as the block takes, or longer if it is kept.

        Raises RefusedError or FileNotFoundError when it is not to be had."""
        folder = self._held.get(place)
        if folder is None:
            folder = JournalFolder(self._node_folder, place.uid, place.journal_id)
        try:
            yield folder
        finally:
            if self._held.get(place) is not folder:
                folder.close()

    def keep(self, place: JournalPlace, folder: JournalFolder) -> None:
        """Hold a folder that is in use beyond its use, if there is room; harmless when it is held."""
        if len(self._held) < self._held_max and folder.inode == place.inode:
            self._held[place] = folder

    def let_go(self, place: JournalPlace) -> None:
        """Hold a folder no longer; harmless when it is not held."""
        folder = self._held.pop(place, None)
        if folder is not None:
            folder.close()

    def removed(self, found: set[JournalPlace]) -> list[JournalPlace]:
        """Those held whose journal is not among `found`: somebody else removed them, or moved them away."""
        listed = {place.journal_id for place in found}
        return sorted(place for place in self._held if place.journal_id not in listed)

    def keep_only(self, found: set[JournalPlace]) -> None:
        """Let go of all that was not found any more."""
        for place in self._held.keys() - found:
            self.let_go(place)

    def close(self) -> None:
        """Let go of all; harmless when repeated."""
        self.keep_only(set())
