"""The table of what stands in manifests, filled from the nodes that are stored as blobs.

Events name a manifest by its digest and never hold its names, which may be personal; whoever can read the blobs (the
machine of the run, or every worker where blobs are in S3) brings the entries into the tables. Guarantees: a folder
that is marked has its entries, and those of all folders below, in the table; a crash leaves unmarked rows that are
facts all the same. A manifest that cannot be read here is tried again, first soon, since its event comes before its
bytes are in S3, then each RETRY_S, and left to other workers meanwhile.
Limits: one call takes about `entries_max` entries, and one folder more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import CorruptDataError, NotFoundError
from trainledger_schemas.tree_manifest import Child, parse_node

from .dirty import Dirty
from .storage.store import Store

__all__ = ["ManifestIndex"]

# A quarter of a second of work, so that `up` is not kept from its rounds.
ENTRIES_AT_ONCE = 100_000
FILL_ENTRIES_AT_ONCE = 1_000_000
KNOWN_AT_ONCE = 2_000
FIRST_RETRY_S = 10.0
RETRY_S = 600.0
_ENTRIES = pa.schema(
    [("child", pa.binary(32)), ("is_folder", pa.bool_()), ("folder", pa.binary(32)), ("name", pa.binary())]
)
_FOLDERS = pa.schema([("folder", pa.binary(32))])


@dataclass(slots=True)
class _Found:
    """Entries column by column, and the folders that are whole with them."""

    child: list[bytes] = field(default_factory=list)
    is_folder: list[bool] = field(default_factory=list)
    folder: list[bytes] = field(default_factory=list)
    name: list[bytes] = field(default_factory=list)
    whole: list[bytes] = field(default_factory=list)


class ManifestIndex:
    """The index of one generation. `blobs` is asked anew each time: a user's folder may come into being."""

    def __init__(
        self, store: Store, generation: str, *, blobs: Callable[[], BlobSource], clock: Clock
    ) -> None:
        self._store = store
        self._generation = generation
        self._blobs = blobs
        self._clock = clock
        # When each is tried again, and how long it waited for that.
        self._unreadable: dict[str, tuple[int, float]] = {}
        self._is_due = True

    def note(self, dirty: Dirty) -> None:
        """Look for new manifests at the next `step` if a batch had events of runs."""
        self._is_due = self._is_due or bool(dirty.run_ids)

    def step(self, *, entries_max: int = ENTRIES_AT_ONCE) -> bool:
        """Take in some manifests; whether there may be more. Raises what the store raises; a repeat goes on."""
        now_ns = self._clock.monotonic_ns()
        if not self._is_due and not any(again_ns <= now_ns for again_ns, _ in self._unreadable.values()):
            return False
        left, blobs = entries_max, self._blobs()
        for top in self._pending():
            again_ns, waited_s = self._unreadable.get(top, (now_ns, 0.0))
            if again_ns > now_ns:
                continue
            if left <= 0:
                return True
            try:
                taken, is_whole = self._take_in(top, left, blobs)
            except (NotFoundError, CorruptDataError):
                wait_s = min(2 * waited_s or FIRST_RETRY_S, RETRY_S)
                self._unreadable[top] = (now_ns + round(wait_s * 1e9), wait_s)
                continue
            self._unreadable.pop(top, None)
            left -= taken
            if not is_whole:
                return True
        self._is_due = False
        return False

    def fill(self) -> None:
        """Take in every manifest that can be read here."""
        while self.step(entries_max=FILL_ENTRIES_AT_ONCE):
            pass

    def take_over(self, older: str) -> None:
        """Copy what another generation has of folders whose nodes can no longer be read."""
        mine = f"SELECT folder FROM {self._generation}.manifest_folders"
        for table in ("manifest_entries", "manifest_folders"):  # the marks last
            self._store.command(
                f"INSERT INTO {self._generation}.{table} SELECT * FROM {older}.{table} WHERE folder NOT IN ({mine})"
            )

    def _pending(self) -> list[str]:
        """The tops that events name and that are not marked, in the order of their first event."""
        return [
            str(row["top"])
            for row in self._store.rows(
                "SELECT JSONExtractString(body, 'manifest_sha256') AS top, min(at) AS first "
                f"FROM {self._generation}.run_events WHERE type IN ('dataset_used', 'artifact_logged') "
                "GROUP BY top HAVING match(top, '^[0-9a-f]{64}$') AND toFixedString(unhex(top), 32) NOT IN "
                f"(SELECT folder FROM {self._generation}.manifest_folders) ORDER BY first"
            )
        ]

    def _take_in(self, top: str, entries_max: int, blobs: BlobSource) -> tuple[int, bool]:
        """How many entries came in, and whether that was all of the tree."""
        found, taken, is_whole = _Found(), 0, True
        for folder, children in self._unmarked_folders(top, blobs):
            if children is None:
                found.whole.append(folder)
            elif taken >= entries_max and found.whole:
                is_whole = False
                break
            else:
                taken += len(children)
                _add(found, folder, children)
        self._write(found)
        return taken, is_whole

    def _unmarked_folders(self, top: str, blobs: BlobSource) -> Iterator[tuple[bytes, list[Child] | None]]:
        """(folder, its entries) on the way down, (folder, None) once all below it was given."""
        seen: set[str] = set()
        stack: list[tuple[str, bool]] = [(top, False)]
        while stack:
            sha256, is_done = stack.pop()
            if is_done:
                yield bytes.fromhex(sha256), None
                continue
            if sha256 in seen:
                continue
            seen.add(sha256)
            children = parse_node(blobs.read(sha256))
            yield bytes.fromhex(sha256), children
            stack.append((sha256, True))
            below = {child.sha256 for child in children if child.type == "d"} - seen
            stack += [(inner, False) for inner in sorted(below - self._marked(below), reverse=True)]

    def _marked(self, folders: set[str]) -> set[str]:
        marked: set[str] = set()
        asked = sorted(folders)
        for begin in range(0, len(asked), KNOWN_AT_ONCE):
            rows = self._store.rows(
                f"SELECT lower(hex(folder)) AS sha256 FROM {self._generation}.manifest_folders WHERE folder IN "
                "(SELECT toFixedString(unhex(arrayJoin({folders:Array(String)})), 32))",
                {"folders": asked[begin : begin + KNOWN_AT_ONCE]},
            )
            marked |= {str(row["sha256"]) for row in rows}
        return marked

    def _write(self, found: _Found) -> None:
        if found.child:
            columns = {name: getattr(found, name) for name in _ENTRIES.names}
            self._insert("manifest_entries", pa.table(columns, schema=_ENTRIES))
        if found.whole:
            self._insert("manifest_folders", pa.table({"folder": found.whole}, schema=_FOLDERS))

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._store.insert(f"{self._generation}.{table}", rows)


def _add(found: _Found, folder: bytes, children: list[Child]) -> None:
    # A link's digest is of its target, not of a file.
    kept = [child for child in children if child.type != "l"]
    found.child += [bytes.fromhex(child.sha256) for child in kept]
    found.is_folder += [child.type == "d" for child in kept]
    found.folder += [folder] * len(kept)
    found.name += [child.name for child in kept]
