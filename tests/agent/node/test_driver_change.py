"""A driver that is changed under the agent: when it begins anew, and that nothing is lost or told twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.fake_nvml_library import SCENARIO
from support.gpus import Machine
from support.journals import read_points, read_records
from support.polling import poll_until
from trainledger.node.driver_change import DriverChange
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.events import TOPIC_NODES

VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Nov 24 2026\nGCC version: 14\n"
START = "import sys; from trainledger.node.command import main; sys.exit(main(sys.argv[1:]))"
TRAIN = (
    "import sys, threading, trainledger\n"
    "with trainledger.init(project='p') as run:\n"
    "    stop = threading.Event()\n"
    "    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()\n"
    "    step = 0\n"
    "    while not stop.wait(0.002):\n"
    "        run.log({'loss': float(step)}, step=step)\n"
    "        step += 1\n"
    "print(step)\n"
)


class Driver:
    """The file that names the driver, and a process that looks at it."""

    def __init__(self, folder: Path, *, restarted_for: str | None = None) -> None:
        self.file = folder / "version"
        self.clock = ManualClock()
        self.is_library_lost = False
        self._restarted_for = restarted_for

    def loads(self, version: str | None) -> "Driver":
        if version is None:
            self.file.unlink(missing_ok=True)
        else:
            self.file.write_text(VERSION.format(version))
        return self

    def process(self) -> DriverChange:
        return DriverChange(
            self.file,
            self.clock,
            restarted_for=self._restarted_for,
            is_library_lost=lambda: self.is_library_lost,
        )

    def is_due(self, change: DriverChange, seconds: int = 6) -> bool:
        """Whether the process would begin anew within so many seconds."""
        found = False
        for _ in range(seconds):
            self.clock.advance(1)
            found = found or change.is_due()
        return found


def test_another_driver_is_a_reason_once_it_is_loaded(tmp_path: Path) -> None:
    driver = Driver(tmp_path).loads("580.1")
    change = driver.process()
    assert not driver.is_due(change)
    driver.loads(None)
    assert not driver.is_due(change), "it is being changed: there is nothing to begin anew with"
    driver.loads("580.1")
    assert not driver.is_due(change), "the same one came back"
    driver.loads("590.2")
    assert driver.is_due(change)


def test_driver_that_appears_after_the_agent_needs_no_fresh_process(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    change = driver.process()
    driver.loads("580.1")
    assert not driver.is_due(change)


def test_library_that_does_not_open_again_is_a_reason_once_for_each_driver(tmp_path: Path) -> None:
    driver = Driver(tmp_path).loads("580.1")
    first = driver.process()
    driver.is_library_lost = True
    assert driver.is_due(first)
    again = Driver(tmp_path, restarted_for=first.version)
    second = again.process()
    again.is_library_lost = True
    assert not again.is_due(second, seconds=60), "it did not help"
    again.loads("590.2")
    assert again.is_due(second), "another driver may help"


@pytest.mark.timeout(180)
def test_agent_replaces_its_process_once_and_loses_and_doubles_nothing(
    machine: Machine, tmp_path: Path
) -> None:
    machine.scenario.gpu(0)
    machine.scenario.add("driver 580.1").write()
    version = tmp_path / "version"
    version.write_text(VERSION.format("580.1"))
    (tmp_path / "journals").mkdir()
    environment = os.environ | {
        "TRAINLEDGER_DIR": str(tmp_path / "journals"),
        "TRAINLEDGER_NVIDIA_DRIVER": str(version),
        "LD_LIBRARY_PATH": str(machine.library.parent),
        SCENARIO: str(machine.scenario.path),
    }
    spool, said, errors = tmp_path / "home" / "spool", tmp_path / "said", tmp_path / "errors"
    with said.open("w") as out, errors.open("w") as err:
        agent = subprocess.Popen(
            [sys.executable, "-c", START, "--home", str(tmp_path / "home")], env=environment, stdout=out, stderr=err
        )  # fmt: skip
    train = subprocess.Popen(
        [sys.executable, "-c", TRAIN],
        env=environment, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def drivers() -> list[str]:
        lists = [fields["devices"] for name, fields in read_records(spool, TOPIC_NODES) if name == "devices"]
        return [devices[0]["driver"] for devices in lists if devices]

    def points() -> int:
        return len(read_points(spool))

    def windows() -> list[tuple[int, int]]:
        records = read_records(spool, TOPIC_NODES)
        return [(item["start_us"], item["end_us"]) for name, item in records if name == "process_usage"]

    try:
        poll_until(lambda: spool.is_dir() and drivers() == ["580.1"] and points() > 100, deadline_s=60)
        # The new module, and the library that belongs to it.
        machine.scenario.without("driver").add("driver 590.2").write()
        version.write_text(VERSION.format("590.2"))
        poll_until(lambda: drivers() == ["580.1", "590.2"], deadline_s=60)
        seen = points()
        poll_until(lambda: points() > seen, deadline_s=60)
        # A library that does not start under this driver: the process began anew for it already.
        machine.scenario.add("code -1 * 1", "init 18").write()
        told = errors.read_text().count("GPUs are not measured")
        poll_until(lambda: errors.read_text().count("GPUs are not measured") > told, deadline_s=60)
        measured = len(windows())
        poll_until(lambda: len(windows()) >= measured + 2, deadline_s=60)  # longer than it takes to notice
        logged = int(train.communicate("\n", timeout=60)[0])
        poll_until(lambda: points() == logged, deadline_s=60)
    finally:
        train.kill()
        agent.send_signal(signal.SIGTERM)
        status = agent.wait(60)
    lines = said.read_text().splitlines()
    assert status == 0 and "Traceback" not in errors.read_text()
    assert [line.split()[2] for line in lines] == [f"pid={agent.pid}"] * 2, (
        "one fresh process, with the same id"
    )
    found = read_points(spool)
    assert set(found.values()) == {1}, "each point once"
    assert sorted(step for _, _, step, _ in found) == list(range(logged))
    numbers = [fields["envelope"]["seq"] for _, fields in read_records(spool, TOPIC_NODES)]
    assert len(set(numbers)) == len(numbers)
    present = [
        fields["leaving"] for name, fields in read_records(spool, TOPIC_NODES) if name == "node_present"
    ]
    assert present[-1] is True and not any(present[:-1]), "the node did not leave in between"
    ends = windows()
    assert all(end <= start for (_, end), (start, _) in zip(ends, ends[1:], strict=False))
