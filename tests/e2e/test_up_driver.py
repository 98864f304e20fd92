"""`up` begins anew when NVIDIA's driver is changed under it: same process, same home, nothing lost or told twice."""

from pathlib import Path

import pytest

from support.fake_nvml_library import SCENARIO
from support.gpus import Machine
from support.installation import Installation
from support.journals import read_records
from support.polling import poll_until
from trainledger_schemas.events import TOPIC_NODES

VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Nov 24 2026\nGCC version: 14\n"
TRAINING = """
import sys, threading, trainledger
with trainledger.init(project="p") as run:
    stop, step = threading.Event(), 0
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    while not stop.wait(0.01):
        run.log({"loss": float(step)}, step=step)
        step += 1
print(step)
"""


@pytest.mark.timeout(240)
def test_up_begins_anew_under_another_driver_and_goes_on_with_its_home(
    machine: Machine, tmp_path: Path
) -> None:
    machine.scenario.gpu(0)
    machine.scenario.add("driver 580.1").write()
    version = tmp_path / "version"
    version.write_text(VERSION.format("580.1"))
    node = Installation(tmp_path)
    node.environment |= {
        "LD_LIBRARY_PATH": str(machine.library.parent), SCENARIO: str(machine.scenario.path),
        "TRAINLEDGER_NVIDIA_DRIVER": str(version),
    }  # fmt: skip

    def of_nodes(kind: str) -> list[dict[str, object]]:
        return [
            dict(fields) for name, fields in read_records(node.home / "spool", TOPIC_NODES) if name == kind
        ]

    def drivers() -> list[object]:
        lists = [fields["devices"] for fields in of_nodes("devices")]
        return [devices[0]["driver"] for devices in lists if isinstance(devices, list) and devices]

    with node.up() as up:
        training = node.start(TRAINING)
        try:
            poll_until(lambda: drivers() == ["580.1"], deadline_s=60, pause_s=0.2)
            machine.scenario.without("driver").add("driver 590.2").write()
            version.write_text(VERSION.format("590.2"))
            poll_until(lambda: drivers() == ["580.1", "590.2"], deadline_s=90, pause_s=0.2)
            assert up.process.stdout is not None and up.process.stdout.readline().startswith("ready")
            assert up.process.poll() is None and up.errors.read_text().count("beginning anew") == 1
            # The home is its own again: another `up` is refused, and commands are answered.
            second = node.command("up")
            assert second.returncode == 1 and f"process {up.process.pid} (up)" in second.stderr, second.stderr
            logged = int(training.communicate("\n", timeout=60)[0])
        finally:
            training.kill()
        (row,) = node.sql("SELECT count() AS n, uniqExact(step) AS steps, max(step) AS last FROM metrics")
        assert row == {"n": logged, "steps": logged, "last": logged - 1}
        assert up.stop() == 0
    leaving = [fields["leaving"] for fields in of_nodes("node_present")]
    assert leaving[-1] is True and not any(leaving[:-1]), "the node did not leave in between"
    assert "Traceback" not in up.errors.read_text()
