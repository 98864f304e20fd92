"""A newcomer's first wrong moves, each ending in one clear line, and nothing lost."""

import signal
import time
from pathlib import Path

import pytest

from support.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    # Real starts: what a newcomer waits for, and sees go wrong.
    return Installation(tmp_path, is_warm=False)


LOG_ONE = (
    "import trainledger\n"
    "with trainledger.init(project='p', team='t', name='one') as run:\n    run.log({'loss': 1.0})\n"
)


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines and "Traceback" not in text, text
    return lines[-1]


def test_cost_without_a_price_says_which_command_sets_one(installation: Installation) -> None:
    with installation.up():
        installation.script(
            "import time, trainledger\nrun = trainledger.init(team='t')\nrun.log({'x': 1})\ntime.sleep(2)\n"
        )
        done = installation.command("cost", "--by", "team")
    assert done.returncode == 0
    assert "unpriced" in done.stdout + done.stderr and "price set" in done.stdout + done.stderr


def test_a_second_up_names_the_first(installation: Installation) -> None:
    with installation.up() as up:
        second = installation.command("up")
        assert second.returncode == 1
        assert str(up.process.pid) in one_line(second.stderr)
        assert up.stop() == 0


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM runs", "nope"),
        ("SELECT * FROM run", "runs"),
        ("DROP TABLE runs", ""),
        ("DESCRIBE run", "runs"),
    ],
    ids=["typo", "unknown column", "unknown table", "write", "describe"],
)
def test_bad_sql_ends_in_one_line_that_helps(installation: Installation, query: str, hint: str) -> None:
    installation.script(LOG_ONE)
    done = installation.command("sql", query)
    assert done.returncode in (1, 2)
    assert hint in one_line(done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1
    assert [row["name"] for row in installation.json("ls")] == ["one"]


def test_a_typo_in_a_keyword_of_init_is_named_with_the_right_word(installation: Installation) -> None:
    done = installation.script(
        "import trainledger\nrun = trainledger.init(projet='p')\nrun.log({'x': 1})\nprint('alive')\n"
    )
    assert done.returncode == 0 and "alive" in done.stdout
    assert "projet" in done.stderr and "project" in done.stderr


def test_a_whole_tensor_is_refused_with_a_hint_and_the_rest_is_kept(installation: Installation) -> None:
    done = installation.script(
        "import numpy, trainledger\nrun = trainledger.init(project='p')\n"
        "run.log({'grad': numpy.zeros((3, 4)), 'loss': numpy.float32(0.5)})\nprint('alive')\n"
    )
    assert done.returncode == 0 and "alive" in done.stdout
    assert "grad" in done.stderr and "Traceback" not in done.stderr
    assert [row["key"] for row in installation.sql("SELECT DISTINCT key FROM metrics")] == ["loss"]


def test_two_runs_in_one_process_are_two_runs(installation: Installation) -> None:
    done = installation.script(
        "import trainledger\n"
        "for name in ('first', 'second'):\n"
        "    trainledger.init(project='p', name=name)\n    trainledger.log({'x': 1})\n"
    )
    assert done.returncode == 0, done.stderr
    rows = installation.json("ls", "--sort", "started_at")
    assert [(row["name"], row["state"]) for row in rows] == [("first", "finished"), ("second", "finished")]


def test_kill_9_then_ls_shows_a_crashed_run_with_its_points(installation: Installation) -> None:
    process = installation.start(
        "import time, trainledger\nrun = trainledger.init(project='p', name='victim')\n"
        "for i in range(1000): run.log({'x': i}, step=i)\nprint('logged', flush=True)\ntime.sleep(60)\n"
    )
    assert process.stdout is not None and process.stdout.readline() == "logged\n"
    process.kill()
    process.communicate()
    assert [(row["name"], row["state"]) for row in installation.json("ls")] == [("victim", "crashed")]
    assert installation.sql("SELECT count() AS n, max(step) AS last FROM metrics") == [
        {"n": 1000, "last": 999}
    ]


def test_ctrl_c_during_training_is_a_killed_run(installation: Installation) -> None:
    process = installation.start(
        "import time, trainledger\nrun = trainledger.init(project='p', name='stopped')\nrun.log({'x': 1})\n"
        "print('logged', flush=True)\ntime.sleep(60)\n"
    )
    assert process.stdout is not None and process.stdout.readline() == "logged\n"
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert [(row["name"], row["state"]) for row in installation.json("ls")] == [("stopped", "killed")]


def test_a_running_training_is_seen_running_by_a_one_shot_command(installation: Installation) -> None:
    process = installation.start(
        "import time, trainledger\nrun = trainledger.init(project='p', name='live')\nrun.log({'x': 1})\n"
        "print('logged', flush=True)\ntime.sleep(60)\n"
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "logged\n"
        assert [(row["name"], row["state"]) for row in installation.json("ls")] == [("live", "running")]
    finally:
        process.kill()
        process.communicate()


def test_a_training_without_up_has_no_cost_and_says_why(installation: Installation) -> None:
    installation.script(LOG_ONE)
    done = installation.command("cost", "--by", "run")
    assert done.returncode == 0, done.stderr
    assert "trainledger up" in done.stdout + done.stderr
    assert installation.json("ls")[0]["cost"] is None


def test_unknown_runs_and_commands_are_told_in_one_line(installation: Installation) -> None:
    installation.script(LOG_ONE)
    for arguments, status in (
        (["show", "nope"], 1),
        (["compare", "one"], 2),
        (["lss"], 2),
        (["cost", "--by", "planet"], 2),
    ):
        done = installation.command(*arguments)
        assert done.returncode == status, (arguments, done.stderr)
        one_line(done.stderr)


def test_commands_wait_for_each_other_instead_of_failing(installation: Installation) -> None:
    installation.script(LOG_ONE)
    started = time.monotonic()
    processes = [
        installation.start(
            f"import subprocess, sys\nsys.exit(subprocess.run(['trainledger', 'ls']).returncode) # {i}\n"
        )
        for i in range(3)
    ]
    outcomes = [process.communicate(timeout=60) + (process.returncode,) for process in processes]
    assert [status for _, _, status in outcomes] == [0, 0, 0], outcomes
    assert time.monotonic() - started < 60
