"""The difference of two stored codes, from bundles and the repository or a bare remote beside them."""

import shutil
import subprocess

import pytest

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder
from trainledger.provenance.code_store import StoredCode
from trainledger_ingest.reports.code_difference import CodeDifference, compare_code
from trainledger_ingest.reproduce.restore import read_snapshot


def compared(workshop: Workshop, *stored: StoredCode) -> CodeDifference:
    documents = [code.document for code in stored]
    first, second = (read_snapshot(workshop.blobs, d.sha256) for d in documents if d is not None)
    return compare_code(first, second, blobs=workshop.blobs, environment=workshop.environment)


def two_states(workshop: Workshop, work: GitFolder) -> tuple[StoredCode, StoredCode]:
    """A dirty state, and one after a commit and more changes."""
    work.write("train.py", b"one\ntwo\nthree\n")
    work.write("data.bin", b"\0\1\2")
    work.write("gone.py", b"gone\n")
    work.commit_all()
    work.write("train.py", b"one\n2\nthree\n")
    first = workshop.store(work.folder)
    work.write("model/net.py", b"net = 1\n")
    work.commit_all()
    work.write("train.py", b"one\n2\n3\nfour\n")
    work.write("data.bin", b"\0\1\3")
    (work.folder / "gone.py").unlink()
    return first, workshop.store(work.folder)


CHANGES = {"data.bin": "binary", "gone.py": "+0 -1", "model/net.py": "+1 -0", "train.py": "+2 -1"}


def check(workshop: Workshop, difference: CodeDifference, first: StoredCode, second: StoredCode) -> None:
    assert difference.problems == []
    assert {change.path: str(change) for change in difference.files} == CHANGES
    # The patch turns the one into the other.
    folder = workshop.restore(first).folder
    patch = difference.patch.encode("utf-8", "surrogateescape")
    subprocess.run(["git", "apply", "-p1"], cwd=folder, input=patch, env=workshop.environment, check=True)
    wanted = workshop.restore(second).folder
    for path in ("train.py", "data.bin", "model/net.py"):
        assert (folder / path).read_bytes() == (wanted / path).read_bytes()
    assert not (folder / "gone.py").exists()


def test_codes_of_one_repository_are_compared_file_by_file(workshop: Workshop) -> None:
    work = GitFolder(workshop.folder / "work", workshop.environment)
    first, second = two_states(workshop, work)
    check(workshop, compared(workshop, first, second), first, second)
    assert compared(workshop, first, first) == CodeDifference()


@pytest.mark.parametrize("is_here", [True, False], ids=["the repository is here", "only the remote is"])
def test_pushed_history_is_had_from_the_repository_or_its_remote(workshop: Workshop, is_here: bool) -> None:
    remote = workshop.folder / "remote.git"
    run = {"env": workshop.environment, "check": True, "capture_output": True}
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], **run)  # type: ignore[call-overload] # passed on
    work = GitFolder(workshop.folder / "work", workshop.environment)
    work.write("base.py", b"base\n")
    work.commit_all()
    subprocess.run(["git", "remote", "add", "origin", str(remote)], cwd=work.folder, **run)  # type: ignore[call-overload] # passed on
    subprocess.run(["git", "push", "-q", "origin", "HEAD:main"], cwd=work.folder, **run)  # type: ignore[call-overload] # passed on
    subprocess.run(["git", "fetch", "-q", "origin"], cwd=work.folder, **run)  # type: ignore[call-overload] # passed on
    first, second = two_states(workshop, work)
    shutil.rmtree(remote if is_here else work.folder)
    difference = compared(workshop, first, second)
    assert difference.problems == [] and {c.path: str(c) for c in difference.files} == CHANGES


def test_what_is_missing_is_said_and_the_rest_is_compared(workshop: Workshop) -> None:
    work = GitFolder(workshop.folder / "work", workshop.environment)
    first, second = two_states(workshop, work)
    shutil.rmtree(workshop.folder / "work")
    documents = [code.document.sha256 for code in (first, second) if code.document is not None]
    bundles = {
        bundle.sha256
        for document in documents
        for repository in read_snapshot(workshop.blobs, document).repositories
        for bundle in repository.bundles
    }
    for sha256 in bundles:
        path = workshop.blobs.path_of(sha256)
        assert path is not None
        path.unlink()
    difference = compared(workshop, first, second)
    assert difference.files == [] and len(difference.problems) == 1
    assert difference.problems[0].startswith("the repository: ")
