"""Code is stored where git is not installed, with the ids that git would give, and git restores it."""

import os
from pathlib import Path

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder, manifest
from trainledger.provenance.code_store import StoredCode

PASSWORD = "hunter2" + "hunter2"


def store_without_git(workshop: Workshop, folder: Path) -> StoredCode:
    kept = dict(workshop.environment)
    workshop.environment["PATH"] = "/nowhere"
    try:
        return workshop.store(folder)
    finally:
        workshop.environment.clear()
        workshop.environment.update(kept)


def fill(folder: Path) -> None:
    for name, data in {
        "train.py": b"print(1)\n", "pkg/__init__.py": b"", "pkg-1/a": b"x", "pkg.txt": b"y", "data.bin": bytes(range(256)) * 900,
        "run.sh": b"#!/bin/sh\n", "deep/er/still/x.py": b"z" * 20, "same.py": b"print(1)\n",
        "__pycache__/train.pyc": b"c", "venv/pyvenv.cfg": b"home = /usr\n", "venv/lib/x.py": b"x",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "run.sh").chmod(0o755)
    os.symlink("pkg", folder / "link")
    os.symlink("/nowhere", folder / "broken")
    (folder / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"latin")
    (folder / "empty" / "inner").mkdir(parents=True)


def test_plain_folder_has_the_same_id_and_comes_back(workshop: Workshop) -> None:
    folder = workshop.folder / "plain"
    folder.mkdir()
    fill(folder)
    without = store_without_git(workshop, folder)
    assert workshop.store(folder).snapshot_id == without.snapshot_id
    restored = workshop.restore(without)
    wanted = {
        path: value
        for path, value in manifest(folder).items()
        if not path.startswith((b"__pycache__", b"venv"))
    }
    assert (manifest(restored.folder), restored.problems) == (wanted, [])
    assert not (restored.folder / ".git").exists()


def test_repository_is_stored_as_a_folder_with_secrets_and_large_files_named(workshop: Workshop) -> None:
    work = GitFolder(workshop.folder / "work", workshop.environment)
    work.write("train.py", b"print(1)\n")
    work.commit_all()
    work.write("pkg/new.py", b"new\n")
    work.write(".env", f"TOKEN={PASSWORD}\n".encode())
    work.write("big.bin", b"0" * ((10 << 20) + 1))
    stored = store_without_git(workshop, work.folder / "pkg")
    assert [item.path for item in stored.left_out] == [".env", "big.bin"]
    assert stored.reasons == ["code: git is not installed: all files are stored, also ignored ones"]
    assert set(manifest(workshop.restore(stored).folder)) == {b"pkg/new.py", b"train.py"}
    for path in workshop.blobs.folder.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_home_folder_is_not_taken_for_code(workshop: Workshop) -> None:
    (workshop.folder / "home" / "letter.txt").write_text("private")
    assert store_without_git(workshop, workshop.folder / "home").document is None


def test_file_of_any_size_has_the_right_length_in_the_pack(workshop: Workshop) -> None:
    folder = workshop.folder / "sizes"
    folder.mkdir()
    for size in (0, 1, 15, 16, 17, 2047, 2048, 2049, 300_000):
        (folder / f"f{size}").write_bytes(os.urandom(size))
    restored = workshop.restore(store_without_git(workshop, folder))
    assert manifest(restored.folder) == manifest(folder)
