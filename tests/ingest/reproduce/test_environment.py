"""A virtual environment is made from what is recorded, by real pip and without a network, and compared with it."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from support.wheels import Wheels
from trainledger_ingest.reproduce.command import Command
from trainledger_ingest.reproduce.environment import (
    Built,
    build_venv,
    find_interpreter,
    image_command,
    use_venv,
)
from trainledger_ingest.reproduce.installed import (
    Installed,
    compare_installed,
    interpreter_of,
    read_installed,
)
from trainledger_ingest.reproduce.requirements import read_requirements, usable_lock
from trainledger_schemas.blobs import FolderBlobs, sha256_of
from trainledger_schemas.errors import TrainledgerError, UsageError
from trainledger_schemas.package_content import wheel_content_id

PYTHON = f"{'.'.join(str(part) for part in sys.version_info[:3])} CPython"


class Site:
    """Wheels, blobs and a folder of restored code."""

    def __init__(self, folder: Path) -> None:
        self.wheels = Wheels(folder / "wheels")
        self.blobs = FolderBlobs(folder / "blobs")
        self.code = folder / "code"
        self.code.mkdir()

    def build(self, *, accept: bool = False, **provenance: Any) -> Built:
        told = {"python": PYTHON, "code_root": "/old"} | provenance
        environ = self.wheels.environment(os.environ)
        return build_venv(told, self.code, blobs=self.blobs, environ=environ, accept=accept)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def said_by(built: Built, code: str) -> str:
    done = subprocess.run([str(built.python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_recorded_versions_are_installed_and_compared_by_content(site: Site) -> None:
    old = site.wheels.add("thing", "1.5", "VALUE = 1\n")
    site.wheels.add("thing", "1.6", "VALUE = 2\n")
    other = site.wheels.add("other", "2.0")
    ids = {"thing": wheel_content_id(old), "other": wheel_content_id(other)}
    packages = {"thing": "1.5", "other": "2.0", "trainledger": "0.1", "pip": "99"}
    built = site.build(packages=packages, package_ids=ids)
    assert built.deviations == []
    # The SDK of this machine is lent: it is on no index, and decides no result.
    assert said_by(built, "import thing, other, trainledger; print(thing.VALUE)") == "1"
    assert built.folder.stat().st_mode & 0o777 == 0o700
    assert list(site.code.iterdir()) == [], "nothing of it lies in the code"


def test_another_build_of_the_same_version_is_told(site: Site, tmp_path: Path) -> None:
    recorded = wheel_content_id(site.wheels.add("thing", "1.5", "VALUE = 1\n"))
    site.wheels.add("thing", "1.5", "VALUE = 2\n", build="2")
    built = site.build(packages={"thing": "1.5"}, package_ids={"thing": recorded})
    assert built.deviations == ["package thing: 1.5 then and now, with other contents"]


def test_stored_lock_file_wins_and_its_hashes_are_asked_for(site: Site) -> None:
    wheel = site.wheels.add("thing", "1.5", "VALUE = 1\n")
    lock = f"thing==1.5 --hash=sha256:{sha256_of(wheel)}\n".encode()
    told: dict[str, Any] = {
        "packages": {"thing": "1.5"},
        "lock_files": {"requirements.txt": site.blobs.put(lock).sha256},
    }
    assert "packages by the stored requirements.txt, with its hashes" in site.build(**told).steps
    site.wheels.add("thing", "1.5", "VALUE = 'forged'\n")
    site.code = site.code.with_name("again")
    with pytest.raises(TrainledgerError, match=r"(?i)hash"):
        site.build(**told)


def test_a_package_that_cannot_be_had_stops_it_or_is_left_out(site: Site) -> None:
    site.wheels.add("thing", "1.5")
    packages = {"thing": "1.5", "lost": "1.0"}
    with pytest.raises(TrainledgerError, match=r"lost==1\.0") as error:
        site.build(packages=packages)
    assert "--accept-differences" in str(error.value)
    site.code = site.code.with_name("again")
    assert site.build(packages=packages, accept=True).deviations == ["package lost: 1.0 then, none now"]


def test_requirements_hold_versions_and_places_and_nothing_else() -> None:
    sources = {
        "git": "https://example.org/a/git.git git 0123456789abcdef0123456789abcdef01234567",
        "url": f"https://example.org/url-1.whl sha256={'0' * 64}",
        "mine": "editable file:///old/libs/mine",
        "away": "editable file:///elsewhere/away",
        "sneaky": "editable file:///old/../etc",
        "option": "--index-url=http://evil git abc",
    }
    packages = dict.fromkeys(sources, "1") | {
        "plain": "2.0+cu118",
        "bad": "1\n--index-url http://evil",
        "-r": "1",
    }
    found = read_requirements({"packages": packages, "package_sources": sources, "code_root": "/old"}, "/new")
    assert found.editable == {"mine": "/new/libs/mine"}
    assert found.pinned == {
        "git": "git @ git+https://example.org/a/git.git@0123456789abcdef0123456789abcdef01234567",
        "option": "option==1",
        "plain": "plain==2.0+cu118",
        "url": f"url @ https://example.org/url-1.whl#sha256={'0' * 64}",
    }
    assert [line.split(":")[0] for line in found.missing] == [
        "package '-r'", "package away", "package 'bad'", "package sneaky"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "reasons", "has_uv", "lock"),
    [
        (["uv.lock", "requirements.txt"], [], True, "uv.lock"),
        (["uv.lock", "requirements.txt"], [], False, "requirements.txt"),
        (["poetry.lock"], [], True, None),
        (
            ["uv.lock"],
            ["lock files: uv.lock is not what is installed: a 1 is locked, 2 is installed"],
            True,
            None,
        ),
    ],
)
def test_a_lock_file_that_was_not_obeyed_is_not_taken(
    files: list[str], reasons: list[str], has_uv: bool, lock: str | None
) -> None:
    told = {"lock_files": dict.fromkeys(files, "0" * 64), "reasons": reasons}
    assert usable_lock(told, has_uv=has_uv) == lock


def test_what_is_here_is_compared_without_starting_it(tmp_path: Path) -> None:
    here = read_installed(sys.executable)
    assert here is not None and here.python == PYTHON and "pytest" in here.versions
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    assert interpreter_of([str(program), "train.py"], "") == str(program)
    assert read_installed(str(program)) is None and not (tmp_path / "started").exists()
    assert interpreter_of(["torchrun", "t.py"], f"{tmp_path}/bin") is None
    then = {"python": "3.9.1 CPython", "packages": {"a": "1", "b": "1", "c": "1"}, "package_ids": {"c": "x"}}
    now = Installed("3.11.2 CPython", {"a": "1", "b": "2", "c": "1", "d": "1"}, {"c": "y"})
    assert [line.split(" ")[1] for line in compare_installed(then, now)] == ["3.9.1", "b:", "c:", "d:"]


def test_an_environment_is_known_by_any_name_of_its_program_and_with_the_folders_of_its_pth_files(
    tmp_path: Path,
) -> None:
    here = read_installed(sys.executable)
    for name in ("python", "python3"):
        assert read_installed(str(Path(sys.prefix) / "bin" / name)) == here
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    program = str(tmp_path / "env" / "bin" / "python")
    shared = tmp_path / "shared" / "thing-1.5.dist-info"
    shared.mkdir(parents=True)
    (shared / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.5\n")
    (site,) = (tmp_path / "env").glob("lib/*/site-packages")
    (site / "shared.pth").write_text(f"# more\nimport sys\n{shared.parent}\n/not/there\n")
    found = read_installed(program)
    assert found is not None and found.versions == {"thing": "1.5"}
    # Packages of the system are not guessed: a wrong guess reads as a hundred differences.
    settings = tmp_path / "env" / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace("packages = false", "packages = true"))
    assert read_installed(program) is None


def test_a_command_runs_with_the_programs_of_the_new_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("python", "torchrun"):
        (tmp_path / "bin" / name).touch()
    command = Command(["/old/bin/torchrun", "--python", "python", "t.py", "/data/python"], "/new")
    use_venv(command, tmp_path, {"PATH": "/bin"})
    here = f"{tmp_path}/bin"
    assert command.argv == [f"{here}/torchrun", "--python", f"{here}/python", "t.py", f"{here}/python"]
    assert command.variables["PATH"] == f"{here}:/bin" and command.variables["PYTHONHOME"] is None


def test_interpreter_is_of_the_recorded_version_or_asked_for(tmp_path: Path) -> None:
    other = tmp_path / "python3.9"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert find_interpreter(PYTHON, "") == sys.executable
    assert find_interpreter("3.9.7 CPython", str(tmp_path)) == str(other)
    for python in ("3.2.1 CPython", ""):
        with pytest.raises(UsageError, match="--environment here"):
            find_interpreter(python, str(tmp_path))


def test_image_is_a_command_to_copy(tmp_path: Path) -> None:
    command = Command(["python", "t.py"], "/new/src", {"OMP_NUM_THREADS": "1", "GONE": None})
    line = image_command(
        {"image_digest": "registry/train@sha256:1"},
        command,
        Path("/new"),
        told={"TRAINLEDGER_RUN_ID": "x"},
        journals=tmp_path,
    )
    assert line.startswith("docker run ") and line.endswith("-w /new/src registry/train@sha256:1 python t.py")
    assert "-e OMP_NUM_THREADS=1" in line and "-e TRAINLEDGER_RUN_ID=x" in line and "GONE" not in line
    with pytest.raises(UsageError, match="no image"):
        image_command({}, command, Path("/new"), told={}, journals=tmp_path)
