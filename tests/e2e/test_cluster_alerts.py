"""Alerts on a cluster: a real broker, two `ingest` workers, ClickHouse over HTTP, a webhook and a mail server. Every rule is
told once by each channel, whichever worker looks, also when the one that looked is gone."""

import signal
import subprocess
from pathlib import Path

import pytest
from kafka import KafkaProducer

from support.broker import Broker
from support.clickhouse_http import running_server
from support.filled_tables import FilledTables
from support.ingest_store import fresh_store
from support.installation import BIN, Installation
from support.mailbox import Mailbox
from support.polling import poll_until
from support.troubles import WORDS, write_error, write_troubles
from support.webhook import Webhook
from trainledger_schemas.clock import SystemClock

pytestmark = pytest.mark.kafka


def start_worker(node: Installation) -> "subprocess.Popen[str]":
    """A worker that has said that it is ready."""
    process = subprocess.Popen(
        [str(BIN / "trainledger"), "ingest"], cwd=node.folder, env=node.environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline().startswith("ready")
    return process


class Node:
    """Sends what is written in `events` to the broker, and each time that it is still there."""

    def __init__(self, events: FilledTables, bootstrap: str) -> None:
        self.events = events
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
        self._sent: dict[str, int] = {}

    def send(self) -> None:
        self.events.present(SystemClock().wall_ns() // 1000)
        for partition, records in self.events.log.records.items():
            for record in records[self._sent.get(partition.topic, 0) :]:
                self._producer.send(record.topic, record.value, key=b"node-1", partition=0)
            self._sent[partition.topic] = len(records)
        self._producer.flush()

    def close(self) -> None:
        self._producer.close()


def test_two_workers_tell_everything_once_by_webhook_and_mail(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    events = FilledTables(fresh_store(), tmp_path)
    now_us = SystemClock().wall_ns() // 1000
    workers: list[subprocess.Popen[str]] = []
    with (
        Broker(tmp_path / "broker") as broker,
        running_server(tmp_path / "clickhouse") as server,
        Webhook() as hook,
        Mailbox() as box,
    ):
        node.environment |= {"TRAINLEDGER_KAFKA": broker.bootstrap, "TRAINLEDGER_CLICKHOUSE": server.url}
        node.environment |= {"TRAINLEDGER_ALERT_WEBHOOK": hook.url, "TRAINLEDGER_ALERT_SMTP": box.url}
        assert node.command("admin", "topics").returncode == 0
        write_troubles(events, now_us)
        watched = Node(events, broker.bootstrap)
        watched.send()

        def told(messages: int) -> bool:
            watched.send()
            return len(hook.posted) == messages and len(box.mails) == messages

        def noted() -> int:
            return int(node.sql("SELECT count() AS n FROM alerts")[0]["n"])

        try:
            workers += [start_worker(node), start_worker(node)]
            poll_until(lambda: told(4), deadline_s=180, pause_s=2)
            # Whichever told: the other one looks from now on, and knows what was told.
            workers[0].send_signal(signal.SIGINT)
            assert workers[0].wait(60) == 0
            write_error(events, now_us, 94)
            poll_until(lambda: told(5), deadline_s=180, pause_s=2)
            poll_until(lambda: noted() == 10, deadline_s=60, pause_s=5)
        finally:
            watched.close()
            for worker in workers:
                worker.send_signal(signal.SIGINT)
            for worker in workers:
                worker.communicate(timeout=60)
        texts = [str(post["text"]) for post in hook.posted]
        subjects = [str(mail["Subject"]) for _, mail in box.mails]
        for words in (*WORDS.values(), "Xid 94 on node node-1"):
            assert sum(words in text for text in texts) == sum(words in subject for subject in subjects) == 1
