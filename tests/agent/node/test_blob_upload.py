"""Sending blobs to a real S3 server: in the order of the log, through the server's death, and what is freed here."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.journals import IDENTITY
from support.moto_server import MotoServer
from support.polling import poll_until
from trainledger.node.blob_backlog import Pending, unsent
from trainledger.node.blob_freeing import copies_above
from trainledger.node.blob_sending import BlobSender, Sending
from trainledger.node.blob_upload import BlobUploader, RunsLog, make_uploader, runs_log
from trainledger.node.node_settings import BlobSettings
from trainledger.node.spool import Spool, SpoolSettings
from trainledger.node.user_blobs import LocalCopy, UserBlobs
from trainledger_schemas.avro_codec import decode_event
from trainledger_schemas.blob_address import BlobAddress, parse_blob_address
from trainledger_schemas.blob_references import (
    FILE,
    SNAPSHOT,
    TREE_WITH_FILES,
    Named,
    named_blobs,
    walk_named,
)
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.code_snapshot import CodeSnapshot, RepositorySnapshot, encode_snapshot
from trainledger_schemas.errors import RetryableSourceError
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.objects import StoredObject
from trainledger_schemas.s3_objects import S3Objects
from trainledger_schemas.shared_blobs import SharedBlobs
from trainledger_schemas.spool_reader import SpoolReader
from trainledger_schemas.tree_manifest import Child, encode_node

RUN, WRITER = b"r" * 16, b"w" * 16
CLOCK = SystemClock()
UID = os.geteuid()


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@dataclass
class Node:
    """A spool, the blobs of this user, and a prefix of the server of its own."""

    folder: Path
    server: MotoServer
    spool: Spool
    settings: BlobSettings
    uploaders: list[BlobUploader] = field(default_factory=list)

    @property
    def blobs(self) -> FolderBlobs:
        return FolderBlobs(self.folder / "journals" / str(UID) / "blobs")

    @property
    def local(self) -> UserBlobs:
        return UserBlobs(self.folder / "journals")

    def objects(self) -> S3Objects:
        return S3Objects(self.settings.address)

    def shared(self) -> SharedBlobs:
        return SharedBlobs(self.objects())

    def names(self) -> set[str]:
        return {item.name.rpartition("/")[2] for item in self.objects().names("sha256/")}

    def logged(self, sha256: str, *, manifest: str | None = None, is_stored: bool = True) -> None:
        self.event(
            "artifact_logged", artifact_id=b"a" * 16, stage=1, kind="model", name="m", uri="/m", size_bytes=1, files=1,
            digest=f"sha256:{sha256}", manifest_sha256=manifest, status="complete", is_stored=is_stored, new_bytes=1,
            aliases=[], reasons=[],
        )  # fmt: skip

    def event(self, event_type: str, **fields: Any) -> None:
        known = {"run_id": RUN, "writer_id": WRITER, "at_us": 1}
        self.spool.append(event_type, known | fields, key=RUN)
        self.spool.sync()

    def stored(self) -> list[dict[str, Any]]:
        frames = SpoolReader(self.spool.folder, TOPIC_RUNS).read(0, end=1 << 60, bytes_max=1 << 30)
        events = [decode_event(frame.payload) for frame in frames]
        return [event.record for event in events if event.type == "blobs_stored"]

    def upload(self, read_claims: Callable[[], None] = lambda: None) -> BlobUploader:
        uploader = BlobUploader(
            self.spool,
            self.local,
            settings=self.settings,
            log=runs_log(self.spool, None, read_claims),
            clock=CLOCK,
        )
        self.uploaders.append(uploader)
        uploader.start()
        return uploader

    def upload_all(self) -> BlobUploader:
        uploader = self.upload()
        poll_until(lambda: uploader.is_caught_up(self.spool.synced_end(TOPIC_RUNS)))
        return uploader


@pytest.fixture
def node(server: MotoServer, tmp_path: Path) -> Iterator[Node]:
    spool = Spool.open(tmp_path / "spool", identity=IDENTITY, clock=CLOCK, settings=SpoolSettings())
    prefix = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
    node = Node(tmp_path, server, spool, BlobSettings(server.address(prefix), retry_s_max=1))
    yield node
    for uploader in node.uploaders:
        uploader.stop(10)
    spool.close()


def test_what_events_name_is_sent_with_all_that_it_names(node: Node) -> None:
    files = [node.blobs.put(b"one"), node.blobs.put(b"two")]
    inner = node.blobs.put(encode_node([Child("f", 3, files[1].sha256, b"b")]))
    top = node.blobs.put(
        encode_node([Child("x", 3, files[0].sha256, b"a"), Child("d", 3, inner.sha256, b"d"),
                     Child("l", 4, hashlib.sha256(b"/etc").hexdigest(), b"link", b"/etc")])
    )  # fmt: skip
    bundle, patch = node.blobs.put(b"bundle"), node.blobs.put(b"patch")
    repository = RepositorySnapshot(
        "", "git", "sha1", None, None, None, snapshot="1", tree="2", bundles=(bundle,)
    )
    document = node.blobs.put(encode_snapshot(CodeSnapshot("/code", (repository,))))
    unnamed = node.blobs.put(b"nobody names it")
    node.logged(top.sha256, manifest=top.sha256)
    node.event(
        "provenance", vcs=None, repository=None, commit=None, branch=None, dirty=None, entry_point=None, argv=[],
        python=None, packages={}, os=None, reasons=[], snapshot_sha256=document.sha256, patch_sha256=patch.sha256,
    )  # fmt: skip
    node.upload_all()
    sent = {ref.sha256 for ref in (*files, inner, top, bundle, patch, document)}
    assert node.names() == sent and unnamed.sha256 not in sent
    assert [(row["sha256"], row["blobs"], row["missing"], row["run_id"]) for row in node.stored()] == [
        (top.sha256, 4, 0, RUN),
        (document.sha256, 2, 0, RUN),
        (patch.sha256, 1, 0, RUN),
    ]
    assert {row["place"] for row in node.stored()} == {str(node.settings.address)}
    (who,) = node.objects().names("uploaders/")
    assert who.name.endswith("70726f64-7563-6572-2d69-642d31362d62")


def test_an_unchanged_artifact_is_not_sent_twice_and_a_new_uploader_goes_on_behind_it(node: Node) -> None:
    ref = node.blobs.put(b"weights" * 1000)
    node.logged(ref.sha256)
    node.upload_all().stop(10)
    node.logged(ref.sha256)
    second = node.upload_all()
    assert [row["new_bytes"] for row in node.stored()] == [7000, 0]
    assert second.sent_bytes == 0 and second.stored_blobs == 1, "the first event is not taken up again"


def test_what_is_neither_here_nor_there_is_told(node: Node) -> None:
    ref = node.blobs.put(b"bytes")
    damaged = node.blobs.put(b"will be damaged")
    path = node.blobs.path_of(damaged.sha256)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"other")
    top = node.blobs.put(encode_node([Child("f", 5, ref.sha256, b"a"), Child("f", 1, "0" * 64, b"b")]))
    node.logged(top.sha256, manifest=top.sha256)
    node.logged(damaged.sha256)
    node.logged("../../../etc/passwd")
    node.upload_all()
    assert [(row["blobs"], row["missing"]) for row in node.stored()] == [(2, 1), (0, 1)]
    assert "neither on this node nor in s3://blobs" in node.stored()[0]["reasons"][0]
    assert "does not have the SHA-256" in node.stored()[1]["reasons"][0]
    assert damaged.sha256 not in node.names()


def test_links_and_other_peoples_files_are_not_sent(node: Node, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    sha256 = hashlib.sha256(b"secret").hexdigest()
    node.blobs.put(b"makes the folder")
    place = node.blobs.folder / "sha256" / sha256[:2] / sha256
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(secret)
    node.logged(sha256)
    if UID == 0:
        other = node.blobs.put(b"of another user")
        path = node.blobs.path_of(other.sha256)
        assert path is not None
        os.chown(path, 12345, 12345)
        node.logged(other.sha256)
    node.upload_all()
    assert node.names() == set()


def folder_of(node: Node, files: int) -> str:
    """The manifest of a folder of folders with so many files each of them alone in its content."""
    folders = []
    for begin in range(0, files, 10):
        names = range(begin, min(begin + 10, files))
        refs = [(node.blobs.put(b"file %d" % number), b"%d" % number) for number in names]
        children = [Child("f", ref.size_bytes, ref.sha256, name) for ref, name in refs]
        inner = node.blobs.put(encode_node(children))
        folders.append(Child("d", 1, inner.sha256, b"%d" % begin))
    return node.blobs.put(encode_node(folders)).sha256


class Counted(S3Objects):
    """Counts what is asked for, and how much of it side by side; fails where it is told to."""

    def __init__(self, address: BlobAddress) -> None:
        super().__init__(address)
        self.calls: list[str] = []
        self.side_by_side = self.now = 0
        self.fails_at = 0
        self._counting = threading.Lock()

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        with self._counting:
            self.calls.append(call)
            self.now += 1
            self.side_by_side = max(self.side_by_side, self.now)
            fails = len(self.calls) == self.fails_at
        try:
            if fails:
                raise RetryableSourceError("the bucket refuses")
            yield
        finally:
            with self._counting:
                self.now -= 1

    def look(self, name: str) -> StoredObject | None:
        with self._counted("look"):
            return super().look(name)

    def names(self, prefix: str) -> Iterator[StoredObject]:
        self.calls.append("names")
        return super().names(prefix)

    def put_new(self, name: str, source: bytes | Path, *, sha256: str) -> bool:
        with self._counted("put"):
            return super().put_new(name, source, sha256=sha256)


def sender_of(node: Node, objects: Counted, stopping: threading.Event | None = None) -> BlobSender:
    settings = BlobSettings(node.settings.address, at_once=4, cpu_share_max=8)
    return BlobSender(
        node.local, objects, settings=settings, clock=CLOCK, stopping=stopping or threading.Event()
    )


def test_many_files_go_side_by_side_each_once_and_with_few_requests(node: Node) -> None:
    top = folder_of(node, 100)
    objects = Counted(node.settings.address)
    sender = sender_of(node, objects)
    sending = Sending(Named(top, TREE_WITH_FILES))
    assert sender.send([sending], sender.marks())
    assert (sending.report.blobs, sending.report.missing) == (111, 0) and len(node.names()) == 111
    assert 1 < objects.side_by_side <= 4
    # A look a mark until they are listed, and where a body was sent in vain; a body for each blob.
    assert objects.calls.count("put") == 111 and objects.calls.count("names") == 1
    assert objects.calls.count("look") < 111
    objects.calls.clear()
    again = Sending(Named(top, TREE_WITH_FILES))
    assert sender.send([again], sender.marks()) and again.report.new_bytes == 0
    assert objects.calls.count("put") <= 5, "once one is found there, the others are looked for"
    sender.close()


def test_after_trouble_sending_goes_on_where_it_was(node: Node) -> None:
    objects = Counted(node.settings.address)
    sender = sender_of(node, objects)
    sending = Sending(Named(folder_of(node, 60), TREE_WITH_FILES))
    marks = sender.marks()
    objects.fails_at = 90
    with pytest.raises(RetryableSourceError, match="the bucket refuses"):
        sender.send([sending], marks)
    done = sending.report.blobs
    assert 20 < done < 67
    puts = objects.calls.count("put")
    assert sender.send([sending], marks) and sending.report.blobs == 67 == len(node.names())
    assert objects.calls.count("put") - puts <= 67 - done + 1
    sender.close()


def test_nothing_is_sent_before_the_document_that_names_it(node: Node) -> None:
    objects = Counted(node.settings.address)
    sender = sender_of(node, objects)
    top = folder_of(node, 30)
    objects.fails_at = 2  # the first body, after the look at its mark
    sending = Sending(Named(top, TREE_WITH_FILES))
    with pytest.raises(RetryableSourceError):
        sender.send([sending], sender.marks())
    assert node.names() == set() and objects.calls == ["look", "put"]
    stopped = threading.Event()
    stopped.set()
    assert not sender_of(node, objects, stopped).send([sending], sender.marks())
    sender.close()


def test_what_waits_and_why_is_told_to_this_process_and_to_others(node: Node) -> None:
    ref = node.blobs.put(b"bytes")
    node.logged(ref.sha256)
    away = BlobSettings(parse_blob_address("s3://blobs?endpoint=http://127.0.0.1:1"), retry_s_max=1)
    log = runs_log(node.spool, None, lambda: None)
    uploader = make_uploader(log, node.spool, node.local, settings=away, clock=CLOCK)
    node.uploaders.append(uploader)
    uploader.start()
    poll_until(lambda: unsent(node.spool.folder).why)
    told = unsent(node.spool.folder)
    assert told.pending == uploader.pending() == Pending(1, 1, 1, 1)
    assert "127.0.0.1:1" in told.why and told.since_us is not None
    uploader.stop(10)
    node.upload_all()
    assert unsent(node.spool.folder) == (Pending(), "", None)


def test_a_server_that_dies_in_the_middle_is_waited_for(tmp_path: Path) -> None:
    with MotoServer() as own, pytest.MonkeyPatch.context() as patch:
        for name, value in own.environment.items():
            patch.setenv(name, value)
        spool = Spool.open(tmp_path / "spool", identity=IDENTITY, clock=CLOCK, settings=SpoolSettings())
        node = Node(tmp_path, own, spool, BlobSettings(own.address(), retry_s_max=1))
        refs = [node.blobs.put(b"%d" % number) for number in range(3)]
        node.logged(refs[0].sha256)
        uploader = node.upload_all()
        own.kill()
        node.logged(refs[1].sha256)
        poll_until(lambda: uploader.trouble)
        saved = uploader.saved
        node.logged(refs[2].sha256)
        own.start()  # with nothing in it
        poll_until(lambda: uploader.is_caught_up(spool.synced_end(TOPIC_RUNS)))
        assert saved < uploader.saved and uploader.trouble == ""
        assert node.names() == {refs[1].sha256, refs[2].sha256}
        assert [row["sha256"] for row in node.stored()] == [ref.sha256 for ref in refs]
        uploader.stop(10)
        spool.close()


def test_nothing_is_sent_before_its_event_is_in_the_log(node: Node) -> None:
    ref = node.blobs.put(b"bytes")
    node.logged(ref.sha256)
    end = [0]
    log = RunsLog(lambda: end[0], lambda: 1, lambda name, fields, key: None, lambda: None)
    uploader = BlobUploader(node.spool, node.local, settings=node.settings, log=log, clock=CLOCK)
    assert not uploader._round() and node.names() == set()
    end[0] = 1
    assert uploader._round() and node.names() == {ref.sha256}


def test_local_copies_go_above_the_limit_and_nothing_that_is_not_in_the_store(node: Node) -> None:
    old, new, unsent = node.blobs.put(b"o" * 1000), node.blobs.put(b"n" * 1000), node.blobs.put(b"u" * 1000)
    for number, ref in enumerate((unsent, old, new)):
        path = node.blobs.path_of(ref.sha256)
        assert path is not None
        os.utime(path, ns=(number, number))
    node.logged(old.sha256)
    node.upload_all().stop(10)  # to send is to read: of two that are sent together, either may be read last
    node.logged(new.sha256)
    node.settings = BlobSettings(node.settings.address, local_bytes_max=1500, retry_s_max=1)
    uploader = node.upload()
    poll_until(lambda: not node.blobs.has(old.sha256))
    assert node.blobs.has(new.sha256) and node.blobs.has(unsent.sha256)
    assert uploader.is_caught_up(node.spool.synced_end(TOPIC_RUNS))
    assert node.shared().read(old.sha256) == b"o" * 1000


def test_nothing_is_freed_while_a_training_stores_or_says_what_it_stored(node: Node) -> None:
    ref = node.blobs.put(b"o" * 1000)
    node.logged(ref.sha256)
    node.settings = BlobSettings(node.settings.address, local_bytes_max=0, retry_s_max=1)
    asked: list[int] = []
    late = node.blobs.put(b"named by a claim that is not read yet")

    def read_claims() -> None:
        asked.append(1)
        node.logged(late.sha256)

    uploader = BlobUploader(
        node.spool,
        node.local,
        settings=node.settings,
        log=runs_log(node.spool, None, read_claims),
        clock=CLOCK,
    )
    while uploader._round():
        pass
    with node.blobs.writing():
        assert not uploader._free() and node.blobs.has(ref.sha256) and not asked
    uploader._free_at_ns = 0
    assert uploader._free() and asked and not node.blobs.has(ref.sha256)
    assert node.blobs.has(late.sha256) and late.sha256 in node.names(), "it is sent before anything goes"


def test_what_was_used_longest_ago_goes_first() -> None:
    copies = [LocalCopy(0, str(n), 10, used_ns=n) for n in (3, 1, 2)]
    assert [copy.sha256 for copy in copies_above(copies, 15)] == ["1", "2"]
    assert copies_above(copies, 30) == []


def test_walks_give_documents_first_and_everything_once() -> None:
    leaf = encode_node([Child("f", 1, "a" * 64, b"f")])
    name = hashlib.sha256(leaf).hexdigest()
    top = encode_node([Child("d", 1, name, b"1"), Child("d", 1, name, b"2")])
    nodes = {name: leaf, hashlib.sha256(top).hexdigest(): top}
    (named,) = named_blobs("artifact_logged", {"manifest_sha256": hashlib.sha256(top).hexdigest()})
    assert named.kind == TREE_WITH_FILES
    walked = [item.sha256 for item in walk_named(named, nodes.__getitem__)]
    assert walked == [named.sha256, name, "a" * 64]
    (tree,) = named_blobs("dataset_used", {"manifest_sha256": named.sha256})
    assert [item.sha256 for item in walk_named(tree, nodes.__getitem__)] == [named.sha256, name]
    assert [
        item.kind for item in named_blobs("provenance", {"snapshot_sha256": "b" * 64, "patch_sha256": None})
    ] == [SNAPSHOT]
    assert named_blobs("artifact_logged", {"digest": "sha256:" + "c" * 64, "is_stored": False}) == []
    assert named_blobs("artifact_logged", {"digest": "sha256:" + "c" * 64, "is_stored": True})[0].kind == FILE
    assert named_blobs("run_started", {"digest": "sha256:" + "c" * 64, "is_stored": True}) == []


def test_a_one_shot_sends_what_is_pending_and_gives_up_where_nobody_answers(node: Node) -> None:
    ref = node.blobs.put(b"bytes")
    node.logged(ref.sha256)
    log = runs_log(node.spool, None, lambda: None)
    sender = make_uploader(log, node.spool, node.local, settings=node.settings, clock=CLOCK)
    node.uploaders.append(sender)
    assert sender.finish(node.spool.synced_end(TOPIC_RUNS), 30) and node.names() == {ref.sha256}
    sender.stop(10)
    node.logged(ref.sha256)
    away = BlobSettings(parse_blob_address("s3://blobs?endpoint=http://127.0.0.1:1"), retry_s_max=1)
    lost = make_uploader(log, node.spool, node.local, settings=away, clock=CLOCK)
    node.uploaders.append(lost)
    assert not lost.finish(node.spool.synced_end(TOPIC_RUNS), 3) and "127.0.0.1:1" in lost.trouble


def test_with_kafka_nothing_is_sent_before_the_broker_has_it(node: Node) -> None:
    ref = node.blobs.put(b"bytes")
    node.logged(ref.sha256)
    published = [0]
    log = runs_log(node.spool, lambda: published[0], lambda: None)
    assert (log.readable_end(), log.spooled_end()) == (0, 1)
    published[0] = 5
    assert log.readable_end() == 1
