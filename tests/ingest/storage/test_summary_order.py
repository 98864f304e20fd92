"""Which point of a metric is the last one: the highest (attempt, step, time), for every attempt, step and time."""

import random

from support.ingest_store import fresh_store
from trainledger_ingest.storage.migrate import migrate
from trainledger_schemas.ids import id_text

LONG = 1 << 63
US_MAX = 10_413_791_999_999_999


def test_the_last_point_is_that_of_the_highest_attempt_then_step_then_time() -> None:
    chance = random.Random(3)
    steps = [-LONG, -LONG + 1, -1, 0, 1, LONG - 1]
    times = [0, 1, US_MAX]
    attempts = [1, 2, 65535]
    expected: dict[str, tuple[int, float]] = {}
    points, writers = [], []
    for _ in range(150):
        run = id_text(chance.randbytes(16))
        best: tuple[int, int, int] | None = None
        for attempt in chance.choices(attempts, k=chance.randint(1, 5)):
            writer = id_text(chance.randbytes(16))
            writers.append(f"('{run}', '{writer}', 1, {attempt})")
            for _ in range(chance.randint(1, 3)):
                rank = (attempt, chance.choice(steps), chance.choice(times))
                value = chance.random()
                if best is None or rank > best:
                    best, expected[run] = rank, (rank[1], value)
                if rank < best or expected[run][1] == value:
                    points.append(
                        f"(202601, '{run}', 'k', '{writer}', {rank[1]}, fromUnixTimestamp64Micro(toInt64({rank[2]}), 'UTC'), {value}, 't', 0, 0, 0)"
                    )
    store = fresh_store()
    schema = migrate(store)
    store.command(
        f"INSERT INTO {schema.generation}.writer_states (run_id, writer_id, version, attempt) VALUES "
        + ", ".join(writers)
    )
    store.command(
        f"INSERT INTO {schema.generation}.points (month, run_id, key, writer_id, step, at, value, topic, partition, "
        "offset, idx) VALUES " + ", ".join(points)
    )
    rows = store.rows(
        f"SELECT toString(run_id) AS run, last_step, last FROM {schema.views_database}.metric_summary"
    )
    assert {str(row["run"]): (row["last_step"], row["last"]) for row in rows} == expected


def test_the_summary_is_read_from_the_projection_and_not_from_the_points() -> None:
    store = fresh_store()
    schema = migrate(store)
    store.command(
        f"INSERT INTO {schema.generation}.points (month, run_id, key, writer_id, step, at, value, topic, partition, offset, "
        "idx) SELECT 202601, toUUID('00000000-0000-4000-8000-000000000001'), 'k', "
        "toUUID('00000000-0000-4000-8000-000000000002'), number, now64(6), number, 't', 0, number, 0 FROM numbers(20000)"
    )
    plan = store.rows(
        f"EXPLAIN indexes = 1 SELECT run_id, key, last FROM {schema.views_database}.metric_summary"
    )
    assert any("ReadFromMergeTree (summary)" in str(row["explain"]) for row in plan), plan
    assert not any(
        "points)" in str(row["explain"]) and "ReadFromMergeTree" in str(row["explain"]) for row in plan
    ), plan
