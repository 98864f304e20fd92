"""The node learns which rented machine it is from a real IMDSv2 service, and never waits for one that is not there."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.metadata_server import MetadataServer
from support.polling import poll_until
from trainledger.node.ec2_metadata import MetadataService, is_ec2, read_instance, read_notice
from trainledger.node.host import HostReader
from trainledger.node.identity import NodeIdentity
from trainledger.node.instance_watch import InstanceWatch
from trainledger.node.node_settings import AgentSettings, Ec2Settings
from trainledger.node.presence import Presence
from trainledger_schemas.clock import ManualClock, SystemClock
from trainledger_schemas.errors import SettingsError

P5 = {
    "provider": "aws", "instance_id": "i-0123456789abcdef0", "instance_type": "p5.48xlarge",
    "life_cycle": "on-demand", "region": "us-east-1", "zone": "us-east-1d", "zone_id": "use1-az1", "notice": None,
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        yield server


def service_of(server: MetadataServer, clock: ManualClock | None = None) -> MetadataService:
    return MetadataService(clock or SystemClock(), server.url)


def test_the_facts_of_an_instance_are_read_with_one_token(server: MetadataServer) -> None:
    service = service_of(server)
    assert read_instance(service) == P5
    assert read_notice(service) is None
    assert len(server.tokens) == 1 and len(server.asked) == 6


def test_a_token_that_ended_or_was_revoked_is_replaced(server: MetadataServer) -> None:
    clock = ManualClock()
    service = service_of(server, clock)
    assert service.get("instance-id") == P5["instance_id"]
    server.tokens.clear()
    assert service.get("instance-type") == "p5.48xlarge"
    assert len(server.tokens) == 1
    clock.advance(21_600)
    assert service.get("placement/region") == "us-east-1"
    assert len(server.tokens) == 2


NOTICES = {
    "terminate": ("spot/instance-action", '{"action": "terminate", "time": "2026-11-27T10:02:00Z"}'),
    "rebalance": ("events/recommendations/rebalance", '{"noticeTime": "2026-11-27T10:02:00Z"}'),
}


@pytest.mark.parametrize("action", NOTICES)
def test_what_will_be_done_with_a_spot_instance_is_told_with_its_time(
    server: MetadataServer, action: str
) -> None:
    path, text = NOTICES[action]
    server.facts[path] = text
    assert read_notice(service_of(server)) == f"{action} 2026-11-27T10:02:00Z"
    server.facts[path] = "[no object"
    assert read_notice(service_of(server)) == "[no object"


def test_a_service_without_answer_costs_a_second_and_one_that_is_none_is_no_instance(
    server: MetadataServer,
) -> None:
    server.facts.clear()
    with pytest.raises(OSError, match="names no instance"):
        read_instance(service_of(server))
    with socket.socket() as silent:  # as behind a hop limit of 1: the connection stands, and nothing comes
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        service = MetadataService(SystemClock(), f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.1)
        with pytest.raises(TimeoutError):
            read_instance(service)
    with pytest.raises(SettingsError, match="AWS_EC2_METADATA_SERVICE_ENDPOINT is 'ftp://x'"):
        MetadataService(SystemClock(), "ftp://x")


def machine(folder: Path, *, vendor: str = "", uuid: str = "") -> Path:
    for path, text in ((folder / "class/dmi/id/sys_vendor", vendor), (folder / "hypervisor/uuid", uuid)):
        if text:
            path.parent.mkdir(parents=True)
            path.write_text(text + "\n")
    return folder


def test_only_firmware_or_hypervisor_of_ec2_make_the_agent_ask(
    tmp_path: Path, server: MetadataServer
) -> None:
    nitro = machine(tmp_path / "nitro", vendor="Amazon EC2")
    other = machine(tmp_path / "other", vendor="Dell Inc.", uuid="a1b2")
    assert is_ec2(nitro) and is_ec2(machine(tmp_path / "xen", uuid="ec2e1916-9099"))
    assert not is_ec2(other) and not is_ec2(tmp_path / "none")
    for sys, mode, is_asked in (
        (nitro, "auto", True),
        (other, "auto", False),
        (other, "on", True),
        (nitro, "off", False),
    ):
        server.asked.clear()
        watch = InstanceWatch(SystemClock(), Ec2Settings(mode, server.url), sys=sys)
        if is_asked:
            poll_until(lambda watch=watch: watch.current() == P5, deadline_s=30)  # type: ignore[misc] # bound now
        watch.close()
        assert bool(server.asked) == is_asked and (watch.current() is not None) == is_asked


def test_a_spot_notice_makes_a_node_event_at_once(server: MetadataServer) -> None:
    server.facts["instance-life-cycle"] = "spot"
    clock = ManualClock()
    watch = InstanceWatch(SystemClock(), Ec2Settings("on", server.url), notice_s=0.02)
    identity = NodeIdentity("n", bytes(16), bytes(16), "h")
    reader = HostReader()
    presence = Presence(
        identity=identity,
        clock=clock,
        reader=reader,
        agent_version="t",
        interval_s=30,
        instance=watch.current,
    )
    try:
        poll_until(lambda: watch.current() is not None, deadline_s=30)
        assert presence.say([])["instance"] == P5 | {"life_cycle": "spot"}
        assert not presence.is_due(clock.monotonic_ns())
        server.facts["spot/instance-action"] = NOTICES["terminate"][1]
        poll_until(lambda: presence.is_due(clock.monotonic_ns()), deadline_s=30)
        said = presence.say([])["instance"]
        assert isinstance(said, dict) and said["notice"] == "terminate 2026-11-27T10:02:00Z"
        assert not presence.is_due(clock.monotonic_ns())
    finally:
        watch.close()
        reader.close()


def test_a_service_that_comes_later_is_found_and_its_absence_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with caplog.at_level(logging.WARNING):
        watch = InstanceWatch(SystemClock(), Ec2Settings("on", nobody), retry_s=0.01)
        poll_until(lambda: bool(caplog.records), deadline_s=30)
        watch.close()
    assert watch.current() is None
    assert ["hop limit of the instance must be 2" in record.getMessage() for record in caplog.records] == [
        True
    ]


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "auto"),
        ({"TRAINLEDGER_EC2": "ON"}, "on"),
        ({"AWS_EC2_METADATA_DISABLED": "true"}, "off"),
        ({"AWS_EC2_METADATA_DISABLED": "true", "TRAINLEDGER_EC2": "on"}, "on"),
    ],
    ids=["default", "on", "AWS's own", "told twice"],
)
def test_settings_say_whether_ec2_is_asked(environ: dict[str, str], mode: str) -> None:
    assert AgentSettings.from_env(environ).ec2.mode == mode
    with pytest.raises(SettingsError, match="must be auto, on or off"):
        AgentSettings.from_env({"TRAINLEDGER_EC2": "maybe"})
