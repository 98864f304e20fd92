"""Installed distributions: versions, content ids, sources, and lock files beside them."""

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from trainledger.provenance.lock_files import find_lock_files, locked_versions, store_lock_files
from trainledger.provenance.packages import Packages, find_changed, read_packages
from trainledger.provenance.settings import PACKAGES_MAX
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import CorruptDataError
from trainledger_schemas.package_content import content_id, wheel_content_id


def install(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_packages_of_this_interpreter_are_found_under_their_canonical_names() -> None:
    found = read_packages(sys.path, Path.cwd())
    packages, reasons = found.versions, found.reasons
    assert packages["pytest"] == pytest.__version__
    assert "typing-extensions" in packages
    assert reasons == []


def test_first_on_the_path_wins_as_in_an_import(tmp_path: Path) -> None:
    install(tmp_path / "first", "My_Package", "2.0")
    install(tmp_path / "second", "my.package", "1.0")
    install(tmp_path / "second", "other", "3")
    packages = read_packages(["first", str(tmp_path / "second"), "missing"], tmp_path).versions
    assert packages == {"my-package": "2.0", "other": "3"}


def test_damaged_metadata_is_counted_and_hides_nothing_else(tmp_path: Path) -> None:
    install(tmp_path, "good", "1")
    (tmp_path / "bad-1.dist-info").mkdir()
    (tmp_path / "bad-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    found = read_packages([str(tmp_path)], tmp_path)
    packages, reasons = found.versions, found.reasons
    assert packages == {"good": "1"}
    assert reasons == ["packages: 1 have metadata that cannot be read"]


def test_number_of_packages_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PACKAGES_MAX >= 1000
    monkeypatch.setattr("trainledger.provenance.packages.PACKAGES_MAX", 2)
    for number in range(4):
        install(tmp_path, f"p{number}", "1")
    found = read_packages([str(tmp_path)], tmp_path)
    packages, reasons = found.versions, found.reasons
    assert len(packages) == 2
    assert reasons == ["packages: only the first 2 are listed"]


FILES = {
    "thing/__init__.py": b"VALUE = 1\n",
    "thing/data, with comma.txt": b"1 2 3\n",
    "thing-1.5.data/purelib/thing/more.py": b"MORE = 2\n",
    "thing-1.5.data/scripts/thing-run": b"#!python\nprint('thing')\n",
    "thing-1.5.data/data/share/thing.txt": b"shared\n",
    "thing-1.5.dist-info/METADATA": b"Metadata-Version: 2.1\nName: thing\nVersion: 1.5\n",
    "thing-1.5.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "thing-1.5.dist-info/entry_points.txt": b"[console_scripts]\nthing = thing:main\n",
}


def build_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """A wheel as a build backend makes it."""
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    wheel = folder / "thing-1.5-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            rows.writerow((name, f"sha256={digest}", len(data)))
        rows.writerow(("thing-1.5.dist-info/RECORD", "", ""))
        archive.writestr("thing-1.5.dist-info/RECORD", record.getvalue())
    return wheel


class Environment:
    """A virtual environment into which real pip installs."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")

    def install(self, *what: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "-q", "--no-index"]
        subprocess.run([*command, "--no-deps", *what], check=True, capture_output=True)

    def packages(self) -> Packages:
        return read_packages([str(self.site)], self.site)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


def far_end_ns() -> int:
    return SystemClock().monotonic_ns() + 60 * 10**9


def test_content_id_is_that_of_the_wheel_whoever_installed_it(
    environment: Environment, tmp_path: Path
) -> None:
    wheel = build_wheel(tmp_path, FILES)
    environment.install(str(wheel))
    found = environment.packages()
    assert found.versions == {"thing": "1.5"}
    assert found.ids == {"thing": wheel_content_id(wheel)}
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert found.sources["thing"] == f"file://{wheel} sha256={digest}"
    assert find_changed(found, clock=SystemClock(), end_ns=far_end_ns()) == [] and found.ids
    # The lines as they are documented, so that anybody can compute the number.
    lines = [
        f"{name.removeprefix('thing-1.5.data/purelib/')} "
        f"sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')}\n"
        for name, data in FILES.items()
        if not name.startswith(("thing-1.5.data/scripts", "thing-1.5.data/data"))
    ]
    assert found.ids["thing"] == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    other = build_wheel(tmp_path, FILES | {"thing/__init__.py": b"VALUE = 2\n"})
    assert wheel_content_id(other) != found.ids["thing"], "another build of the same version"


def test_editable_installation_has_a_source_and_no_content_id(
    environment: Environment, tmp_path: Path
) -> None:
    info = environment.site / "mine-1.dist-info"
    install(environment.site, "mine", "1")
    (info / "RECORD").write_text("__editable__.mine.pth,sha256=abc,3\nmine-1.dist-info/RECORD,,\n")
    (info / "direct_url.json").write_text(
        json.dumps({"url": "file:///src/mine", "dir_info": {"editable": True}})
    )
    install(environment.site, "cloned", "2")
    (environment.site / "cloned-2.dist-info" / "direct_url.json").write_text(
        json.dumps({"url": "https://u:pw@host/x.git", "vcs_info": {"vcs": "git", "commit_id": "c" * 40}})
    )
    found = environment.packages()
    assert found.ids == {}
    assert found.sources == {
        "mine": "editable file:///src/mine",
        "cloned": f"https://host/x.git git {'c' * 40}",
    }


def test_files_that_were_changed_after_the_installation_take_the_content_id_away(
    environment: Environment, tmp_path: Path
) -> None:
    environment.install(str(build_wheel(tmp_path, FILES)))
    module = environment.site / "thing" / "__init__.py"
    later_ns = (environment.site / "thing-1.5.dist-info" / "RECORD").stat().st_mtime_ns + 10**11

    def reasons(data: bytes | None, mtime_ns: int) -> list[str]:
        if data is None:
            module.unlink()
        else:
            module.write_bytes(data)
            os.utime(module, ns=(mtime_ns, mtime_ns))
        found = environment.packages()
        told = find_changed(found, clock=SystemClock(), end_ns=far_end_ns())
        assert bool(told) == ("thing" not in found.ids)
        assert found.contents == ({} if told else found.ids), (
            "no fingerprint of what nobody can install again"
        )
        return told

    told = ["packages: thing was changed after it was installed: thing/__init__.py"]
    assert reasons(b"VALUE = 1\n", later_ns) == [], "only touched"
    assert reasons(b"VALUE = 3\n", later_ns) == told, "of the same size, newer"
    assert reasons(b"VALUE = 10\n", 0) == told, "another size, with an old time"
    assert reasons(None, 0) == told, "gone"


def test_time_for_comparing_files_is_limited_and_told(environment: Environment, tmp_path: Path) -> None:
    environment.install(str(build_wheel(tmp_path, FILES)))
    found = environment.packages()
    assert find_changed(found, clock=SystemClock(), end_ns=0) == [
        "packages: the files of 1 were not compared with what was installed"
    ]
    assert found.ids


@pytest.mark.parametrize(
    "record",
    ["", "a.py,,\n", "a.pyc,sha256=abc,1\n", '"', "../../bin/x,sha256=abc,1\n"],
    ids=["empty", "no hash", "compiled alone", "no CSV", "script alone"],
)
def test_record_that_identifies_nothing_gives_no_id(record: str) -> None:
    assert content_id(record) is None


def test_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(b"no archive")
    with pytest.raises(CorruptDataError, match="no wheel"):
        wheel_content_id(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.py", "")
    with pytest.raises(CorruptDataError, match="no RECORD"):
        wheel_content_id(path)


UV_LOCK = """
version = 1
[[package]]
name = "Thing_One"
version = "1.5"
source = { registry = "https://registry.example/simple" }
[[package]]
name = "other"
version = "2.0"
[[package]]
name = "local"
source = { virtual = "." }
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("uv.lock", UV_LOCK, {"thing-one": {"1.5"}, "other": {"2.0"}}),
        ("pylock.gpu.toml", "[[packages]]\nname='a'\nversion='1'\n[[packages]]\nname='a'\nversion='2'\n",
         {"a": {"1", "2"}}),
        ("Pipfile.lock", '{"default": {"a": {"version": "==1.2"}}}', {"a": {"1.2"}}),
        ("requirements.txt", "a[x]==1.0 \\\n    --hash=sha256:00\nB.c==2 ; python_version > '3'\n# d==3\n",
         {"a": {"1.0"}, "b-c": {"2"}}),
        ("conda-lock.yml", "package:\n- name: a\n", {}),
        ("uv.lock", "not toml [", {}),
        ("Pipfile.lock", "[]", {}),
    ],
)  # fmt: skip
def test_versions_are_read_from_lock_files(name: str, text: str, expected: dict[str, set[str]]) -> None:
    assert locked_versions(name, text) == expected


def test_lock_files_near_the_code_are_stored_and_compared(tmp_path: Path) -> None:
    project = tmp_path / "home" / "project"
    (project / "src").mkdir(parents=True)
    (project / ".git").mkdir()
    (tmp_path / "home" / "uv.lock").write_text("")
    (project / "uv.lock").write_text(UV_LOCK)
    (project / "requirements.txt").write_text("numpy\n")
    (project / "src" / "requirements-gpu.txt").write_text("a==1 --hash=sha256:00\n")
    (project / "poetry.lock").write_text("# https://me:hunter2hunter2@index/simple\n")
    blobs = FolderBlobs(tmp_path / "blobs")
    installed = {"thing-one": "1.6", "other": "2.0", "more": "3"}
    locks = store_lock_files(project / "src", tmp_path / "home", installed, blobs)
    assert list(locks.stored) == ["requirements-gpu.txt", "../uv.lock"]
    assert blobs.read(locks.stored["../uv.lock"]) == UV_LOCK.encode()
    assert locks.first == locks.stored["requirements-gpu.txt"]
    assert locks.reasons == [
        "lock files: ../uv.lock is not what is installed: thing-one 1.5 is locked, 1.6 is installed",
        "lock files: ../poetry.lock holds what looks like a secret; it is not stored",
    ]
    assert find_lock_files(tmp_path / "home", tmp_path / "home") == [], "a home folder is no project"
