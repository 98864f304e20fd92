"""What people get in odd cases: one line for a folder that cannot be used, short names, whole tracebacks."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from support.installation import BIN, Installation
from trainledger.cli import COMMANDS, main
from trainledger_ingest.cli.admin import app as admin_app
from trainledger_ingest.cli.app import COMMAND_MODULES, make_app

FAILING = """
import trainledger
run = trainledger.init(name="n" * 5000, config={"k" * 3000: 1})
run.log({"m" * 3000: 1.0})
run.summary["best"] = 0.9
raise ValueError("first line\\nsecond line")
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One run that failed, with names as nobody should give them; `up` answers, which is quicker."""
    node = Installation(tmp_path_factory.mktemp("plain"))
    with node.up():
        assert node.script(FAILING).returncode == 1
        yield node


def test_long_names_do_not_pad_the_tables(failed: Installation) -> None:
    listed = failed.command("ls").stdout.splitlines()
    assert max(map(len, listed)) < 200 and "n" * 39 + "…" in listed[1]
    (run_id,) = (row["run_id"] for row in failed.sql("SELECT toString(run_id) AS run_id FROM runs"))
    shown = failed.command("show", run_id).stdout.splitlines()
    assert max(map(len, shown)) < 400
    assert any(line.split() == ["k" * 59 + "…", "1"] for line in shown)
    assert any(line.startswith("m" * 59 + "…  ▁") for line in shown)
    assert len(failed.json("ls")[0]["name"]) > 100


def test_a_failure_names_the_error_and_shows_its_traceback_line_by_line(failed: Installation) -> None:
    (run_id,) = (row["run_id"] for row in failed.sql("SELECT toString(run_id) AS run_id FROM runs"))
    shown = failed.command("show", run_id).stdout.splitlines()
    assert "state                   failed (exception: ValueError: first line second line)" in shown
    begin = shown.index("failure")
    assert shown[begin + 1] == "traceback, most recent call last"
    assert shown[begin + 2].startswith("  File ") and shown[begin + 4 : begin + 6] == [
        "ValueError: first line",
        "second line",
    ]
    assert [line.split() for line in shown[shown.index("summary") + 1 :][:2]] == [
        ["key", "value"],
        ["best", "0.9"],
    ]


NO_STATEMENT = "the query is empty; try: SELECT * FROM runs LIMIT 10"
SQL = {
    "a semicolon": (";", 1, NO_STATEMENT),
    "a comment alone": ("/* all of it */ -- no\n;", 1, NO_STATEMENT),
    "a comment before": ("-- all runs\nSELECT count() AS n FROM runs", 0, "n\n1\n"),
    "a comment without a blank": ("--all runs\nSELECT 41 + count() AS n FROM runs", 0, "n\n42"),
}


@pytest.mark.parametrize(("query", "status", "text"), SQL.values(), ids=SQL)
def test_sql_of_comments_is_answered_like_any_other(
    failed: Installation, query: str, status: int, text: str
) -> None:
    done = failed.command("sql", query)
    assert (done.returncode, text in done.stderr + done.stdout) == (status, True)
    assert len((done.stderr or "one").splitlines()) == 1


def test_the_views_and_their_columns_are_told_whole_without_any_tables(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    listed = node.command("sql", "SHOW TABLES").stdout.splitlines()
    assert listed[0].split() == ["view", "one", "row", "columns"]
    told = node.command("sql", "describe run_io")
    assert told.returncode == 0 and "…" not in told.stdout and "sha256: of the bytes of a file" in told.stdout
    rows = node.json("sql", "DESCRIBE runs")
    assert rows[0] == {"name": "run_id", "type": "UUID", "comment": "the run"}
    assert any(line.split() == ["runs", "a", "run", str(len(rows))] for line in listed)
    refused = node.command("sql", "DESCRIBE run")
    assert (refused.returncode, refused.stderr) == (
        1,
        "trainledger: no view named 'run'; did you mean runs?\n",
    )
    assert not node.home.exists()


@pytest.mark.parametrize("group", ["admin", "price"])
def test_a_group_alone_prints_its_help_and_no_empty_error(failed: Installation, group: str) -> None:
    done = failed.command(group)
    assert done.returncode == 2 and "Usage: trainledger" in done.stdout + done.stderr
    assert "trainledger: " not in done.stderr


def test_a_cut_list_is_told_in_words_for_one_and_many(failed: Installation, tmp_path: Path) -> None:
    two = failed.script("import trainledger; trainledger.init().finish()")
    assert two.returncode == 0, two.stderr
    assert failed.command("ls", "--limit", "1").stderr == "only the first run; --limit shows more\n"


def test_show_says_how_many_metrics_it_leaves_out_and_keeps_those_with_a_goal(
    failed: Installation,
) -> None:
    done = failed.script(
        "import trainledger\n"
        "run = trainledger.init(name='wide', group='sweep-1', config={f'p{i:03}': i for i in range(101)})\n"
        "run.define_metric('zz/accuracy', goal='max')\n"
        "run.log({'layers': {f'm{i:03}': i for i in range(70)}, 'zz': {'accuracy': 0.5}}, step=0)\n"
        "run.finish()\n"
    )
    assert done.returncode == 0, done.stderr
    lines = failed.command("show", "wide").stdout.splitlines()
    hint = "`show RUN --group G` has all of layers (70), zz (1)"
    assert f"results (60 of 71 metrics; {hint}; view metric_summary has all)" in lines
    assert "parameters (100 of 101; view params has all)" in lines
    assert any(line.startswith("zz/accuracy") for line in lines)
    assert any(line.split() == ["group", "sweep-1"] for line in lines)
    _, title, head, *rows = failed.command("show", "wide", "--group", "layers").stdout.splitlines()
    assert (title, head.split()[:2]) == ("results of layers", ["metric", "course"])
    assert [row.split()[0] for row in rows] == [f"layers/m{i:03}" for i in range(70)]
    assert [(row["key"], row["best"]) for row in failed.json("show", "wide", "--group", "zz/")] == [
        ("zz/accuracy", 0.5)
    ]
    nothing = failed.command("show", "wide", "--group", "lay")
    told = "the run has no metric lay or lay/...; its groups: layers (70), zz (1)"
    assert nothing.returncode == 1 and told in nothing.stderr
    failed.script(
        "import trainledger\nrun = trainledger.init(name='flat')\nrun.log({'loss': 1})\nrun.finish()"
    )
    nothing = failed.command("show", "flat", "--group", "eval")
    assert nothing.stderr.endswith("the run has no metric eval or eval/...; no key of it has a /\n")


def test_doctor_prints_its_second_table_under_a_title(failed: Installation) -> None:
    lines = failed.command("doctor").stdout.splitlines()
    begin = lines.index("settings in effect")
    assert lines[begin - 1] == "" and lines[begin + 1].split() == ["setting", "value", "unit", "from"]


def test_help_names_the_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for command, module in COMMAND_MODULES.items():
        alone, together = (typer.main.get_command(make_app(name)) for name in (command, None))
        assert command in alone.commands and set(together.commands) == set(COMMAND_MODULES), module  # type: ignore[attr-defined] # groups
    assert set(COMMAND_MODULES) == set(COMMANDS) - {"run", "agent"}
    inside = typer.main.get_command(admin_app)
    assert set(COMMANDS["admin"][0].split(", ")) == set(inside.commands)  # type: ignore[attr-defined] # a group
    assert main(["--help"]) == 0
    assert "page" not in capsys.readouterr().out


def as_an_ordinary_user(node: Installation, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command without root's right to read everything."""
    rights: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is needed to give up root's rights")
        without = "-dac_override,-dac_read_search"
        rights = ["setpriv", "--bounding-set", without, "--inh-caps", without]
    return subprocess.run(
        [*rights, str(BIN / "trainledger"), *arguments],
        env=node.environment,
        text=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("command", [["ls"], ["sync"], ["up"], ["price", "ls"]], ids=" ".join)
def test_a_folder_without_right_is_one_line_with_path_and_remedy(tmp_path: Path, command: list[str]) -> None:
    node = Installation(tmp_path)
    node.home.mkdir(mode=0)
    done = as_an_ordinary_user(node, *command)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert (
        f"trainledger: {node.home}" in done.stderr
        and "Permission denied; let this user use it" in done.stderr
    )


def test_doctor_goes_on_where_it_may_not_look(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    node.home.mkdir(mode=0)
    done = as_an_ordinary_user(node, "doctor")
    assert done.returncode == 1 and done.stderr == ""
    assert f"{node.home} cannot be written" in done.stdout and "settings in effect" in done.stdout
