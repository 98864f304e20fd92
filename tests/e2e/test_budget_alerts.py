"""`up` tells once that a budget is used up, however often it is started."""

from pathlib import Path

from support.installation import Installation
from support.polling import poll_until
from support.webhook import Webhook

TRAINING = """
import time, trainledger
with trainledger.init(project="iris", team="red") as run:
    run.log({"loss": 1.0})
    # By CPU time: on a busy machine the agent looks more rarely, too.
    while time.process_time() < 2:
        sum(range(1000))
"""


def test_up_tells_a_webhook_once_across_restarts(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    with Webhook() as hook:
        node.environment["TRAINLEDGER_ALERT_WEBHOOK"] = hook.url
        with node.up():
            assert node.script(TRAINING).returncode == 0
            assert node.command("price", "set", "--node", "*", "--usd-per-hour", "3600").returncode == 0
            set_red = node.command("admin", "budget", "set", "--team", "red", "--month-usd", "0.01", "--hard")
            assert "team red: hard budget of 0.01 USD a month from 20" in set_red.stdout, set_red.stderr
        assert hook.posted == []
        with node.up() as up:
            poll_until(lambda: hook.posted, deadline_s=60)
        assert "secret" not in up.errors.read_text()
        (row,) = node.json("admin", "budget", "ls")
        assert (row["scope"], row["name"], row["state"], row["hard"]) == ("team", "red", "over", True)
        asked = node.command("admin", "budget", "check", "--team", "red", "--project", "iris")
        assert asked.returncode == 1 and asked.stderr.startswith("team red: "), asked.stderr
        assert " % of its hard budget of 20" in asked.stderr and asked.stdout == ""
        assert (
            node.command("admin", "budget", "set", "--project", "iris", "--month-usd", "0.01").returncode == 0
        )
        # One that is not hard refuses nothing.
        asked = node.command("admin", "budget", "check", "--project", "iris")
        assert asked.returncode == 0 and "% of its budget of 20" in asked.stdout, asked.stderr
        with node.up():
            poll_until(lambda: len(hook.posted) > 1, deadline_s=60)
    assert [(p["scope"], p["crossed_percent"]) for p in hook.posted] == [("team", 100), ("project", 100)]
