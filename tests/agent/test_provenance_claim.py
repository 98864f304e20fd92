"""The claim fits its record and stands when time runs out."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from trainledger.provenance.claim import CLAIM_BYTES_MAX, Capture, fit
from trainledger.provenance.request import Request, parse_request
from trainledger.provenance.settings import program_environment
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_text, random_id
from trainledger_schemas.journal import CLAIM, pack_control


def request_for(folder: Path, **fields: Any) -> Request:
    told = {
        "run_id": id_text(random_id()),
        "parent_journal": id_text(random_id()),
        "uid_folder": str(folder),
        "cwd": str(folder),
        "sys_path": sys.path,
        "argv": ["python", "train.py", "--api-key", "hunter2hunter2"],
    }
    return parse_request(json.dumps(told | fields).encode())


def capture_of(request: Request) -> Capture:
    return Capture(request, environment=program_environment(), clock=SystemClock())


def test_claim_has_exactly_the_fields_of_its_schema(tmp_path: Path) -> None:
    capture = capture_of(request_for(tmp_path, entry_point="train.py", python="3.11.7 CPython"))
    capture.run()
    claim = capture.claim()
    schema = json.loads((resources.files("trainledger_schemas") / "avro" / "provenance.avsc").read_text())
    fields = {field["name"] for field in schema["fields"]} - {"envelope", "run_id", "writer_id"}
    assert set(claim) == fields | {"type"}
    assert claim["type"] == "provenance"
    assert claim["argv"] == ["python", "train.py", "--api-key", "[redacted]"]
    assert claim["packages"]["pytest"] == pytest.__version__
    assert (claim["entry_point"], claim["python"]) == ("train.py", "3.11.7 CPython")
    assert "Linux" in claim["os"]


def test_repository_is_the_scripts_and_not_the_folder_where_it_was_started(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(project)], check=True)
    capture = capture_of(request_for(elsewhere, main_file="../project/train.py", sys_path=[]))
    capture.run()
    assert (capture.claim()["vcs"], capture.claim()["branch"]) == ("git", "trunk")


def test_interpreter_is_asked_when_its_path_is_not_known(tmp_path: Path) -> None:
    capture = capture_of(request_for(tmp_path, sys_path=None, python_executable=sys.executable))
    capture.run()
    assert capture.claim()["packages"]["pytest"] == pytest.__version__
    assert capture.claim()["python"].startswith(".".join(map(str, sys.version_info[:3])))
    unknown = capture_of(request_for(tmp_path, sys_path=None))
    unknown.run()
    assert unknown.claim()["packages"] == {}
    assert any(reason.startswith("packages: ") for reason in unknown.claim()["reasons"])


def test_what_was_found_stands_when_the_rest_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out_of_time(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainledger.provenance.claim.read_packages", run_out_of_time)
    capture = capture_of(request_for(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        capture.run()
    capture.cut_short("not found within 30 s")
    assert "Linux" in capture.claim()["os"]
    assert (
        capture.claim()["reasons"][-1]
        == "packages, lock files, machine, stored code, contents of packages, image: not found within 30 s"
    )


def test_claim_that_is_too_large_is_cut_and_says_so() -> None:
    claim = {
        "argv": ["x" * 1000] * 500,
        "packages": {f"package-number-{number:06d}": "1.2.3.post20260101" for number in range(9000)},
        "package_ids": {f"package-number-{number:06d}": "0" * 64 for number in range(9000)},
        "package_sources": {},
        "reasons": ["earlier"],
    }
    cut = fit(claim)
    pack_control(CLAIM, json.dumps(cut).encode(), step=0, wall_ns=0)
    assert len(json.dumps(cut)) <= CLAIM_BYTES_MAX + 500
    assert 0 < len(cut["argv"]) < 500 and 1000 < len(cut["packages"]) < 9000
    assert [reason.split(":")[0] for reason in cut["reasons"]] == ["earlier", "argv", "packages"]
    assert claim["reasons"] == ["earlier"]
    small: dict[str, object] = {"argv": [], "packages": {}, "reasons": []}
    assert fit(small) is small


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"run_id": "x"}', b"\xff"])
def test_what_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match="not a capture request"):
        parse_request(text)


def test_plain_folder_is_stored_for_a_script_or_a_notebook_and_not_for_any_other_command(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)")
    notebook = {"JPY_SESSION_NAME": str(folder / "n.ipynb")}
    for main_file, variables, is_stored in (
        ("train.py", {}, True),
        (None, {}, False),
        (None, notebook, True),
    ):
        told = {"argv": ["command"], "uid_folder": str(tmp_path / "journals"), "sys_path": []}
        request = request_for(folder, main_file=main_file, **told)
        environment = program_environment() | variables
        capture = Capture(request, environment=environment, clock=SystemClock())
        capture.run()
        claim = capture.claim()
        assert (claim["snapshot_id"] is not None) is is_stored, claim["reasons"]
        assert (claim["entry_point"] == notebook["JPY_SESSION_NAME"]) is bool(variables)


def test_list_of_a_conda_environment_stands_among_the_lock_files(tmp_path: Path) -> None:
    (tmp_path / "env" / "conda-meta").mkdir(parents=True)
    told = {"name": "nccl", "version": "2.18.3", "build": "x", "url": "https://host/nccl.conda"}
    (tmp_path / "env" / "conda-meta" / "nccl.json").write_text(json.dumps(told))
    site = str(tmp_path / "env" / "lib" / "python3.11" / "site-packages")
    capture = capture_of(request_for(tmp_path, sys_path=[site]))
    capture.run()
    claim = capture.claim()
    assert claim["lock_files"] == {"(conda list --explicit)": claim["system"]["conda.sha256"]}
    assert (claim["nccl"], claim["image_source"]) == ("2.18.3", None)


@pytest.mark.parametrize(
    ("argv", "loaded", "is_stored"),
    [
        (["./go"], [], True),
        (["bash", "train.sh"], [], True),
        (["launch", "0", "2", "/env/bin/python", "train.py"], [], True),
        (["torchrun", "-m", "sub.train"], [], True),
        (["python", "-m", "sub"], [], True),
        (["python", "-c", "import sub.train"], ["sub/__init__.py", "sub/train.py"], True),
        (["python", "-c", "import train"], ["train.py"], True),
        (["python", "-c", "import other"], ["src/other.py", "/elsewhere/train.py"], False),
        (["python", "-c", "import os, sys; from sub.train import main; main()"], [], True),
        (["bash", "-lc", "for i in 1 2; do (python train.py); done"], [], True),
        (["bash", "-c", "echo train; cat /elsewhere/train.py"], [], False),
        (["python", "-c", "import os; print(os.sep)"], [], False),
        (["python", "-m", "http.server"], [], False),
        (["cp", "weights.bin", "/elsewhere/train.py", "sub", "\0"], [], False),
    ],
    ids=lambda value: " ".join(value).replace("\0", "NUL") if isinstance(value, list) else str(value),
)
def test_plain_folder_is_code_where_the_command_uses_programs_or_modules_of_it(
    tmp_path: Path, argv: list[str], loaded: list[str], is_stored: bool
) -> None:
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    for name in ("train.py", "train.sh", "sub/__init__.py", "sub/train.py", "sub/__main__.py", "weights.bin"):
        (folder / name).write_text("1")
    (folder / "go").write_text("#!/bin/sh\n")
    told = {"uid_folder": str(tmp_path / "journals"), "loaded": [str(folder / file) for file in loaded]}
    capture = capture_of(request_for(folder, argv=argv, sys_path=[], **told))
    capture.run()
    assert (capture.claim()["snapshot_id"] is not None) is is_stored, capture.claim()["reasons"]


@pytest.mark.parametrize(
    ("argv", "main_file", "is_lost"),
    [
        (["python3", "-"], None, True),
        # As Python itself calls it.
        (["python3", "-", "k"], "<stdin>", True),
        (["python"], None, True),
        (["/usr/bin/python3.11", "-u", "-", "--lr=1"], None, True),
        (["python", "-c", "print(1)"], None, False),
        (["python", "-m", "train"], None, False),
        (["bash", "-"], None, False),
    ],
)
def test_program_from_standard_input_is_said_to_be_lost(
    tmp_path: Path, argv: list[str], main_file: str | None, is_lost: bool
) -> None:
    folder = tmp_path / "work"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "new.py").write_text("1")
    capture = capture_of(
        request_for(
            folder, argv=argv, main_file=main_file, sys_path=[], uid_folder=str(tmp_path / "journals" / "0")
        )
    )
    capture.run()
    claim = capture.claim()
    assert (
        claim["snapshot_id"] and [item["path"] for item in claim["left_out_files"]] == ["<stdin>"] * is_lost
    )
    assert claim["left_out"] == int(is_lost)
