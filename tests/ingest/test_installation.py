"""`doctor`: what works, what does not and how to mend it, and the settings in effect without their secrets."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.blocked import without
from support.broker import Broker
from support.clickhouse_http import running_server
from support.fake_nvml_library import SCENARIO
from support.gpus import Machine
from support.installation import Installation
from support.moto_server import MotoServer
from support.polling import poll_until
from trainledger.node.nvml import LIBRARY
from trainledger.node.reader_lock import acquire
from trainledger_ingest.home_lock import HomeLock
from trainledger_ingest.installation import needed_extras
from trainledger_ingest.settings import IngestSettings
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import SettingsError
from trainledger_schemas.kafka_address import parse_kafka_address

EXTRAS = ("agent", "server", "embedded")


@pytest.fixture
def node(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def doctor(node: Installation, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and the rows by their part."""
    done = node.command("doctor", "--json", **environment)
    assert done.stderr == ""
    return done.returncode, {row["part"]: row for row in json.loads(done.stdout)}


def test_a_fresh_installation_is_whole_and_says_what_is_not_there_yet(node: Installation) -> None:
    status, rows = doctor(node)
    assert status == 0
    assert {row["state"] for row in rows.values()} <= {"ok", "notice", "setting"}
    assert "trainledger up" in rows["journals"]["mend"]
    assert [rows[f"extra {name}"]["state"] for name in ("agent", "server", "embedded")] == ["ok"] * 3
    assert not node.home.exists() and not node.journals.exists()  # it looks and makes nothing
    home = rows["ingest.home"]
    assert (home["value"], home["source"]) == (str(node.home), "TRAINLEDGER_HOME")
    window = rows["agent.sampling.window_s"]
    assert (window["value"], window["unit"], window["source"]) == ("10.0", "s", "default")
    assert rows["ingest.worker.batch_bytes"]["unit"] == "bytes"


def test_it_works_where_only_the_agent_is_installed(node: Installation) -> None:
    none = without(node.folder / "none", {"pyarrow", "rich", "clickhouse_connect", "chdb", "pandas"})
    status, rows = doctor(node, **none)
    assert (status, rows["gpus"]["part"], rows["ingest.home"]["value"]) == (0, "gpus", str(node.home))
    done = node.command("doctor", TRAINLEDGER_CLICKHOUSE="http://127.0.0.1:1", **none)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("clickhouse  "))
    assert done.returncode == 1 and 'is not installed; to mend it: pip install "trainledger[server]"' in line


@pytest.mark.parametrize(
    ("installed", "servers", "needed"),
    [
        pytest.param("agent", {}, "agent", id="a node"),
        pytest.param("", {}, "agent", id="nothing"),
        pytest.param("agent", {"TRAINLEDGER_KAFKA": "k:9092"}, "agent", id="a node of a cluster"),
        pytest.param("agent server embedded", {}, "server embedded", id="embedded"),
        pytest.param("agent server", {}, "server embedded", id="without its engine"),
        pytest.param("agent server", {"TRAINLEDGER_CLICKHOUSE": "http://c"}, "server", id="with a server"),
        pytest.param(
            "agent", {"TRAINLEDGER_CLICKHOUSE": "http://c"}, "server", id="without what asks the server"
        ),
    ],
)
def test_what_a_machine_cannot_do_without(
    tmp_path: Path, installed: str, servers: dict[str, str], needed: str
) -> None:
    found = {extra: {extra: "1" if extra in installed.split() else None} for extra in EXTRAS}
    found["server"]["rich"] = "1"  # typer, of the agent, brings it
    settings = IngestSettings.from_env({"TRAINLEDGER_HOME": str(tmp_path), **servers})
    assert needed_extras(found, settings) == set(needed.split())


def test_findings_name_what_to_do_and_the_exit_status_tells(node: Installation) -> None:
    blocker = node.folder / "file"
    blocker.touch()
    node.journals.mkdir()
    done = node.command(
        "doctor",
        TRAINLEDGER_HOME=str(blocker / "home"),
        TRAINLEDGER_KAFKA="127.0.0.1:1",
        TRAINLEDGER_DIRR="x",
    )
    assert done.returncode == 1
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "broken" in lines["TRAINLEDGER_HOME"] and "cannot be written" in lines["TRAINLEDGER_HOME"]
    assert "broken" in lines["kafka"] and "to mend it: start the broker" in lines["kafka"]
    assert "did you mean TRAINLEDGER_DIR?" in lines["environment"]
    assert "settings in effect" in done.stdout


def test_the_store_of_blobs_is_probed(node: Installation) -> None:
    assert doctor(node)[1]["blobs"]["detail"].startswith("TRAINLEDGER_BLOBS is not set")
    with MotoServer() as server:
        status, rows = doctor(node, TRAINLEDGER_BLOBS=server.setting("x"), **server.environment)
        assert (status, rows["blobs"]["state"]) == (0, "ok")
        assert rows["blobs"]["detail"] == "s3://blobs/x answers, and heeds conditional puts"
        assert rows["agent.blobs.bucket"]["value"] == "blobs" and "to send" not in rows
    status, rows = doctor(node, TRAINLEDGER_BLOBS=server.setting("x"), **server.environment)
    assert status == 1 and "can be reached from here" in rows["blobs"]["detail"]
    shown = {"TRAINLEDGER_BLOBS": server.setting("x")} | server.environment
    assert node.script("import trainledger\ntrainledger.init().log_artifact(__file__)\n").returncode == 0
    poll_until(lambda: len(list(node.journals.glob("*/*/*.tlj"))) >= 2)
    assert "blobs are not all in" in node.command("sync", **shown).stderr
    rows = doctor(node, **shown)[1]
    assert rows["to send"]["state"] == "notice" and "1 files of artifacts" in rows["to send"]["detail"]
    assert "can be reached from here" in rows["to send"]["detail"]
    status, rows = doctor(node, TRAINLEDGER_BLOBS="s3://key:hush@blobs/x")
    assert rows["blobs"]["state"] == "broken" and "hush" not in str(rows)


def test_secrets_are_not_shown(node: Installation) -> None:
    done = node.command(
        "doctor",
        "--json",
        TRAINLEDGER_KAFKA="sasl_plaintext://user:hush-kafka@127.0.0.1:1",
        TRAINLEDGER_CLICKHOUSE="http://user:hush-store@127.0.0.1:1",
    )
    assert done.returncode == 1
    assert "hush" not in done.stdout + done.stderr
    rows = {row["part"]: row for row in json.loads(done.stdout)}
    assert rows["agent.kafka.bootstrap"]["value"] == "127.0.0.1:1"
    assert rows["agent.kafka.bootstrap"]["source"] == "TRAINLEDGER_KAFKA"
    assert rows["ingest.clickhouse"]["value"] == "(set, not shown)"
    assert {rows["kafka"]["state"], rows["clickhouse"]["state"]} == {"broken"}


ADDRESSES = {
    "one slash": "sasl_ssl:/user:hush@127.0.0.1:1",
    "no scheme": "user:hush@127.0.0.1:1",
    "slash": "sasl_ssl://user:hu/sh@127.0.0.1:1",
    "question mark": "sasl_ssl://user:a?hush=1@127.0.0.1:1",
    "hash": "ssl://user:hush#b@127.0.0.1:1",
}


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_of_kafka_that_cannot_be_read_is_told_without_its_password(address: str) -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as caught:
        parse_kafka_address(address)
    assert "hush" not in str(caught.value)


def test_channels_of_alerts_are_checked_and_not_shown(node: Installation) -> None:
    status, rows = doctor(node, TRAINLEDGER_ALERT_WEBHOOK="https://hooks.example.com/hush")
    assert (status, rows["alerts"]["state"]) == (0, "ok") and "TRAINLEDGER_ALERT_WEBHOOK" in str(
        rows["alerts"]
    )
    assert "hush" not in str(rows)
    status, rows = doctor(node, TRAINLEDGER_ALERT_SMTP="mail://user:hush@host")
    assert (status, rows["alerts"]["state"]) == (1, "broken") and "hush" not in str(rows)


def test_minutes_of_alerts_are_shown_and_checked(node: Installation) -> None:
    status, rows = doctor(node, TRAINLEDGER_ALERT_STALL_MINUTES="0")
    row = rows["ingest.alert_stall_minutes"]
    assert (status, row["value"], row["source"]) == (0, "0", "TRAINLEDGER_ALERT_STALL_MINUTES")
    wrong = node.command("doctor", TRAINLEDGER_ALERT_STALL_MINUTES="soon")
    assert wrong.returncode != 0 and "whole number of minutes from 0 (off) to 10080" in wrong.stderr


def test_a_live_agent_an_owner_and_a_clock_that_was_set_back_are_seen(node: Installation) -> None:
    node.journals.mkdir()
    (node.home / "spool").mkdir(parents=True)
    later = node.home / "spool" / "sequence.json"
    later.write_text("{}")
    os.utime(later, (time.time() + 3600, time.time() + 3600))
    clock = SystemClock()
    lock = HomeLock.acquire(node.home, kind="up", wait_s=0, clock=clock)
    with acquire(node.journals, "agent", home=node.home, wait_s=0, clock=clock):
        status, rows = doctor(node)
    lock.release()
    assert status == 1
    assert rows["journals"]["detail"] == f"read by agent, pid {os.getpid()}"
    assert "in use by up" in rows["home"]["detail"]
    assert rows["clock"]["state"] == "broken" and "NTP" in rows["clock"]["mend"]


def test_a_missing_client_of_kafka_is_named_with_its_extra(node: Installation) -> None:
    blocked = without(node.folder / "blocked", ["kafka"])
    _, rows = doctor(node, TRAINLEDGER_KAFKA="127.0.0.1:1", **blocked)
    assert (rows["kafka"]["state"], "[agent]" in rows["kafka"]["mend"]) == ("broken", True)


def test_a_clickhouse_server_is_asked_for_its_version_and_its_migrations(node: Installation) -> None:
    with running_server(node.folder / "clickhouse") as server:
        there = {"TRAINLEDGER_CLICKHOUSE": server.url}
        status, rows = doctor(node, **there)
        assert (status, rows["clickhouse"]["state"], rows["migrations"]["state"]) == (1, "ok", "broken")
        assert "admin migrate" in rows["migrations"]["mend"]
        assert node.command("admin", "migrate", **there).returncode == 0
        status, rows = doctor(node, **there)
    assert (status, rows["migrations"]["state"]) == (0, "ok")


@pytest.mark.kafka
def test_a_broker_without_topics_says_which_command_makes_them(node: Installation) -> None:
    with Broker(node.folder / "broker") as broker:
        kafka = {"TRAINLEDGER_KAFKA": broker.bootstrap}
        status, rows = doctor(node, **kafka)
        assert (status, rows["kafka"]["state"], rows["topics"]["state"]) == (1, "ok", "broken")
        assert "admin topics" in rows["topics"]["mend"]
        assert node.command("admin", "topics", **kafka).returncode == 0
        status, rows = doctor(node, **kafka)
        assert (status, rows["topics"]["state"]) == (0, "ok")
        broker.pause()
        status, rows = doctor(node, **kafka)
    assert (status, rows["kafka"]["state"]) == (1, "broken")


def test_a_command_that_needs_no_broker_does_not_load_its_client() -> None:
    code = "import sys, trainledger_ingest.cli.app as app\napp.load_tables()\nsys.exit(int('kafka' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_gpus_of_the_node_are_named(node: Installation, machine: Machine) -> None:
    folder = node.folder / "driver"
    folder.mkdir()
    (folder / LIBRARY).symlink_to(machine.library)
    for number in range(2):
        machine.scenario.gpu(number)
    machine.scenario.write()
    seen = {"LD_LIBRARY_PATH": str(folder), SCENARIO: str(machine.scenario.path)}
    row = doctor(node, **seen)[1]["gpus"]
    assert row["state"] == "ok" and row["detail"].startswith("2 x NVIDIA H100 80GB HBM3; driver "), row
    machine.empty()
    row = doctor(node, **seen)[1]["gpus"]
    assert (row["state"], "nvidia-smi" in row["mend"]) == ("notice", True), row
