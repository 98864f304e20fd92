"""A snapshot that somebody made by hand restores files into its folder, or is refused: it runs nothing, and reaches
nothing outside. Each attack was seen to work, or to be stopped by git alone, before the check stood."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder
from trainledger_ingest.reproduce.restore import read_snapshot, restore_code
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.code_snapshot import CodeSnapshot, RepositorySnapshot, encode_snapshot
from trainledger_schemas.errors import CorruptDataError, NotFoundError, TrainledgerError

OID = "0123456789abcdef0123456789abcdef01234567"


class Attack:
    """A repository and its snapshot, which is changed and restored."""

    def __init__(self, folder: Path) -> None:
        self.workshop = Workshop(folder)
        self.mark = folder / "attacked"
        self.work = GitFolder(folder / "work", self.workshop.environment)
        self.work.write("train.py", b"print(1)\n")
        self.work.write(".gitattributes", b"*.bin filter=evil\n")
        self.work.write("x.bin", b"x\n")
        self.work.commit_all()
        self.work.write("train.py", b"print(2)\n")
        stored = self.workshop.store(self.work.folder)
        assert stored.document is not None
        self.snapshot = read_snapshot(self.workshop.blobs, stored.document.sha256)

    def restore(self, **changes: Any) -> Path:
        (repository,) = self.snapshot.repositories
        return self.restore_whole(replace(self.snapshot, repositories=(replace(repository, **changes),)))

    def restore_whole(self, snapshot: CodeSnapshot) -> Path:
        blobs, target = self.workshop.blobs, self.workshop.folder / "new"
        document = blobs.put(encode_snapshot(snapshot))
        read = read_snapshot(blobs, document.sha256)
        restore_code(read, target, blobs=blobs, environment=self.workshop.environment)
        return target

    def script(self, name: str = "evil") -> Path:
        """A program that leaves a mark."""
        program = self.workshop.folder / name
        program.write_text(f"#!/bin/sh\ntouch {self.mark}\nexit 1\n")
        program.chmod(0o755)
        return program

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """What git says in the repository."""
        folder, environment = self.work.folder, dict(self.workshop.environment)
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, input=stdin, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def bundle_of(self, *lines: str) -> dict[str, Any]:
        """A bundle whose commit has a tree with entries that git itself would not make."""
        blob = self.git("hash-object", "-w", "--stdin", stdin=b"evil\n")
        entries = "".join(f"{line.format(blob=blob)}\n" for line in lines)
        tree = self.git("mktree", stdin=entries.encode())
        commit = self.git("commit-tree", "-m", "x", tree)
        self.git("update-ref", "refs/trainledger/snap", commit)
        file = self.workshop.folder / "evil.bundle"
        self.git("bundle", "create", "-q", str(file), "refs/trainledger/snap")
        bundle = self.workshop.blobs.put_file(file)
        return {
            "bundles": (bundle,),
            "snapshot": commit,
            "tree": tree,
            "parent": None,
            "base": (),
            "head": None,
        }


@pytest.fixture
def attack(tmp_path: Path) -> Attack:
    return Attack(tmp_path)


def test_what_a_capture_wrote_is_restored_into_a_folder_of_ones_own(attack: Attack) -> None:
    target = attack.restore()
    assert (target / "train.py").read_bytes() == b"print(2)\n"
    assert target.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "changes",
    [
        {"config": (("filter.evil.smudge", "{evil}"),)},
        {"config": (("core.hooksPath", "{folder}"),)},
        {"config": (("core.fsmonitor", "{evil}"),)},
        {"config": (("core.autocrlf", "false\n[filter \"evil\"]\nsmudge = {evil}"),)},
        {"parent": "--upload-pack={evil}"},
        {"base": ("--exec={evil}",)},
        {"tree": "HEAD"},
        {"snapshot": "-x"},
        {"object_format": "sha1 --template={folder}"},
        {"path": "../escaped"},
        {"path": "/tmp/escaped"},
        {"empty_folders": ("../escaped",)},
        {"deleted": ("../work/train.py",)},
        {"vcs": "hg"},
        {"vcs": "svn", "head": "HEAD", "remotes": (("svn", "file:///x"),)},
        {"vcs": "svn", "head": "1", "remotes": (("svn", "file:///x"),), "revisions": (("../../x", "1"),)},
    ],
    ids=lambda changes: " ".join(f"{name} {value}"[:40] for name, value in changes.items()),
)  # fmt: skip
def test_documents_that_no_capture_wrote_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = RepositorySnapshot(
        path="", vcs="git", object_format="sha1", head=OID, branch=None, parent=OID, snapshot=OID, tree=OID
    )
    blobs = FolderBlobs(tmp_path / "blobs")
    for repository, is_sound in ((plain, True), (replace(plain, **changes), False)):
        document = blobs.put(encode_snapshot(CodeSnapshot("/old", (repository,))))
        if is_sound:
            read_snapshot(blobs, document.sha256)
            continue
        with pytest.raises(CorruptDataError, match="not written by a capture"):
            read_snapshot(blobs, document.sha256)


def test_settings_with_programs_would_be_run_by_a_checkout(attack: Attack) -> None:
    # Why the settings are checked: without that this one is run.
    (repository,) = attack.snapshot.repositories
    hostile = replace(repository, config=(("filter.evil.smudge", str(attack.script())),))
    with pytest.raises(CorruptDataError):
        attack.restore_whole(replace(attack.snapshot, repositories=(hostile,)))
    assert not attack.mark.exists()


@pytest.mark.parametrize(
    "remotes",
    [
        (("evil", "ext::{evil} x"),),
        (("evil", "ssh://-oProxyCommand={evil}/x"),),
        (("--upload-pack={evil}", "{work}"),),
        (("evil", "--upload-pack={evil}"),),
    ],
    ids=["helper", "option of ssh", "option as name", "option as address"],
)
def test_addresses_that_are_programs_are_not_run(
    attack: Attack, remotes: tuple[tuple[str, str], ...]
) -> None:
    evil = attack.script()
    named = tuple(
        (name.format(evil=evil), url.format(evil=evil, work=attack.work.folder)) for name, url in remotes
    )
    lost = {"base": ("0" * 40,), "bundles": ()}
    with pytest.raises((NotFoundError, TrainledgerError)):
        attack.restore(remotes=named, **lost)
    assert not attack.mark.exists()


@pytest.mark.parametrize(
    "entry",
    ["100644 blob {blob}\t.git", "100644 blob {blob}\t..", "100644 blob {blob}\t.GIT"],
    ids=["git folder", "parent", "git folder in capitals"],
)
def test_trees_with_names_that_lead_elsewhere_are_refused(attack: Attack, entry: str) -> None:
    with pytest.raises(TrainledgerError):
        attack.restore(**attack.bundle_of(entry))
    assert not (attack.workshop.folder / "new" / ".git" / "config").is_symlink()


def test_nothing_is_written_through_a_link_of_the_snapshot(attack: Attack) -> None:
    outside = attack.workshop.folder / "outside"
    outside.mkdir()
    target = attack.git("hash-object", "-w", "--stdin", stdin=os.fsencode(outside))
    # A tree cannot hold a link and a folder of one name, but an empty folder behind a link can be asked for.
    changes = attack.bundle_of(f"120000 blob {target}\tlink")
    with pytest.raises(CorruptDataError, match="link"):
        attack.restore(**changes, empty_folders=("link/made",))
    assert list(outside.iterdir()) == []


def test_hooks_and_templates_of_the_user_are_not_run(attack: Attack) -> None:
    folder = attack.workshop.folder
    hooks = folder / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        attack.script(f"hooks/{name}")
    (folder / "templates" / "hooks").mkdir(parents=True)
    attack.script("templates/hooks/post-checkout")
    environment = attack.workshop.environment
    for name, value in (("core.hooksPath", hooks), ("init.templateDir", folder / "templates")):
        subprocess.run(["git", "config", "--global", name, str(value)], env=dict(environment), check=True)
    attack.restore()
    assert not attack.mark.exists()
