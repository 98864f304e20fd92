"""Files that a run uses and its repository does not have: ignored ones are taken, and those elsewhere."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder, manifest
from support.polling import poll_until
from trainledger.provenance.outside_files import FOLDERS_MAX
from trainledger.provenance.used_files import UsedFiles, included_files, named_files


@pytest.fixture
def work(workshop: Workshop) -> GitFolder:
    work = GitFolder(workshop.folder / "work", workshop.environment)
    work.write(".gitignore", b"*.local\ngen/\n")
    work.write("train.py", b"print(1)\n")
    work.commit_all()
    for name in ("a.local", "conf/b.local", "gen/x/m.py", "gen/y.txt", "gen/.git/config"):
        work.write(name, b"1\n")
    return work


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (("*.local",), {b"a.local"}),
        (("**/*.local",), {b"a.local", b"conf/b.local"}),
        (("gen",), {b"gen/x/m.py", b"gen/y.txt"}),
        (("gen/**/*.py", "a.local"), {b"gen/x/m.py", b"a.local"}),
        ((), set()),
    ],
    ids=["here", "anywhere", "folder", "several", "none"],
)
def test_patterns_take_ignored_files(
    workshop: Workshop, work: GitFolder, patterns: tuple[str, ...], taken: set[bytes]
) -> None:
    (work.folder / "gen" / ".git" / "config").unlink()
    (work.folder / "gen" / ".git").rmdir()
    stored = workshop.store(work.folder, used=UsedFiles(patterns=patterns))
    found = set(manifest(workshop.restore(stored).folder))
    assert found - {b".gitignore", b"train.py"} == taken
    assert stored.reasons == []


@pytest.mark.parametrize("pattern", ["../*", "/etc/passwd", "nothing*", "**x", ""])
def test_patterns_that_lead_nowhere_are_said(work: GitFolder, pattern: str) -> None:
    (work.folder.parent / "outside.txt").write_text("x")
    found, reasons = included_files(work.folder, [pattern])
    assert found == [] and len(reasons) == 1 and "TRAINLEDGER_INCLUDE" in reasons[0]


def test_folder_of_git_is_never_matched(work: GitFolder) -> None:
    found, _ = included_files(work.folder, ["**/*", ".git/*", "gen"])
    assert found and not [path for path in found if b".git/" in path]


def test_small_files_that_the_command_line_names_are_taken(workshop: Workshop, work: GitFolder) -> None:
    (work.folder / "big.local").write_bytes(b"0" * ((1 << 20) + 1))
    argv = [
        "train.py",
        "--config=conf/b.local",
        "a.local",
        "big.local",
        "gen",
        "no\0path",
        "x" * 5000,
        "/etc/passwd",
    ]
    named = named_files(argv, work.folder)
    stored = workshop.store(work.folder, used=UsedFiles(named=named))
    assert set(manifest(workshop.restore(stored).folder)) == {
        b".gitignore", b"train.py", b"a.local", b"conf/b.local",
    }  # fmt: skip
    assert stored.left_out == ()


def test_modules_from_outside_are_stored_with_their_packages_and_restored_beside_the_code(
    workshop: Workshop, work: GitFolder
) -> None:
    path = workshop.folder / "path"
    for name, text in (
        ("lib.py", "x = 1\n"), ("unused.py", ""), ("pack/__init__.py", ""), ("pack/sub/later.py", "y = 2\n"),
        ("pack/data.json", "{}"), ("pack/key.pem", "secret"), ("pack/__pycache__/a.pyc", ""), ("names/one.py", ""),
        ("names/two.py", ""),
    ):  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    (path / "pack" / "big.bin").write_bytes(b"0" * ((10 << 20) + 1))
    (workshop.folder / "link").symlink_to(work.folder)
    inside = workshop.folder / "link" / "gen" / "y.txt"
    used = UsedFiles(
        (path / "lib.py", path / "pack" / "__init__.py", path / "names" / "one.py", inside), search=(path,)
    )
    stored = workshop.store(work.folder, used=used)
    assert {item.path: item.why.split(" ")[0] for item in stored.left_out} == {
        str(path / "pack" / "big.bin"): "larger", str(path / "pack" / "key.pem"): "its"
    }  # fmt: skip
    restored = workshop.restore(stored)
    outside = Path(f"{restored.folder}.outside") / "0"
    assert (restored.folder / "gen" / "y.txt").exists()
    found = {str(file.relative_to(outside)) for file in outside.rglob("*") if file.is_file()}
    assert found == {
        "lib.py",
        "names/one.py",
        "pack/__init__.py",
        "pack/data.json",
        "pack/sub/later.py",
        "pack/big.bin",
    }, "one that was too large is unchanged where it was, and brought from there"
    assert [problem.split(":")[0] for problem in restored.problems] == [str(path / "pack" / "key.pem")]
    # The same code has the same id, wherever it lies.
    (outside / "pack" / "key.pem").touch()
    moved = UsedFiles(declared=(outside,))
    again = workshop.store(restored.folder, used=moved)
    before = workshop.store(work.folder, used=replace(used, loaded=used.loaded[:3]))
    assert again.snapshot_id == before.snapshot_id
    (outside / "pack" / "sub" / "later.py").write_text("y = 3\n")
    assert workshop.store(restored.folder, used=moved).snapshot_id != again.snapshot_id
    everything = workshop.store(work.folder, used=UsedFiles(declared=(path, work.folder, workshop.folder)))
    restored = workshop.restore(everything)
    assert {file.name for file in Path(f"{restored.folder}.outside").rglob("*.py")} == {
        "lib.py", "unused.py", "__init__.py", "later.py", "one.py", "two.py"
    }  # fmt: skip


def test_folders_outside_are_limited_and_a_module_that_no_path_leads_to_is_found_by_its_package(
    workshop: Workshop, work: GitFolder
) -> None:
    files = []
    for number in range(FOLDERS_MAX + 1):
        file = workshop.folder / f"path{number:02}" / "pack" / "__init__.py"
        file.parent.mkdir(parents=True)
        file.write_text(f"x = {number}\n")
        files.append(file)
    stored = workshop.store(work.folder, used=UsedFiles(tuple(files)))
    (item,) = stored.left_out
    assert (item.path, item.why) == (str(files[-1]), "it was loaded from one of more than 20 folders")
    restored = workshop.restore(stored)
    assert restored.problems == [] and any("is there unchanged" in step for step in restored.steps)
    assert len(list(Path(f"{restored.folder}.outside").glob("*/pack/__init__.py"))) == FOLDERS_MAX
    files[-1].write_text("x = 'changed'\n")
    (problem,) = workshop.restore(stored).problems
    assert problem.startswith(str(files[-1]))


def test_init_tells_modules_and_patterns_to_the_capture(tmp_path: Path, work: GitFolder) -> None:
    work.write("gen/y.txt", b"y\n")
    work.write("conf/b.local", b"b\n")
    work.write("gen/__init__.py", b"")
    work.write("train.py", b"import gen, lib, trainledger\nrun = trainledger.init()\n")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "lib.py").write_text("")
    journals = tmp_path / "journals"
    environment = work.environment | {
        "TRAINLEDGER_DIR": str(journals), "TRAINLEDGER_INCLUDE": "gen/*.txt", "PYTHONPATH": str(tmp_path / "path"),
    }  # fmt: skip
    command = [sys.executable, "train.py", "--config", "conf/b.local"]
    subprocess.run(command, cwd=work.folder, env=environment, check=True, capture_output=True)
    documents = poll_until(lambda: _documents(journals), deadline_s=60)
    assert documents[0]["left_out"] == []
    assert [r["place"] for r in documents[0]["repositories"]] == [None, str(tmp_path / "path")]
    blobs = b"".join(
        path.read_bytes() for path in (journals / str(os.getuid()) / "blobs").rglob("*") if path.is_file()
    )
    for name in ("gen/y.txt", "gen/__init__.py", "conf/b.local"):
        assert f"+++ b/{name}".encode() in blobs or f"b/{name}".encode() in blobs, name
    assert b"gen/x/m.py" not in blobs


@pytest.mark.parametrize("script", ["src/train.py", "./src/train.py", "whole"])
def test_command_of_a_script_that_changes_its_folder_is_told_with_the_one_it_was_started_in(
    tmp_path: Path, work: GitFolder, script: str
) -> None:
    work.write("conf/b.local", b"b\n")
    work.write(
        "src/train.py",
        b"import os\nos.makedirs('out')\nos.chdir('out')\nimport trainledger\ntrainledger.init()\n",
    )
    journals = tmp_path / "journals"
    environment = work.environment | {"TRAINLEDGER_DIR": str(journals)}
    path = str(work.folder / "src" / "train.py") if script == "whole" else script
    command = [sys.executable, "-u", path, "--config=conf/b.local"]
    subprocess.run(command, cwd=work.folder, env=environment, check=True, capture_output=True)
    poll_until(lambda: _documents(journals), deadline_s=60)
    claims = poll_until(lambda: _journal_texts(journals, b'"provenance"'), deadline_s=60)
    cwd = work.folder / "out" if script == "whole" else work.folder
    assert f'"cwd": "{cwd}"'.encode() in claims[0] or f'"cwd":"{cwd}"'.encode() in claims[0]


def _journal_texts(journals: Path, text: bytes) -> list[bytes]:
    found = [path.read_bytes() for path in journals.glob("*/*/*.tlj")]
    return [data for data in found if text in data]


def _documents(journals: Path) -> list[dict[str, list[dict[str, str]]]]:
    found = []
    for path in (journals / str(os.getuid()) / "blobs" / "sha256").rglob("*"):
        if path.is_file() and path.read_bytes()[:1] == b"{" and b'"repositories"' in path.read_bytes():
            found.append(json.loads(path.read_bytes()))
    return found
