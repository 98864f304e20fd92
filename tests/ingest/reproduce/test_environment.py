"""A virtual environment is made from what is recorded, by real pip and without a network, and compared with it."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from support.nasty_repository import GitFolder, plain_environment
from support.wheels import Wheels
from trainledger_ingest.reproduce.command import Command
from trainledger_ingest.reproduce.environment import (
    UV,
    VENV,
    Built,
    build_environment,
    find_interpreter,
    has_in_environment,
    use_environment,
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

    def build(self, kind: str = VENV, *, accept: bool = False, **provenance: Any) -> Built:
        told = {"python": PYTHON, "code_root": "/old"} | provenance
        environ = self.wheels.environment(os.environ)
        return build_environment(kind, told, self.code, blobs=self.blobs, environ=environ, accept=accept)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def said_by(built: Built, code: str) -> str:
    done = subprocess.run([str(built.python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("kind", [VENV, UV])
def test_recorded_versions_are_installed_and_compared_by_content(site: Site, kind: str) -> None:
    old = site.wheels.add("thing", "1.5", "VALUE = 1\n")
    site.wheels.add("thing", "1.6", "VALUE = 2\n")
    other = site.wheels.add("other", "2.0")
    ids = {"thing": wheel_content_id(old), "other": wheel_content_id(other)}
    packages = {"thing": "1.5", "other": "2.0", "trainledger": "0.1", "pip": "99"}
    built = site.build(kind, packages=packages, package_ids=ids)
    assert built.deviations == []
    assert ("by uv" in built.steps[0]) == (kind == UV)
    # The SDK of this machine is lent: it is on no index, and decides no result.
    assert said_by(built, "import thing, other, trainledger; print(thing.VALUE)") == "1"
    assert built.folder.stat().st_mode & 0o777 == 0o700
    assert list(site.code.iterdir()) == [], "nothing of it lies in the code"


def test_another_build_of_the_same_version_is_told(site: Site, tmp_path: Path) -> None:
    recorded = wheel_content_id(site.wheels.add("thing", "1.5", "VALUE = 1\n"))
    site.wheels.add("thing", "1.5", "VALUE = 2\n", build="2")
    built = site.build(packages={"thing": "1.5"}, package_ids={"thing": recorded})
    assert built.deviations == ["package thing: 1.5 then and now, with other contents"]


@pytest.mark.parametrize("kind", [VENV, UV])
def test_stored_lock_file_wins_and_its_hashes_are_asked_for(site: Site, kind: str) -> None:
    wheel = site.wheels.add("thing", "1.5", "VALUE = 1\n")
    lock = f"thing==1.5 --hash=sha256:{sha256_of(wheel)}\n".encode()
    told: dict[str, Any] = {
        "packages": {"thing": "1.5"},
        "lock_files": {"requirements.txt": site.blobs.put(lock).sha256},
    }
    assert "packages by the stored requirements.txt, with its hashes" in site.build(kind, **told).steps
    site.wheels.add("thing", "1.5", "VALUE = 'forged'\n")
    # What has the hash is in uv's cache still.
    shutil.rmtree(site.wheels.folder.with_name("uv-cache"), ignore_errors=True)
    site.code = site.code.with_name("again")
    with pytest.raises(TrainledgerError, match=r"(?i)hash"):
        site.build(kind, **told)


def test_lock_file_of_uv_gives_what_was_installed_and_no_more(site: Site) -> None:
    for name, version in (("thing", "1.5"), ("tool", "2.0"), ("extra", "3.0")):
        site.wheels.add(name, version)
    # A project whose lock file has a group for development and an extra: the run had the extra, and not the group.
    (site.code / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["thing"]\n'
        '[project.optional-dependencies]\nmore = ["extra"]\n[dependency-groups]\ndev = ["tool"]\n'
    )
    environ = site.wheels.environment(os.environ)
    lock = ["uv", "lock", "-q", "--python", sys.executable, "--directory", str(site.code)]
    subprocess.run(lock, env=environ, check=True)
    stored = site.blobs.put((site.code / "uv.lock").read_bytes()).sha256
    packages = {"thing": "1.5", "extra": "3.0"}
    built = site.build(UV, packages=packages, lock_files={"uv.lock": stored})
    assert built.steps[1:] == [
        "packages by the stored uv.lock",
        "without tool, which the run did not have",
        "1 packages by their recorded versions",
    ]
    assert built.deviations == []


def test_packages_that_cannot_be_had_stop_it_by_name_or_are_left_out(site: Site) -> None:
    site.wheels.add("thing", "1.5")
    site.wheels.add("old", "2.0")
    packages = {"thing": "1.5", "lost": "1.0", "old": "1.9", "own": "3.0"}
    sources = {"own": f"file:///gone/own-3.0-py3-none-any.whl sha256={'0' * 64}"}
    with pytest.raises(TrainledgerError, match=r"own: installed from /gone/.* put it there"):
        site.build(UV, packages=packages, package_sources=sources)
    assert not site.code.with_name("code.environment").exists(), "known before anything is made"
    with pytest.raises(TrainledgerError, match=r"2 packages cannot be had: .*lost.*old==1\.9") as refused:
        site.build(UV, packages={name: packages[name] for name in ("thing", "lost", "old")})
    assert "--accept-differences" in str(refused.value)
    site.code = site.code.with_name("again")
    built = site.build(UV, accept=True, packages=packages, package_sources=sources)
    assert [line.split(":")[0] for line in built.deviations] == ["package own", "package lost", "package old"]
    assert said_by(built, "import thing; print('there')") == "there"


def test_what_pip_cannot_have_is_named_in_its_words(site: Site) -> None:
    site.wheels.add("thing", "1.5")
    with pytest.raises(
        TrainledgerError, match=r"1 packages cannot be had: lost==1\.0: ERROR: No matching"
    ) as error:
        site.build(packages={"thing": "1.5", "lost": "1.0"})
    assert "make them available to your pip" in str(error.value)


@pytest.mark.parametrize("kind", [VENV, UV])
def test_packages_of_files_folders_and_commits_come_from_there(site: Site, kind: str, tmp_path: Path) -> None:
    """None of them is on the index, where another one may have the name."""
    old, away = tmp_path / "old", tmp_path / "away"
    wheel = site.wheels.add("local", "1.0", "VALUE = 'local'\n")
    away.mkdir()
    wheel = wheel.rename(away / wheel.name)
    site.wheels.add("local", "1.0", "VALUE = 'another of this name'\n")
    for name in ("edited", "folder"):
        _project(site.code / "libs" / name, name)
    repository = GitFolder(tmp_path / "repository", plain_environment(tmp_path / "user") | dict(os.environ))
    _project(repository.folder / "pkgs" / "vcs", "vcs")
    repository.commit_all()
    sources = {
        "local": f"{wheel.as_uri()} sha256={sha256_of(wheel)}",
        "edited": f"editable {(old / 'libs' / 'edited').as_uri()}",
        "folder": (old / "libs" / "folder").as_uri(),
        "vcs": f"{repository.folder.as_uri()} git {repository.git('rev-parse', 'HEAD').strip()} subdirectory=pkgs/vcs",
    }
    before = sorted(site.code.rglob("*"))
    built = site.build(
        kind, code_root=str(old), packages=dict.fromkeys(sources, "1.0"), package_sources=sources
    )
    assert built.deviations == []
    assert sorted(site.code.rglob("*")) == before, "no build has left files in the restored code"
    names = sorted(sources)
    told = said_by(built, f"import {', '.join(names)}; print(*({', '.join(f'{n}.VALUE' for n in names)},))")
    assert told == "edited folder local vcs"


def _project(folder: Path, name: str) -> None:
    """The sources of a package with a build backend of its own: what builds is on no index either."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"VALUE = {name!r}\n")
    (folder / "backend.py").write_text(BACKEND.replace("NAME", name))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
    )


BACKEND = """
import os, zipfile

def _wheel(folder, files):
    info = "NAME-1.0.dist-info"
    name = "NAME-1.0-py3-none-any.whl"
    files = files | {
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(path, text)
    return name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, {"NAME/__init__.py": open("NAME/__init__.py").read()})

def build_editable(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, {"NAME.pth": os.getcwd() + "\\n"})
"""


def test_requirements_hold_versions_and_places_and_nothing_else() -> None:
    sources = {
        "git": "https://example.org/a/git.git git 0123456789abcdef0123456789abcdef01234567",
        "url": f"https://example.org/url-1.whl sha256={'0' * 64}",
        "mine": "editable file:///old/libs/mine",
        "away": "editable file:///elsewhere/away",
        "sneaky": "editable file:///old/../etc",
        "option": "--index-url=http://evil git abc",
        "part": "ssh://git@example.org/all.git git 0123456789abcdef subdirectory=pkgs/part",
        "open": "http://example.org/open-1.whl",
        "unhashed": "https://example.org/unhashed-1.whl",
        "file": f"file:///old/wheels/file-1.whl sha256={'1' * 64}",
        "gone": f"file:///elsewhere/gone-1.whl sha256={'2' * 64}",
        "climbs": "file:///old/../climbs-1.whl",
        "secret": "https://[redacted:token]@example.org/secret-1.whl",
    }
    packages = dict.fromkeys(sources, "1") | {
        "plain": "2.0+cu118",
        "bad": "1\n--index-url http://evil",
        "-r": "1",
    }
    told = {"packages": packages, "package_sources": sources, "code_root": "/old"}
    here = {("/new/wheels/file-1.whl", "1" * 64), ("/old/../climbs-1.whl", None)}
    found = read_requirements(told, "/new", lambda path, sha256: (path, sha256) in here)
    assert found.editable == {"mine": "/new/libs/mine"}
    assert found.pinned == {
        "git": "git @ git+https://example.org/a/git.git@0123456789abcdef0123456789abcdef01234567",
        "file": "file @ file:///new/wheels/file-1.whl",
        "open": "open==1",
        "option": "option==1",
        "part": "part @ git+ssh://git@example.org/all.git@0123456789abcdef#subdirectory=pkgs/part",
        "plain": "plain==2.0+cu118",
        "unhashed": "unhashed @ https://example.org/unhashed-1.whl",
        "url": f"url @ https://example.org/url-1.whl#sha256={'0' * 64}",
    }
    assert [line.split(":")[0] for line in found.missing] == [
        "package '-r'", "package away", "package 'bad'", "package climbs", "package gone", "package secret",
        "package sneaky"
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
    use_environment(command, tmp_path, {"PATH": "/bin"})
    here = f"{tmp_path}/bin"
    assert command.argv == [f"{here}/torchrun", "--python", f"{here}/python", "t.py", f"{here}/python"]
    assert command.variables["PATH"] == f"{here}:/bin" and command.variables["PYTHONHOME"] is None
    other = Command(["/old/bin/mytool", "t.py"], "/new")
    use_environment(other, tmp_path, {})
    assert other.argv == ["mytool", "t.py"] and "/old/bin/mytool is not here" in other.notes[0]
    planned = Command(["/old/bin/python3.11", "t.py"], "/new")
    use_environment(planned, tmp_path / "not-made", {}, has=has_in_environment)
    assert planned.argv[0] == f"{tmp_path}/not-made/bin/python3.11"
    shell = Command(["/bin/sh", "t.sh"], "/new")
    use_environment(shell, tmp_path / "not-made", {}, has=has_in_environment)
    assert shell.argv == ["/bin/sh", "t.sh"]


def test_without_uv_its_environment_is_refused_and_plain_venv_takes_its_place(site: Site) -> None:
    site.wheels.add("thing", "1.5")
    told: dict[str, Any] = {"python": PYTHON, "packages": {"thing": "1.5"}}
    told["lock_files"] = {"uv.lock": site.blobs.put(b"").sha256}
    bare = site.wheels.environment(os.environ) | {"PATH": "/nowhere"}
    with pytest.raises(UsageError, match="no uv in PATH; install it, or use --environment venv"):
        build_environment(UV, told, site.code, blobs=site.blobs, environ=bare, accept=False)
    built = build_environment(VENV, told, site.code, blobs=site.blobs, environ=bare, accept=False)
    assert built.deviations == [] and "1 packages by their recorded versions" in built.steps


def test_interpreter_is_of_the_recorded_version_or_asked_for(tmp_path: Path) -> None:
    other = tmp_path / "python3.9"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert find_interpreter(PYTHON, "") == sys.executable
    assert find_interpreter("3.9.7 CPython", str(tmp_path)) == str(other)
    for python in ("3.2.1 CPython", ""):
        with pytest.raises(UsageError, match="--environment here"):
            find_interpreter(python, str(tmp_path))
