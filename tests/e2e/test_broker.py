"""The real broker that other tests lean on: it serves, it dies, and it keeps what it acknowledged."""

import itertools
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from support import broker as broker_module
from support.broker import Broker
from trainledger_schemas.clock import SystemClock

pytestmark = pytest.mark.kafka

TESTS_FOLDER = Path(__file__).resolve().parents[1]


def create_topic(broker: Broker, topic: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, "configs": {}}})


def send(broker: Broker, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap, acks="all", max_request_size=4 << 20, reconnect_backoff_max_ms=500
    )
    with closing(producer):
        for future in [producer.send(topic, value, partition=0) for value in values]:
            future.get(timeout=30)


def read(broker: Broker, topic: str, *, count: int) -> list[bytes]:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
        fetch_max_bytes=8 << 20,
        max_partition_fetch_bytes=8 << 20,
        reconnect_backoff_max_ms=500,
    )
    with closing(consumer):
        consumer.assign([TopicPartition(topic, 0)])
        return [record.value for record in itertools.islice(consumer, count)]


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker to be cruel to."""
    with Broker(tmp_path_factory.mktemp("own")) as running:
        yield running


def test_what_is_produced_to_a_new_topic_is_consumed_in_order(broker: Broker) -> None:
    create_topic(broker, "broker-order")
    sent = [b"%d" % number for number in range(200)]
    send(broker, "broker-order", sent)
    assert read(broker, "broker-order", count=200) == sent


def test_a_record_of_nearly_4_mib_passes(broker: Broker) -> None:
    create_topic(broker, "broker-large")
    large = bytes(range(256)) * (4 * 4096 - 16)
    send(broker, "broker-large", [large])
    assert read(broker, "broker-large", count=1) == [large]


def test_an_unknown_topic_is_not_made_by_asking_for_it(broker: Broker) -> None:
    with closing(KafkaConsumer(bootstrap_servers=broker.bootstrap)) as consumer:
        assert consumer.partitions_for_topic("broker-nobody-made-this") == set()
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        assert "broker-nobody-made-this" not in admin.list_topics()


def test_acknowledged_records_survive_sigkill_and_the_port_stays(own_broker: Broker) -> None:
    create_topic(own_broker, "broker-kill")
    sent = [b"before %d" % number for number in range(500)]
    send(own_broker, "broker-kill", sent)
    before = own_broker.bootstrap
    own_broker.kill()
    assert not own_broker.is_running()
    own_broker.start()
    assert own_broker.bootstrap == before
    send(own_broker, "broker-kill", [b"after"])
    assert read(own_broker, "broker-kill", count=501) == [*sent, b"after"]


def test_a_new_object_on_a_stopped_folder_takes_its_ports_and_its_data(own_broker: Broker) -> None:
    create_topic(own_broker, "broker-stop")
    send(own_broker, "broker-stop", [b"kept"])
    own_broker.stop()
    with Broker(own_broker.folder) as again:
        assert again.bootstrap == own_broker.bootstrap
        assert read(again, "broker-stop", count=1) == [b"kept"]
    own_broker.start()


def test_a_paused_broker_is_silent_and_answers_after_resume(own_broker: Broker) -> None:
    own_broker.pause()
    assert Path(f"/proc/{own_broker.pid}/stat").read_text().rpartition(") ")[2][0] in "tT"
    own_broker.resume()
    create_topic(own_broker, "broker-pause")
    send(own_broker, "broker-pause", [b"on again"])
    assert read(own_broker, "broker-pause", count=1) == [b"on again"]


def test_the_broker_dies_with_a_killed_owner(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, signal; from support.broker import Broker\n"
        "print(Broker(pathlib.Path(sys.argv[1])).start().pid, flush=True); signal.pause()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=TESTS_FOLDER, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
    assert poll_until_gone(pid), f"broker {pid} outlived its owner"


def poll_until_gone(pid: int) -> bool:
    clock = SystemClock()
    deadline_ns = clock.monotonic_ns() + 10 * 10**9
    while clock.monotonic_ns() < deadline_ns:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            return True
        if state == "Z":  # dead; nobody in this container reaps orphans
            return True
        clock.sleep(0.02)
    return False


def test_a_taken_port_is_named(own_broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"port {own_broker.port} is taken"):
        Broker(tmp_path, own_broker.port).start()


def test_a_broker_that_cannot_start_shows_the_end_of_its_log(own_broker: Broker, tmp_path: Path) -> None:
    shutil.copytree(own_broker.folder, tmp_path / "copy")
    own_broker.stop()
    broken = Broker(tmp_path / "copy")
    (broken.folder / "data" / "meta.properties").write_text("version=1\nnode.id=2\ncluster.id=other\n")
    with pytest.raises(RuntimeError, match=r"before it answered; the end of .*broker\.log:\n(.|\n)*node id"):
        broken.start()
    assert not broken.is_running()
    own_broker.start()


def test_missing_jars_are_named_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "JAR_FOLDER", tmp_path / "lib")
    with pytest.raises(RuntimeError, match="make kafka-jars"):
        Broker(tmp_path).start()


def test_missing_java_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("java") is None
    with pytest.raises(RuntimeError, match=r"java 17.*make kafka-jars"):
        Broker(tmp_path).start()
