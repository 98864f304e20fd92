"""States in which a capture can lose something without a word: it stores what can be stored and names the rest."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder, manifest
from trainledger_ingest.reproduce.command import Command, Launching
from trainledger_ingest.reproduce.plan import Intent, plan_steps
from trainledger_ingest.reproduce.restore import read_snapshot, restore_code
from trainledger_ingest.reproduce.run_facts import RunFacts


@pytest.fixture
def work(workshop: Workshop) -> GitFolder:
    """A repository with a commit that its remote has."""
    work = GitFolder(workshop.folder / "work", workshop.environment)
    work.write("train.py", b"print(1)\n")
    work.write("data/a.txt", b"a\n")
    work.commit_all()
    work.publish(workshop.folder / "remote.git")
    return work


def test_files_whose_names_git_passes_over_are_named(workshop: Workshop, work: GitFolder) -> None:
    work.write("x/.GIT/config", b"[core]\n")
    work.write("git~1", b"1")
    work.write("back\\slash.py", b"1")
    stored = workshop.store(work.folder)
    assert [item.path for item in stored.left_out] == ["git~1", "x/.GIT/config"]
    assert b"back\\slash.py" in manifest(workshop.restore(stored).folder)


def test_one_file_that_git_cannot_add_costs_neither_the_others_nor_much_time(
    workshop: Workshop, work: GitFolder
) -> None:
    names = [f"new{number}.py" for number in range(300)]
    for name in names:
        work.write(name, b"new\n")
    # git stops at a repository without a commit; this one it takes for a file of the outer one.
    GitFolder(work.folder / "inner", workshop.environment)
    stored = workshop.store(work.folder)
    assert set(names) <= {os.fsdecode(path) for path in manifest(workshop.restore(stored).folder)}


def test_folder_that_only_looks_like_a_repository_is_stored_without_its_git_folder(
    workshop: Workshop, work: GitFolder
) -> None:
    work.write("junk/.git/config", b"[core]\n\tfsmonitor = /bin/false\n")
    work.write("junk/code.py", b"1")
    work.write("pointer/.git", b"gitdir: /nowhere\n")
    work.write("pointer/code.py", b"1")
    found = manifest(workshop.restore(workshop.store(work.folder)).folder)
    assert {b"junk/code.py", b"pointer/code.py"} <= set(found)
    assert not [path for path in found if b".git/" in path]


def test_pipes_and_sockets_are_no_files(
    workshop: Workshop, work: GitFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(work.folder / "pipe")
    (work.folder / "data" / "a.txt").unlink()
    os.mkfifo(work.folder / "data" / "a.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(work.folder)
        listener.bind("socket")
        stored = workshop.store(work.folder)
    assert stored.left_out == ()
    assert set(manifest(workshop.restore(stored).folder)) == {b"train.py"}


@pytest.mark.parametrize("what", ["damaged index", "repository that was moved away"])
def test_work_tree_of_a_repository_that_git_cannot_read_is_stored_without_history(
    workshop: Workshop, work: GitFolder, what: str
) -> None:
    place = work.folder
    if what == "damaged index":
        (place / ".git" / "index").write_bytes(b"DIRC, and no more")
    else:
        place = workshop.folder / "side"
        work.git("worktree", "add", "-q", "-b", "side", str(place))
        work.folder.rename(workshop.folder / "moved")
    (place / "new.py").write_text("new")
    stored = workshop.store(place)
    assert any("without their history" in reason for reason in stored.reasons)
    assert manifest(workshop.restore(stored).folder) == manifest(place)


def test_of_a_home_folder_that_is_a_repository_only_the_folder_of_the_script_is_taken(
    workshop: Workshop,
) -> None:
    home = workshop.folder / "home"
    subprocess.run(["git", "init", "-q", str(home)], env=workshop.environment, check=True)
    (home / "letters.txt").write_text("private")
    (home / "project" / "empty").mkdir(parents=True)
    (home / "project" / "train.py").write_text("1")
    stored = workshop.store(home / "project")
    assert set(manifest(workshop.restore(stored).folder)) == {b"project/train.py"}
    at_home = workshop.store(home)
    assert manifest(workshop.restore(at_home).folder) == {}


def test_without_time_to_read_new_files_the_rest_is_stored_and_they_are_named(
    workshop: Workshop, work: GitFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.write("new.py", b"new\n")
    work.git("rm", "-q", "--cached", "data/a.txt")
    (work.folder / "data" / "a.txt").unlink()
    monkeypatch.setattr("trainledger.provenance.raw_snapshot._SHARE_FOR_STORING", 2.0)
    stored = workshop.store(work.folder)
    assert [(item.path, item.why) for item in stored.left_out] == [("new.py", "there was no time to read it")]
    assert set(manifest(workshop.restore(stored).folder)) == {b"train.py", b"data"}


def test_of_very_many_outputs_a_few_are_named_and_the_others_counted(
    workshop: Workshop, work: GitFolder
) -> None:
    for number in range(30):
        work.write(f"out{number:02}.txt", b"x")
    stored = workshop.store(work.folder, started_ns=time.time_ns() - 3600 * 10**9)
    assert stored.reasons[0] == "code: out00.txt was written after the run began; not stored"
    assert stored.reasons[5] == "code: 25 more files were written after the run began; not stored"
    assert len(stored.reasons) == 6


def test_what_a_file_system_monitor_hides_is_seen(workshop: Workshop, work: GitFolder) -> None:
    monitor = work.folder / ".git" / "monitor"
    monitor.write_text("#!/bin/sh\nprintf 'token\\0'\n")
    monitor.chmod(0o755)
    for name, value in (
        ("fsmonitor", str(monitor)),
        ("fsmonitorHookVersion", "2"),
        ("untrackedCache", "true"),
    ):
        work.git("config", f"core.{name}", value)
    work.git("update-index", "--fsmonitor")
    work.git("status")
    work.write("train.py", b"print(2)\n")
    work.write("new.py", b"new\n")
    assert work.git("status", "--porcelain", "--untracked-files=no") == ""
    workshop.there_and_back(work.folder)


@pytest.mark.parametrize(
    "state", ["rebase that stopped", "shared objects", "own work tree", "submodule gone"]
)
def test_more_states_come_back(workshop: Workshop, work: GitFolder, state: str) -> None:
    folder, environment = work.folder, workshop.environment
    if state == "rebase that stopped":
        work.write("train.py", b"2\n")
        work.commit_all()
        work.git("checkout", "-q", "-b", "side", "HEAD^")
        work.write("train.py", b"3\n")
        work.commit_all()
        done = subprocess.run(["git", "rebase", "main"], cwd=folder, env=environment, capture_output=True)
        assert done.returncode
    elif state == "shared objects":
        folder = workshop.folder / "clone"
        subprocess.run(
            ["git", "clone", "-q", "--shared", str(work.folder), str(folder)], env=environment, check=True
        )
    elif state == "own work tree":
        apart = workshop.folder / "apart"
        (folder / ".git").rename(apart)
        subprocess.run(["git", f"--git-dir={apart}", "config", "core.worktree", str(folder)], check=True)
        (folder / ".git").write_text(f"gitdir: {apart}\n")
    else:
        module = GitFolder(workshop.folder / "module", environment)
        module.write("lib.py", b"1\n")
        module.commit_all()
        module.publish(workshop.folder / "module.git")
        work.git(
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            str(workshop.folder / "module.git"),
            "module",
        )
        work.commit_all()
        work.git("push", "-q", "origin", "main")
        folder = workshop.folder / "clone"
        subprocess.run(
            ["git", "clone", "-q", str(workshop.folder / "remote.git"), str(folder)],
            env=environment,
            check=True,
        )
    (folder / "new.py").write_text("new\n")
    stored = workshop.there_and_back(folder)
    assert stored.document is not None and stored.reasons == []
    assert read_snapshot(workshop.blobs, stored.document.sha256).repositories[0].vcs == "git"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_repository_that_really_is_another_users_is_stored(workshop: Workshop, work: GitFolder) -> None:
    work.write("train.py", b"print(2)\n")
    for place in (work.folder, *work.folder.rglob("*")):
        os.lchown(place, 12345, 12345)
    stored = workshop.store(work.folder)
    assert manifest(workshop.restore(stored).folder) == manifest(work.folder)


def test_what_the_user_may_not_read_is_named_and_a_read_only_repository_is_no_hindrance(
    workshop: Workshop, work: GitFolder
) -> None:
    work.write("new.py", b"new\n")
    for name in ("train.py", "closed.py"):
        work.write(name, b"changed\n", mode=0)
    work.write("closed/x.py", b"1\n")
    (work.folder / "closed").chmod(0)
    for path in [work.folder / ".git", *(work.folder / ".git").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    # Root may read everything, unless it gives that up.
    without = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    script = (
        "import json, sys; from pathlib import Path; from support.code_workshop import Workshop\n"
        "stored = Workshop(Path(sys.argv[1])).store(Path(sys.argv[2]))\n"
        "print(json.dumps([[stored.document, stored.snapshot_id], [i.path for i in stored.left_out]]))"
    )
    done = subprocess.run(
        [*without, sys.executable, "-c", script, str(workshop.folder), str(work.folder)],
        env=workshop.environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    (work.folder / "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    (document, _), left_out = json.loads(done.stdout)
    assert left_out == ["closed", "closed.py", "train.py"]
    snapshot = read_snapshot(workshop.blobs, document[0])
    target = workshop.folder / "target"
    restored = restore_code(snapshot, target, blobs=workshop.blobs, environment=workshop.environment)
    assert set(manifest(target)) == {b"data/a.txt", b"new.py", b"train.py"}
    assert len(restored.problems) == 3


def test_capture_inside_a_hook_sees_the_work_tree_and_not_what_git_exports(
    workshop: Workshop, work: GitFolder
) -> None:
    work.write("second.py", b"2\n")
    commit = work.commit_all()
    script = workshop.folder / "step.py"
    script.write_text(
        "import os, sys; from pathlib import Path; from support.code_workshop import Workshop\n"
        "assert 'GIT_DIR' in os.environ or 'GIT_WORK_TREE' in os.environ or 'GIT_INDEX_FILE' in os.environ\n"
        "workshop = Workshop(Path(sys.argv[1]))\n"
        "workshop.environment = dict(os.environ)\n"
        "Path('new.py').write_text('new')\n"
        "stored = workshop.store(Path.cwd())\n"
        "Path('new.py').unlink()\n"
        "Path(sys.argv[1], 'answer').write_text(stored.document.sha256)\n"
    )
    command = f"PYTHONPATH={Path(__file__).parents[2]} {sys.executable} {script} {workshop.folder}"
    hook = work.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{command}\n")
    hook.chmod(0o755)
    # A hook of `commit FILE` has another index than the one of the repository.
    work.write("train.py", b"print(2)\n")
    work.write("second.py", b"staged\n")
    work.git("add", "second.py")
    work.git("commit", "-q", "-m", "m", "train.py")
    repository = read_snapshot(workshop.blobs, (workshop.folder / "answer").read_text()).repositories[0]
    assert repository.head == commit
    restored = restore_code(
        read_snapshot(workshop.blobs, (workshop.folder / "answer").read_text()),
        workshop.folder / "target",
        blobs=workshop.blobs,
        environment=workshop.environment,
    )
    assert restored.problems == []
    assert (restored.folder / "second.py").read_bytes() == b"staged\n"
    assert (restored.folder / "new.py").read_bytes() == b"new"
    assert (restored.folder / "train.py").read_bytes() == b"print(2)\n"


def test_ignored_files_are_named_without_caches_and_environments(workshop: Workshop, work: GitFolder) -> None:
    work.write(".gitignore", b"data/big/\n*.local\n__pycache__/\nvenv/\nout/\n")
    for name in ("data/big/1.bin", "conf/a.local", "__pycache__/x.pyc", "venv/pyvenv.cfg", "out/deep/x"):
        work.write(name, b"1")
    stored = workshop.store(work.folder)
    assert stored.document is not None and stored.left_out == ()
    snapshot = read_snapshot(workshop.blobs, stored.document.sha256)
    assert snapshot.repositories[0].ignored == ("conf/", "data/big/", "out/")
    facts = RunFacts("id", None, "p", None, None, "finished", 1, 1, {"argv": ["python"]}, (), False)
    intent = Intent(facts, snapshot, "/x", Launching(facts.shape), Command(["python"], "/x"), "id")
    steps = plan_steps(intent)
    assert [step.what for step in steps if step.step == "ignored"] == [
        "conf/, data/big/, out/: not stored; if the run reads it, --link PATH"
    ]


def test_files_that_change_while_they_are_captured_cost_no_other_file(
    workshop: Workshop, work: GitFolder
) -> None:
    work.write("still.py", b"still\n")
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            work.write("train.py", b"#" * (number % 7000))
            work.write("new.txt", os.urandom(number % 5000))
            (work.folder / "comes and goes").touch()
            (work.folder / "comes and goes").unlink()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        stored = [workshop.store(work.folder) for _ in range(4)]
    finally:
        is_over.set()
        writer.join()
    for one in stored:
        restored = workshop.restore(one)
        assert restored.problems == []
        assert {b"still.py", b"train.py", b"data/a.txt"} <= set(manifest(restored.folder))
        assert (restored.folder / "still.py").read_bytes() == b"still\n"


def test_captures_at_the_same_time_give_the_same_code_and_leave_nothing_behind(
    workshop: Workshop, work: GitFolder
) -> None:
    work.write("train.py", b"print(2)\n")
    work.write("new.py", b"new\n")
    work.write("unpushed.py", b"1\n")
    work.commit_all()
    before = work.state()
    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(lambda _: workshop.store(work.folder), range(4)))
    assert len({one.snapshot_id for one in stored}) == 1 and stored[0].snapshot_id
    assert work.state() == before
    assert list((workshop.blobs.folder / "tmp").iterdir()) == []
    assert manifest(workshop.restore(stored[3]).folder) == manifest(work.folder)
