"""How far each run was at which moment: a sample each ten seconds, for the estimated time to completion.

Samples are no facts: one that is written twice or not at all changes an estimate and nothing else. So they are kept
out of the exactly-once path, and the table forgets them after two days.
"""

from collections.abc import Mapping
from uuid import UUID

import pyarrow as pa

from .dirty import SAMPLE_US, Steps
from .storage.store import Store

__all__ = ["ProgressSamples"]

# Of how many runs is remembered when they were sampled last; a forgotten one is sampled once too often.
RUNS_MAX = 10_000
_SCHEMA = pa.schema([("run_id", pa.binary(16)), ("at", pa.timestamp("us", tz="UTC")), ("step", pa.int64())])


class ProgressSamples:
    """Writes the samples of one generation."""

    def __init__(self, store: Store, generation: str) -> None:
        self._store = store
        self._table = f"{generation}.progress_samples"
        self._written: dict[str, int] = {}

    def add(self, steps: Mapping[tuple[str, int], Steps]) -> None:
        """Write those that are due: of each run one a stretch of ten seconds, and none of an older stretch."""
        rows = []
        for (run_id, stretch), (step, at_us) in sorted(steps.items(), key=lambda item: item[0][1]):
            if stretch > self._written.get(run_id, -1):
                rows.append({"run_id": UUID(run_id).bytes, "at": at_us, "step": step})
                # The newest at the end, for what is forgotten first.
                self._written.pop(run_id, None)
                self._written[run_id] = at_us // SAMPLE_US
        if rows:
            self._store.insert(self._table, pa.Table.from_pylist(rows, schema=_SCHEMA))
        while len(self._written) > RUNS_MAX:
            del self._written[next(iter(self._written))]
