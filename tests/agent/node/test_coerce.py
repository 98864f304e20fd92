"""Claims of processes nobody vouches for, made to fit their schemas."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainledger.node.coerce import CLAIM_TYPES, TEXT_BYTES_MAX, clean_text, coerce_claim, parse_json
from trainledger_schemas.avro_codec import encode_event, load_schemas
from trainledger_schemas.ids import id_text

ENVELOPE = {
    "producer_id": bytes(16),
    "seq": 0,
    "node_id": "n",
    "wall_us": 0,
    "boot_id": bytes(16),
    "boot_us": 0,
    "source": None,
}
STARTED: dict[str, Any] = {
    "type": "run_started",
    "at_us": 5,
    "role": "sdk",
    "joined": "new",
    "project": "p",
    "tags": ["a"],
    "user": "u",
    "uid": 1,
    "host": "h",
    "pid": 2,
    "start_ticks": 3,
    "pid_namespace": 4,
    "launcher": "single",
    "argv": ["python"],
    "config": [{"key": "lr", "value": "0.1", "number": 0.1}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def coerced(**changes: Any) -> dict[str, Any] | None:
    found = coerce_claim({**STARTED, **changes}, at_us=99)
    return None if found is None else found[1]


def fits(name: str, fields: dict[str, Any]) -> None:
    encode_event(name, {"envelope": ENVELOPE, "run_id": bytes(16), "writer_id": bytes(16), **fields})


def test_a_good_claim_passes_unchanged_and_unknown_fields_are_dropped() -> None:
    fields = coerced(surprise=1, run_id="x", envelope={"seq": 7})
    assert fields is not None
    assert {name: fields[name] for name in STARTED if name != "type"} == {
        name: value for name, value in STARTED.items() if name != "type"
    }
    assert "surprise" not in fields and "run_id" not in fields and "envelope" not in fields
    fits("run_started", fields)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("experiment", 5, None),
        ("rank", "0", None),
        ("rank", 1 << 40, None),
        ("rank", True, None),
        ("rank", 3.0, 3),
        ("parent_writer", id_text(b"w" * 16), b"w" * 16),
        ("parent_writer", "not an id", None),
        ("tags", "a", []),
        ("tags", ["a", 5, "b"], ["a", "b"]),
        ("config", [{"key": "a"}, {"key": "b", "value": "1"}], [{"key": "b", "value": "1", "number": None}]),
        (
            "config",
            [{"key": "a", "value": "1", "number": float("nan")}],
            [{"key": "a", "value": "1", "number": None}],
        ),
        ("project", "\ud800", "\\ud800"),
    ],
    ids=range(12),
)
def test_a_field_that_does_not_fit_becomes_what_the_schema_allows(
    name: str, given: Any, expected: Any
) -> None:
    fields = coerced(**{name: given})
    assert fields is not None and fields[name] == expected
    fits("run_started", fields)


def test_a_claim_without_a_field_that_must_be_there_is_worthless() -> None:
    assert coerced(project=None) is None
    assert coerced(uid="root") is None


def test_the_records_own_time_stands_in_for_a_missing_one() -> None:
    claim = {name: value for name, value in STARTED.items() if name != "at_us"}
    found = coerce_claim(claim, at_us=99)
    assert found is not None and found[1]["at_us"] == 99


@pytest.mark.parametrize(
    "name",
    ["writer_seen", "writer_devices", "writer_gone", "writer_gap", "price_set", "metrics", "x", None, 5],
)
def test_what_a_process_may_not_say_is_refused(name: Any) -> None:
    assert coerce_claim({**STARTED, "type": name}, at_us=1) is None


def test_long_text_is_cut_between_characters() -> None:
    assert clean_text("\u00e9" * TEXT_BYTES_MAX) == "\u00e9" * (TEXT_BYTES_MAX // 2)
    assert len(clean_text("x" * (TEXT_BYTES_MAX + 5))) == TEXT_BYTES_MAX
    assert clean_text("\u20ac\u20ac", 4) == "\u20ac"


def test_json_that_is_none_is_none() -> None:
    for body in (b"{", b"\xff", b"[" * 200_000, b"9" * 10_000):
        assert parse_json(body) is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(CLAIM_TYPES)), st.data())
def test_whatever_a_claim_holds_the_result_fits_its_schema(name: str, data: st.DataObject) -> None:
    names = [field["name"] for field in load_schemas().current[name]["fields"]]
    claim = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=5), JSON))
    for field in names:
        if data.draw(st.booleans()):
            claim[field] = STARTED.get(field, "text")
    found = coerce_claim({**claim, "type": name}, at_us=1)
    if found is not None:
        fits(*found)
