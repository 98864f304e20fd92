"""Rows of the append tables: right values, in the table's order, the same at every projection."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.ingest_events import HOUR_US, START_US, Producer, fixed_id, point_block, price_fields, run_fields
from support.ingest_store import fresh_store
from trainledger_ingest.admit import Admitted
from trainledger_ingest.arrow_columns import US_MAX
from trainledger_ingest.dead_letters import DeadLetter
from trainledger_ingest.decode import decode_record
from trainledger_ingest.project import dirty_of, json_body, month_of, project
from trainledger_ingest.project_points import uuid_order
from trainledger_ingest.sources.source import SourceRecord
from trainledger_ingest.storage.migrate import migrate
from trainledger_schemas.events import TOPIC_ADMIN, TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS
from trainledger_schemas.ids import id_text
from trainledger_schemas.point_codec import PointBlock

MONTH = 202311


def admitted(topic: str, payload: bytes, offset: int = 0) -> Admitted:
    record = SourceRecord(topic, 3, offset, b"", payload)
    return Admitted(record, decode_record(record))


def one_row(table: pa.Table) -> dict[str, Any]:
    assert table.num_rows == 1
    return dict(table.to_pylist()[0])


def test_points_have_one_row_a_value_with_the_place_it_came_from() -> None:
    payload = Producer().metrics([point_block(["b", "a"], 2, first_step=5)], run=1, writer=2)
    rows = project([admitted(TOPIC_METRICS, payload, 9)], month=MONTH)["points"].to_pylist()
    seen = [(r["key"], r["step"], r["value"], r["offset"], r["idx"]) for r in rows]
    assert seen == [("a", 5, 5.001, 9, 1), ("a", 6, 6.001, 9, 3), ("b", 5, 5.0, 9, 0), ("b", 6, 6.0, 9, 2)]
    assert {(r["month"], r["topic"], r["partition"], r["run_id"], r["writer_id"]) for r in rows} == {
        (MONTH, TOPIC_METRICS, 3, fixed_id(1), fixed_id(2))
    }
    assert rows[0]["at"].timestamp() * 1e6 == pytest.approx(START_US + 5000)


SHAPES = st.lists(
    st.tuples(
        st.integers(1, 3),  # run
        st.integers(1, 3),  # writer
        st.lists(st.sampled_from(["a", "b", "ab", "é", "loss/train"]), min_size=1, max_size=3, unique=True),
        st.lists(st.integers(-3, 6), min_size=1, max_size=5),  # steps, in any order
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SHAPES, min_size=1, max_size=4))
def test_any_batch_of_points_is_projected_whole_and_in_order(events: list[Any]) -> None:
    producer, batch, wanted = Producer(), [], []
    value = 0
    for offset, shapes in enumerate(events):
        run, writer, _, _ = shapes[0]
        blocks, idx = [], 0
        for _, _, keys, steps in shapes:
            n, m = len(steps), len(keys)
            values = np.arange(value, value + n * m, dtype=np.float64).reshape(n, m)
            value += n * m
            step = np.array(steps, np.int64)
            blocks.append(PointBlock(tuple(keys), step, START_US + step, np.arange(n), values))
            for row in range(n):
                for column in range(m):
                    place = (fixed_id(run), keys[column], steps[row], fixed_id(writer))
                    wanted.append((*place, float(values[row, column]), offset, idx + row * m + column))
            idx += n * m
        batch.append(admitted(TOPIC_METRICS, producer.metrics(blocks, run=run, writer=writer), offset=offset))
    table = project(batch, month=MONTH)["points"]
    rows = table.to_pylist()
    names = ("run_id", "key", "step", "writer_id", "value", "offset", "idx")
    assert sorted(tuple(r[name] for name in names) for r in rows) == sorted(wanted)
    order = [(uuid_order(r["run_id"]), r["key"].encode(), r["step"]) for r in rows]
    assert order == sorted(order)
    assert all(column.num_chunks == 1 for column in table.columns), "one chunk is one part"
    assert project(batch, month=MONTH)["points"].equals(table)


def test_ids_sort_as_the_engine_sorts_them() -> None:
    ids = [bytes([n % 7, n % 3, *([0] * 6), n % 5, *([0] * 6), n % 2]) for n in range(40)]
    listed = ", ".join(f"toUUID('{id_text(raw)}')" for raw in set(ids))
    rows = fresh_store().rows(
        f"SELECT toString(id) AS text FROM (SELECT arrayJoin([{listed}]) AS id) ORDER BY id"
    )
    assert [row["text"] for row in rows] == [id_text(raw) for raw in sorted(set(ids), key=uuid_order)]


def test_special_values_reach_the_engine_as_they_are() -> None:
    store = fresh_store()
    schema = migrate(store)
    values = np.array([[math.nan], [math.inf], [-math.inf], [5e-324], [-0.0]])
    step = np.array([-(2**63), -1, 0, 1, 2**63 - 1])
    wall_us = np.array([-5, 0, START_US, US_MAX, 2**62])
    payload = Producer().metrics([PointBlock(("k",), step, wall_us, np.arange(5), values)])
    store.insert(
        schema.tables.name("points"), project([admitted(TOPIC_METRICS, payload)], month=MONTH)["points"]
    )
    rows = store.rows(f"SELECT step, value, at FROM {schema.tables.name('points')} ORDER BY step")
    assert [row["step"] for row in rows] == step.tolist()
    found = np.array([row["value"] for row in rows])
    assert np.array_equal(found, values[:, 0], equal_nan=True) and np.signbit(found[4])
    assert [getattr(row["at"], "year", None) for row in rows] == [1970, 1970, 2023, 2299, 2299]


def test_bodies_have_ids_as_text_and_no_number_that_json_lacks() -> None:
    body = json.loads(
        json_body(
            {
                "envelope": {"seq": 1},
                "run_id": fixed_id(1),
                "config": [{"key": "a", "number": math.nan}, {"key": "b", "number": 2.5}],
                "parent": None,
                "tags": ["é\ud7ff"],
            }
        )
    )
    assert body == {
        "run_id": id_text(fixed_id(1)),
        "config": [{"key": "a", "number": None}, {"key": "b", "number": 2.5}],
        "parent": None,
        "tags": ["é\ud7ff"],
    }


def test_a_usage_window_over_an_hour_stays_one_row_and_touches_both_hours() -> None:
    border_us = START_US - START_US % HOUR_US + HOUR_US
    used = {"kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(2), "owner": None}
    other = {"kind": "untracked", "run_id": None, "writer_id": None, "owner": "ann"}
    numbers = {"cpu_us": 7, "memory_peak_bytes": 8}
    payload = Producer().event(
        "process_usage",
        {
            "start_us": border_us - 5,
            "end_us": border_us + 5,
            "cores": 2,
            "usage": [used | numbers, other | numbers],
        },
    )
    item = admitted(TOPIC_NODES, payload, 4)
    tables = project([item], month=MONTH)
    row = one_row(tables["node_events"])
    assert row["hour"].timestamp() * 1_000_000 == border_us
    assert row["seq"] == 1 and row["producer_id"] == fixed_id(1) and row["boot_id"] == fixed_id(99)
    body = json.loads(row["body"])
    assert body["boot_us"] == 5_000_000 and len(body["usage"]) == 2 and "envelope" not in body
    window = one_row(tables["run_usage_windows"])
    assert (window["run_id"], window["cpu_us"], window["offset"]) == (fixed_id(1), 7, 4)
    assert dirty_of([item]).node_hours == {("node-1", border_us - HOUR_US), ("node-1", border_us)}


def test_hardware_goes_to_its_own_table_and_not_to_node_events() -> None:
    stat = {"device": "host", "name": "cpu_pct", "minimum": 1.0, "mean": 2.0, "maximum": 3.0, "last": 2.5}
    fields = {"start_us": START_US, "end_us": START_US + 10, "stats": [stat | {"samples": 10}] * 2}
    tables = project([admitted(TOPIC_NODES, Producer().event("hardware", fields))], month=MONTH)
    assert set(tables) == {"hardware_stats"}
    assert [row["idx"] for row in tables["hardware_stats"].to_pylist()] == [0, 1]


def test_a_gap_touches_every_hour_it_spans() -> None:
    fields = {"at_us": START_US, "start_us": START_US - 2 * HOUR_US, "end_us": START_US, "what": "node"}
    payload = Producer().event("gap", fields | {"reason": "asleep", "count": 0})
    first = START_US - START_US % HOUR_US
    assert {hour for _, hour in dirty_of([admitted(TOPIC_NODES, payload)]).node_hours} == {
        first - 2 * HOUR_US,
        first - HOUR_US,
        first,
    }


def test_claims_and_prices_say_what_they_touched() -> None:
    producer = Producer()
    run = admitted(TOPIC_RUNS, producer.event("writer_gap", run_fields(8)))
    price = admitted(TOPIC_ADMIN, producer.event("price_set", price_fields()))
    assert dirty_of([run]).run_ids == {id_text(fixed_id(8))} and not dirty_of([run]).prices
    assert dirty_of([price]).prices
    points = dirty_of([admitted(TOPIC_METRICS, producer.metrics([point_block(["a"], 1)]))])
    assert points.steps and not (points.run_ids or points.node_hours or points.prices or points.periods)


def test_a_batch_belongs_to_the_month_of_its_first_append_even_behind_a_dead_letter() -> None:
    dead = Admitted(SourceRecord(TOPIC_METRICS, 0, 0, b"", b"x"), DeadLetter("r", "m", START_US))
    december = Producer(wall_us=1_701_388_800_000_000)
    item = admitted(TOPIC_METRICS, december.metrics([point_block(["a"], 1)]), 1)
    assert month_of([dead, item], default_us=START_US) == 202312
    assert month_of([dead], default_us=START_US) == 202311
    tables = project([dead, item], month=202312)
    assert {one_row(tables[name])["month"] for name in ("points", "dead_letters")} == {202312}


def test_a_clock_far_beyond_the_tables_range_is_clipped() -> None:
    payload = Producer(wall_us=2**62).event("writer_gap", run_fields(at_us=2**62))
    item = admitted(TOPIC_RUNS, payload)
    assert month_of([item], default_us=0) == 229912
    assert one_row(project([item], month=229912)["run_events"])["at"].year == 2299
