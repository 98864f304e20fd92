"""A cluster's blobs: an agent that publishes and sends, a worker that indexes, an operator's machine that has neither.

On a real broker, with tables behind HTTP and a bucket."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.broker import Broker
from support.clickhouse_http import running_server
from support.installation import BIN, Installation
from support.moto_server import MotoServer
from support.polling import poll_until
from trainledger_schemas.s3_objects import S3Objects
from trainledger_schemas.shared_blobs import SharedBlobs

pytestmark = pytest.mark.kafka

TRAIN = """
import os, trainledger
os.makedirs("data/inner", exist_ok=True)
for number in range(20):
    open(f"data/inner/{number}.txt", "w").write(f"text {number}")
with trainledger.init(project="p", name="train") as run:
    run.use_dataset("data", name="texts")
    run.log_artifact("data/inner", name="copy", kind="dataset", aliases=["kept"])
"""


@contextmanager
def daemon(node: Installation, command: str, ready: str, **environment: str) -> Iterator[None]:
    with subprocess.Popen(
        [str(BIN / "trainledger"), command],
        cwd=node.folder,
        env=node.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().startswith(ready)
            yield
        finally:
            process.kill()


def test_garbage_and_files_are_found_from_a_machine_without_blobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, worker, desk = (Installation(tmp_path / name) for name in ("node", "worker", "desk"))
    for each in (node, worker, desk):
        each.folder.mkdir()
    text = hashlib.sha256(b"text 7").hexdigest()
    with (
        Broker(tmp_path / "broker") as broker,
        running_server(tmp_path / "tables") as tables,
        MotoServer() as store,
    ):
        there = {"TRAINLEDGER_KAFKA": broker.bootstrap, "TRAINLEDGER_CLICKHOUSE": tables.url}
        there |= store.environment | {"TRAINLEDGER_BLOBS": store.setting("team")}
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        objects = S3Objects(store.address("team"))
        assert worker.command("admin", "topics", **there).returncode == 0
        with daemon(node, "agent", "ready agent", **there):
            with daemon(worker, "ingest", "ready ingest", **there):
                assert node.script(TRAIN, TRAINLEDGER_CAPTURE="off").returncode == 0
                # Two nodes, and twenty files of which none is the other.
                poll_until(lambda: len(list(objects.names("sha256/"))) == 22, deadline_s=60, pause_s=0.2)
                garbage = SharedBlobs(objects).put(b"nobody names it")
                # It waits until the tables have what is in Kafka.
                (condemned,) = desk.json("admin", "gc", "--delete", "--grace", "0", **there)
                assert (condemned["kept"], condemned["condemned"], condemned["deleted"]) == (22, 1, 0)
                (deleted,) = desk.json("admin", "gc", "--delete", "--grace", "0", **there)
                assert (deleted["kept"], deleted["deleted"], deleted["notes"]) == (22, 1, [])
                assert not SharedBlobs(objects).has(garbage.sha256)
                found = desk.json("admin", "data", "find", text, **there)
                assert {(row["name"], *row["paths"]) for row in found} == {
                    ("texts", "inner/7.txt"),
                    ("copy", "7.txt"),
                }
                assert {alias for row in found for alias in row["aliases"]} == {"copy:kept"}
            # The worker is away, and the log has what the tables have not.
            assert node.script(TRAIN, TRAINLEDGER_CAPTURE="off").returncode == 0
            # It refuses as soon as the agent has published that; until then all of it is young.
            poll_until(
                lambda: "records behind the log" in desk.command("admin", "gc", "--delete", **there).stderr,
                deadline_s=60,
                pause_s=0.2,
            )
