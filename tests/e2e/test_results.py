"""What people see of a run while it runs and after it, through the real commands and a live `up`."""

import re
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
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


TALK = """
import os, pathlib, sys, time, trainledger
trainledger.init(project="talk", name="talk")
number = 0
while not pathlib.Path(sys.argv[1]).exists():
    number += 1
    print("number", number, flush=True)
    time.sleep(0.02)
print("numbers in all:", number, flush=True)
"""


def test_following_two_ranks_gives_every_line_once_across_a_restart_of_up(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    stop, script = tmp_path / "stop", str(node.write_script(TALK))
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [str(BIN / "trainledger"), *arguments],
            cwd=tmp_path, env=node.environment | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return process

    try:
        with node.up():
            launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "node-a", "MASTER_PORT": "29500"}
            ranks = [
                start("run", "--", "python", script, str(stop), RANK=str(rank), **launch) for rank in (0, 1)
            ]
            poll_until(lambda: [row for row in node.sql("SELECT ranks FROM runs") if row["ranks"] == 2])
            follower = start("logs", "-f", "talk")
            assert follower.stdout is not None
            told = [follower.stdout.readline() for _ in range(50)]
        # Nobody reads for a while; then somebody does again.
        with node.up():
            told += [follower.stdout.readline() for _ in range(50)]
            stop.touch()
            # Not communicate(): it would pass over what readline() has read ahead.
            lines = [line.rstrip("\n") for line in (*told, *follower.stdout)]
            assert follower.wait(60) == 0
            written = [process.communicate(timeout=60)[0].splitlines() for process in ranks]
            once = node.command("logs", "talk").stdout.splitlines()
            for rank, wrote in enumerate(written):
                assert _numbers(once, rank) == wrote
                assert _numbers(lines, rank) == wrote
            assert sorted(once) == sorted(lines)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _numbers(lines: list[str], rank: int) -> list[str]:
    """What the script of this rank wrote to stdout."""
    head = f"[rank {rank}] "
    return [line.removeprefix(head) for line in lines if line.startswith(f"{head}number")]


def test_a_new_line_is_printed_soon_and_ctrl_c_ends_without_a_word(node: Installation) -> None:
    process = subprocess.Popen(
        [str(BIN / "trainledger"), "logs", "-f", "long", "--grep", "at step"],
        cwd=node.folder, env=node.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for place in range(8):
            assert process.stdout.readline() == f"at step {place * 50}\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130 and errors.strip() == ""
    finally:
        process.kill()
        process.communicate()


def test_a_search_over_all_runs_names_the_run_and_shows_the_lines_around(node: Installation) -> None:
    script = str(
        node.write_script("print('before'); print('RuntimeError: CUDA is out of cards'); print('behind')")
    )
    assert node.command("run", "--name", "broken", "--", "python", script).returncode == 0
    found = node.command("logs", "--grep", "out of cards", "-C", "1")
    head, *lines = found.stdout.splitlines()
    assert head.startswith("run ") and " broken, project " in head
    assert lines == ["stdout 1- before", "stdout 2: RuntimeError: CUDA is out of cards", "stdout 3- behind"]
    (row,) = node.json("logs", "--grep", "CUDA.*cards$", "-E", "--since", "1h")
    assert (row["name"], row["line_no"], row["is_match"]) == ("broken", 2, True)
    nothing = node.command("logs", "--grep", "out of cards", "--project", "long")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "no line matches\n")
    for wrong in (("logs",), ("logs", "-f"), ("logs", "long", "-C", "2"), ("logs", "--grep", "(", "-E")):
        assert node.command(*wrong).returncode == 2


def test_compare_says_what_changed_between_two_runs_in_code_parameters_and_results(
    node: Installation,
) -> None:
    work = node.folder / "work"
    work.mkdir()

    def git(*arguments: str) -> None:
        names = {
            f"GIT_{who}_{what}": "someone@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        subprocess.run(
            ["git", *arguments], cwd=work, env=node.environment | names, check=True, capture_output=True
        )

    def train(name: str, rate: float) -> None:
        text = f"""
            import trainledger
            with trainledger.init(project="pair", name="{name}", config={{"rate": {rate}, "model": "mlp"}}) as run:
                run.define_metric("acc", goal="max")
                for step in range(10):
                    run.log({{"acc": {rate} * step}}, step=step)
            """
        (work / "train.py").write_text(textwrap.dedent(text), encoding="utf-8")
        done = subprocess.run(
            [str(BIN / "trainledger"), "run", "--", "python", "train.py"],
            cwd=work, env=node.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def captured(runs: int) -> None:
        query = (
            "SELECT count() AS n FROM provenance WHERE snapshot_id IS NOT NULL "
            "AND run_id IN (SELECT run_id FROM runs WHERE project = 'pair')"
        )
        poll_until(lambda: node.sql(query)[0]["n"] == runs, deadline_s=60, pause_s=0.5)

    git("init", "-q")
    train("first", 0.5)
    captured(1)
    git("add", ".")
    git("commit", "-q", "-m", "first")
    train("second", 0.25)
    captured(2)

    rows = {(row["what"], row["key"]): row for row in node.json("compare", "first", "second")}
    assert list(rows["parameter", "rate"]["values"].values()) == [0.5, 0.25]
    assert list(rows["result", "acc (max)"]["values"].values()) == [4.5, 2.25]
    assert list(rows["result", "acc (max)"]["difference_pct"].values()) == [None, -50.0]
    assert list(rows["file", "train.py"]["values"].values()) == [None, "+2 -2"]
    assert ("parameter", "model") not in rows and ("package", "numpy") not in rows
    everything = {(row["what"], row["key"]) for row in node.json("compare", "first", "second", "--all")}
    assert {("parameter", "model"), ("package", "numpy"), ("environment", "python")} <= everything
    text = node.command("compare", "first", "second").stdout
    assert "2.25 (-50 %)" in text and "+2 -2" in text
    patch = node.command("compare", "first", "second", "--code").stdout
    assert (
        "--- a/train.py\n+++ b/train.py\n" in patch
        and '+        run.log({"acc": 0.25 * step}, step=step)\n' in patch
    )
    assert node.command("compare", "first", "--code").returncode == 2


SWEEP = """
import sys, trainledger
rate = float(sys.argv[1])
with trainledger.init(project="sweep", name=f"rate-{rate}", group="rates", tags=["nightly"], config={"rate": rate}) as run:
    run.define_metric("eval/acc", goal="max")
    for step in range(5):
        run.log({"eval": {"acc": rate * (4 - step)}}, step=step)
    if rate > 2:
        print("about to fail", flush=True)
        raise RuntimeError("out of cards")
"""


def test_a_sweep_is_listed_best_first_and_its_failed_run_says_what_it_wrote_last(
    node: Installation, tmp_path: Path
) -> None:
    script = str(node.write_script(SWEEP))
    for rate, status in (("1", 0), ("2", 0), ("3", 1)):
        assert node.command("run", "--", "python", script, rate).returncode == status
    sort = ("--sort", "metric:eval/acc")
    rows = node.json("ls", "--group", "rates", "--tag", "nightly", *sort)
    assert [(row["name"], row["metric:eval/acc"]) for row in rows] == [
        ("rate-3.0", 12.0), ("rate-2.0", 8.0), ("rate-1.0", 4.0),
    ]  # fmt: skip
    assert {row["run_group"] for row in rows} == {"rates"} and node.json("ls", "--tag", "none") == []
    text = node.command("ls", "--group", "rates", *sort, "--state", "finished").stdout.splitlines()
    assert text[0].endswith("eval/acc") and [line.split()[-1] for line in text[1:]] == ["8", "4"]
    columns = (
        "--columns",
        "name,param:rate,metric:eval/acc,state",
        "--sort",
        "param:rate",
        "--group",
        "rates",
    )
    assert node.command("ls", *columns, "--csv").stdout.splitlines() == [
        "name,param:rate,metric:eval/acc,state",
        "rate-1.0,1.0,4.0,finished", "rate-2.0,2.0,8.0,finished", "rate-3.0,3.0,12.0,failed",
    ]  # fmt: skip
    assert node.command("ls", *columns, "--parquet", str(tmp_path / "runs.parquet")).returncode == 0
    table = pyarrow.parquet.read_table(tmp_path / "runs.parquet")
    assert table.column_names == ["name", "param:rate", "metric:eval/acc", "state"] and table.num_rows == 3
    wrong = node.command("ls", "--columns", "nam")
    assert wrong.returncode == 2 and "did you mean name?" in wrong.stderr

    shown = node.command("show", "rate-3.0").stdout
    assert "last lines" in shown and "about to fail" in shown and "RuntimeError: out of cards" in shown
    assert re.search(r"eval/acc .* 12 at 0, after [0-9.]+ s \(max\)", shown)
    assert "last lines" not in node.command("show", "rate-1.0").stdout
