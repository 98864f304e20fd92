"""A recipe brings all that is needed, and nothing that has other bytes or another place than it says."""

import io
import tarfile
from pathlib import Path

import pytest

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder, manifest
from trainledger_ingest.reproduce.notebook import NotebookCells
from trainledger_ingest.reproduce.recipe import is_recipe, read_recipe, write_recipe
from trainledger_ingest.reproduce.restore import read_snapshot, restore_code
from trainledger_ingest.reproduce.run_facts import RunFacts
from trainledger_schemas.errors import CorruptDataError


def facts_of(sha256: str) -> RunFacts:
    return RunFacts(
        run_id="00000000-0000-4000-8000-000000000001",
        name="n", project="p", experiment=None, team=None, state="finished", ranks=2, nodes=1,
        provenance={"snapshot_sha256": sha256, "argv": ["python", "t.py"], "variables": {"A": "1"}},
        parameters=("seed",), is_repeated=False, inputs=({"name": "d", "manifest_sha256": None},),
    )  # fmt: skip


def test_code_is_restored_from_a_recipe_alone(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    work = GitFolder(tmp_path / "work", workshop.environment)
    work.write("t.py", b"old\n")
    work.commit_all()
    work.write("t.py", b"new\n")
    stored = workshop.store(work.folder)
    assert stored.document is not None
    facts, recipe = facts_of(stored.document.sha256), tmp_path / "run.recipe"
    snapshot = read_snapshot(workshop.blobs, stored.document.sha256)
    cells = NotebookCells(facts.run_id, ({"source": "1 + 1", "is_whole": True},))
    write_recipe(facts, snapshot, cells, blobs=workshop.blobs, target=recipe)
    assert is_recipe(recipe) and not is_recipe(tmp_path / "work" / "t.py") and not is_recipe(tmp_path)
    # It may be the beginning of a stream that goes on.
    stream = io.BytesIO(recipe.read_bytes() + b"more")
    read, read_cells, blobs = read_recipe(stream, tmp_path / "there")
    assert (read, read_cells) == (facts, cells) and stream.read() == b"more"
    snapshot = read_snapshot(blobs, stored.document.sha256)
    restored = restore_code(snapshot, tmp_path / "new", blobs=blobs, environment=workshop.environment)
    assert restored.problems == [] and manifest(tmp_path / "new") == manifest(work.folder)


def archive_of(*entries: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> io.BytesIO:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(data))
    target.seek(0)
    return target


@pytest.mark.parametrize(
    "hostile",
    [
        archive_of(("../escaped", b"x")),
        archive_of(("blobs/../../escaped", b"x")),
        archive_of(("/tmp/escaped", b"x")),
        archive_of(("blobs/" + "0" * 64, b"other bytes")),
        archive_of(("recipe.json", b""), kind=tarfile.SYMTYPE),
        archive_of(("recipe.json", b"{}")),
        archive_of(("recipe.json", b'{"format": 2}')),
        archive_of(),
        io.BytesIO(b"not a tar at all"),
    ],
    ids=[
        "parent",
        "parent of blobs",
        "absolute",
        "other bytes",
        "link",
        "empty",
        "newer",
        "nothing",
        "no tar",
    ],
)
def test_a_damaged_or_hostile_recipe_is_refused_and_writes_nothing_outside(
    tmp_path: Path, hostile: io.BytesIO
) -> None:
    with pytest.raises(CorruptDataError, match="recipe"):
        read_recipe(hostile, tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
