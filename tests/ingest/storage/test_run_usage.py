"""How long a run was measured, against how long it lived."""

from pathlib import Path

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US, fixed_id
from support.ingest_store import fresh_store

S = 1_000_000


def test_a_run_was_never_measured_for_longer_than_it_lived(tmp_path: Path) -> None:
    tables = FilledTables(fresh_store(), tmp_path)
    begin = START_US - START_US % HOUR_US
    # A run within one window; one whose ranks share a node; one that runs on; one that was seen and never spoke.
    tables.started(1, 11, begin + 3 * S)
    tables.exited(1, 11, begin + 4 * S + 100_000)
    tables.event(
        "writer_gone", begin + 5 * S, run_id=fixed_id(1), writer_id=fixed_id(11), at_us=begin + 5 * S,
        evidence="lock_free", exit_seen=True,
    )  # fmt: skip
    for rank in (0, 1):
        tables.started(2, 20 + rank, begin + (2 + rank) * S, rank=rank, world_size=2, joined="environment")
        tables.exited(2, 20 + rank, begin + (14 + rank) * S)
    tables.started(3, 31, begin + 5 * S)
    for start in (0, 10, 20):
        tables.usage(begin + start * S, begin + (start + 10) * S, *[(1, 11)] * (start == 0), (3, 31), (4, 41))
    for start in (0, 10):
        tables.usage(begin + start * S, begin + (start + 10) * S, (2, 20), (2, 21), node="node-2")
    tables.take_in()
    rows = tables.rows("run_usage", columns="run_id, rank, observed_s", rest="ORDER BY run_id, rank")
    found = {(str(row["run_id"]), row["rank"]): row["observed_s"] for row in rows}
    assert found == {
        (id_of(1), None): pytest.approx(1.1),
        (id_of(2), 0): 12.0,
        (id_of(2), 1): 12.0,
        (id_of(3), None): 25.0,
        (id_of(4), None): 30.0,
    }
