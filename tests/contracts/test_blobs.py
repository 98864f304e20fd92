"""One suite for all stores of blobs: folder, and S3 at a real server."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.moto_server import MotoServer
from trainledger_schemas.blobs import BlobStore, FolderBlobs, SeveralBlobs
from trainledger_schemas.errors import CorruptDataError, NotFoundError
from trainledger_schemas.s3_objects import S3Objects
from trainledger_schemas.shared_blobs import SharedBlobs

DATA = b"some bytes" * 1000
NAME = hashlib.sha256(DATA).hexdigest()

Damage = Callable[[bytes], None]


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[BlobStore, Damage]:
    """A store, and a way to put other bytes in the place of NAME."""
    if request.param == "folder":
        blobs = FolderBlobs(tmp_path / "blobs")
        path = blobs.folder / "sha256" / NAME[:2] / NAME

        def damage(data: bytes) -> None:
            path.chmod(0o644)
            path.write_bytes(data)

        return blobs, damage
    server: MotoServer = request.getfixturevalue("server")
    prefix = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
    client = server.client()

    def damage_object(data: bytes) -> None:
        client.put_object(Bucket="blobs", Key=f"{prefix}/sha256/{NAME[:2]}/{NAME}", Body=data)

    return SharedBlobs(S3Objects(server.address(prefix))), damage_object


def test_what_is_put_is_read_whole(store: tuple[BlobStore, Damage], tmp_path: Path) -> None:
    blobs, _ = store
    assert not blobs.has(NAME)
    assert blobs.put(DATA) == (NAME, len(DATA))
    assert blobs.has(NAME) and blobs.read(NAME) == DATA
    blobs.copy_to(NAME, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA
    with pytest.raises(FileExistsError):
        blobs.copy_to(NAME, tmp_path / "copy")


def test_files_and_bytes_have_the_same_place_and_a_repeat_is_harmless(
    store: tuple[BlobStore, Damage], tmp_path: Path
) -> None:
    blobs, _ = store
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "empty").touch()
    assert blobs.put_file(tmp_path / "file") == blobs.put(DATA) == blobs.put_file(tmp_path / "file")
    empty = blobs.put_file(tmp_path / "empty")
    assert empty.size_bytes == 0 and blobs.read(empty.sha256) == b""
    with pytest.raises(OSError):
        blobs.put_file(tmp_path / "missing")


def test_damage_is_never_handed_out(store: tuple[BlobStore, Damage], tmp_path: Path) -> None:
    blobs, damage = store
    blobs.put(DATA)
    damage(DATA[:-1] + b"?")
    with pytest.raises(CorruptDataError, match="damaged"):
        blobs.read(NAME)
    with pytest.raises(CorruptDataError, match="damaged"):
        blobs.copy_to(NAME, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, NAME[:-1]])
def test_names_that_are_no_digest_are_refused(store: tuple[BlobStore, Damage], name: str) -> None:
    with pytest.raises(CorruptDataError):
        store[0].read(name)


def test_what_is_not_there_is_said_with_its_place(store: tuple[BlobStore, Damage], tmp_path: Path) -> None:
    blobs, _ = store
    with pytest.raises(NotFoundError, match="has no blob sha256:000"):
        blobs.read("0" * 64)
    with pytest.raises(NotFoundError):
        blobs.copy_to("0" * 64, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_several_are_read_in_their_order(store: tuple[BlobStore, Damage], tmp_path: Path) -> None:
    blobs, _ = store
    first = FolderBlobs(tmp_path / "first")
    blobs.put(DATA)
    both = SeveralBlobs([first, blobs])
    assert both.has(NAME) and both.read(NAME) == DATA
    both.copy_to(NAME, tmp_path / "copy")
    path = first.path_of(first.put(DATA).sha256)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    assert both.read(NAME) == DATA, "a sound copy elsewhere will do"
    with pytest.raises(CorruptDataError, match="damaged"):
        SeveralBlobs([first]).read(NAME)
    with pytest.raises(NotFoundError, match=r"first.*the machine where the run was"):
        both.read("0" * 64)
