"""Artifacts come back whole, whatever is in their manifest and however their files arrive."""

import os
import threading
from pathlib import Path

import pytest

from trainledger_ingest.artifact_files import restore_artifact
from trainledger_ingest.artifact_lookup import Version
from trainledger_ingest.blob_fetching import FETCH_TRIES, FETCHES_AT_ONCE, Wanted, fetch_all
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.errors import CorruptDataError, NotFoundError, RetryableSourceError
from trainledger_schemas.tree_manifest import Child, encode_node

TOGETHER = 4


class Far(FolderBlobs):
    """Answers TOGETHER requests at once or none, as a store does that is far away; breaks off some."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.broken: dict[str, int] = {}
        self.together = threading.Barrier(TOGETHER, timeout=20)

    def copy_to(self, sha256: str, target: Path) -> None:
        if self.broken.get(sha256):
            self.broken[sha256] -= 1
            raise RetryableSourceError("the connection broke")
        super().copy_to(sha256, target)


class FarTogether(Far):
    def copy_to(self, sha256: str, target: Path) -> None:
        self.together.wait()
        super().copy_to(sha256, target)


def folder(blobs: FolderBlobs, children: list[Child]) -> Child:
    node = blobs.put(encode_node(children))
    return Child("d", 1, node.sha256, b"")


def file(blobs: FolderBlobs, name: bytes, data: bytes, kind: str = "f") -> Child:
    return Child(kind, len(data), blobs.put(data).sha256, name)


def version(manifest: Child) -> Version:
    return Version("m", "v1", f"sha256:{manifest.sha256}", "run", manifest.sha256)


def link(name: bytes, target: bytes) -> Child:
    return Child("l", len(target), "0" * 64, name, target)


def test_a_folder_of_all_kinds_comes_back(tmp_path: Path) -> None:
    blobs = Far(tmp_path / "blobs")
    odd = "ü\n \x01".encode() + b"\xff"
    inner = folder(blobs, [file(blobs, odd, b"odd"), link(b"up", b"../run.sh")])._replace(name=b"inner")
    empty = folder(blobs, [])._replace(name=b"empty")
    top = folder(
        blobs,
        [inner, empty, file(blobs, b"run.sh", b"#!", "x"), file(blobs, b"zero", b""), link(b"out", b"/etc")],
    )
    blobs.broken = {file(blobs, b"", b"odd").sha256: FETCH_TRIES - 1}
    told = restore_artifact(version(top), tmp_path / "got", blobs=blobs)
    assert told == ["out: a link to /etc, out of the folder"]
    got = os.fsencode(tmp_path / "got")
    assert sorted(os.listdir(got)) == [b"empty", b"inner", b"run.sh", b"zero"]
    assert Path(os.fsdecode(got + b"/inner/" + odd)).read_bytes() == b"odd"
    assert os.readlink(got + b"/inner/up") == b"../run.sh" and os.listdir(got + b"/empty") == []
    assert os.access(got + b"/run.sh", os.X_OK) and not os.access(got + b"/zero", os.X_OK)


def test_files_are_fetched_side_by_side(tmp_path: Path) -> None:
    blobs = FarTogether(tmp_path / "blobs")
    files = [file(blobs, b"%d" % number, b"%d" % number) for number in range(3 * TOGETHER)]
    top = folder(blobs, files)
    assert TOGETHER <= FETCHES_AT_ONCE
    restore_artifact(version(top), tmp_path / "got", blobs=blobs)
    assert len(os.listdir(tmp_path / "got")) == 3 * TOGETHER


@pytest.mark.parametrize("trouble", ["missing", "damaged", "broken", "climbs out"])
def test_what_cannot_be_had_ends_it_and_no_half_file_stays(tmp_path: Path, trouble: str) -> None:
    blobs = Far(tmp_path / "blobs")
    bad = file(blobs, b"bad", b"bad bytes")
    path = blobs.path_of(bad.sha256)
    assert path is not None
    path.chmod(0o644)
    expected: type[Exception] = CorruptDataError
    if trouble == "missing":
        path.unlink()
        expected = NotFoundError
    elif trouble == "damaged":
        path.write_bytes(b"other")
    elif trouble == "broken":
        blobs.broken = {bad.sha256: FETCH_TRIES}
        expected = RetryableSourceError
    else:
        bad = bad._replace(name=b"..")
    top = folder(blobs, [bad, *(file(blobs, b"%d" % number, b"%d" % number) for number in range(5))])
    with pytest.raises(expected):
        restore_artifact(version(top), tmp_path / "got", blobs=blobs)
    assert not (tmp_path / "got" / "bad").exists() and sorted(os.listdir(tmp_path)) == ["blobs", "got"]


def test_what_is_not_there_is_told_and_the_others_come(tmp_path: Path) -> None:
    blobs = Far(tmp_path / "blobs")
    sha256 = blobs.put(b"there").sha256
    wanted = [Wanted(sha256, tmp_path / "a"), Wanted("0" * 64, tmp_path / "b")]
    found = {item.target.name: is_there for item, is_there in fetch_all(blobs, wanted)}
    assert found == {"a": True, "b": False} and not (tmp_path / "b").exists()
