"""Commands where Kafka is the log: prices that reach a cluster, and `sync` that publishes; on a real broker.

Each test has a consumer group of its own: a group's commits belong to one ledger.
"""

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.blocked import without
from support.broker import Broker
from support.clickhouse_http import running_server
from support.installation import BIN, Installation
from support.polling import poll_until
from trainledger_ingest.worker_counts import METRICS

pytestmark = pytest.mark.kafka

LOG_TWO = (
    "import trainledger\n"
    "with trainledger.init(project='p', name='one') as run:\n    run.log({'loss': 1.0})\n    run.log({'loss': 0.5})\n"
)
SET_PRICE = ("price", "set", "--node", "*", "--usd-per-hour", "2.50", "--from", "2026-11-01T00:00")
NOT_YET = "accepted by Kafka"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with the product's topics: they have fixed names, so no other test may share it."""
    with Broker(tmp_path_factory.mktemp("cluster")) as running:
        made = Installation(tmp_path_factory.mktemp("topics")).command(
            "admin", "topics", TRAINLEDGER_KAFKA=running.bootstrap
        )
        assert made.returncode == 0, made.stderr
        yield running


class Ingest:
    """A running `trainledger ingest`: what its ready line said, and how it ends."""

    def __init__(self, node: Installation, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [str(BIN / "trainledger"), "ingest", *arguments],
            cwd=node.folder,
            env=node.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready ingest "), self.process.communicate()[1]
        self.said = dict(item.split("=", 1) for item in line.split()[2:])

    def end(self, number: int) -> tuple[int, list[dict[str, object]]]:
        """Send a signal; exit status and what it logged."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, [json.loads(line) for line in errors.splitlines()]


@contextmanager
def ingesting(node: Installation, *arguments: str, **environment: str) -> Iterator[Ingest]:
    running = Ingest(node, *arguments, **environment)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines if x[0] != "#")}


def lag_of(worker: Ingest) -> dict[str, float]:
    """By partition; empty until the worker has its partitions and has looked."""
    return {name: value for name, value in scrape(worker.said["metrics"]).items() if "_lag_records" in name}


def prices(node: Installation, **environment: str) -> list[str]:
    return [row["node"] for row in node.json("price", "ls", **environment)]


def test_price_set_before_any_worker_is_shown_once_ingest_has_read_it(
    cluster: Broker, tmp_path: Path
) -> None:
    node = Installation(tmp_path)
    kafka = {"TRAINLEDGER_KAFKA": cluster.bootstrap}
    set_first = node.command(*SET_PRICE, **kafka)
    assert set_first.returncode == 0, set_first.stderr
    assert NOT_YET in set_first.stderr and len(set_first.stderr.splitlines()) == 1
    assert not node.home.joinpath("tables").exists()
    assert node.command("ingest", "--once", **kafka).returncode == 0
    assert "*" in prices(node, **kafka)
    # From now on `ingest` fills the tables of this home, and the next price goes the same way.
    set_next = node.command(*SET_PRICE[:3], "cpu-*", *SET_PRICE[4:], **kafka)
    assert (set_next.returncode, NOT_YET in set_next.stderr) == (0, True)
    assert "cpu-*" not in prices(node, **kafka)
    assert node.command("ingest", "--once", **kafka).returncode == 0
    assert "cpu-*" in prices(node, **kafka)


def test_price_load_with_clickhouse_is_shown_when_the_command_ends_while_ingest_runs(
    cluster: Broker, tmp_path: Path
) -> None:
    node = Installation(tmp_path)
    book = tmp_path / "prices.toml"
    book.write_text(
        '[[price]]\nnode = "a-*"\nusd_per_hour = "1"\nfrom = "2026-11-01T00:00"\n'
        '[[price]]\nnode = "b-*"\nusd_per_hour = "2"\nfrom = "2026-11-01T00:00"\n'
    )
    with running_server(tmp_path / "clickhouse") as server:
        there = {"TRAINLEDGER_KAFKA": cluster.bootstrap, "TRAINLEDGER_CLICKHOUSE": server.url}
        with ingesting(node, "--metrics", "127.0.0.1:0", "--group", "server", **there) as worker:
            poll_until(lambda: lag_of(worker), deadline_s=60, pause_s=0.2)
            loaded = node.command("price", "load", str(book), **there)
            assert (loaded.returncode, loaded.stderr) == (0, "")
            assert {"a-*", "b-*"} <= set(prices(node, **there))
        # No worker any more: the command waits a little, says so, and does not fail.
        alone = node.command(*SET_PRICE, **there)
    assert alone.returncode == 0
    assert NOT_YET in alone.stderr


@pytest.mark.parametrize("command", [SET_PRICE, ("admin", "dead", "skip", "t", "0", "1", "--reason", "r")])
def test_an_admin_event_without_a_broker_fails_in_one_line_that_names_it(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = Installation(tmp_path).command(*command, TRAINLEDGER_KAFKA="127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr and "TRAINLEDGER_KAFKA" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_admin_event_for_a_frozen_broker_fails_in_bounded_time(tmp_path: Path) -> None:
    with Broker(tmp_path / "frozen") as broker:
        broker.pause()
        done = Installation(tmp_path).command(*SET_PRICE, TRAINLEDGER_KAFKA=broker.bootstrap)
    assert done.returncode == 1
    assert broker.bootstrap in done.stderr


def test_a_price_for_clickhouse_without_kafka_says_what_to_set(tmp_path: Path) -> None:
    with running_server(tmp_path / "clickhouse") as server:
        done = Installation(tmp_path).command(*SET_PRICE, TRAINLEDGER_CLICKHOUSE=server.url)
    assert done.returncode == 2
    assert "set TRAINLEDGER_KAFKA" in done.stderr


def test_sync_with_tables_fills_them_and_publishes(cluster: Broker, tmp_path: Path) -> None:
    node = Installation(tmp_path)
    kafka = {"TRAINLEDGER_KAFKA": cluster.bootstrap}
    assert node.script(LOG_TWO).returncode == 0
    assert node.json("sync", **kafka) == [{"runs": 1, "points": 2, "published": True}]
    assert [row["name"] for row in node.json("ls", **kafka)] == ["one"]
    # A price of a home with tables of its own counts there and goes to the cluster too.
    assert node.command(*SET_PRICE[:3], "own-*", *SET_PRICE[4:], **kafka).returncode == 0
    assert prices(node, **kafka) == ["own-*"]
    worker = Installation(tmp_path / "worker")
    worker.folder.mkdir(exist_ok=True)
    assert worker.command("ingest", "--once", "--group", "own", **kafka).returncode == 0
    assert "own-*" in prices(worker, **kafka)
    run_id = node.json("ls", **kafka)[0]["run_id"]
    sql = f"SELECT count() AS n FROM metrics WHERE run_id = '{run_id}'"
    assert worker.sql(sql, **kafka) == [{"n": 2}]


def test_sync_of_a_cluster_node_publishes_and_leaves_the_tables_alone(
    cluster: Broker, tmp_path: Path
) -> None:
    node = Installation(tmp_path)
    kafka = {"TRAINLEDGER_KAFKA": cluster.bootstrap}
    assert node.command("ingest", "--once", "--group", "node", **kafka).returncode == 0
    assert node.script(LOG_TWO).returncode == 0
    (done,) = node.json("sync", **kafka)
    assert (done["points"], done["published"]) == (2, True)
    assert node.command("ingest", "--once", "--group", "node", **kafka).returncode == 0
    assert "one" in [row["name"] for row in node.json("ls", **kafka)]


def test_sync_with_the_agent_alone_publishes(cluster: Broker, tmp_path: Path) -> None:
    node, worker = Installation(tmp_path), Installation(tmp_path / "worker")
    worker.folder.mkdir()
    kafka = {"TRAINLEDGER_KAFKA": cluster.bootstrap}
    blocked = without(tmp_path / "blocked", ["chdb", "pyarrow", "clickhouse_connect", "rich"])
    assert node.script(LOG_TWO.replace("one", "alone")).returncode == 0
    (done,) = node.json("sync", **kafka, **blocked)
    assert (done["points"], done["published"]) == (2, True)
    assert worker.command("ingest", "--once", "--group", "alone", **kafka).returncode == 0
    assert "alone" in [row["name"] for row in worker.json("ls", **kafka)]


def test_up_publishes_what_it_reads_and_sync_waits_for_it(cluster: Broker, tmp_path: Path) -> None:
    node = Installation(tmp_path)
    node.environment["TRAINLEDGER_KAFKA"] = cluster.bootstrap
    with node.up():
        assert node.script(LOG_TWO).returncode == 0
        assert node.json("sync") == [{"runs": 1, "points": 2, "published": True}]
        set_price = node.command(*SET_PRICE)
        assert (set_price.returncode, set_price.stderr) == (0, "")
        assert prices(node) == ["*"]
    published = json.loads((node.home / "spool" / "published.cursor").read_bytes())
    assert published["trainledger.metrics"] >= 1 and published["trainledger.admin"] == 1


def test_a_price_beside_a_live_agent_goes_straight_to_the_cluster(cluster: Broker, tmp_path: Path) -> None:
    node = Installation(tmp_path)
    assert node.command("ls").returncode == 0  # this home has tables of its own
    with subprocess.Popen(
        [str(BIN / "trainledger"), "agent"],
        env=node.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as agent:
        assert agent.stdout is not None and agent.stdout.readline().startswith("ready")
        done = node.command(*SET_PRICE, TRAINLEDGER_KAFKA=cluster.bootstrap)
        agent.kill()
    assert done.returncode == 0, done.stderr
    left, sent = done.stderr.splitlines()
    assert f"left to process {agent.pid}" in left and NOT_YET in sent


def test_sync_without_a_broker_keeps_the_spool_and_says_so(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    assert node.script(LOG_TWO).returncode == 0
    done = node.command("sync", "--json", TRAINLEDGER_KAFKA="127.0.0.1:1")
    assert done.returncode == 1
    assert json.loads(done.stdout) == [{"runs": 1, "points": 2, "published": False}]
    assert "stays in the spool" in done.stderr


def test_ingest_serves_what_it_does_as_prometheus_text(cluster: Broker, tmp_path: Path) -> None:
    node = Installation(tmp_path)
    kafka = {"TRAINLEDGER_KAFKA": cluster.bootstrap}
    assert node.script(LOG_TWO).returncode == 0
    assert node.command("agent", "--once", "--home", str(tmp_path / "agent"), **kafka).returncode == 0
    with ingesting(node, "--metrics", "127.0.0.1:0", "--group", "metrics", **kafka) as worker:
        address = worker.said["metrics"]

        def is_caught_up() -> dict[str, float] | None:
            found, lags = scrape(address), lag_of(worker)
            read = found.get('trainledger_ingest_records_total{topic="trainledger.metrics"}', 0)
            return found if read and lags and not any(lags.values()) else None

        found = poll_until(is_caught_up, deadline_s=60, pause_s=0.2)
        status, logged = worker.end(signal.SIGTERM)
    metrics = '{topic="trainledger.metrics"}'
    assert {name.partition("{")[0] for name in found} <= set(METRICS)
    assert found[f"trainledger_ingest_rows_total{metrics}"] >= 2
    assert found[f"trainledger_ingest_bytes_total{metrics}"] > 0
    assert found[f"trainledger_ingest_batches_total{metrics}"] >= 1
    assert found[f"trainledger_ingest_dead_letters_total{metrics}"] == 0
    assert found['trainledger_ingest_lag_records{topic="trainledger.admin",partition="0"}'] == 0
    assert found["trainledger_ingest_last_batch_timestamp_seconds"] > 1.6e9
    assert found['trainledger_ingest_build_info{version="0.1.0"}'] == 1
    assert (found["trainledger_ingest_unreachable"], found["trainledger_ingest_stopped_partitions"]) == (0, 0)
    assert status == 0
    assert [line["event"] for line in logged if "logger" not in line] == ["ready", "ended"]


def test_ingest_without_its_tables_waits_for_them_and_ends_clean_on_ctrl_c(
    cluster: Broker, tmp_path: Path
) -> None:
    node = Installation(tmp_path)
    process = subprocess.Popen(
        [str(BIN / "trainledger"), "ingest"],
        env=node.environment
        | {"TRAINLEDGER_KAFKA": cluster.bootstrap, "TRAINLEDGER_CLICKHOUSE": "http://127.0.0.1:1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    logged = (json.loads(line)["event"] for line in process.stderr)
    assert "the tables cannot be reached; trying again" in logged
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_ingest_refuses_a_home_whose_tables_come_from_its_own_spool(cluster: Broker, tmp_path: Path) -> None:
    node = Installation(tmp_path)
    assert node.script(LOG_TWO).returncode == 0
    assert node.command("ls").returncode == 0
    done = node.command("ingest", "--once", TRAINLEDGER_KAFKA=cluster.bootstrap)
    assert done.returncode == 2
    assert "--home" in done.stderr.splitlines()[-1]
    assert os.path.exists(node.home / "tables")
