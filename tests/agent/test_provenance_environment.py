"""Packages, interpreter and system."""

import os
import sys
from pathlib import Path

import pytest

from trainledger.provenance.environment import ask_interpreter, describe_system, read_packages
from trainledger.provenance.programs import Programs, UnavailableError
from trainledger.provenance.settings import PACKAGES_MAX, program_environment
from trainledger_schemas.clock import SystemClock


def install(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def programs() -> Programs:
    return Programs(program_environment(), clock=SystemClock(), budget_s=10)


def test_packages_of_this_interpreter_are_found_under_their_canonical_names() -> None:
    packages, reasons = read_packages(sys.path, Path.cwd())
    assert packages["pytest"] == pytest.__version__
    assert "typing-extensions" in packages
    assert reasons == []


def test_first_on_the_path_wins_as_in_an_import(tmp_path: Path) -> None:
    install(tmp_path / "first", "My_Package", "2.0")
    install(tmp_path / "second", "my.package", "1.0")
    install(tmp_path / "second", "other", "3")
    packages, _ = read_packages(["first", str(tmp_path / "second"), "missing"], tmp_path)
    assert packages == {"my-package": "2.0", "other": "3"}


def test_damaged_metadata_is_counted_and_hides_nothing_else(tmp_path: Path) -> None:
    install(tmp_path, "good", "1")
    (tmp_path / "bad-1.dist-info").mkdir()
    (tmp_path / "bad-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    packages, reasons = read_packages([str(tmp_path)], tmp_path)
    assert packages == {"good": "1"}
    assert reasons == ["packages: 1 have metadata that cannot be read"]


def test_number_of_packages_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PACKAGES_MAX >= 1000
    monkeypatch.setattr("trainledger.provenance.environment.PACKAGES_MAX", 2)
    for number in range(4):
        install(tmp_path, f"p{number}", "1")
    packages, reasons = read_packages([str(tmp_path)], tmp_path)
    assert len(packages) == 2
    assert reasons == ["packages: only the first 2 are listed"]


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
