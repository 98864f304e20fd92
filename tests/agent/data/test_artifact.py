"""Storing an artifact: what becomes of it where there is no room, and of files of the same bytes."""

from pathlib import Path

import pytest

from trainledger.data import artifact
from trainledger.data.request import DataRequest
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import SystemClock


def folder(tmp_path: Path) -> DataRequest:
    (tmp_path / "data").mkdir()
    for number in range(30):
        (tmp_path / "data" / f"{number}").write_bytes(b"%d" % (number % 20))
    return DataRequest(b"r" * 16, b"j" * 16, tmp_path, False, {}, tmp_path / "data", None, None)


def test_files_of_a_folder_are_stored_each_content_once(tmp_path: Path) -> None:
    blobs, clock = FolderBlobs(tmp_path / "blobs"), SystemClock()
    request = folder(tmp_path)
    found = artifact.store_artifact(request, blobs=blobs, clock=clock)
    assert (found["status"], found["files"], found["new_bytes"], found["size_bytes"]) == (
        "complete",
        30,
        30,
        40,
    )
    again = artifact.store_artifact(request, blobs=blobs, clock=clock)
    assert (again["digest"], again["new_bytes"]) == (found["digest"], 0)


def test_without_room_it_failed_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "ROOM_BYTES_MIN", 1 << 60)
    found = artifact.store_artifact(
        folder(tmp_path), blobs=FolderBlobs(tmp_path / "blobs"), clock=SystemClock()
    )
    assert (found["status"], found["is_stored"]) == ("failed", False)
    assert found["reasons"] == ["not stored: the disk of the blobs is almost full"]
