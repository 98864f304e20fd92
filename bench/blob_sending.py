"""What it costs to send an artifact of many small files to a store that answers after 20 ms.

The agent's own uploader on a spool with one event. `requests_per_s` is wall time and falls on a busy machine;
`cpu_ms` is the sender's, a blob. `reading_ms` is half and 99 % of the rounds of a thread beside it that reads 200 files
of /proc each 100 ms, as the collector's sampling does, and `alone_ms` the same before anything is sent.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.workspace import temporary_folder
from trainledger.node.blob_upload import make_uploader, runs_log
from trainledger.node.identity import load_identity
from trainledger.node.node_settings import BlobSettings
from trainledger.node.spool import Spool, SpoolSettings
from trainledger.node.user_blobs import UserBlobs
from trainledger_schemas.blob_address import parse_blob_address
from trainledger_schemas.blobs import BlobRef
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.tree_manifest import Child, encode_node

FILES, QUICK_FILES = 5000, 300
FOLDER_FILES = 1000
FILE_BYTES = 4096
LATENCY_MS = 20
BLOBS_PER_S_MIN = 100
WAIT_S = 1200
ALONE_S = 5


@contextmanager
def slow_store(latency_ms: float) -> Iterator[int]:
    """A store on a port of its own."""
    command = [sys.executable, "-m", "bench.slow_store", str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def put_plainly(blobs: Path, data: bytes) -> BlobRef:
    """A blob without fsync: the disk is not measured."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = blobs / "sha256" / sha256[:2] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return BlobRef(sha256, len(data))


def make_artifact(blobs: Path, files: int) -> str:
    """The top node of a folder of small files."""
    folders = []
    for begin in range(0, files, FOLDER_FILES):
        children = []
        for number in range(begin, min(begin + FOLDER_FILES, files)):
            ref = put_plainly(blobs, b"%08d" % number * (FILE_BYTES // 8))
            children.append(Child("f", FILE_BYTES, ref.sha256, b"%d" % number))
        node = put_plainly(blobs, encode_node(children))
        folders.append(Child("d", FILE_BYTES * len(children), node.sha256, b"%d" % begin))
    return put_plainly(blobs, encode_node(folders)).sha256


class Reading:
    """A thread that reads files of /proc now and then, and how long each round took."""

    def __init__(self) -> None:
        self.rounds_ms: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Reading":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            begin = time.perf_counter()
            for _ in range(100):
                for name in ("stat", "io"):
                    Path(f"/proc/self/{name}").read_bytes()
            self.rounds_ms.append((time.perf_counter() - begin) * 1000)

    def shown(self) -> list[float]:
        """Half of the rounds, and 99 %, took at most so long."""
        ordered = sorted(self.rounds_ms)
        return [round(ordered[int(len(ordered) * share)], 1) for share in (0.5, 0.99)]


def send(workspace: Path, files: int, port: int) -> dict[str, Any]:
    """Send one artifact; the figures."""
    clock = SystemClock()
    top = make_artifact(workspace / "journals" / str(os.geteuid()) / "blobs", files)
    spool = Spool.open(
        workspace / "spool",
        identity=load_identity(workspace / "spool", node_id="bench"),
        clock=clock,
        settings=SpoolSettings(),
    )
    fields = {
        "run_id": b"r" * 16, "writer_id": b"w" * 16, "at_us": 1, "artifact_id": b"a" * 16, "stage": 1,
        "kind": "model", "name": "m", "uri": "/m", "size_bytes": files * FILE_BYTES, "files": files,
        "digest": f"sha256:{top}", "manifest_sha256": top, "status": "complete", "is_stored": True,
        "new_bytes": 1, "aliases": [], "reasons": [],
    }  # fmt: skip
    spool.append("artifact_logged", fields, key=b"r" * 16)
    spool.sync()
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    address = parse_blob_address(f"s3://bucket?endpoint=http://127.0.0.1:{port}")
    uploader = make_uploader(
        runs_log(spool, None, lambda: None),
        spool,
        UserBlobs(workspace / "journals"),
        settings=BlobSettings(address),
        clock=clock,
    )
    with Reading() as alone:
        time.sleep(ALONE_S)
    begin, cpu = time.perf_counter(), time.process_time()
    with Reading() as reading:
        is_done = uploader.finish(spool.synced_end(TOPIC_RUNS), WAIT_S)
        wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    uploader.stop()
    spool.close()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/requests") as answer:
        requests = int(answer.read())
    blobs = uploader.stored_blobs
    return {
        "case": f"{files} files of {FILE_BYTES} bytes, {LATENCY_MS} ms a request",
        "blobs": blobs,
        "requests": requests,
        "requests_per_s": round(requests / wall_s),
        "blobs_per_s": round(blobs / wall_s),
        "cpu_ms": round(cpu_s * 1000 / blobs, 2),
        "reading_ms": reading.shown(),
        "alone_ms": alone.shown(),
        "bars": {"blobs_per_s": BLOBS_PER_S_MIN},
        "met": is_done and blobs / wall_s >= BLOBS_PER_S_MIN,
    }


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """One artifact, sent once."""
    with temporary_folder() as workspace, slow_store(LATENCY_MS) as port:
        yield send(workspace, QUICK_FILES if quick else FILES, port)
