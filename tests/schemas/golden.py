"""Golden bytes of every event: one file for each released schema, with the record it must decode to.

`python tests/schemas/golden.py --write` adds files for schemas that have none; it never changes one.
"""

import json
import sys
from pathlib import Path
from typing import Any

from trainledger_schemas.avro_codec import encode_event, load_schemas
from trainledger_schemas.events import EVENT_TOPICS

FOLDER = Path(__file__).parent / "golden"


def sample_of(schema: Any, named: dict[str, Any], depth: int = 0) -> Any:
    """A value of an Avro schema, the same each time, with every optional part present."""
    if isinstance(schema, list):
        return sample_of(next(s for s in schema if s != "null"), named, depth)
    if isinstance(schema, dict):
        kind = schema["type"]
        if kind in ("record", "fixed"):
            named[schema["name"].split(".")[-1]] = schema
        if kind == "record":
            return {f["name"]: sample_of(f["type"], named, depth + 1) for f in schema["fields"]}
        if kind == "fixed":
            return bytes(range(depth, depth + schema["size"]))
        if kind == "array":
            return [sample_of(schema["items"], named, depth + 1)]
        if kind == "map":
            return {"key": sample_of(schema["values"], named, depth + 1)}
        return sample_of(kind, named, depth)
    simple = {
        "string": f"text {depth} ü",
        "long": 2**40 + depth,
        "int": 7 + depth,
        "double": 0.5 + depth,
        "boolean": True,
    }
    if schema in simple:
        return simple[schema]
    return sample_of(named[schema.split(".")[-1]], named, depth)


def jsonable(value: Any) -> Any:
    """A record as JSON, bytes as {"hex": ...}."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [jsonable(v) for v in value]
    return value


def golden_path(name: str) -> Path:
    """Where the golden file of the current schema of an event is."""
    return FOLDER / f"{name}.{load_schemas().headers[name][2:].hex()}.json"


def write_missing() -> list[str]:
    """Add files for current schemas that have none."""
    written = []
    for name in EVENT_TOPICS:
        path = golden_path(name)
        if not path.exists():
            raw = json.loads(
                (Path(sys.modules["trainledger_schemas"].__path__[0]) / "avro" / f"{name}.avsc").read_text()
            )
            record = sample_of(raw, {})
            payload = encode_event(name, record)
            path.write_text(
                json.dumps({"payload": payload.hex(), "record": jsonable(record)}, indent=1) + "\n"
            )
            written.append(path.name)
    return written


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    print("\n".join(write_missing()) or "nothing to add")
