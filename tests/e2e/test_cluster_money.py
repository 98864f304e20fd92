"""Money on a cluster: a real broker, two `ingest` workers, ClickHouse over HTTP. Jobs of Slurm are brought in, and a month is
closed."""

import signal
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from support.broker import Broker
from support.clickhouse_http import running_server
from support.installation import BIN, Installation
from support.past_month import BEGIN_US, PAST_MONTH, write_past_month
from support.polling import poll_until

pytestmark = pytest.mark.kafka

TRAINING = """
import time, trainledger
with trainledger.init(project="iris", team="red") as run:
    end = time.time() + 3
    while time.time() < end:
        run.log({"loss": 1.0})
"""
BEGIN = BEGIN_US // 1_000_000
JOBS = (
    "JobIDRaw|JobID|Submit|Start|End|ElapsedRaw|State|Account|User|NodeList|AllocTRES\n"
    f"8|8|{BEGIN}|{BEGIN}|{BEGIN + 3600}|3600|COMPLETED|vision|carl|{{node}}|cpu=1\n"
)


def start(node: Installation, name: str) -> "subprocess.Popen[str]":
    """A daemon that has said that it is ready."""
    process = subprocess.Popen(
        [str(BIN / "trainledger"), name],
        cwd=node.folder,
        env=node.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline().startswith("ready")
    return process


def test_jobs_and_a_closed_month_on_a_cluster(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    write_past_month(node.home)
    daemons: list[subprocess.Popen[str]] = []
    with (
        Broker(tmp_path / "broker") as broker,
        running_server(tmp_path / "clickhouse") as server,
    ):
        node.environment |= {"TRAINLEDGER_KAFKA": broker.bootstrap, "TRAINLEDGER_CLICKHOUSE": server.url}
        assert node.command("admin", "topics").returncode == 0
        try:
            daemons += [start(node, "agent"), start(node, "ingest"), start(node, "ingest")]
            assert node.script(TRAINING).returncode == 0
            (tmp_path / "prices.toml").write_text(
                '[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "10"\n'
            )
            assert node.command("price", "load", "prices.toml").returncode == 0

            def billed() -> list[dict[str, object]]:
                return node.sql(
                    "SELECT node_id, sum(bill) AS bill FROM node_bills WHERE day < '2026-04-01' GROUP BY 1"
                )

            (bill,) = poll_until(
                lambda: [row for row in billed() if row["bill"] == "20.000000000"], deadline_s=120
            )
            (tmp_path / "jobs.txt").write_text(JOBS.format(node=bill["node_id"]))
            assert node.json("admin", "import", "sacct", "jobs.txt")[0]["new"] == 1
            carl = "SELECT team, sum(cost) AS cost FROM cost_lines WHERE owner = 'carl' GROUP BY 1"
            (line,) = poll_until(lambda: node.sql(carl), deadline_s=120)
            assert (line["team"], Decimal(line["cost"])) == ("vision", Decimal("2.5"))
            closed = node.command("admin", "period", "close", PAST_MONTH, "--accept-silent")
            assert closed.returncode == 0, closed.stderr

            def periods() -> list[dict[str, object]]:
                return node.json("admin", "period", "ls")

            (period,) = poll_until(periods, deadline_s=120, pause_s=1)
            assert period["is_intact"] and period["totals"] == {"USD": "20.000000000"}
        finally:
            for daemon in daemons:
                daemon.send_signal(signal.SIGINT)
            for daemon in daemons:
                daemon.communicate(timeout=60)
