"""Blobs beside the journals: what goes, and that nobody is storing meanwhile."""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from trainledger_ingest.garbage.folder import collect_folder, held_folders
from trainledger_ingest.garbage.needed import Needed
from trainledger_ingest.garbage.report import DAY_US, Policy
from trainledger_schemas.blobs import FolderBlobs

NOW_US = 1_800_000_000 * 1_000_000


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    blobs = FolderBlobs(tmp_path / "blobs")
    for data in (b"needed", b"garbage"):
        path = blobs.path_of(blobs.put(data).sha256)
        assert path is not None
        os.utime(path, ns=((NOW_US - 30 * DAY_US) * 1000,) * 2)
    return blobs


def collection(
    blobs: FolderBlobs,
    *,
    after_days: float = 0,
    deletes: bool = True,
    needed: tuple[bytes, ...] = (b"needed",),
) -> dict[str, Any]:
    policy = Policy(NOW_US + round(after_days * DAY_US), 7 * DAY_US, deletes=deletes)
    digests = Needed(hashlib.sha256(data).hexdigest() for data in needed)
    return collect_folder(blobs.folder, digests, policy=policy).as_row()


def test_what_nobody_names_goes_after_the_grace(blobs: FolderBlobs) -> None:
    garbage = hashlib.sha256(b"garbage").hexdigest()
    looked = collection(blobs, deletes=False)
    assert (looked["kept"], looked["condemned"], looked["condemned_bytes"]) == (1, 1, 7)
    assert not (blobs.folder / "condemned").exists()
    assert collection(blobs)["condemned"] == 1
    assert collection(blobs, after_days=6)["condemned"] == 1 and blobs.has(garbage)
    assert collection(blobs, after_days=8, deletes=False)["expired"] == 1 and blobs.has(garbage)
    assert collection(blobs, after_days=8)["deleted"] == 1 and not blobs.has(garbage)
    assert blobs.has(hashlib.sha256(b"needed").hexdigest())
    assert list((blobs.folder / "condemned").iterdir()) == []


def test_what_is_needed_again_begins_anew(blobs: FolderBlobs) -> None:
    collection(blobs)
    assert collection(blobs, after_days=5, needed=(b"needed", b"garbage"))["kept"] == 2
    assert collection(blobs, after_days=8)["condemned"] == 1, "its grace begins now"


def test_what_was_stored_anew_while_it_was_condemned_keeps_its_grace(blobs: FolderBlobs) -> None:
    collection(blobs)
    path = blobs.path_of(hashlib.sha256(b"garbage").hexdigest())
    assert path is not None
    os.utime(path, ns=((NOW_US + 7 * DAY_US) * 1000,) * 2)
    assert collection(blobs, after_days=8)["condemned"] == 1


def test_a_young_blob_and_other_files_are_left_alone(blobs: FolderBlobs, tmp_path: Path) -> None:
    young = blobs.put(b"young")
    path = blobs.path_of(young.sha256)
    assert path is not None
    os.utime(path, ns=((NOW_US - 3600 * 1_000_000) * 1000,) * 2)
    (blobs.folder / "sha256" / "ab").mkdir(exist_ok=True)
    (blobs.folder / "sha256" / "ab" / "note.txt").touch()
    (blobs.folder / "sha256" / "ab" / ("b" * 64)).symlink_to(tmp_path)
    row = collection(blobs)
    assert (row["young"], row["kept"], row["condemned"]) == (1, 1, 1)
    assert (blobs.folder / "sha256" / "ab" / "note.txt").exists() and tmp_path.exists()


def test_a_folder_where_somebody_stores_is_left_out_and_writers_wait_for_one_that_is_held(
    blobs: FolderBlobs,
) -> None:
    with blobs.writing(), held_folders([blobs.folder]) as (held, busy):
        assert (held, busy) == ([], [blobs.folder])
    done = threading.Event()

    def store() -> None:
        with blobs.writing():
            done.set()

    writer = threading.Thread(target=store)
    with held_folders([blobs.folder, blobs.folder.parent / "nothing"]) as (held, busy):
        assert (held, busy) == ([blobs.folder], [])
        writer.start()
        assert not done.wait(0.2)
    writer.join(10)
    assert done.is_set()
