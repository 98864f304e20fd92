"""Views of blobs: they name what the code says that events name, and no event names a blob that nobody knows of."""

import json
from pathlib import Path
from typing import Any

import pytest

import trainledger_schemas
from support.filled_tables import FilledTables, id_of
from support.ingest_events import START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.garbage.needed import read_named
from trainledger_schemas.blob_references import NAMING_EVENTS, named_blobs
from trainledger_schemas.events import EVENT_TOPICS, TOPIC_RUNS

AVRO = Path(trainledger_schemas.__path__[0]) / "avro"
# Fields of runs' events that hold a digest. What is stored as a blob must be in `blob_references`.
STORED = {
    "artifact_logged.digest", "artifact_logged.manifest_sha256", "dataset_used.manifest_sha256",
    "provenance.snapshot_sha256", "provenance.patch_sha256", "provenance.lock_files", "provenance.lock_sha256",
}  # fmt: skip
NOT_STORED = {
    "dataset_used.digest", "provenance.left_out_files.sha256", "provenance.package_ids", "provenance.image_digest",
    "writer_seen.image_digest", "artifact_logged.is_stored", "blobs_stored.sha256", "blobs_stored.blobs",
    "blobs_stored.missing",
}  # fmt: skip


def digest(number: int) -> str:
    return f"{number:064x}"


EVENTS: dict[str, list[dict[str, Any]]] = {
    "artifact_logged": [
        {"digest": f"sha256:{digest(1)}", "is_stored": True, "manifest_sha256": None},
        {"digest": f"sha256:{digest(2)}", "is_stored": False, "manifest_sha256": None},
        {"digest": f"sha256:{digest(3)}", "is_stored": True, "manifest_sha256": digest(3)},
        {"digest": "sha256:../../etc", "is_stored": True, "manifest_sha256": None},
    ],
    "dataset_used": [
        {"digest": f"sha256:{digest(4)}", "manifest_sha256": digest(4)},
        {"digest": f"sha256:{digest(5)}", "manifest_sha256": None},
    ],
    "provenance": [
        {"snapshot_sha256": digest(6), "patch_sha256": digest(7), "lock_files": {"uv.lock": digest(8)}},
        {"snapshot_sha256": None, "patch_sha256": None, "lock_files": {}},
    ],
}
COMMON: dict[str, dict[str, Any]] = {
    "artifact_logged": {
        "artifact_id": fixed_id(9), "stage": 1, "kind": "model", "name": "m", "uri": "/m", "size_bytes": 1, "files": 1,
        "status": "complete", "new_bytes": 1, "aliases": [], "reasons": [],
    },
    "dataset_used": {
        "use_id": fixed_id(9), "stage": 1, "kind": "dataset", "name": "d", "version": None, "role": None, "uri": "/d",
        "size_bytes": 1, "files": 1, "status": "complete", "system": None, "reference": None, "is_fixed": None,
        "reasons": [],
    },
    "provenance": {
        "vcs": None, "repository": None, "commit": None, "branch": None, "dirty": None, "entry_point": None, "argv": [],
        "python": None, "packages": {}, "os": None, "reasons": [],
    },
}  # fmt: skip


@pytest.fixture
def tables(tmp_path: Path) -> FilledTables:
    return FilledTables(fresh_store(), tmp_path)


def test_the_view_names_what_the_code_names(tables: FilledTables) -> None:
    tables.started(1, 10, START_US, name="run")
    ids: dict[str, Any] = {"run_id": fixed_id(1), "writer_id": fixed_id(10), "at_us": START_US}
    expected = set()
    for event, bodies in EVENTS.items():
        for body in bodies:
            tables.event(event, START_US, **ids, **COMMON[event], **body)
            expected |= set(named_blobs(event, body))
    tables.take_in()
    assert set(EVENTS) == set(NAMING_EVENTS)
    assert set(read_named(tables.session)) == expected and len(expected) == 6


def test_where_blobs_lie_is_told_once_for_each_run_and_place(tables: FilledTables) -> None:
    tables.started(1, 10, START_US, name="run")
    for second, (sent, missing) in enumerate([(10, 1), (0, 0)]):
        tables.event(
            "blobs_stored", START_US + second, run_id=fixed_id(1), writer_id=fixed_id(10), at_us=START_US + second,
            sha256=digest(1), place="s3://bucket/x", blobs=2 - missing, new_bytes=sent, missing=missing,
            reasons=["why"] * missing,
        )  # fmt: skip
    tables.take_in()
    (row,) = tables.session.query(
        f"SELECT toString(run_id) AS run, place, blobs, new_bytes, missing, reasons FROM {tables.session.views}.blob_places"
    ).to_pylist()
    assert row == {
        "run": id_of(1),
        "place": "s3://bucket/x",
        "blobs": 2,
        "new_bytes": 10,
        "missing": 0,
        "reasons": [],
    }


def named_fields(schema: Any, prefix: str) -> set[str]:
    """Fields, at any depth, whose name or meaning speaks of a digest or of a blob."""
    found = set()
    for field in schema["fields"]:
        name = f"{prefix}.{field['name']}"
        if any(
            word in f"{field['name']} {field.get('doc', '')}".lower()
            for word in ("sha256", "sha-256", "blob")
        ):
            found.add(name)
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for branch in branches:
            items = branch.get("items") if isinstance(branch, dict) else None
            if isinstance(items, dict) and items.get("type") == "record":
                found |= named_fields(items, name)
    return found


def test_every_digest_in_events_of_runs_is_known_to_be_a_blob_or_not() -> None:
    found = set()
    for event, topic in EVENT_TOPICS.items():
        if topic == TOPIC_RUNS:
            found |= named_fields(json.loads((AVRO / f"{event}.avsc").read_text()), event)
    hint = (
        "say in trainledger_schemas.blob_references and view blob_references whether it is stored, and here"
    )
    assert found == STORED | NOT_STORED, hint
