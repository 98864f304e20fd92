"""The command of a repetition points into the new folder, and what cannot be the same is said."""

from typing import Any

import pytest

from trainledger_ingest.reproduce.command import build_command, search_restored
from trainledger_schemas.errors import UsageError

RUN: dict[str, Any] = {
    "code_root": "/old/project",
    "cwd": "/old/project/src",
    "argv": ["python", "train.py", "--lr=0.1"],
    "program": "/usr/bin/python",
    "launcher": [],
    "variables": {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "4", "SLURM_JOB_ID": "7", "RANK": "0"},
}


def command_of(*argv: str, **changes: Any) -> list[str]:
    run = RUN | changes | ({"argv": ["python", *argv]} if argv else {})
    return build_command(run, "/new", environ={}, exists=lambda _: True).argv[1:]


def test_program_folder_and_variables_are_those_of_the_run() -> None:
    command = build_command(
        RUN,
        "/new",
        environ={"PYTHONPATH": "/x", "HOME": "/home/me", "NCCL_DEBUG": "INFO"},
        exists=lambda _: True,
    )
    assert command.argv == ["/usr/bin/python", "train.py", "--lr=0.1"]
    assert command.cwd == "/new/src"
    # Variables of the old launch are not those of this one.
    assert command.variables == {
        "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "4", "PYTHONPATH": None, "NCCL_DEBUG": None
    }  # fmt: skip
    assert command.notes == []


@pytest.mark.parametrize(
    ("argument", "mapped"),
    [
        ("/old/project/data.csv", "/new/data.csv"),
        ("/old/project", "/new"),
        ("/old/project2/data.csv", "/old/project2/data.csv"),
        ("--data=/old/project/data.csv", "--data=/new/data.csv"),
        ("data=/old/project/data.csv", "data=/old/project/data.csv"),
        ("../data/x.csv", "../data/x.csv"),
        ("--flag", "--flag"),
        ("", ""),
    ],
)
def test_paths_into_the_old_folder_become_paths_into_the_new(argument: str, mapped: str) -> None:
    assert command_of(argument) == [mapped]


def test_relative_paths_are_made_whole_when_the_run_was_started_from_outside() -> None:
    command = build_command(
        RUN | {"cwd": "/old", "argv": ["python", "project/train.py", "other/x.csv"]},
        "/new",
        environ={},
        exists=lambda _: True,
    )
    assert (command.argv[1:], command.cwd) == (["/new/train.py", "other/x.csv"], "/old")
    assert "outside of the code" in command.notes[0]


def test_a_launcher_is_run_and_a_given_command_wins() -> None:
    launched = RUN | {"launcher": ["torchrun", "--nproc-per-node=2", "train.py"]}
    assert build_command(launched, "/new", environ={}).argv[0] == "torchrun"
    assert build_command(launched, "/new", given=["true"], environ={}).argv == ["true"]


@pytest.mark.parametrize(
    ("program", "there", "run"),
    [
        ("/old/project/go.sh", (), "/new/go.sh"),
        ("/old/project/bin/train", (), "/new/bin/train"),
        ("/old/project/.venv/bin/python", (".venv/pyvenv.cfg",), "/old/project/.venv/bin/python"),
        ("/old/project/env/bin/python", ("env/conda-meta",), "/old/project/env/bin/python"),
        ("/usr/bin/python", (), "/usr/bin/python"),
    ],
    ids=["script", "bin", "venv", "conda", "outside"],
)
def test_program_of_the_code_is_the_restored_one(program: str, there: tuple[str, ...], run: str) -> None:
    files = {program, *(f"/old/project/{name}" for name in there)}
    told = RUN | {"argv": ["./program"], "program": program}
    assert build_command(told, "/new", environ={}, exists=files.__contains__).argv == [run]


def test_program_from_standard_input_has_to_be_given() -> None:
    told = RUN | {"argv": ["python", "-"], "entry_point": "<stdin>"}
    with pytest.raises(UsageError, match="standard input"):
        build_command(told, "/new", environ={}, exists=lambda _: True)
    given = build_command(told, "/new", given=["python", "t.py"], environ={}, exists=lambda _: True)
    assert given.argv == ["python", "t.py"]


def test_missing_programs_and_seeds_are_notes() -> None:
    command = build_command(RUN | {"variables": {}}, "/new", environ={}, exists=lambda _: False)
    assert command.argv[0] == "python"
    assert [note.split(" ")[0] for note in command.notes] == ["/usr/bin/python", "PYTHONHASHSEED"]


@pytest.mark.parametrize("argv", [[], ["python", "train.py", "--api-key", "[redacted]"]])
def test_a_command_that_is_not_known_whole_must_be_given(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="-- CMD"):
        build_command(RUN | {"argv": argv}, "/new", environ={})


def test_modules_are_looked_for_where_they_are_restored_and_folders_of_the_code_in_the_new_one() -> None:
    variables = {"PYTHONPATH": "/libs:/old/project/src:rel:/usr/share/other", "TORCH_HOME": "/older/x"}
    command = build_command(RUN | {"variables": variables}, "/new", environ={}, exists=lambda _: True)
    assert command.variables == {
        "PYTHONPATH": "/libs:/new/src:rel:/usr/share/other", "TORCH_HOME": "/older/x"
    }  # fmt: skip
    search_restored(command, {"/libs": "/new.outside/0", "/put/on/the/path": "/new.outside/1"})
    assert command.variables["PYTHONPATH"] == "/new.outside/0:/new/src:rel:/usr/share/other:/new.outside/1"
    bare = build_command(RUN, "/new", environ={}, exists=lambda _: True)
    search_restored(bare, {})
    assert "PYTHONPATH" not in bare.variables
