"""Claims of a process, made to fit the Avro schema of their event, whatever they hold.

A claim is JSON from a process that nobody vouches for. Guided by the parsed schema alone, so that a new event
type needs no code here: unknown fields are dropped; a field that is missing or of a wrong type becomes null
where the schema allows it, its default where it has one, and an empty array or map where it is one; items of
arrays and maps that do not fit are left out. A field that must be there and is not makes the claim worthless.
Numbers that are not finite become null; strings are cut at TEXT_BYTES_MAX.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from trainledger_schemas.avro_codec import load_schemas
from trainledger_schemas.events import EVENT_TOPICS, TOPIC_RUNS
from trainledger_schemas.ids import id_bytes

__all__ = ["CLAIM_TYPES", "clean_text", "coerce_claim", "parse_json"]

TEXT_BYTES_MAX = 64 * 1024
# What only the agent may say about a process.
_EVIDENCE = {"writer_seen", "writer_devices", "writer_gone", "writer_gap", "blobs_stored"}
CLAIM_TYPES = frozenset(
    name for name, topic in EVENT_TOPICS.items() if topic == TOPIC_RUNS and name not in _EVIDENCE
)
# Filled from the journal's header, never from the claim.
_GIVEN = {"envelope", "run_id", "writer_id"}
_ITEMS_MAX = 100_000
_RANGES = {"int": 1 << 31, "long": 1 << 63}


class _Unfit(Exception):  # noqa: N818 - not an error but an answer, inside this module
    pass


def coerce_claim(claim: Mapping[str, Any], *, at_us: int) -> tuple[str, dict[str, Any]] | None:
    """The event type and its fields (without envelope and ids), or None when nothing can be made of it.

    `at_us` is used where the claim does not say when.
    """
    name = claim.get("type")
    if not isinstance(name, str) or name not in CLAIM_TYPES:
        return None
    fields: dict[str, Any] = {}
    try:
        for field in _claim_fields(name):
            given = claim.get(field["name"], at_us if field["name"] == "at_us" else None)
            fields[field["name"]] = _coerce_field(given, field)
    except _Unfit:
        return None
    return name, fields


def clean_text(text: str, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """Text that UTF-8 can carry (lone surrogates escaped), cut at a number of bytes between characters."""
    if text.isascii() and len(text) <= bytes_max:
        return text
    raw = text.encode("utf-8", "backslashreplace")
    return raw[:bytes_max].decode("utf-8", "ignore")


def parse_json(body: bytes) -> Any:
    """The JSON in a record, or None for anything that is none."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


@cache
def _claim_fields(name: str) -> list[dict[str, Any]]:
    fields = load_schemas().current[name]["fields"]
    return [field for field in fields if field["name"] not in _GIVEN]


@cache
def _named_types(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(schema: Any) -> None:
        if isinstance(schema, list):
            for branch in schema:
                visit(branch)
        elif isinstance(schema, dict):
            if schema["type"] in ("record", "fixed", "enum"):
                found[schema["name"]] = schema
            for field in schema.get("fields", ()):
                visit(field["type"])
            for part in ("items", "values", "type"):
                if isinstance(schema.get(part), dict | list):
                    visit(schema[part])

    visit(load_schemas().current[name])
    return found


def _coerce_field(value: Any, field: Mapping[str, Any]) -> Any:
    try:
        return _coerce(value, field["type"])
    except _Unfit:
        schema = field["type"]
        if isinstance(schema, list) and "null" in schema:
            return None
        if "default" in field:
            return field["default"]
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind in ("array", "map"):
            return [] if kind == "array" else {}
        raise


def _coerce(value: Any, schema: Any) -> Any:
    if isinstance(schema, list):
        return _coerce_union(value, schema)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "array":
        return _coerce_items(value, schema["items"])
    if kind == "map":
        return _coerce_map(value, schema["values"])
    if kind == "record":
        if not isinstance(value, dict):
            raise _Unfit
        return {field["name"]: _coerce_field(value.get(field["name"]), field) for field in schema["fields"]}
    if kind == "fixed":
        return _coerce_fixed(value, schema["size"])
    coercer = _PRIMITIVES.get(kind)
    return coercer(value, kind) if coercer else _coerce(value, _resolve(kind))


def _resolve(name: str) -> Any:
    # A named type that was defined earlier in some event's schema; the names are shared by all events.
    for event in CLAIM_TYPES:
        if name in (types := _named_types(event)):
            return types[name]
    raise _Unfit


def _coerce_union(value: Any, branches: list[Any]) -> Any:
    if value is None and "null" in branches:
        return None
    for branch in branches:
        if branch == "null":
            continue
        try:
            return _coerce(value, branch)
        except _Unfit:
            continue
    raise _Unfit


def _coerce_items(value: Any, schema: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Unfit
    items = []
    for item in value[:_ITEMS_MAX]:
        try:
            items.append(_coerce(item, schema))
        except _Unfit:
            continue
    return items


def _coerce_map(value: Any, schema: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Unfit
    pairs = {}
    for key, item in list(value.items())[:_ITEMS_MAX]:
        try:
            pairs[clean_text(key)] = _coerce(item, schema)
        except _Unfit:
            continue
    return pairs


def _coerce_fixed(value: Any, size: int) -> bytes:
    if not isinstance(value, str):
        raise _Unfit
    try:
        raw = id_bytes(value) if size == 16 else bytes.fromhex(value)
    except ValueError:
        raise _Unfit from None
    if len(raw) != size:
        raise _Unfit
    return raw


def _coerce_text(value: Any, _: str) -> str:
    if not isinstance(value, str):
        raise _Unfit
    return clean_text(value)


def _coerce_bool(value: Any, _: str) -> bool:
    if not isinstance(value, bool):
        raise _Unfit
    return value


def _coerce_int(value: Any, kind: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Unfit
    if not -_RANGES[kind] <= value < _RANGES[kind]:
        raise _Unfit
    return value


def _coerce_float(value: Any, _: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Unfit
    try:
        number = float(value)
    except OverflowError:
        raise _Unfit from None
    if not math.isfinite(number):
        raise _Unfit
    return number


_PRIMITIVES = {
    "string": _coerce_text,
    "boolean": _coerce_bool,
    "int": _coerce_int,
    "long": _coerce_int,
    "float": _coerce_float,
    "double": _coerce_float,
}
