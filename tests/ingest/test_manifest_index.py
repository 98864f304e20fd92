"""From a file's digest to versions, runs, models and aliases by the index of manifests, on a real store and real blobs."""

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.dirty import Dirty
from trainledger_ingest.file_lookup import FileUses, find_file
from trainledger_ingest.io_records import IoRecords
from trainledger_ingest.manifest_index import RETRY_S, ManifestIndex
from trainledger_ingest.storage.migrate import create_tables
from trainledger_schemas.blobs import FolderBlobs, SeveralBlobs
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.tree_manifest import Child, encode_node, walk_tree

NOWHERE = SeveralBlobs(())


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class World:
    """Tables with runs, and the blobs that their manifests are in."""

    def __init__(self, folder: Path) -> None:
        self.tables = FilledTables(fresh_store(), folder)
        self.blobs = FolderBlobs(folder / "blobs")
        self.clock = ManualClock()
        self.index = self.new_index(self.tables.schema.generation)
        self._calls = 1000

    def new_index(self, generation: str) -> ManifestIndex:
        return ManifestIndex(self.tables.store, generation, blobs=lambda: self.blobs, clock=self.clock)

    def folder(self, **children: bytes | str) -> str:
        """Store a node: bytes are a file of these bytes, text is the digest of a folder."""
        node = encode_node(
            Child("d", 1, data, name.encode())
            if isinstance(data, str)
            else Child("f", len(data), sha256_of(data), name.encode())
            for name, data in children.items()
        )
        return self.blobs.put(node).sha256

    def run(self, number: int) -> None:
        self.tables.started(number, number * 10, START_US, name=f"run{number}", team="red")

    def used(self, run: int, name: str, sha256: str, **more: Any) -> None:
        known = {
            "version": None,
            "role": None,
            "system": None,
            "reference": None,
            "is_fixed": None,
            "uri": "/x",
        }
        self._io("dataset_used", "use_id", run, name, sha256, {"kind": "dataset"} | known | more)

    def asked(self, run: int, name: str, version: str) -> None:
        more = {"version": version, "kind": "model", "uri": None, "stage": 0, "status": "declared"}
        self.used(run, name, "", **more, digest=None, manifest_sha256=None)

    def logged(self, run: int, name: str, sha256: str, *aliases: str, is_folder: bool = False) -> None:
        known = {"kind": "model", "is_stored": True, "new_bytes": 1, "aliases": list(aliases), "uri": "/m"}
        if not is_folder:
            known["manifest_sha256"] = None
        self._io("artifact_logged", "artifact_id", run, name, sha256, known)

    def alias(self, model: str, alias: str, sha256: str | None) -> None:
        self._calls += 1
        digest = None if sha256 is None else f"sha256:{sha256}"
        self.tables.event("alias_set", START_US + self._calls, at_us=START_US + self._calls, model=model,
                          alias=alias, digest=digest, run_id=None, set_by="eve", note=None)  # fmt: skip

    def _io(self, event: str, key: str, run: int, name: str, sha256: str, more: dict[str, Any]) -> None:
        self._calls += 1
        at_us = START_US + self._calls
        known: dict[str, Any] = {
            "run_id": fixed_id(run), "writer_id": fixed_id(run * 10), "at_us": at_us, "stage": 1, "name": name,
            "digest": f"sha256:{sha256}", "size_bytes": 1, "files": 1, "status": "complete", "reasons": [],
            "manifest_sha256": sha256, key: fixed_id(self._calls),
        }  # fmt: skip
        self.tables.event(event, at_us, **(known | more))

    def indexed(self) -> "World":
        self.tables.take_in()
        self.index.note(Dirty(run_ids={"any"}))
        self.index.fill()
        return self

    def find(self, sha256: str, blobs: Any = NOWHERE) -> FileUses:
        return find_file(self.tables.session, sha256, blobs=blobs)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(tmp_path)


def test_from_a_file_to_the_runs_models_and_aliases_that_came_of_it(world: World) -> None:
    secret = b"a face"
    inner = world.folder(one=b"1", face=secret)
    first, second = world.folder(a=inner, b=inner, readme=b"r"), world.folder(c=inner)
    clean = world.folder(readme=b"r")
    for run in (1, 2, 3, 4, 5):
        world.run(run)
    world.used(1, "faces", first)
    world.logged(1, "resnet", sha256_of(b"weights"), "production")
    world.used(2, "faces", second)
    world.used(3, "clean", clean)
    world.logged(3, "other", sha256_of(b"other weights"))
    # Run 4 trains from a folder that holds the weights of run 1, run 5 from what run 4 wrote.
    world.used(4, "start", world.folder(model=b"weights", notes=b"n"))
    world.logged(4, "student", world.folder(w=b"student weights"), "best", is_folder=True)
    world.used(5, "student-files", world.folder(w=b"student weights"))
    uses = world.indexed().find(sha256_of(secret))
    assert [(row["run"], f"{row['name']}:{row['version']}", row["paths"], row["through"]) for row in uses.rows] == [
        ("run1", "faces:v1", ["a/face", "b/face"], []),
        ("run2", "faces:v2", ["c/face"], []),
        ("run4", "start:v1", [], ["resnet:v1"]),
        ("run5", "student-files:v1", [], ["resnet:v1", "student:v1"]),
    ]  # fmt: skip
    assert [row["aliases"] for row in uses.rows] == [
        ["resnet:production"],
        [],
        ["student:best"],
        ["student:best"],
    ]
    assert [row["outputs"] for row in uses.rows] == [["resnet:v1"], [], ["student:v1"], []]
    assert (uses.rows[0]["team"], uses.rows[0]["run_id"]) == ("red", id_of(1))
    assert not uses.unseen and not uses.is_cut
    assert [row["run"] for row in world.find(sha256_of(b"other weights")).rows] == ["run3"]
    assert world.find(sha256_of(b"nowhere")).rows == []


def test_random_trees_are_found_as_a_walk_finds_them_however_often_the_work_is_cut_off(world: World) -> None:
    chance = random.Random(7)
    folders = [world.folder()]
    for _ in range(40):
        files: dict[str, bytes | str] = {
            f"f{n}": b"%d" % chance.randrange(12) for n in range(chance.randrange(4))
        }
        below: dict[str, bytes | str] = {
            f"d{n}": chance.choice(folders[-15:]) for n in range(chance.randrange(3))
        }
        folders.append(world.folder(**files, **below))
    tops = folders[-6:]
    world.run(1)
    for number, top in enumerate(tops):
        world.used(1, f"data{number}", top)
    world.tables.take_in()
    steps = 1
    while world.index.step(entries_max=1):
        steps += 1
    assert steps > 5
    for content in range(12):
        wanted = sha256_of(b"%d" % content)
        expected = {}
        for top in tops:
            paths = [p.decode() for p, child in walk_tree(top, world.blobs.read) if child.sha256 == wanted]
            if paths:
                expected[top] = sorted(paths)[:1000]
        found = world.find(wanted)
        assert {row["digest"].removeprefix("sha256:"): row["paths"] for row in found.rows} == expected
        assert not found.unseen and not found.is_cut


def test_a_manifest_that_cannot_be_read_is_told_and_tried_again(world: World) -> None:
    file = b"late"
    node = encode_node([Child("f", 4, sha256_of(file), b"x")])
    top = sha256_of(node)
    world.run(1)
    world.used(1, "far", top)
    assert world.indexed().find(sha256_of(file)).unseen == ["far:v1"]
    world.blobs.put(node)
    # Not indexed yet, but it lies here now.
    uses = world.find(sha256_of(file), world.blobs)
    assert ([row["paths"] for row in uses.rows], uses.unseen) == ([["x"]], [])
    assert world.find(sha256_of(file)).unseen == ["far:v1"]
    world.clock.advance(RETRY_S + 1)
    world.index.fill()
    uses = world.find(sha256_of(file))
    assert ([row["paths"] for row in uses.rows], uses.unseen) == ([["x"]], [])


def test_another_generation_takes_over_what_can_no_longer_be_read(world: World) -> None:
    top = world.folder(x=b"x", d=world.folder(y=b"y"))
    world.run(1)
    world.used(1, "data", top)
    world.indexed()
    generation = world.tables.schema.generation
    fresh = create_tables(world.tables.store, generation=world.tables.schema.number + 1)
    count = "SELECT count() AS n FROM {}.manifest_entries"
    (before,) = world.tables.store.rows(count.format(generation))
    world.new_index(fresh.generation).take_over(generation)
    world.new_index(fresh.generation).take_over(generation)
    assert world.tables.store.rows(count.format(fresh.generation)) == [before] == [{"n": 3}]
    world.tables.store.command(f"DROP DATABASE {fresh.generation} SYNC")


def test_what_runs_asked_for_is_resolved_as_the_view_resolves_it(world: World) -> None:
    for run in range(1, 8):
        world.run(run)
    one, two = sha256_of(b"1"), sha256_of(b"2")
    world.asked(1, "resnet", "latest")
    world.logged(1, "resnet", one, "best")
    world.asked(2, "resnet", "latest")
    world.alias("resnet", "production", one)
    world.asked(3, "resnet", "production")
    world.logged(2, "resnet", two, "best")
    world.asked(3, "resnet", "best")
    world.asked(4, "resnet", "v1")
    world.asked(4, "resnet", "v9")
    world.asked(4, "resnet", "production")
    world.alias("resnet", "production", two)
    world.asked(5, "resnet", "production")
    world.alias("resnet", "production", None)
    world.asked(6, "resnet", "production")
    world.used(7, "resnet", two, version="mine")
    world.used(7, "cut", one, status="partial")
    world.tables.take_in()
    records = IoRecords(world.tables.session, world.tables.schema.generation)
    columns = "direction, kind, name, version, digest, uri, is_stored, at, manifest_sha256 AS manifest"
    viewed = world.tables.rows("run_io", columns=f"toString(run_id) AS run_id, {columns}", rest="ORDER BY at")
    mine = records.where("digest", [f"sha256:{one}", f"sha256:{two}"])
    people = {"run", "project", "team", "user"}
    assert [{k: v for k, v in record.items() if k not in people} for record in mine] == [
        {**row, "at": row["at"].replace(tzinfo=UTC)} for row in viewed if row["digest"] is not None
    ]
    assert len(mine) == 10
    current = world.tables.rows(
        "model_aliases", columns="concat(model, ':', alias) AS a", rest="WHERE is_current"
    )
    assert (
        records.aliases_of([f"sha256:{one}", f"sha256:{two}"])
        == [row["a"] for row in current]
        == ["resnet:best"]
    )


def test_links_are_no_files(world: World) -> None:
    link = Child("l", 1, sha256_of(b"t"), b"link", b"t")
    top = world.blobs.put(encode_node([link, Child("f", 1, sha256_of(b"t"), b"file")])).sha256
    world.run(1)
    world.used(1, "data", top)
    (row,) = world.indexed().find(sha256_of(b"t")).rows
    assert row["paths"] == ["file"]
