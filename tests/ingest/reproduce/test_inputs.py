"""What a run read is compared with what is there now, and its data and outputs are left as they are."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from trainledger.data.folder_scan import Scanner
from trainledger.data.stat_cache import StatCache
from trainledger_ingest.reproduce import data_places
from trainledger_ingest.reproduce.data_places import Guard, check_outputs, map_command, place_data
from trainledger_ingest.reproduce.inputs import CheckedInput, check_inputs, map_path, parse_mapping
from trainledger_schemas.blobs import FolderBlobs, sha256_of
from trainledger_schemas.errors import UsageError


class Data:
    """A folder that a run has read, measured by the SDK's own scan."""

    def __init__(self, folder: Path) -> None:
        self.blobs = FolderBlobs(folder / "blobs")
        self.folder = folder / "data"
        (self.folder / "sub").mkdir(parents=True)
        for name in ("a.txt", "b.txt", "sub/c.txt"):
            (self.folder / name).write_text(name)
        (self.folder / "sub" / "run.sh").write_text("#!/bin/sh\n")
        (self.folder / "sub" / "run.sh").chmod(0o755)
        (self.folder / "link").symlink_to("a.txt")
        (self.folder / "empty").mkdir()
        scanner = Scanner(StatCache(None, ""), self.blobs.put, started_ns=time.time_ns())
        scan = scanner.scan(os.fsencode(self.folder))
        self.given: dict[str, Any] = {
            "name": "cifar", "digest": f"sha256:{scan.sha256}", "manifest_sha256": scan.sha256,
            "uri": str(self.folder), "status": "complete",
        }  # fmt: skip

    def check(
        self, *mappings: tuple[str, str], code: tuple[str, str] | None = None, **changes: Any
    ) -> CheckedInput:
        (found,) = check_inputs([self.given | changes], mappings=mappings, code=code, blobs=self.blobs)
        return found


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def test_the_same_bytes_are_found_where_they_were_or_where_they_are_said_to_be(
    data: Data, tmp_path: Path
) -> None:
    assert (data.check().is_checked, data.check().problem) == (True, None)
    moved = tmp_path / "elsewhere" / "cifar"
    moved.parent.mkdir()
    data.folder.rename(moved)
    problem = data.check().problem
    assert problem is not None and "--data OLD=NEW" in problem
    assert data.check((str(tmp_path), str(moved.parent)), (str(data.folder), str(moved))).problem is None
    # What lay in the code and is in the restored code needs no word.
    (tmp_path / "new").mkdir()
    moved.rename(tmp_path / "new" / "data")
    found = data.check(code=(str(tmp_path), str(tmp_path / "new")))
    assert (found.place, found.problem) == (str(tmp_path / "new" / "data"), None)


def test_changed_files_are_named(data: Data) -> None:
    (data.folder / "a.txt").write_text("changed")
    (data.folder / "sub" / "c.txt").rename(data.folder / "d.txt")
    (data.folder / "sub" / "run.sh").chmod(0o644)
    (data.folder / "b.txt").unlink()
    (data.folder / "new.txt").write_text("new")
    found = data.check()
    assert found.problem is not None and "not what the run read" in found.problem
    assert found.differences == (
        "changed a.txt", "removed b.txt", "renamed d.txt (was sub/c.txt)", "added new.txt", "changed sub/run.sh"
    )  # fmt: skip


def test_a_lost_list_of_the_old_files_is_told(data: Data, tmp_path: Path) -> None:
    (data.folder / "a.txt").write_text("changed")
    (tmp_path / "blobs").rename(tmp_path / "lost")
    assert data.check().differences[0].startswith("which files differ cannot be told")


def test_a_file_is_compared_by_its_digest(data: Data, tmp_path: Path) -> None:
    file = data.folder / "a.txt"
    told: dict[str, Any] = {"uri": str(file), "digest": f"sha256:{sha256_of(file)}", "manifest_sha256": None}
    assert data.check(**told).problem is None
    file.write_text("other")
    assert "not what the run read" in str(data.check(**told).problem)


@pytest.mark.parametrize(
    ("changes", "is_checked", "problem"),
    [
        ({"uri": "s3://bucket/key", "digest": None}, False, None),
        ({"digest": None, "status": "declared"}, False, None),
        ({"digest": None, "uri": "/nowhere"}, False, "there is no /nowhere"),
        ({"uri": None, "digest": None}, False, None),
    ],
)
def test_what_has_no_digest_is_named_and_not_checked(
    data: Data, changes: dict[str, Any], is_checked: bool, problem: str | None
) -> None:
    found = data.check(**changes)
    assert (found.is_checked, found.problem) == (is_checked, problem)


def test_mappings_are_whole_paths_and_the_longest_wins(tmp_path: Path) -> None:
    assert parse_mapping(f"/old/={tmp_path}") == ("/old", str(tmp_path))
    for text in ("old=/new", "/old", "/old=", f"/old={tmp_path}/missing"):
        with pytest.raises(UsageError, match="--data"):
            parse_mapping(text)
    mappings = [("/data", "/a"), ("/data/x", "/b")]
    assert [map_path(path, mappings) for path in ("/data/x/y", "/data/z", "/database")] == [
        "/b/y",
        "/a/z",
        None,
    ]
    argv = ["--in=/data/z", "/data/x", "/other", "data/x", "--n=3"]
    assert map_command(argv, mappings) == ["--in=/a/z", "/b", "/other", "data/x", "--n=3"]


def test_small_data_is_copied_and_large_data_linked_and_guarded(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, guarded = place_data(data.folder, tmp_path / "new" / "data")
    copy = tmp_path / "new" / "data"
    assert guarded is None and not copy.is_symlink() and (copy / "link").is_symlink()
    (copy / "a.txt").write_text("written by the repetition")
    assert data.check().problem is None, "the original is not touched"
    with pytest.raises(UsageError, match="nothing is"):
        place_data(data.folder, copy)
    monkeypatch.setattr(data_places, "COPY_BYTES_MAX", 3)
    _, guarded = place_data(data.folder, tmp_path / "other")
    assert guarded == str(data.folder) and (tmp_path / "other").is_symlink()
    guard = Guard.over([guarded, "/nowhere"])
    assert guard.changes() == []
    (tmp_path / "other" / "b.txt").write_text("written through the link")
    (tmp_path / "other" / "more").write_text("")
    assert guard.changes() == [f"{data.folder}/b.txt", f"{data.folder}/more"]


def test_a_command_that_would_write_over_an_output_is_not_started(tmp_path: Path) -> None:
    model = tmp_path / "runs" / "1" / "model.pt"
    model.parent.mkdir(parents=True)
    model.touch()
    outputs: list[dict[str, Any]] = [{"uri": str(model)}, {"uri": None}, {"uri": "s3://b/m"}]
    for argument in (f"--out={tmp_path}/runs/1", str(model), f"{tmp_path}/runs/"):
        with pytest.raises(UsageError, match="write over it"):
            check_outputs(outputs, ["python", "t.py", argument], code="/code")
    check_outputs(outputs, ["python", "/usr/t.py", f"{tmp_path}/runs/2", "/"], code="/code")
    check_outputs(outputs, ["python", "t.py", str(model)], code=str(tmp_path))
