"""What people see of a run while it runs and after it, through the real commands and a live `up`."""

import subprocess
from collections.abc import Iterator

import pytest

from support.installation import BIN, Installation
from support.polling import poll_until

LONG_RUN = """
import time, trainledger
run = trainledger.init(project="long", name="long", config={"max_steps": 100_000})
for step in range(100_000):
    run.log({"loss": 1 / (step + 1)}, step=step)
    if step % 50 == 0:
        print("at step", step, flush=True)
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`up`, and beside it a run that goes on and on."""
    node = Installation(tmp_path_factory.mktemp("results"))
    with node.up():
        script = str(node.write_script(LONG_RUN))
        process = subprocess.Popen(
            [str(BIN / "trainledger"), "run", "--", "python", script],
            cwd=node.folder, env=node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            poll_until(lambda: [row for row in node.json("ls") if row["name"] == "long"])
            yield node
        finally:
            process.terminate()
            process.wait(20)


def test_a_running_run_says_when_it_will_be_done(node: Installation) -> None:
    poll_until(lambda: node.json("show", "long")[0]["eta_s"], deadline_s=40, pause_s=0.5)
    (row,) = node.sql("SELECT * FROM run_progress")
    left = (row["total_steps"] - row["step"]) / row["steps_per_s"]
    assert row["total_steps"] == 100_000 and row["eta_s"] == pytest.approx(left, abs=30)
    (listed,) = node.command("ls").stdout.splitlines()[1:]
    assert "left" in node.command("ls").stdout.splitlines()[0] and "~" in listed
    shown = node.command("show", "long").stdout
    assert "time left" in shown and "of 100,000 by max_steps" in shown and "about" in shown
