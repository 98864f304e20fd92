"""Avro single-object encoding: C3 01, the schema's CRC-64-AVRO fingerprint (little-endian), the body.

The current schema of each event is `avro/<name>.avsc`; every other version ever released stays readable from
`avro/history/<name>.<fingerprint>.avsc` and is read into the current one by Avro's resolution rules. An
unknown fingerprint or bytes that do not fit raise DeadLetterError; nothing else is raised for bad input.
`metrics` is written and read by `point_codec` at speed, with the same bytes.
"""

import io
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from .errors import DeadLetterError
from .events import EVENT_TOPICS, Event

__all__ = ["HEADER_BYTES", "decode_event", "encode_event", "event_header", "event_type", "load_schemas"]

MARK = b"\xc3\x01"
HEADER_BYTES = 10


class SchemaSet:
    """All schemas that can be read, by fingerprint, and the current one of each event by name."""

    def __init__(self, current: Mapping[str, Any], history: Mapping[str, list[Any]]) -> None:
        self.writers: dict[bytes, tuple[str, Any]] = {}
        self.current: dict[str, Any] = {}
        self.headers: dict[str, bytes] = {}
        for name, raw in current.items():
            for old in history.get(name, []):
                self.writers[_fingerprint_bytes(old)] = (name, fastavro.parse_schema(old))
            mark = _fingerprint_bytes(raw)
            self.current[name] = fastavro.parse_schema(raw)
            self.writers[mark] = (name, self.current[name])
            self.headers[name] = MARK + mark


@cache
def load_schemas() -> SchemaSet:
    """The schemas shipped with this package."""
    folder = resources.files("trainledger_schemas") / "avro"
    current = {name: _read(folder / f"{name}.avsc") for name in EVENT_TOPICS}
    history: dict[str, list[Any]] = {}
    past = folder / "history"
    if past.is_dir():
        for entry in past.iterdir():
            if entry.name.endswith(".avsc"):
                history.setdefault(entry.name.split(".")[0], []).append(_read(entry))
    return SchemaSet(current, history)


def event_header(name: str) -> bytes:
    """The 10 bytes before the body of an event of this type."""
    return load_schemas().headers[name]


def encode_event(name: str, record: Mapping[str, Any]) -> bytes:
    """One event as an Avro single object; raises ValueError when the record does not fit its schema."""
    schemas = load_schemas()
    buffer = io.BytesIO()
    buffer.write(schemas.headers[name])
    try:
        fastavro.schemaless_writer(buffer, schemas.current[name], record, strict_allow_default=True)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"{name} does not fit its schema: {error}") from error
    return buffer.getvalue()


def event_type(payload: bytes) -> str:
    """The type of an encoded event; raises DeadLetterError for an unknown schema."""
    return _writer_of(payload)[0]


def decode_event(payload: bytes) -> Event:
    """Read one event of any released version; raises DeadLetterError for anything else."""
    name, writer = _writer_of(payload)
    body = io.BytesIO(payload)
    body.seek(HEADER_BYTES)
    try:
        record = fastavro.schemaless_reader(body, writer, load_schemas().current[name])
    except (
        Exception
    ) as error:  # fastavro raises many kinds, IndexError and MemoryError among them, for hostile bytes
        raise DeadLetterError(f"{name} event cannot be read: {error!r}", reason="unreadable") from error
    if body.tell() != len(payload):
        raise DeadLetterError(
            f"{name} event has {len(payload) - body.tell()} bytes behind its end", reason="trailing_bytes"
        )
    return Event(name, record)


def _writer_of(payload: bytes) -> tuple[str, Any]:
    if payload[:2] != MARK or len(payload) < HEADER_BYTES:
        raise DeadLetterError("not an Avro single object: it does not begin with C3 01", reason="not_avro")
    found = load_schemas().writers.get(payload[2:HEADER_BYTES])
    if found is None:
        raise DeadLetterError(
            f"schema fingerprint {payload[2:HEADER_BYTES].hex()} is unknown; upgrade ingest",
            reason="unknown_schema",
        )
    return found


def _fingerprint_bytes(schema: Any) -> bytes:
    text = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return bytes.fromhex(text)  # little-endian already, as the Java implementation gives it


def _read(entry: Traversable) -> Any:
    return json.loads(entry.read_text(encoding="utf-8"))
