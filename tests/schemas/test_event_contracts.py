"""Events stay readable for ever, and the Python types say what the schemas say."""

import importlib.util
import json
import typing
from pathlib import Path
from typing import Any

import pytest

import trainledger_schemas
from trainledger_schemas import events
from trainledger_schemas.avro_codec import decode_event, encode_event, load_schemas
from trainledger_schemas.errors import DeadLetterError
from trainledger_schemas.events import EVENT_TOPICS, TOPICS

HERE = Path(__file__).parent
AVRO = Path(trainledger_schemas.__path__[0]) / "avro"
GOLDEN = sorted((HERE / "golden").glob("*.json"))
SPECIAL_NAMES = {"metrics": "MetricsEvent", "JournalRange": "SourceRange"}


def load_golden_module() -> Any:
    spec = importlib.util.spec_from_file_location("golden", HERE / "golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = load_golden_module()


def schema_of(name: str) -> Any:
    return json.loads((AVRO / f"{name}.avsc").read_text())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_bytes_of_every_released_schema_decode_to_what_was_written(path: Path) -> None:
    content = json.loads(path.read_text())
    event = decode_event(bytes.fromhex(content["payload"]))
    decoded = golden.jsonable(event.record)
    # Fields that later versions added show their defaults; none that was written may differ or be gone.
    assert event.type == path.name.split(".")[0]
    assert only_what(content["record"], decoded) == content["record"]


def only_what(written: Any, decoded: Any) -> Any:
    """`decoded` without the fields that `written` does not have, at any depth."""
    if isinstance(written, dict) and isinstance(decoded, dict):
        return {name: only_what(value, decoded.get(name)) for name, value in written.items()}
    if isinstance(written, list) and isinstance(decoded, list) and len(written) == len(decoded):
        return [only_what(one, other) for one, other in zip(written, decoded, strict=True)]
    return decoded


@pytest.mark.parametrize("name", EVENT_TOPICS)
def test_every_current_schema_has_a_golden_file(name: str) -> None:
    assert golden.golden_path(name).exists(), "run: python tests/schemas/golden.py --write"


@pytest.mark.parametrize("name", EVENT_TOPICS)
def test_current_bytes_are_readable_with_every_older_schema(name: str) -> None:
    import io

    import fastavro

    record = golden.sample_of(schema_of(name), {})
    payload = encode_event(name, record)
    schemas = load_schemas()
    for older_name, older in schemas.writers.values():
        if older_name == name:
            fastavro.schemaless_reader(io.BytesIO(payload[10:]), schemas.current[name], older)


@pytest.mark.parametrize("name", EVENT_TOPICS)
def test_nullable_fields_have_a_default_and_every_field_a_meaning(name: str) -> None:
    for field in schema_of(name)["fields"]:
        assert field.get("doc"), f"{name}.{field['name']} does not say what it is"
        if isinstance(field["type"], list):
            assert field["type"][0] == "null" and field["default"] is None


@pytest.mark.parametrize("name", EVENT_TOPICS)
def test_python_types_mirror_the_schemas(name: str) -> None:
    compare_record(schema_of(name), {})


def compare_record(schema: Any, named: dict[str, Any]) -> None:
    named[schema["name"]] = schema
    title = SPECIAL_NAMES.get(
        schema["name"], "".join(part.capitalize() for part in schema["name"].split("_"))
    )
    cls = getattr(
        events, title if schema["name"].islower() or schema["name"] in SPECIAL_NAMES else schema["name"]
    )
    hints = typing.get_type_hints(cls)
    assert list(hints) == [f["name"] for f in schema["fields"]], title
    for field in schema["fields"]:
        optional = isinstance(field["type"], list)
        assert (type(None) in typing.get_args(hints[field["name"]])) == optional, f"{title}.{field['name']}"
        inner = field["type"][1] if optional else field["type"]
        inner = inner.get("items", inner) if isinstance(inner, dict) and inner["type"] == "array" else inner
        if isinstance(inner, dict) and inner["type"] == "record":
            compare_record(inner, named)


def test_every_event_belongs_to_a_known_topic() -> None:
    assert set(EVENT_TOPICS.values()) == set(TOPICS)
    assert {p.stem for p in AVRO.glob("*.avsc")} == set(EVENT_TOPICS)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not_avro"),
        (b"\xc3\x01", "not_avro"),
        (b"{}", "not_avro"),
        (b"\xc3\x01" + bytes(8), "unknown_schema"),
    ],
    ids=["empty", "cut off", "JSON", "unknown schema"],
)
def test_bytes_that_are_no_event_become_dead_letters(payload: bytes, reason: str) -> None:
    with pytest.raises(DeadLetterError) as caught:
        decode_event(payload)
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", EVENT_TOPICS)
def test_cut_and_padded_events_become_dead_letters(name: str) -> None:
    payload = encode_event(name, golden.sample_of(schema_of(name), {}))
    for end in (10, 20, len(payload) - 1):
        with pytest.raises(DeadLetterError):
            decode_event(payload[:end])
    with pytest.raises(DeadLetterError):
        decode_event(payload + b"\x00")
