"""The packages of a wrapped command are those of its own interpreter."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from support.polling import poll_until
from support.training import read_journals
from trainledger.command_interpreter import find_interpreter

WRAPPER = [sys.executable, "-c", "from trainledger.cli import main; raise SystemExit(main())", "run", "--"]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The folder of the programs of another environment, with one package in it."""
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    info = site / "only_there-3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: only_there\nVersion: 3\n")
    (info / "RECORD").write_text("only_there.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n")
    (site / "only_there.py").touch()
    return tmp_path / "venv" / "bin"


def write_program(path: Path, first_line: str) -> Path:
    path.write_text(f"{first_line}\n")
    path.chmod(0o755)
    return path


def test_interpreter_is_the_first_word_or_what_the_program_names(tmp_path: Path, other: Path) -> None:
    python = str(other / "python")
    here = {"PATH": f"{other}:{os.environ['PATH']}"}
    torchrun = write_program(other / "torchrun", f"#!{python}")
    by_name = write_program(tmp_path / "by_name", "#!/usr/bin/env python")
    shell = write_program(tmp_path / "job.sh", "#!/bin/sh")
    plain = write_program(tmp_path / "plain", "x")
    assert find_interpreter([python, "x.py"], {}) == python
    assert find_interpreter(["python3"], here) == str(other / "python3")
    assert find_interpreter(["torchrun", "x.py"], here) == python
    assert find_interpreter([str(torchrun)], {}) == python
    assert find_interpreter([str(by_name)], here) == python
    for command in ([str(shell)], [str(plain)], ["no-such-program"], [sys.executable], ["true"]):
        assert find_interpreter(command, os.environ) is None


def test_packages_of_a_wrapped_command_are_those_of_its_interpreter(tmp_path: Path, other: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRAINLEDGER_")}
    environment |= {"TRAINLEDGER_DIR": str(tmp_path / "node"), "HOME": str(tmp_path)}
    command = [str(other / "python"), "-c", "pass"]
    subprocess.run([*WRAPPER, *command], cwd=tmp_path, env=environment, check=True, timeout=60)

    def claims() -> list[dict[str, object]]:
        return [
            claim for journal in read_journals(tmp_path / "node") for claim in journal.claims_of("provenance")
        ]

    poll_until(claims, deadline_s=60)
    (claim,) = claims()
    assert claim["packages"] == {"only-there": "3"} and claim["package_ids"]
    assert str(claim["python"]).startswith(sys.version.split()[0])
