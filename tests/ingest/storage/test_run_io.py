"""Views run_io and model_aliases: versions by content, aliases in time, both ways between runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.artifact_files import compare_versions
from trainledger_ingest.artifact_lookup import find_version
from trainledger_ingest.file_lookup import find_file
from trainledger_ingest.reports.inputs_outputs import inputs_outputs
from trainledger_ingest.run_lookup import find_run
from trainledger_schemas.blobs import SeveralBlobs
from trainledger_schemas.errors import NotFoundError, UsageError

S = 1_000_000


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


class Story:
    """Runs that read and write, at seconds after START_US."""

    def __init__(self, tables: FilledTables) -> None:
        self.tables = tables
        self._calls = 1000

    def run(self, number: int) -> None:
        self.tables.started(number, number * 10, START_US, name=f"run{number}")

    def logged(self, run: int, second: int, content: int | None, name: str = "resnet", **fields: Any) -> None:
        known: dict[str, Any] = {
            "artifact_id": fixed_id(self._next()), "stage": 1, "kind": "model", "name": name, "uri": "/m.pt",
            "digest": None if content is None else digest(content), "size_bytes": 10, "files": 1,
            "manifest_sha256": None, "status": "complete", "is_stored": True, "new_bytes": 10, "aliases": [],
            "reasons": [],
        }  # fmt: skip
        self._event("artifact_logged", run, second, known | fields)

    def used(self, run: int, second: int, content: int | None, name: str = "cifar", **fields: Any) -> None:
        known: dict[str, Any] = {
            "use_id": fixed_id(self._next()), "stage": 1, "kind": "dataset", "name": name, "version": None,
            "role": None, "uri": "/data", "digest": None if content is None else digest(content), "size_bytes": 10,
            "files": 2, "manifest_sha256": None, "status": "complete", "system": None, "reference": None,
            "is_fixed": None, "reasons": [],
        }  # fmt: skip
        self._event("dataset_used", run, second, known | fields)

    def asked(self, run: int, second: int, version: str) -> None:
        self.used(
            run, second, None, "resnet", kind="model", version=version, uri=None, stage=0, status="declared"
        )

    def alias(self, second: int, content: int | None, alias: str = "production") -> None:
        at_us = START_US + second * S
        self.tables.event(
            "alias_set", at_us, at_us=at_us, model="resnet", alias=alias, set_by="eve", note=None,
            digest=None if content is None else digest(content), run_id=None,
        )  # fmt: skip

    def _next(self) -> int:
        self._calls += 1
        return self._calls

    def _event(self, event: str, run: int, second: int, fields: dict[str, Any]) -> None:
        at_us = START_US + second * S
        ids: dict[str, Any] = {"run_id": fixed_id(run), "writer_id": fixed_id(run * 10), "at_us": at_us}
        self.tables.event(event, at_us, **ids, **fields)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(FilledTables(fresh_store(), tmp_path))
    for run in (1, 2, 3):
        story.run(run)
    yield story


def io_of(story: Story, run: int, columns: str) -> list[tuple[Any, ...]]:
    story.tables.take_in()
    rows = story.tables.rows("run_io", columns=columns, rest=f"WHERE run_id = '{id_of(run)}' ORDER BY at")
    return [tuple(row.values()) for row in rows]


def test_same_content_is_the_same_version_and_other_content_the_next(story: Story) -> None:
    for run, second, content in ((1, 1, 7), (1, 2, 5), (2, 3, 7), (2, 4, 9)):
        story.logged(run, second, content)
    story.logged(3, 5, 8, name="other")
    story.used(3, 6, 7, name="resnet")  # a dataset of this name counts by itself
    story.used(3, 7, 4, version="2024-05")
    assert io_of(story, 1, "name, version") == [("resnet", "v1"), ("resnet", "v2")]
    assert io_of(story, 2, "name, version") == [("resnet", "v1"), ("resnet", "v3")]
    assert io_of(story, 3, "name, version") == [("other", "v1"), ("resnet", "v1"), ("cifar", "2024-05")]


def test_the_last_word_on_a_call_counts_in_any_order(story: Story) -> None:
    one: dict[str, Any] = {"use_id": fixed_id(77)}
    story.used(1, 1, 5, **one, reasons=["measured"])
    story.used(1, 1, None, **one, stage=0, status="declared")
    story.used(1, 1, 5, **one, reasons=["measured"])
    assert io_of(story, 1, "status, digest, reasons") == [("complete", digest(5), ["measured"])]


def test_what_is_not_complete_has_no_version(story: Story) -> None:
    story.used(1, 1, 5, status="partial")
    story.used(1, 2, 6)
    assert io_of(story, 1, "status, version") == [("partial", None), ("complete", "v1")]


def test_alias_means_what_it_meant_when_it_was_asked(story: Story) -> None:
    story.logged(1, 1, 5)
    story.logged(1, 10, 6, aliases=["production"])
    story.alias(20, 5)
    story.alias(30, None)
    for second in (5, 15, 25, 35):
        story.asked(2, second, "production")
    story.asked(2, 36, "v2")
    story.asked(2, 37, "latest")
    story.asked(2, 38, "v9")
    shown = io_of(story, 2, "direction, alias, version, digest")
    assert shown == [
        ("in", "production", None, None),
        ("in", "production", "v2", digest(6)),
        ("in", "production", "v1", digest(5)),
        ("in", "production", None, None),
        ("in", None, "v2", digest(6)),
        ("in", "latest", "v2", digest(6)),
        ("in", None, "v9", None),
    ]


def test_aliases_have_a_history_and_one_current_meaning(story: Story) -> None:
    story.logged(1, 1, 5, aliases=["best", "production"])
    story.logged(2, 2, 6, aliases=["best"])
    story.logged(2, 3, None, aliases=["never"], status="failed")
    story.alias(9, 6)
    story.tables.take_in()
    columns = "alias, version, set_by, is_current"
    rows = story.tables.rows("model_aliases", columns=columns, rest="ORDER BY alias, set_at")
    assert [tuple(row.values()) for row in rows] == [
        ("best", "v1", "ann", False),
        ("best", "v2", "ann", True),
        ("production", "v1", "ann", False),
        ("production", "v2", "eve", True),
    ]
    story.alias(10, None)
    story.tables.take_in()
    current = story.tables.rows("model_aliases", columns="alias", rest="WHERE is_current")
    assert [row["alias"] for row in current] == ["best"]


def test_from_a_model_to_its_run_and_back(story: Story) -> None:
    story.used(1, 1, 3, role="train")
    story.logged(1, 2, 5)
    story.logged(1, 3, 6)
    story.alias(4, 5)
    story.asked(2, 5, "production")
    story.tables.take_in()
    session, said = story.tables.session, list[str]()
    for reference in ("resnet:production", "resnet:v2", "resnet:latest", digest(6)):
        assert find_run(session, reference, say=said.append) == id_of(1)
    assert find_version(session, "resnet:production").digest == digest(5)
    assert find_version(session, "resnet").digest == digest(6)
    with pytest.raises(NotFoundError, match="it has v1, v2"):
        find_version(session, "resnet:v7")
    with pytest.raises(NotFoundError, match="no artifact is called"):
        find_version(session, "nothing:v1")
    written = inputs_outputs(session, id_of(1)).rows
    assert [(row[0], row[1], row[4]) for row in written] == [
        ("reads", "dataset cifar:v1 (train)", "-"),
        ("writes", "model resnet:v1", "production; read by run2"),
        ("writes", "model resnet:v2", "-"),
    ]
    story.used(3, 6, None, "large", stage=0, status="declared", done_bytes=43 << 30, expected_bytes=100 << 30)
    story.used(3, 7, None, "larger", stage=0, status="declared", done_bytes=5 << 30)
    story.used(3, 8, None, "waiting", stage=0, status="declared")
    story.used(3, 9, 12, "frame", rows=4, uri=None)
    story.tables.take_in()
    assert [row[5] for row in inputs_outputs(session, id_of(3)).rows] == [
        "hashing 43 % of 100.0 GiB",
        "hashing, 5.0 GiB so far",
        "declared",
        "complete",
    ]
    assert inputs_outputs(session, id_of(3)).rows[-1][2] == "10 B in 4 rows"
    (read,) = inputs_outputs(session, id_of(2)).rows
    assert read[1] == "model resnet:v1 (as production)" and read[4] == "written by run1"


def test_latest_is_the_highest_version_and_a_version_wins_over_an_alias(story: Story) -> None:
    story.logged(1, 1, 5)
    story.logged(2, 2, 6, aliases=["v1", "v7", "best"])
    story.logged(3, 3, 5)  # v1 once more
    story.asked(3, 4, "latest")
    story.asked(3, 5, "v1")
    story.logged(3, 6, 5, "other")
    story.used(3, 7, 8, uri=None, digest="table-v1:" + "ab" * 32)
    asked = io_of(story, 3, "name, version, digest")[1:3]
    assert asked == [("resnet", "v2", digest(6)), ("resnet", "v1", digest(5))]
    session, said = story.tables.session, list[str]()
    assert {find_version(session, f"resnet{end}").digest for end in ("", ":latest", ":best")} == {digest(6)}
    assert find_version(session, "resnet:v1").digest == digest(5)
    assert find_run(session, "resnet", say=said.append) == id_of(2)
    for wrong in ("resnet:v7", "resnet:bset"):
        with pytest.raises(NotFoundError, match="it has v1, v2 and the aliases best, v1, v7"):
            find_run(session, wrong, say=said.append)
    with pytest.raises(NotFoundError, match="'cifar' is a dataset"):
        find_version(session, "cifar:v1")
    table = find_version(session, "cifar", also_inputs=True)
    with pytest.raises(UsageError, match="a table in memory: it has no files"):
        compare_versions(table, table, blobs=SeveralBlobs(()))
    digests = [row[3] for row in inputs_outputs(session, id_of(3)).rows]
    assert "table-v1:" + "ab" * 6 in digests


def test_aliases_shown_are_those_of_the_own_name(story: Story) -> None:
    story.logged(1, 1, 5, aliases=["best"])
    story.logged(1, 2, 5, "other", aliases=["worst"])
    story.tables.take_in()
    rows = inputs_outputs(story.tables.session, id_of(1)).rows
    assert [(row[1], row[4]) for row in rows] == [("model resnet:v1", "best"), ("model other:v1", "worst")]


def test_find_names_what_is_not_hashed_yet(story: Story) -> None:
    story.used(1, 1, None, "large", stage=0, status="declared")
    story.used(1, 2, 3, "known")
    story.asked(1, 3, "latest")
    story.tables.take_in()
    uses = find_file(story.tables.session, f"{9:064x}", blobs=SeveralBlobs(()))
    assert uses.rows == [] and uses.unhashed == ["large"]
