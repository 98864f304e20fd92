"""The outermost launcher is found above a rank, and an ordinary program is none. Which variables are told."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from trainledger.provenance.launcher import find_launcher, is_launcher
from trainledger.provenance.request import Request, parse_request
from trainledger.provenance.variables import describe_variables
from trainledger.wrapper_claims import command_of_ranks
from trainledger_schemas.ids import id_text, random_id

RANK = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"


@pytest.mark.parametrize("name", ["torchrun", "schedule-my-jobs"])
def test_launcher_above_a_rank_is_found_with_secrets_removed(tmp_path: Path, name: str) -> None:
    launcher = tmp_path / name
    launcher.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\nsys.exit(subprocess.run([sys.executable, '-c', sys.argv[-1]]).returncode)\n"
    )
    launcher.chmod(0o755)
    process = subprocess.Popen(
        [str(launcher), "--nproc=2", "--api-key", "hunter2hunter2", RANK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        found = find_launcher(int(process.stdout.readline()))
    finally:
        process.communicate("", timeout=30)
    if name == "torchrun":
        assert [word.rpartition("/")[2] for word in found[1:5]] == [
            "torchrun",
            "--nproc=2",
            "--api-key",
            "[redacted]",
        ]
    else:
        assert found == []


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (["python", "-m", "torch.distributed.run", "train.py"], True),
        (["/usr/bin/python3", "/venv/bin/accelerate", "launch"], True),
        (["/usr/bin/mpirun", "-np", "2"], True),
        (["python", "train.py"], False),
        (["python", "/venv/bin/trainledger", "run", "--", "torchrun"], False),
        ([], False),
    ],
)
def test_known_launchers(command: list[str], is_one: bool) -> None:
    assert is_launcher(command) is is_one


@pytest.mark.parametrize(
    ("command", "ranks"),
    [
        (["mpirun", "-n", "2", "/venv/bin/python", "train.py"], ["/venv/bin/python", "train.py"]),
        (["/venv/bin/torchrun", "--nnodes=1", "train.py", "-x"], ["/venv/bin/python", "train.py", "-x"]),
        (["/v/python", "-m", "torch.distributed.run", "train.py"], ["/v/python", "train.py"]),
        (["python", "train.py"], ["python", "train.py"]),
        (["mpirun", "./a.out"], ["mpirun", "./a.out"]),
    ],
)
def test_what_a_launcher_starts(command: list[str], ranks: list[str]) -> None:
    assert command_of_ranks(command) == ranks


def test_variables_are_an_allow_list_without_secrets() -> None:
    environ: Mapping[str, str] = {
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "4",
        "TOKENIZERS_PARALLELISM": "false",
        "SLURM_JOB_ID": "7",
        "HF_TOKEN": "x",
        "TORCH_API_KEY": "x",
        "NCCL_URL": "https://me:hunter2hunter2@host/",
        "HOME": "/home/me",
        "TF_VAR_password1": "x",
        "TRAINLEDGER_RUN_ID": "x",
    }
    found, withheld = describe_variables(environ)
    assert set(found) == {"PYTHONHASHSEED", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "SLURM_JOB_ID"}
    assert withheld == 2


def request_of(cwd: Path, main_file: str | None) -> Request:
    import json

    ids = {"run_id": id_text(random_id()), "parent_journal": id_text(random_id())}
    return parse_request(
        json.dumps(ids | {"uid_folder": "/x", "cwd": str(cwd), "main_file": main_file}).encode()
    )


def test_code_is_looked_for_beside_the_script_and_above_its_package(tmp_path: Path) -> None:
    package = tmp_path / "project" / "package" / "inner"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    assert request_of(tmp_path, "project/train.py").code_folder == tmp_path / "project"
    assert request_of(tmp_path, "project/package/inner/__main__.py").code_folder == tmp_path / "project"
    for installed in ("/usr/lib/python3/dist-packages/pytest/__main__.py", "/venv/bin/torchrun", None):
        request = request_of(tmp_path, installed)
        assert (request.code_folder, request.script) == (tmp_path, None)


def test_a_process_of_multiprocessing_is_started_by_its_parent(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import multiprocessing, os, sys\nfrom trainledger.provenance.launcher import find_launcher\n"
        "def work(): print(find_launcher(os.getpid()))\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context(sys.argv[1]).Process(target=work)\n"
        "    process.start(), process.join()\n"
    )
    for method in ("fork", "spawn", "forkserver"):
        command = [sys.executable, str(program), method]
        told = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
        assert told.stdout == f"{command}\n", method
    alone = subprocess.run(
        [
            sys.executable,
            "-c",
            "from trainledger.provenance.launcher import find_launcher as f; import os; print(f(os.getpid()))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert alone.stdout == "[]\n"
