"""Working copies of Subversion come back from their repository and the blobs, whatever mix they are."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.code_workshop import Workshop
from support.nasty_repository import manifest
from trainledger.provenance.code import capture_code
from trainledger.provenance.code_store import StoredCode
from trainledger.provenance.programs import Programs
from trainledger.provenance.settings import program_environment
from trainledger_ingest.reproduce.restore import read_snapshot
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.code_snapshot import CodeSnapshot
from trainledger_schemas.errors import TrainledgerError

PASSWORD = "hunter2" + "hunter2"


class WorkingCopy:
    """A repository with trunk and lib, and a working copy of its trunk."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.folder = workshop.folder / "copy"
        self.url = f"file://{workshop.folder / 'svn'}"
        subprocess.run(["svnadmin", "create", str(workshop.folder / "svn")], check=True)
        self.svn("mkdir", "-m", "m", f"{self.url}/trunk", f"{self.url}/lib", at=workshop.folder)
        self.svn("checkout", f"{self.url}/trunk", str(self.folder), at=workshop.folder)

    def svn(self, *arguments: str, at: Path | None = None) -> None:
        done = subprocess.run(
            ["svn", "-q", *arguments],
            cwd=at or self.folder,
            env=self.workshop.environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stderr)

    def commit(self, **files: str) -> None:
        """Write `name__suffix=text`, folders by double dots, and commit."""
        for name, text in files.items():
            path = self.folder / name.replace("__", ".").replace("_in_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.svn("add", "--force", ".")
        self.svn("commit", "-m", "m")
        self.svn("update")

    def there_and_back(self) -> tuple[StoredCode, CodeSnapshot]:
        """Capture, lose, restore, compare, and capture again: the same code has the same id."""
        stored = self.workshop.store(self.folder)
        assert stored.document is not None, stored.reasons
        wanted = manifest(self.folder)
        self.folder.rename(self.workshop.folder / "away")
        restored = self.workshop.restore(stored)
        (self.workshop.folder / "away").rename(self.folder)
        assert restored.problems == []
        found = manifest(restored.folder)
        assert {
            p: (wanted.get(p), found.get(p)) for p in {*wanted, *found} if wanted.get(p) != found.get(p)
        } == {}
        assert self.workshop.store(restored.folder).snapshot_id == stored.snapshot_id
        return stored, read_snapshot(self.workshop.blobs, stored.document.sha256)


@pytest.fixture
def copy(tmp_path: Path) -> WorkingCopy:
    return WorkingCopy(Workshop(tmp_path))


def test_local_changes_of_every_kind_come_back(copy: WorkingCopy) -> None:
    copy.commit(
        a__py="1\n", gone__py="2\n", missing__py="3\n", old__py="first\n", moved__py="m\n", pkg_in_x__py="x\n"
    )
    copy.commit(old__py="second\n")
    copy.svn("update", "-r", "2", "old.py")
    (copy.folder / "a.py").write_bytes(b"changed\r\n\0")
    copy.svn("delete", "gone.py")
    (copy.folder / "missing.py").unlink()
    copy.svn("move", "moved.py", "renamed@2.py@")
    copy.svn("copy", "pkg", "pkg2")
    (copy.folder / "new").mkdir()
    (copy.folder / "new" / "unversioned.py").write_text("new\n")
    (copy.folder / "new" / "link").symlink_to("/nowhere")
    (copy.folder / "added.sh").write_text("#!/bin/sh\n")
    (copy.folder / "added.sh").chmod(0o755)
    copy.svn("add", "added.sh")
    stored, snapshot = copy.there_and_back()
    assert snapshot.repositories[0].revisions == (("old.py", "2"),)
    assert stored.patch is not None
    text = copy.workshop.blobs.read(stored.patch.sha256).decode()
    assert "--- missing.py" not in text and "+#!/bin/sh" in text and "+++ b/new/unversioned.py" in text


def test_properties_come_back_with_what_they_do_to_the_bytes(copy: WorkingCopy) -> None:
    copy.commit(words__py="$Id$\n", run__sh="#!/bin/sh\n", plain__txt="a\n", b__txt="b\n")
    copy.svn("propset", "svn:keywords", "Id", "words.py")
    copy.svn("propset", "color", "blue", "plain.txt")
    copy.commit()
    assert "$Id: words.py" in (copy.folder / "words.py").read_text()
    copy.svn("propset", "svn:executable", "*", "run.sh")
    copy.svn("propdel", "color", "plain.txt")
    copy.svn("propset", "note", "two\nlines, gr\u00fcn", "b.txt")
    copy.svn("propset", "svn:ignore", "*.log", ".")
    _, snapshot = copy.there_and_back()
    assert snapshot.repositories[0].properties == (
        (".", "svn:ignore", "*.log\n"),
        ("b.txt", "note", "two\nlines, gr\u00fcn"),
        ("plain.txt", "color", None),
        ("run.sh", "svn:executable", "*"),
    )


def test_externals_are_working_copies_of_their_own_at_their_own_revisions(copy: WorkingCopy) -> None:
    library = copy.workshop.folder / "library"
    copy.svn("checkout", f"{copy.url}/lib", str(library), at=copy.workshop.folder)
    for text in ("one\n", "two\n", "three\n"):
        (library / "lib.py").write_text(text)
        (library / "single.py").write_text(text)
        copy.svn("add", "--force", ".", at=library)
        copy.svn("commit", "-m", "m", at=library)
    (copy.folder / "third").mkdir()
    copy.commit(train__py="1\n")
    places = f"{copy.url}/lib vendor\n-r3 {copy.url}/lib pinned\n{copy.url}/lib/single.py single.py"
    copy.svn("propset", "svn:externals", places, ".")
    copy.svn("propset", "svn:externals", f"# old\n-r2 {copy.url}/lib deep/er", "third")
    copy.commit()
    (copy.folder / "vendor" / "lib.py").write_text("changed here\n")
    stored, snapshot = copy.there_and_back()
    assert [(r.path, r.head) for r in snapshot.repositories] == [
        ("", snapshot.repositories[0].head),
        ("pinned", "3"),
        ("third/deep/er", "2"),
        ("vendor", snapshot.repositories[3].head),
    ]
    assert stored.patch is not None
    assert b"# in vendor/" in copy.workshop.blobs.read(stored.patch.sha256)


def switch_folder(copy: WorkingCopy) -> None:
    copy.svn("copy", "-m", "m", f"{copy.url}/trunk", f"{copy.url}/side", at=copy.workshop.folder)
    copy.svn("checkout", f"{copy.url}/side", str(copy.workshop.folder / "side"), at=copy.workshop.folder)
    (copy.workshop.folder / "side" / "pkg" / "x.py").write_text("of the branch\n")
    copy.svn("commit", "-m", "m", at=copy.workshop.folder / "side")
    copy.svn("update")
    copy.svn("switch", f"{copy.url}/side/pkg", "pkg")


def switch_old_folder(copy: WorkingCopy) -> None:
    switch_folder(copy)
    copy.svn("update", "-r", "3", "pkg")


def empty_folder(copy: WorkingCopy) -> None:
    copy.svn("update", "--set-depth", "empty", "pkg")


def exclude_folder(copy: WorkingCopy) -> None:
    copy.svn("update", "--set-depth", "exclude", "pkg")


def files_alone(copy: WorkingCopy) -> None:
    copy.svn("update", "--set-depth", "files", "--accept", "working")


def old_folder_with_one_new_file(copy: WorkingCopy) -> None:
    copy.commit(pkg_in_x__py="second\n", pkg_in_y__py="second\n")
    copy.svn("update", "-r", "2", "pkg")
    copy.svn("update", "pkg/x.py")


def conflict(copy: WorkingCopy) -> None:
    copy.commit(a__py="theirs\n")
    copy.svn("update", "-r", "2")
    (copy.folder / "a.py").write_text("mine\n")
    copy.svn("update", "--accept", "postpone")
    assert "<<<<" in (copy.folder / "a.py").read_text()


def folder_gone_from_newest_revision(copy: WorkingCopy) -> None:
    copy.svn("move", "-m", "m", f"{copy.url}/trunk", f"{copy.url}/elsewhere", at=copy.workshop.folder)


@pytest.mark.parametrize(
    "change",
    [
        switch_folder, switch_old_folder, empty_folder, exclude_folder, files_alone, old_folder_with_one_new_file,
        conflict, folder_gone_from_newest_revision,
    ],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_mixed_working_copy_comes_back(copy: WorkingCopy, change: Callable[[WorkingCopy], None]) -> None:
    copy.commit(a__py="1\n", pkg_in_x__py="x\n", pkg_in_y__py="y\n")
    change(copy)
    (copy.folder / "new.py").write_text("new\n")
    copy.there_and_back()


def test_other_revision_or_place_is_other_code(copy: WorkingCopy) -> None:
    copy.commit(a__py="1\n")
    first = copy.workshop.store(copy.folder).snapshot_id
    copy.commit(a__py="2\n")
    assert copy.workshop.store(copy.folder).snapshot_id != first
    copy.svn("update", "-r", "2")
    assert copy.workshop.store(copy.folder).snapshot_id == first


def test_mix_of_revisions_is_said(copy: WorkingCopy) -> None:
    copy.commit(a__py="1\n", b__py="1\n")
    copy.commit(a__py="2\n")
    copy.svn("update", "-r", "2", "b.py")
    programs = Programs(program_environment(copy.workshop.environment), clock=SystemClock(), budget_s=20)
    facts = capture_code(copy.folder, programs)
    assert (facts.commit, facts.dirty, facts.branch) == ("3", False, "trunk")
    assert "commit: the working copy is a mix of revisions: 2:3" in facts.reasons


def test_secrets_of_a_working_copy_are_in_no_blob(copy: WorkingCopy) -> None:
    copy.commit(a__py="1\n", config__yaml="x: 1\n")
    (copy.folder / "config.yaml").write_text(f"password: {PASSWORD}\n")
    (copy.folder / "id_rsa").write_text(PASSWORD)
    copy.svn("add", "id_rsa")
    copy.svn("propset", "hf-token", PASSWORD, "a.py")
    (copy.folder / ".env").write_text(f"TOKEN={PASSWORD}\n")
    stored = copy.workshop.store(copy.folder)
    assert {item.path for item in stored.left_out} == {"a.py", "config.yaml", "id_rsa", ".env"}
    for path in copy.workshop.blobs.folder.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_repository_that_is_gone_is_named(copy: WorkingCopy) -> None:
    copy.commit(a__py="1\n")
    stored = copy.workshop.store(copy.folder)
    os.rename(copy.workshop.folder / "svn", copy.workshop.folder / "lost")
    with pytest.raises(TrainledgerError, match=r"svn checkout: .*svn/trunk"):
        copy.workshop.restore(stored)
