"""How far each process of a run was at which moment: a sample each ten seconds, for the estimated time to completion.

Samples are no facts: one that is written twice or not at all changes an estimate and nothing else. So they are kept
out of the exactly-once path, and the table forgets them after two days.
"""

from collections.abc import Mapping
from uuid import UUID

import pyarrow as pa

from .dirty import SAMPLE_US, Steps
from .storage.store import Store

__all__ = ["ProgressSamples"]

# Of how many processes is remembered when they were sampled last; a forgotten one is sampled once too often.
WRITERS_MAX = 10_000
_SCHEMA = pa.schema(
    [
        ("run_id", pa.binary(16)),
        ("writer_id", pa.binary(16)),
        ("at", pa.timestamp("us", tz="UTC")),
        ("step", pa.int64()),
    ]
)


class ProgressSamples:
    """Writes the samples of one generation."""

    def __init__(self, store: Store, generation: str) -> None:
        self._store = store
        self._table = f"{generation}.progress_samples"
        self._written: dict[tuple[str, str], int] = {}

    def add(self, steps: Mapping[tuple[str, str, int], Steps]) -> None:
        """Write those that are due: of each process one a stretch of ten seconds, and none of an older stretch."""
        rows = []
        for (run_id, writer_id, stretch), (step, at_us) in sorted(steps.items(), key=lambda item: item[0][2]):
            writer = (run_id, writer_id)
            if stretch > self._written.get(writer, -1):
                ids = {"run_id": UUID(run_id).bytes, "writer_id": UUID(writer_id).bytes}
                rows.append({**ids, "at": at_us, "step": step})
                # The newest at the end, for what is forgotten first.
                self._written.pop(writer, None)
                self._written[writer] = at_us // SAMPLE_US
        if rows:
            self._store.insert(self._table, pa.Table.from_pylist(rows, schema=_SCHEMA))
        while len(self._written) > WRITERS_MAX:
            del self._written[next(iter(self._written))]
