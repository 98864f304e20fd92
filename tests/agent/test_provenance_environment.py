"""Interpreter and system."""

import os
import sys
from pathlib import Path

import pytest

from trainledger.provenance.environment import ask_interpreter, describe_system
from trainledger.provenance.programs import Programs, UnavailableError
from trainledger.provenance.settings import program_environment
from trainledger_schemas.clock import SystemClock


def programs() -> Programs:
    return Programs(program_environment(), clock=SystemClock(), budget_s=10)


def test_another_interpreter_tells_its_path(tmp_path: Path) -> None:
    path, python = ask_interpreter(sys.executable, tmp_path, programs())
    assert python.split()[0] == ".".join(map(str, sys.version_info[:3]))
    assert any("site-packages" in entry for entry in path)


@pytest.mark.parametrize("program", ["/bin/true", "/no/such/program"])
def test_what_is_no_interpreter_is_unavailable(program: str, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        ask_interpreter(program, tmp_path, programs())


def test_system_is_named_with_its_kernel(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=x\nPRETTY_NAME="Some Linux 12"\n')
    assert describe_system([tmp_path / "none", release]).startswith("Some Linux 12; Linux ")
    assert describe_system([tmp_path / "none"]).split() == [
        os.uname().sysname,
        os.uname().release,
        os.uname().machine,
    ]
