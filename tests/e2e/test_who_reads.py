"""Who reads the journals: one-shots beside a live agent, one-shots and `up` one after another; real processes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.installation import BIN, Installation
from support.journals import read_records
from support.polling import poll_until
from trainledger_ingest.home_lock import HomeLock
from trainledger_schemas.events import TOPIC_RUNS

LOG = "import trainledger\nwith trainledger.init(project='p', name={name!r}) as run:\n    run.log({{'loss': 1.0}})\n"
# A one-shot that takes as long as the test wants; argv: home, node folder.
HOLD_READER = """
import sys
from pathlib import Path
from trainledger.node.reader_lock import acquire
with acquire(Path(sys.argv[2]), "one-shot", home=Path(sys.argv[1]), wait_s=0):
    print("held", flush=True)
    sys.stdin.readline()
"""
HOLD_HOME = """
import sys
from pathlib import Path
from trainledger_ingest.home_lock import HomeLock
from trainledger_schemas.clock import SystemClock
lock = HomeLock.acquire(Path(sys.argv[1]), kind="one-shot", wait_s=0, clock=SystemClock())
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def node(tmp_path: Path) -> Installation:
    made = Installation(tmp_path)
    made.journals.mkdir()
    return made


@contextmanager
def process(node: Installation, *command: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        command,
        cwd=node.folder,
        env=node.environment | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def trainledger(node: Installation, *arguments: str, **environment: str):  # type: ignore[no-untyped-def] # as `process`
    return process(node, str(BIN / "trainledger"), *arguments, **environment)


def wait_for_line(running: "subprocess.Popen[str]", start: str) -> None:
    assert running.stdout is not None
    line = running.stdout.readline()
    assert line.startswith(start), running.communicate()[1]


def spooled_runs(home: Path) -> int:
    return sum(1 for kind, _ in read_records(home / "spool", TOPIC_RUNS) if kind == "run_started")


def names(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert done.returncode == 0, done.stderr
    return [row["name"] for row in json.loads(done.stdout)]


def test_a_command_beside_a_live_agent_answers_from_what_that_agent_has_spooled(node: Installation) -> None:
    with trainledger(node, "agent") as agent:
        wait_for_line(agent, "ready")
        node.script(LOG.format(name="first"))
        poll_until(lambda: spooled_runs(node.home) == 1)
        listed = node.command("ls", "--json")
        assert names(listed) == ["first"]
        (said,) = listed.stderr.splitlines()
        assert f"left to process {agent.pid} (agent)" in said and str(node.journals) in said
        node.script(LOG.format(name="second"))
        poll_until(lambda: spooled_runs(node.home) == 2)
        assert names(node.command("ls", "--json", "--sort", "started_at")) == ["first", "second"]
        # Its log is the agent's: nothing can be written into it.
        refused = node.command("price", "set", "--node", "*", "--usd-per-hour", "1")
        assert (refused.returncode, "trainledger agent" in refused.stderr) == (2, True)
        up = node.command("up")
        assert up.returncode == 1 and str(agent.pid) in up.stderr
    # The dead agent's journals and spool are the next command's, with nothing twice.
    assert names(node.command("ls", "--json", "--sort", "started_at")) == ["first", "second"]
    assert node.sql("SELECT count() AS n FROM metrics") == [{"n": 2}]


def test_a_command_with_another_home_than_the_agents_answers_from_what_it_read_before(
    node: Installation,
) -> None:
    node.script(LOG.format(name="before"))
    assert names(node.command("ls", "--json")) == ["before"]
    theirs = node.folder / "theirs"
    with trainledger(node, "agent", "--home", str(theirs)) as agent:
        wait_for_line(agent, "ready")
        node.script(LOG.format(name="meanwhile"))
        poll_until(lambda: spooled_runs(theirs) == 1)
        listed = node.command("ls", "--json")
        assert names(listed) == ["before"]
        (said,) = listed.stderr.splitlines()
        assert f"left to process {agent.pid} (agent)" in said and str(node.home) in said
        # This home's own log can still be written.
        assert node.command("price", "set", "--node", "*", "--usd-per-hour", "1").returncode == 0


def test_a_command_beside_an_agent_that_publishes_does_not_take_its_spool_for_the_log(
    node: Installation,
) -> None:
    with trainledger(node, "agent", TRAINLEDGER_KAFKA="127.0.0.1:1") as agent:
        wait_for_line(agent, "ready")
        asked = node.command("ls", "--json")
        assert asked.returncode == 1
        assert str(agent.pid) in asked.stderr and "TRAINLEDGER_CLICKHOUSE" in asked.stderr
        assert not node.home.joinpath("tables").exists()


def test_a_one_shot_waits_for_one_that_reads_the_same_journals_from_another_home(node: Installation) -> None:
    node.script(LOG.format(name="one"))
    other = node.folder / "other"
    with process(node, sys.executable, "-c", HOLD_READER, str(other), str(node.journals)) as first:
        wait_for_line(first, "held")
        with trainledger(node, "ls", "--json") as second:
            poll_until(lambda: HomeLock.owner_kind(node.home) == "one-shot", pause_s=0.1)
            assert second.poll() is None
            assert first.stdin is not None
            first.stdin.write("go\n")
            first.stdin.flush()
            output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert [row["name"] for row in json.loads(output)] == ["one"]


@pytest.mark.parametrize("holder", [HOLD_HOME, HOLD_READER], ids=["same home", "same journals"])
def test_up_waits_for_a_one_shot_and_then_is_ready(node: Installation, holder: str) -> None:
    with process(node, sys.executable, "-c", holder, str(node.home), str(node.journals)) as first:
        wait_for_line(first, "held")
        with trainledger(node, "up") as up:
            # It has loaded its engine and stands at the lock: nothing else tells from outside that it waits.
            poll_until(lambda: is_waiting_for(up, node), pause_s=0.1)
            assert first.stdin is not None
            first.stdin.write("go\n")
            first.stdin.flush()
            wait_for_line(up, "ready")
            second = node.command("up")
            assert (second.returncode, str(up.pid) in second.stderr) == (1, True)


def is_waiting_for(up: "subprocess.Popen[str]", node: Installation) -> bool:
    assert up.poll() is None
    held = {str(node.home / "home.lock"), str(node.journals / "reader.lock")}
    opened = set()
    for link in Path(f"/proc/{up.pid}/fd").iterdir():
        try:
            opened.add(str(link.readlink()))
        except FileNotFoundError:
            continue
    return bool(held & opened)
