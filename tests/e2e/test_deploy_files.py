"""The files people deploy with: they are valid, pinned, closed to the outside, and fit each other and the code.

The schema in tests/support/compose-spec.json is that of the Compose Specification (Apache-2.0, the work of the Compose
Specification authors), unchanged, as the PyPI package check-jsonschema 0.39.0 ships it.
"""

import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from support.broker import java_command

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tests" / "support" / "compose-spec.json"
SCHEMA_SHA256 = "d549057ebc2925f39f62799eab0db7b9e2c18b35b6c00595199116da3ed10e64"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SYSTEMD = ROOT / "deploy" / "systemd"
UNIT = SYSTEMD / "trainledger-agent.service"
LASTING = ("kafka", "clickhouse", "ingest", "agent")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def dockerfile_lines() -> list[list[str]]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def stages() -> dict[str, str]:
    """Stage name -> what it starts from."""
    return {line[3]: line[1] for line in dockerfile_lines() if line[0] == "FROM"}


def is_pinned(image: str) -> bool:
    """A tag that begins with a number and has a second one: no latest, no bare major version."""
    return re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", image) is not None


def test_the_compose_file_keeps_to_the_compose_specification(
    compose: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose)] == []


def test_the_schema_is_the_published_one_and_refuses_a_misspelt_key(
    compose: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    assert hashlib.sha256(SCHEMA.read_bytes()).hexdigest() == SCHEMA_SHA256
    broken = json.loads(json.dumps(compose))
    broken["services"]["kafka"]["healthchek"] = broken["services"]["kafka"].pop("healthcheck")
    assert not validator.is_valid(broken)


@pytest.mark.parametrize("service", LASTING)
def test_every_lasting_service_has_a_bounded_health_check_and_comes_back(
    compose: dict[str, Any], service: str
) -> None:
    check = compose["services"][service]["healthcheck"]
    assert check["test"][0] == "CMD" and len(check["test"]) > 1
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()
    assert compose["services"][service]["restart"] == "unless-stopped"


def test_what_a_service_waits_for_can_happen(compose: dict[str, Any]) -> None:
    services = compose["services"]
    waits = [(name, *item) for name, one in services.items() for item in one.get("depends_on", {}).items()]
    assert len(waits) >= 8
    for name, target, how in waits:
        if how["condition"] == "service_healthy":
            assert "healthcheck" in services[target], (name, target)
        else:
            assert how["condition"] == "service_completed_successfully", (name, target)
            assert "restart" not in services[target], f"{target} would never be complete for {name}"


def test_images_have_pinned_tags(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values()]
    images += [source for source in stages().values() if source not in stages()]
    assert len(images) == 8
    assert [image for image in images if not is_pinned(image)] == []


@pytest.mark.parametrize("image", ["python", "python:latest", "python:3", "python:slim"])
def test_a_loose_tag_is_seen(image: str) -> None:
    assert not is_pinned(image)


def test_ports_are_open_to_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:8123:8123", "127.0.0.1:9092:9092"]


def test_no_password_is_written_down(compose: dict[str, Any]) -> None:
    secrets = [
        value
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name or re.search(r"://[^/]*:[^/]*@", value)
    ]
    assert len(secrets) == 4  # the server, and the three services that are its clients
    # `:?` makes compose refuse to start without a value instead of using an empty password.
    assert all("${CLICKHOUSE_PASSWORD:?" in secret for secret in secrets)


def test_volumes_are_declared_and_trainings_share_the_journals_with_the_agent(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    used = {mount.split(":")[0] for one in services.values() for mount in one.get("volumes", [])}
    assert used == set(compose["volumes"])
    journals = "journals:/var/lib/trainledger/journals"
    assert journals in services["agent"]["volumes"] and journals in services["demo"]["volumes"]


def test_built_services_name_a_stage_of_the_dockerfile(compose: dict[str, Any]) -> None:
    builds = {name: one["build"] for name, one in compose["services"].items() if "build" in one}
    assert builds.keys() == {"topics", "migrate", "ingest", "agent", "demo"}
    for build in builds.values():
        assert (ROOT / build["context"] / build["dockerfile"]) == DOCKERFILE
        assert build["target"] in stages()


@pytest.mark.parametrize("command", [["admin", "topics"], ["admin", "migrate"], ["ingest"], ["agent"]])
def test_the_commands_of_the_containers_exist(compose: dict[str, Any], command: list[str]) -> None:
    used = [
        service["command"][: len(command)] for service in compose["services"].values() if "command" in service
    ]
    assert command in used
    program = Path(sys.executable).parent / "trainledger"
    done = subprocess.run([program, *command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--metrics" in done.stdout or command != ["agent"]


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    copies = [
        line[1:-1] for line in dockerfile_lines() if line[0] == "COPY" and not line[1].startswith("--from")
    ]
    sources = [source for line in copies for source in line]
    kept = {
        line[1:]
        for line in Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(sources) == kept
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"pyproject.toml", "constraints.txt", "schemas", "agent", "ingest"} <= kept


def test_every_install_in_the_dockerfile_keeps_to_the_constraints() -> None:
    installs = [" ".join(line) for line in dockerfile_lines() if "install" in line and "pip" in line]
    assert len(installs) == 3
    assert all("-c constraints.txt" in install for install in installs)


def test_only_the_agent_runs_as_root_and_with_few_capabilities(compose: dict[str, Any]) -> None:
    users: dict[str, list[str]] = {}
    stage = ""
    for line in dockerfile_lines():
        if line[0] == "FROM":
            stage = line[3]
        elif line[0] == "USER":
            users.setdefault(stage, []).append(line[1])
    assert users == {"demo": ["trainledger"], "ingest": ["trainledger"]}
    agent = compose["services"]["agent"]
    assert agent["cap_drop"] == ["ALL"]
    assert sorted(agent["cap_add"]) == ["DAC_OVERRIDE", "DAC_READ_SEARCH", "SYS_PTRACE"]
    assert not any(service.get("privileged") for service in compose["services"].values())


@pytest.mark.kafka
def test_kafka_accepts_the_broker_settings_of_the_compose_file(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    environment = compose["services"]["kafka"]["environment"]
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    settings["log.dirs"] = str(tmp_path / "data")
    properties = tmp_path / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    done = subprocess.run(
        [*java_command(), "kafka.tools.StorageTool", "format"]
        + ["-t", environment["CLUSTER_ID"], "-c", str(properties)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data" / "meta.properties").exists()


def unit_values(section: str, name: str) -> list[str]:
    """All values of a directive, in order: systemd lets one stand several times, configparser alone does not."""

    class Several(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self and isinstance(self[key], list):
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(dict_type=Several, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep capitals
    parser.read(UNIT)
    return parser.get(section, name).splitlines()


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    assert unit_values("Service", "ExecStart") == ["/opt/trainledger/bin/trainledger agent"]
    tool = shutil.which("systemd-analyze")
    if tool is None:
        # The checks install it; elsewhere the tests below read the unit without it.
        assert os.environ.get("CI") != "true", "systemd-analyze is missing; .ci/install.sh brings it"
        return
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/trainledger/bin/trainledger", "/bin/true"))
    done = subprocess.run([tool, "verify", copy], capture_output=True, text=True, timeout=60)
    # A key it does not know is only a warning to it, so the exit status alone says little.
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, [])


def test_the_unit_confines_the_agent_and_leaves_it_what_it_needs() -> None:
    wanted = {
        "User": "trainledger",
        "Restart": "always",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "read-only",
        "PrivateTmp": "yes",
        "StateDirectory": "trainledger/home",
        "StateDirectoryMode": "0700",
        "ReadWritePaths": "/var/lib/trainledger/journals",
        "DevicePolicy": "closed",
        "MemoryMax": "256M",
        "CPUQuota": "20%",
        "OOMScoreAdjust": "-500",
        "SystemCallFilter": "@system-service",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
        "CapabilityBoundingSet": "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE",
    }
    assert {name: unit_values("Service", name) for name in wanted} == {k: [v] for k, v in wanted.items()}
    assert unit_values("Service", "AmbientCapabilities") == [wanted["CapabilityBoundingSet"]]
    assert len(unit_values("Service", "DeviceAllow")) == 5
    for hiding in ("PrivateDevices", "PrivateNetwork", "ProtectProc", "MemoryDenyWriteExecute"):
        with pytest.raises(configparser.NoOptionError):
            unit_values("Service", hiding)


def test_the_unit_waits_for_no_message_that_the_agent_does_not_send() -> None:
    sends = any("NOTIFY_SOCKET" in path.read_text() for path in (ROOT / "agent").rglob("*.py"))
    assert (unit_values("Service", "Type") == ["notify"]) == sends


def test_the_journal_folder_takes_from_all_and_shows_to_none() -> None:
    line = [
        line.split() for line in (SYSTEMD / "tmpfiles.conf").read_text().splitlines() if line.startswith("d ")
    ]
    assert ["d", "/var/lib/trainledger/journals", "1733", "trainledger", "trainledger", "-"] in line
    dockerfile = " ".join(word for words in dockerfile_lines() for word in words)
    assert "-m 1733 -o trainledger -g trainledger /var/lib/trainledger/journals" in dockerfile
    text = UNIT.read_text() + (ROOT / "docker-compose.yml").read_text()
    paths = set(re.findall(r"/var/lib/trainledger/\w+", text))
    assert paths == {"/var/lib/trainledger/journals", "/var/lib/trainledger/home"}


@pytest.mark.parametrize(
    "script",
    [".ci/install.sh", ".ci/run", "deploy/systemd/install.sh"],
    ids=["ci-install", "ci-run", "systemd"],
)
def test_scripts_parse_and_may_be_run(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    shell = "bash" if path.read_text().startswith("#!/usr/bin/env bash") else "sh"
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_systemd_install_script_installs_every_file_beside_it() -> None:
    script = (SYSTEMD / "install.sh").read_text()
    beside = {path.name for path in SYSTEMD.iterdir()} - {"install.sh"}
    assert beside == set(re.findall(r'"\$here/([\w.-]+)"', script))


def test_what_the_checks_make_is_ignored_by_git() -> None:
    patterns = (ROOT / ".gitignore").read_text().split()
    assert any(fnmatch("deploy/kafka/lib/", pattern) for pattern in patterns)
