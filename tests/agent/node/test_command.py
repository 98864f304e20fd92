"""`trainledger agent` as a process: ready, signals, refusals, metrics, and what it costs."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.journals import JournalFile, read_records
from support.polling import poll_until
from trainledger.node.exposition import METRICS
from trainledger.node.node_settings import AgentSettings, KafkaSettings, parse_kafka
from trainledger_schemas.errors import SettingsError
from trainledger_schemas.events import TOPIC_METRICS, TOPIC_NODES

START = "import sys; from trainledger.node.command import main; sys.exit(main(sys.argv[1:]))"
RESIDENT_MB_MAX = 80


class AgentProcess:
    """A running `trainledger agent` of one home and node folder."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.home, self.journals = folder / "home", folder / "journals"
        self.journals.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            # The Kafka client's own imports are deprecated; all else is an error.
            [
                sys.executable,
                "-W",
                "error",
                "-W",
                "ignore::DeprecationWarning",
                "-c",
                START,
                "--home",
                str(self.home),
                *arguments,
            ],
            env=os.environ | {"TRAINLEDGER_DIR": str(self.journals)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, str]:
        """Waits for the ready line; what it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready"), self.process.communicate()[1]
        return dict(item.split("=", 1) for item in line.split()[2:])

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; exit code and stderr."""
        self.process.send_signal(number)
        return self.result()

    def result(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextmanager
def agent(folder: Path, *arguments: str, **environment: str) -> Iterator[AgentProcess]:
    running = AgentProcess(folder, *arguments, **environment)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_agent_says_ready_collects_and_ends_clean_on_a_signal(tmp_path: Path, number: int) -> None:
    with agent(tmp_path) as running:
        said = running.ready()
        assert int(said["pid"]) == running.process.pid
        assert running.resident_mb() < RESIDENT_MB_MAX
        JournalFile(running.journals).rows(20)
        spool = running.home / "spool"
        poll_until(lambda: read_records(spool, TOPIC_METRICS))
        code, errors = running.end(number)
    assert code == 0
    assert all(isinstance(json.loads(line), dict) for line in errors.splitlines())
    last, fields = read_records(spool, TOPIC_NODES)[-1]
    assert last == "node_present"
    assert fields["leaving"] is True


def test_second_agent_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with agent(tmp_path) as first:
        first.ready()
        with agent(tmp_path) as second:
            code, errors = second.result()
        assert code == 1
        assert str(first.process.pid) in errors
        assert len(errors.splitlines()) == 1
        assert first.end()[0] == 0


def test_agent_starts_after_one_that_was_killed(tmp_path: Path) -> None:
    with agent(tmp_path) as first:
        first.ready()
        first.process.kill()
        first.process.communicate()
    with agent(tmp_path) as second:
        second.ready()
        assert second.end()[0] == 0


def test_once_reads_what_there_is_and_claims_no_presence(tmp_path: Path) -> None:
    (tmp_path / "journals").mkdir()
    JournalFile(tmp_path / "journals").rows(7)
    with agent(tmp_path, "--once", "--json") as running:
        output, _ = running.process.communicate(timeout=60)
    assert running.process.returncode == 0
    assert json.loads(output) == [{"journals_read": 1, "points": 14, "published": True}]
    assert read_records(running.home / "spool", TOPIC_NODES) == []


def test_metrics_are_served_as_prometheus_text(tmp_path: Path) -> None:
    blobs = "s3://blobs?endpoint=http://127.0.0.1:1"
    with agent(tmp_path, "--metrics", "127.0.0.1:0", TRAINLEDGER_BLOBS=blobs) as running:
        address = running.ready()["metrics"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://{address}/", timeout=10)
        refused.value.close()
        running.end()
    names = {line.split()[0] for line in text.splitlines() if not line.startswith("#")}
    assert names <= set(METRICS)
    assert "trainledger_agent_live_writers" in names
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert int(values["trainledger_agent_events_total"]) >= 3  # presence, devices, allocation
    assert values["trainledger_agent_live_writers"] == "0"
    assert values["trainledger_agent_unsent_records"] == values["trainledger_agent_store_trouble"] == "0"


def test_agent_collects_while_the_broker_is_away_and_stays_small(tmp_path: Path) -> None:
    with agent(tmp_path, TRAINLEDGER_KAFKA="127.0.0.1:1") as running:
        running.ready()
        JournalFile(running.journals).rows(20)
        poll_until(lambda: read_records(running.home / "spool", TOPIC_METRICS))
        assert running.resident_mb() < RESIDENT_MB_MAX
        code, errors = running.end()
    assert code == 0
    assert "the broker does not take records" in errors


@pytest.mark.parametrize(
    "arguments",
    [["--metrics", "nonsense"], ["--metrics", "127.0.0.1:99999"], ["--unknown"]],
    ids=["no port", "port too large", "unknown option"],
)
def test_wrong_use_is_exit_code_2_with_a_reason(tmp_path: Path, arguments: list[str]) -> None:
    with agent(tmp_path, *arguments) as running:
        code, errors = running.result()
    assert code == 2
    assert arguments[-1] in errors


def test_kafka_address_with_user_and_options_is_read() -> None:
    settings = parse_kafka("sasl_ssl://node%201:p%40ss@a:9093,b:9093?mechanism=SCRAM-SHA-256&cafile=/ca.pem")
    assert settings == KafkaSettings(
        "a:9093,b:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="node 1",
        sasl_password="p@ss",
        ssl_cafile="/ca.pem",
    )
    assert "p@ss" not in repr(settings)
    assert parse_kafka(" a:9092,b:9092 ") == KafkaSettings("a:9092,b:9092")


def test_kafka_password_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    settings = parse_kafka(f"sasl-plaintext://node@a:9092?password_file={tmp_path / 'password'}")
    assert (settings.security_protocol, settings.sasl_password) == ("SASL_PLAINTEXT", "secret")


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a:9092",
        "ssl://a:9092?colour=red",
        "sasl_ssl://a:9092",
        "sasl_ssl://u@a:1?password_file=/none",
        "://",
    ],
)
def test_kafka_address_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_kafka(text)


def test_settings_of_the_node_come_from_the_environment(tmp_path: Path) -> None:
    settings = AgentSettings.from_env(
        {"TRAINLEDGER_NODE": "gpu-7", "TRAINLEDGER_DIR": str(tmp_path), "TRAINLEDGER_HOME": "/home/x"}
    )
    assert (settings.node_id, settings.node_folder, settings.home) == ("gpu-7", tmp_path, Path("/home/x"))
    assert settings.kafka is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, ("slurm", "kubernetes", "limits")), (" ", ("slurm", "kubernetes", "limits")), ("none", ()),
        ("Slurm, limits,slurm", ("slurm", "limits")),
    ],
)  # fmt: skip
def test_which_schedulers_are_asked_is_told(text: str | None, names: tuple[str, ...]) -> None:
    environ = {} if text is None else {"TRAINLEDGER_SCHEDULERS": text}
    assert AgentSettings.from_env(environ).schedulers == names


def test_a_scheduler_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(SettingsError, match="names 'pbs'; give some of slurm, kubernetes, limits, or none"):
        AgentSettings.from_env({"TRAINLEDGER_SCHEDULERS": "slurm,pbs"})
