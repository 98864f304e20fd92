"""A training that stops itself by what it has cost: `run.cost()` under a running `up`, and without one."""

from decimal import Decimal
from pathlib import Path

from support.installation import Installation
from support.polling import poll_until

SWEEP = """
import time, trainledger
with trainledger.init(project="sweep", name="stops") as run:
    end = time.time() + 100
    while time.time() < end:
        run.log({"loss": 1.0})
        if (cost := run.cost()) is not None and cost > 0:
            print(f"{cost:.9f}")
            break
        time.sleep(0.2)
"""
ASKS_ONCE = """
import trainledger
with trainledger.init(project="sweep") as run:
    print(run.cost())
"""


def test_a_training_stops_itself_by_its_cost_where_up_runs(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    with node.up():
        assert node.command("price", "set", "--node", "*", "--usd-per-hour", "36000").returncode == 0
        training = node.start(SWEEP)
        # Each command has the open hour billed; without one it is each 30 s.
        poll_until(lambda: node.sql("SELECT 1") and training.poll() is not None, deadline_s=100, pause_s=1)
        out, errors = training.communicate()
        assert training.returncode == 0, errors
        (run,) = node.json("ls")
        assert 0 < Decimal(out) <= Decimal(run["cost"]) and run["name"] == "stops"
    alone = node.script(ASKS_ONCE)
    assert alone.stdout == "None\n", alone.stderr
