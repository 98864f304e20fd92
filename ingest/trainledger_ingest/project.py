"""Projection: admitted records to rows of the append tables. Pure.

The rows of a batch are a function of its records and `month` alone, so a batch that is cut again after a crash
has the same rows. JSON bodies are the event's record without its envelope: ids as UUID text, NaN and
infinities as null; bodies of node events have `boot_us` and `wall_us` of the envelope beside the event's fields.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from trainledger_schemas.events import TOPIC_ADMIN, TOPIC_LOGS, TOPIC_NODES, TOPIC_RUNS
from trainledger_schemas.ids import id_text
from trainledger_schemas.point_codec import DecodedMetrics

from .admit import Admitted
from .arrow_columns import clip_us, constant, place_columns
from .dead_letters import DeadLetter
from .decode import envelope_of
from .dirty import Dirty
from .project_points import project_points, project_texts

__all__ = ["dirty_of", "event_rows", "json_body", "month_of", "project"]

# Events that hold several facts, each of which becomes a row of the type that is named here.
_SEVERAL = {"prices_set": ("price_set", "prices"), "currency_rates_set": ("currency_rate_set", "rates")}
_PRICE_EVENTS = frozenset({"price_set", "prices_set", "price_ended"})
HOUR_US = 3_600_000_000
GAP_HOURS_MAX = 24 * 62
_SECONDS_MAX = 2**32 - 3600

_ID = pa.binary(16)
_NAME = pa.dictionary(pa.int32(), pa.string())
_AT = pa.timestamp("us", tz="UTC")
_HOUR = pa.timestamp("s", tz="UTC")
_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "log_lines": {
        "run_id": _ID,
        "writer_id": _ID,
        "stream": _NAME,
        "line_no": pa.uint64(),
        "at": _AT,
        "text": pa.string(),
    },
    "run_events": {
        "run_id": _ID,
        "writer_id": _ID,
        "type": _NAME,
        "at": _AT,
        "node_id": _NAME,
        "body": pa.string(),
    },
    "node_events": {
        "node_id": _NAME,
        "hour": _HOUR,
        "type": _NAME,
        "at": _AT,
        "boot_id": _ID,
        "producer_id": _ID,
        "seq": pa.uint64(),
        "body": pa.string(),
    },
    "hardware_stats": {
        "node_id": _NAME,
        "device": _NAME,
        "name": _NAME,
        "start_at": _AT,
        "end_at": _AT,
        "minimum": pa.float64(),
        "mean": pa.float64(),
        "maximum": pa.float64(),
        "last": pa.float64(),
        "samples": pa.uint32(),
        "quality": _NAME,
    },
    "run_usage_windows": {
        "run_id": _ID,
        "writer_id": _ID,
        "node_id": _NAME,
        "start_at": _AT,
        "end_at": _AT,
        "cpu_us": pa.uint64(),
        "memory_peak_bytes": pa.uint64(),
    },
    "run_gpu_windows": {
        "run_id": _ID,
        "writer_id": _ID,
        "node_id": _NAME,
        "device_id": _NAME,
        "part_id": _NAME,
        "start_at": _AT,
        "end_at": _AT,
        "observed_us": pa.uint64(),
        "busy_us": pa.uint64(),
        "memory_peak_bytes": pa.uint64(),
        "energy_mj": pa.uint64(),
        "quality": _NAME,
    },
    "admin_events": {"type": _NAME, "at": _AT, "body": pa.string()},
    "dead_letters": {
        "at": _AT,
        "reason": _NAME,
        "message": pa.string(),
        "key": pa.binary(),
        "payload": pa.binary(),
    },
}

Row = tuple[Any, ...]
Rows = dict[str, list[Row]]


def project(batch: Sequence[Admitted], *, month: int) -> dict[str, pa.Table]:
    """The rows of a batch by table; tables without rows are left out. All records are of one partition."""
    tables: dict[str, pa.Table] = {}
    metrics = [(item.record, item.decoded) for item in batch if isinstance(item.decoded, DecodedMetrics)]
    if metrics:
        tables["points"] = project_points(metrics, month=month)
        tables["text_points"] = project_texts(metrics, month=month)
    gathered: dict[str, tuple[list[Row], list[int], list[int]]] = {}
    for item in batch:
        if isinstance(item.decoded, DecodedMetrics):
            continue
        for table, rows in event_rows(item).items():
            all_rows, offsets, idx = gathered.setdefault(table, ([], [], []))
            all_rows += rows
            offsets += [item.record.offset] * len(rows)
            idx += range(len(rows))
    for table, (rows, offsets, idx) in gathered.items():
        if rows:
            columns = {
                name: pa.array(values, kind)
                for (name, kind), values in zip(_COLUMNS[table].items(), zip(*rows, strict=True), strict=True)
            }
            place = place_columns(batch[0].record, np.array(offsets, np.uint64), np.array(idx, np.uint32))
            months = constant(len(rows), month, pa.uint32())
            tables[table] = pa.table({"month": months, **columns, **place})
    return {name: table for name, table in tables.items() if table is not None}


def month_of(batch: Sequence[Admitted], *, default_us: int) -> int:
    """YYYYMM of the batch's first append; `default_us` stands in when it has only dead letters."""
    wall_us = next(
        (envelope_of(item.decoded)["wall_us"] for item in batch if not isinstance(item.decoded, DeadLetter)),
        default_us,
    )
    moment = datetime.fromtimestamp(clip_us(wall_us) // 1_000_000, UTC)
    return moment.year * 100 + moment.month


def event_rows(item: Admitted) -> Rows:
    """The rows of one record that is not metrics, by table, in the order of `_COLUMNS`."""
    decoded = item.decoded
    if isinstance(decoded, DeadLetter):
        record = item.record
        row = (clip_us(decoded.at_us), decoded.reason, decoded.message, record.key, record.value)
        return {"dead_letters": [row]}
    if isinstance(decoded, DecodedMetrics):
        return {}
    return _ROWS_OF_TOPIC[item.record.topic](decoded.type, decoded.record)


def dirty_of(batch: Sequence[Admitted]) -> Dirty:
    """Which derived rows the batch can change."""
    dirty = Dirty()
    for item in batch:
        decoded, topic = item.decoded, item.record.topic
        if isinstance(decoded, DecodedMetrics):
            _note_steps(dirty, decoded)
            continue
        if isinstance(decoded, DeadLetter):
            continue
        if topic == TOPIC_RUNS:
            dirty.run_ids.add(id_text(decoded.record["run_id"]))
        elif topic == TOPIC_ADMIN:
            dirty.prices = dirty.prices or decoded.type in _PRICE_EVENTS
            if decoded.type == "writers_moved":
                dirty.run_ids |= {id_text(decoded.record[name]) for name in ("from_run_id", "to_run_id")}
            dirty.periods = dirty.periods or decoded.type == "period_closed"
        elif topic == TOPIC_NODES:
            node_id = _node_of(decoded.record)
            dirty.node_hours |= {(node_id, hour_us) for hour_us in _hours_of(decoded.record)}
    return dirty


def _note_steps(dirty: Dirty, metrics: DecodedMetrics) -> None:
    # The first and the last row of a block are enough: a block is a second's worth, or a few thousand points.
    run_id, writer_id = id_text(metrics.run_id), id_text(metrics.writer_id)
    for block in metrics.blocks:
        if len(block.step):
            for row in (0, -1):
                dirty.reach(run_id, writer_id, int(block.step[row]), clip_us(int(block.wall_us[row])))


def json_body(record: Mapping[str, Any], **extra: object) -> str:
    """The record as JSON, without its envelope."""
    body = {name: _plain(value) for name, value in record.items() if name != "envelope"}
    return json.dumps({**body, **extra}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return id_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _own_time_us(record: Mapping[str, Any]) -> int:
    return clip_us(record["at_us"] if "at_us" in record else record["end_us"])


def _hours_of(record: Mapping[str, Any]) -> set[int]:
    own = _own_time_us(record)
    start = clip_us(record.get("start_us", own))
    end = max(clip_us(record.get("end_us", own)) - 1, start)
    first = max(start // HOUR_US, end // HOUR_US - GAP_HOURS_MAX)
    return {hour * HOUR_US for hour in (own // HOUR_US, *range(first, end // HOUR_US + 1))}


def _log_rows(_: str, chunk: Mapping[str, Any]) -> Rows:
    first, run_id, writer_id, stream = (
        chunk["first_line"],
        chunk["run_id"],
        chunk["writer_id"],
        chunk["stream"],
    )
    return {
        "log_lines": [
            (run_id, writer_id, stream, first + index, clip_us(at_us), text)
            for index, (at_us, text) in enumerate(zip(chunk["at_us"], chunk["text"], strict=True))
        ]
    }


def _run_rows(kind: str, record: Mapping[str, Any]) -> Rows:
    node_id = record["envelope"]["node_id"]
    at_us = clip_us(record["at_us"])
    row = (record["run_id"], record["writer_id"], kind, at_us, node_id, json_body(record))
    return {"run_events": [row]}


def _node_of(record: Mapping[str, Any]) -> str:
    # What a scheduler says of a node is told by another one.
    return str(record.get("node") or record["envelope"]["node_id"])


def _node_rows(kind: str, record: Mapping[str, Any]) -> Rows:
    envelope = record["envelope"]
    node_id = _node_of(record)
    if kind == "hardware":
        start, end = clip_us(record["start_us"]), clip_us(record["end_us"])
        return {"hardware_stats": [(node_id, *_stat(start, end, stat)) for stat in record["stats"]]}
    own_us = _own_time_us(record)
    hour_s = min(own_us // HOUR_US * 3600, _SECONDS_MAX // 3600 * 3600)
    body = json_body(record, boot_us=envelope["boot_us"], wall_us=envelope["wall_us"])
    ids = (envelope["boot_id"], envelope["producer_id"], envelope["seq"])
    rows: Rows = {"node_events": [(node_id, hour_s, kind, own_us, *ids, body)]}
    if kind == "process_usage":
        start, end = clip_us(record["start_us"]), clip_us(record["end_us"])
        rows["run_usage_windows"] = [
            (
                usage["run_id"],
                usage["writer_id"],
                node_id,
                start,
                end,
                max(0, usage["cpu_us"]),
                max(0, usage["memory_peak_bytes"]),
            )
            for usage in _of_runs(record)
        ]
        rows["run_gpu_windows"] = [
            (usage["run_id"], usage["writer_id"], node_id, *_gpu_window(start, end, device))
            for usage in _of_runs(record)
            for device in usage["devices"]
        ]
    return rows


def _of_runs(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        usage
        for usage in record["usage"]
        if usage["kind"] == "run" and usage["run_id"] and usage["writer_id"]
    ]


def _gpu_window(start_us: int, end_us: int, device: Mapping[str, Any]) -> Row:
    numbers = (device[name] for name in ("busy_us", "memory_peak_bytes", "energy_mj"))
    known = tuple(None if number is None else max(0, number) for number in numbers)
    place = (device["device_id"], device["part_id"])
    return (*place, start_us, end_us, max(0, device["observed_us"]), *known, device["quality"])


def _stat(start_us: int, end_us: int, stat: Mapping[str, Any]) -> Row:
    numbers = (stat["minimum"], stat["mean"], stat["maximum"], stat["last"])
    return (
        stat["device"],
        stat["name"],
        start_us,
        end_us,
        *numbers,
        max(0, stat["samples"]),
        stat["quality"],
    )


def _admin_rows(kind: str, record: Mapping[str, Any]) -> Rows:
    if kind not in _SEVERAL:
        return {"admin_events": [(kind, clip_us(record["at_us"]), json_body(record))]}
    # A row each, as if each had an event of its own: nothing behind this needs to know of both.
    single, name = _SEVERAL[kind]
    shared = {"at_us": record["at_us"], "set_by": record["set_by"]}
    rows = [(single, clip_us(record["at_us"]), json_body({**shared, **item})) for item in record[name]]
    return {"admin_events": list(rows)}


_ROWS_OF_TOPIC: dict[str, Callable[[str, Mapping[str, Any]], Rows]] = {
    TOPIC_LOGS: _log_rows,
    TOPIC_RUNS: _run_rows,
    TOPIC_NODES: _node_rows,
    TOPIC_ADMIN: _admin_rows,
}
