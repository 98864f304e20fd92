"""Blobs are whole, stored once, and checked."""

import hashlib
import os
from pathlib import Path

import pytest

from trainledger_schemas.blobs import FolderBlobs, SeveralBlobs, sha256_of
from trainledger_schemas.errors import CorruptDataError, NotFoundError

DATA = b"some bytes" * 1000
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def test_bytes_and_files_have_the_same_place(blobs: FolderBlobs, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    assert blobs.put(DATA) == blobs.put_file(tmp_path / "file") == (NAME, len(DATA))
    path = blobs.folder / "sha256" / NAME[:2] / NAME
    assert (path.stat().st_mode & 0o777, blobs.folder.stat().st_mode & 0o777) == (0o444, 0o700)
    assert blobs.read(NAME) == DATA
    blobs.copy_to(NAME, tmp_path / "copy")
    assert sha256_of(tmp_path / "copy") == NAME
    assert list((blobs.folder / "tmp").iterdir()) == []
    assert len([p for p in blobs.folder.rglob("*") if p.is_file()]) == 1


def test_damage_is_never_handed_out(blobs: FolderBlobs, tmp_path: Path) -> None:
    blobs.put(DATA)
    path = blobs.folder / "sha256" / NAME[:2] / NAME
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(CorruptDataError, match="damaged"):
        blobs.read(NAME)
    with pytest.raises(CorruptDataError, match="damaged"):
        blobs.copy_to(NAME, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_holes_take_no_room_and_come_back_as_zeros(blobs: FolderBlobs, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.write(b"head")
        file.truncate((40 << 20) + 5)
    ref = blobs.put_file(tmp_path / "sparse")
    kept = blobs.path_of(ref.sha256)
    assert kept is not None and ref == (sha256_of(tmp_path / "sparse"), (40 << 20) + 5)
    assert kept.stat().st_blocks * 512 < 4 << 20
    blobs.copy_to(ref.sha256, tmp_path / "copy")
    assert sha256_of(tmp_path / "copy") == ref.sha256
    assert (tmp_path / "copy").stat().st_size == ref.size_bytes


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, NAME[:-1]])
def test_names_that_are_no_digest_are_refused(blobs: FolderBlobs, name: str) -> None:
    with pytest.raises(CorruptDataError):
        blobs.read(name)


def test_what_is_nowhere_says_where_it_would_be(blobs: FolderBlobs, tmp_path: Path) -> None:
    other = FolderBlobs(tmp_path / "other")
    other.put(DATA)
    both = SeveralBlobs([blobs, other])
    assert both.has(NAME) and both.read(NAME) == DATA
    with pytest.raises(NotFoundError, match="beside its journals"):
        both.read("0" * 64)


def test_a_write_that_fails_leaves_nothing(blobs: FolderBlobs, tmp_path: Path) -> None:
    blobs.put(b"x")
    with pytest.raises(OSError):
        blobs.put_file(tmp_path / "missing")
    assert list((blobs.folder / "tmp").iterdir()) == []


def test_what_killed_writers_left_is_removed_after_days(blobs: FolderBlobs) -> None:
    with blobs.workspace():
        pass
    old, young = blobs.folder / "tmp" / "old", blobs.folder / "tmp" / "young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    os.utime(old, ns=(0, 0))
    with blobs.workspace() as workspace:
        assert not old.exists() and young.exists() and workspace.exists()
    assert not workspace.exists()
