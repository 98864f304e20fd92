"""S3 at a real server: conditions, large files in parts, uploads that are cut off, and bytes that arrive otherwise."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.moto_server import BUCKET, MotoServer
from trainledger_schemas.blob_address import BlobAddress, parse_blob_address
from trainledger_schemas.errors import CorruptDataError, NotFoundError, RetryableSourceError, SettingsError
from trainledger_schemas.s3_client import open_client
from trainledger_schemas.s3_objects import SINGLE_PARTS, S3Objects
from trainledger_schemas.s3_parts import PART_BYTES, PARTS_MAX, part_size
from trainledger_schemas.shared_blobs import SharedBlobs, blob_name

TEST_PART_BYTES = 5 << 20
LARGE_BYTES = (SINGLE_PARTS + 1) * TEST_PART_BYTES + 1
SEND = """
import os, signal, sys
from pathlib import Path
from trainledger_schemas.blob_address import parse_blob_address
from trainledger_schemas.s3_client import open_client
from trainledger_schemas.s3_objects import S3Objects
address = parse_blob_address(sys.argv[1])
client = open_client(address)
sent = []
def count(**_):
    sent.append(1)
    if len(sent) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
client.meta.events.register("after-call.s3.UploadPart", count)
S3Objects(address, client=client, part_bytes=5 << 20).put_new(sys.argv[2], Path(sys.argv[3]), sha256=sys.argv[2][-64:])
"""


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "file"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(LARGE_BYTES >> 20):
            file.write(b"%08d" % number + block[8:])
        file.write(b"?")
    return path


@pytest.fixture
def address(server: MotoServer, request: pytest.FixtureRequest) -> BlobAddress:
    return server.address(hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16])


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counting(address: BlobAddress) -> tuple[S3Objects, list[str]]:
    """Objects, and the operations that they send."""
    client, calls = open_client(address), []

    def note(model: Any, **_: Any) -> None:
        calls.append(model.name)

    client.meta.events.register("before-call.s3", note)
    return S3Objects(address, client=client, part_bytes=TEST_PART_BYTES), calls


def test_an_upload_that_was_killed_goes_on_where_it_was(
    server: MotoServer, address: BlobAddress, large: Path
) -> None:
    name = blob_name(digest_of(large))
    command = [
        sys.executable,
        "-c",
        SEND,
        f"s3://{BUCKET}/{address.prefix}?endpoint={server.endpoint}",
        name,
        str(large),
    ]
    there = 0
    for _ in range(2):
        killed = subprocess.run([*command, "1"], timeout=60)
        assert killed.returncode == -9
        objects, calls = counting(address)
        (upload,) = objects.open_uploads()
        place = {"Bucket": BUCKET, "Key": address.prefix + name, "UploadId": upload.upload_id}
        before, there = there, len(server.client().list_parts(**place)["Parts"])
        assert there > before, "some are sent side by side, and each go adds to them"
        if there > 2:
            break  # another go might send all
    assert objects.look(name) is None
    assert objects.put_new(name, large, sha256=digest_of(large))
    parts_in_all = -(-LARGE_BYTES // TEST_PART_BYTES)
    assert calls.count("UploadPart") == parts_in_all - there, "parts that are there are not sent again"
    assert calls.count("CreateMultipartUpload") == 0
    found = objects.look(name)
    assert found is not None and found.size_bytes == LARGE_BYTES
    with objects.open(name) as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == digest_of(large)
    assert list(objects.open_uploads()) == []


def test_what_is_there_is_not_sent_again(address: BlobAddress, large: Path) -> None:
    objects, calls = counting(address)
    blobs = SharedBlobs(objects)
    assert blobs.keep(large, digest_of(large), LARGE_BYTES) == LARGE_BYTES
    calls.clear()
    assert blobs.keep(large, digest_of(large), LARGE_BYTES) == 0
    assert set(calls) == {"HeadObject"}


def test_a_large_file_that_is_another_is_not_stored(address: BlobAddress, large: Path) -> None:
    objects, _ = counting(address)
    with pytest.raises(CorruptDataError, match="was not stored"):
        objects.put_new("sha256/x", large, sha256="0" * 64)
    assert objects.look("sha256/x") is None and list(objects.open_uploads()) == []


def test_parts_of_another_file_under_the_same_name_are_sent_over(address: BlobAddress, large: Path) -> None:
    objects, calls = counting(address)
    client = open_client(address)
    name, place = blob_name(digest_of(large)), {"Bucket": BUCKET}
    place["Key"] = address.prefix + name
    begun = client.create_multipart_upload(**place)["UploadId"]
    client.upload_part(UploadId=begun, PartNumber=1, Body=b"x" * TEST_PART_BYTES, **place)
    assert objects.put_new(name, large, sha256=digest_of(large))
    assert calls.count("UploadPart") == -(-LARGE_BYTES // TEST_PART_BYTES)
    with objects.open(name) as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == digest_of(large)


def test_a_taken_name_is_left_as_it_is(address: BlobAddress, tmp_path: Path, large: Path) -> None:
    objects, _ = counting(address)
    assert objects.put_new("a", b"first", sha256=hashlib.sha256(b"first").hexdigest())
    assert not objects.put_new("a", b"other", sha256=hashlib.sha256(b"other").hexdigest())
    assert not objects.put_new("a", large, sha256=digest_of(large))
    with objects.open("a") as stream:
        assert stream.read() == b"first"


def test_a_store_that_heeds_conditions_is_told_from_one_that_does_not(address: BlobAddress) -> None:
    objects, _ = counting(address)
    assert objects.probe() and list(objects.names("probe/")) == []

    def drop_condition(params: Any, **_: Any) -> None:
        params["headers"].pop("If-None-Match", None)

    deaf = open_client(address)
    deaf.meta.events.register("before-call.s3", drop_condition)
    ignoring = S3Objects(address, client=deaf)
    assert not ignoring.probe() and list(objects.names("probe/")) == []
    first = hashlib.sha256(b"first").hexdigest()
    assert ignoring.put_new("b", b"first", sha256=first) and not ignoring.put_new("b", b"first", sha256=first)


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_bytes_that_change_on_the_way_are_not_kept(address: BlobAddress, large: Path, operation: str) -> None:
    client = open_client(address)
    done: list[bool] = []

    def turn_a_bit(request: Any, **_: Any) -> None:
        if request.body and not done:
            body = request.body if isinstance(request.body, bytes) else request.body.read()
            request.body = body[:-1] + bytes([body[-1] ^ 1])
            done.append(True)

    client.meta.events.register(f"before-send.s3.{operation}", turn_a_bit)
    objects = S3Objects(address, client=client, part_bytes=TEST_PART_BYTES)
    data: bytes | Path = b"some bytes" if operation == "PutObject" else large
    sha256 = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else digest_of(data)
    with pytest.raises(RetryableSourceError):
        objects.put_new("c", data, sha256=sha256)
    assert done and objects.look("c") is None
    assert objects.put_new("c", data, sha256=sha256)
    with objects.open("c") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == sha256


def test_condemned_names_are_never_used_again(address: BlobAddress, tmp_path: Path) -> None:
    objects, _ = counting(address)
    blobs = SharedBlobs(objects)
    data = b"bytes"
    sha256 = hashlib.sha256(data).hexdigest()
    assert blobs.keep(data, sha256, 5) == 5
    objects.put_new(f"condemned/{sha256}", b"{}", sha256=hashlib.sha256(b"{}").hexdigest())
    assert not blobs.is_kept(sha256, 5)
    assert blobs.keep(data, sha256, 5) == 5, "a condemned object is sent again, under another name"
    assert blobs.keep(data, sha256, 5) == 0 and blobs.is_kept(sha256, 5)
    old = objects.look(blob_name(sha256))
    assert old is not None
    objects.remove(old)
    assert blobs.has(sha256) and blobs.read(sha256) == data
    objects.put_new(f"condemned/{sha256}.1", b"{}", sha256=hashlib.sha256(b"{}").hexdigest())
    assert blobs.revive(sha256) and blobs.is_kept(sha256, 5), "without the bytes at hand it is copied there"
    assert not blobs.revive("0" * 64)


def test_errors_say_where_and_how_to_mend(address: BlobAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, _ = counting(address)
    with pytest.raises(NotFoundError, match="it is not there"):
        objects.open("nothing")
    other = parse_blob_address(f"s3://no-such-bucket/?endpoint={address.endpoint}")
    with pytest.raises(RetryableSourceError, match="make the bucket no-such-bucket"):
        list(S3Objects(other).names(""))
    away = parse_blob_address("s3://blobs?endpoint=http://127.0.0.1:1")
    with pytest.raises(RetryableSourceError, match="can be reached from here"):
        S3Objects(away).look("x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(RetryableSourceError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        S3Objects(address).look("x")


def test_sizes_of_parts_fit_what_s3_takes() -> None:
    for size in (1, PART_BYTES, 160 << 30, 1 << 40, 5 << 40):
        assert -(-size // part_size(size)) <= PARTS_MAX and part_size(size) % (1 << 20) == 0


@pytest.mark.parametrize(
    "text",
    [
        "bucket",
        "http://bucket/x",
        "s3://",
        "s3://B",
        "s3://b#x",
        "s3://bucket?colour=red",
        "s3://bucket?endpoint=host",
    ],
)
def test_addresses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_blob_address(text)


def test_an_address_with_a_secret_is_refused_and_not_repeated() -> None:
    for text in ("s3://key:hush@bucket/x", "s3://bucket?endpoint=http://key:hush@host"):
        with pytest.raises(SettingsError) as caught:
            parse_blob_address(text)
        assert "hush" not in str(caught.value)


def test_the_same_place_is_named_the_same_everywhere() -> None:
    one = parse_blob_address("s3://bucket//team/ledger/?endpoint=http://10.0.0.1:9000&region=eu")
    assert (one.bucket, one.prefix, str(one)) == ("bucket", "team/ledger/", "s3://bucket/team/ledger")
    assert one.endpoint == "http://10.0.0.1:9000" and one.region == "eu"
