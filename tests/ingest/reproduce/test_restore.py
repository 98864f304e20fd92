"""Code comes back byte for byte, from the stored bundles and a bare remote alone."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder, make_nasty, manifest, plain_environment, pointer_of
from trainledger.provenance.code_store import CodeStore
from trainledger.provenance.programs import Programs
from trainledger.provenance.settings import program_environment
from trainledger.provenance.used_files import UsedFiles
from trainledger_ingest.reproduce.restore import read_snapshot, restore_code
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import CorruptDataError, NotFoundError, UsageError

HOSTILE = """
[diff]
  noprefix = true
  external = /bin/false
  context = 0
  mnemonicPrefix = true
[color]
  ui = always
  diff = always
[core]
  autocrlf = {autocrlf}
  fsmonitor = /bin/false
  attributesFile = {home}/attributes
[commit]
  gpgsign = true
[log]
  showSignature = true
[i18n]
  commitEncoding = ISO-8859-1
"""


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> GitFolder:
    """Made once: no capture changes it."""
    folder = tmp_path_factory.mktemp("nasty")
    return make_nasty(folder / "nasty", plain_environment(folder / "home"))


def some_repository(workshop: Workshop, *, form: str = "sha1", name: str = "work") -> GitFolder:
    work = GitFolder(workshop.folder / name, workshop.environment, form=form)
    work.write("train.py", b"print(1)\n")
    work.write("data/a.txt", b"a\n")
    work.commit_all()
    return work


def dirty(work: GitFolder) -> None:
    work.write("train.py", b"print(2)\n")
    work.write("new.py", b"new = 1\n")


def test_nasty_repository_is_restored_byte_for_byte_from_bundles_and_bare_remotes(workshop: Workshop) -> None:
    nasty = make_nasty(workshop.folder / "nasty", workshop.environment)
    before = nasty.state()
    stored = workshop.store(nasty.folder)
    assert nasty.state() == before
    wanted = manifest(nasty.folder)
    # Only the bare remotes and the blobs are left.
    for place in workshop.folder.iterdir():
        if place.name not in ("blobs", "home", "nasty-remotes"):
            place.rename(place.with_name(f"away-{place.name}"))
    restored = workshop.restore(stored)
    assert restored.problems == []
    found = manifest(restored.folder)
    assert {
        p: (wanted.get(p), found.get(p)) for p in {*wanted, *found} if wanted.get(p) != found.get(p)
    } == {}
    assert len(wanted) == 39
    assert stored.left_out == ()
    again = workshop.store(restored.folder)
    assert again.snapshot_id == stored.snapshot_id


def test_second_capture_has_the_same_id_and_stores_nothing_new(workshop: Workshop, nasty: GitFolder) -> None:
    first = workshop.store(nasty.folder)
    blobs = sorted(path.name for path in (workshop.blobs.folder / "sha256").rglob("*"))
    second = workshop.store(nasty.folder)
    assert (second.snapshot_id, second.document, second.patch) == (
        first.snapshot_id,
        first.document,
        first.patch,
    )
    assert sorted(path.name for path in (workshop.blobs.folder / "sha256").rglob("*")) == blobs
    assert list((workshop.blobs.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("autocrlf", ["false", "true", "input"])
def test_hostile_settings_of_the_user_change_neither_the_id_nor_the_bytes(
    workshop: Workshop, nasty: GitFolder, autocrlf: str
) -> None:
    plain = workshop.store(nasty.folder)
    home = workshop.folder / "home"
    (home / "attributes").write_text("* text eol=crlf filter=evil\n")
    (home / ".gitconfig").write_text(HOSTILE.format(autocrlf=autocrlf, home=home))
    hostile = workshop.store(nasty.folder)
    assert hostile.patch == plain.patch
    restored = workshop.restore(plain, plain_environment(workshop.folder / "other home"))
    assert restored.problems == []
    if autocrlf == "false":
        assert hostile.snapshot_id == plain.snapshot_id
        assert manifest(restored.folder) == manifest(nasty.folder)


def test_patch_is_readable_and_names_every_changed_file(workshop: Workshop, nasty: GitFolder) -> None:
    stored = workshop.store(nasty.folder)
    assert stored.patch is not None
    text = workshop.blobs.read(stored.patch.sha256).decode("utf-8", "surrogateescape")
    for line in (
        "+print('new')",
        "+++ b/sub/edited/lib.py",
        "+x = 3",
        "+untracked",
        "Binary files a/binary.bin",
    ):
        assert line in text, line
    assert "\x1b[" not in text


@pytest.mark.parametrize(
    "state",
    [
        "detached", "no commit", "no remote", "shallow", "shallow and unpushed", "partial", "worktree",
        "conflict", "locked", "sha256", "sparse", "split index", "clean and pushed", "read-only", "crlf clone",
    ],
)  # fmt: skip
def test_repository_in_any_state_comes_back(workshop: Workshop, state: str) -> None:
    environment = workshop.environment
    if state == "no commit":
        work = GitFolder(workshop.folder / "work", environment)
        work.write("staged.py", b"s\n")
        work.git("add", "staged.py")
    else:
        work = some_repository(workshop, form="sha256" if state == "sha256" else "sha1")
    remote = workshop.folder / "remote.git"
    if state in ("no commit", "no remote", "sha256"):
        dirty(work)
    else:
        work.write("train.py", b"print('second')\r\n")
        work.commit_all("second")
        work.publish(remote)
        work = in_state(state, work, remote, workshop)
    stored = workshop.there_and_back(work.folder)
    if state == "clean and pushed":
        document = read_snapshot(workshop.blobs, stored.document.sha256 if stored.document else "")
        assert document.repositories[0].bundles == ()


def in_state(state: str, work: GitFolder, remote: Path, workshop: Workshop) -> GitFolder:
    environment, place = workshop.environment, workshop.folder / "clone"
    url = f"file://{remote}"
    if state.startswith("shallow"):
        work = _clone(url, place, environment, "--depth=1")
        if state == "shallow and unpushed":
            work.write("third.py", b"3\n")
            work.commit_all("third")
    elif state == "partial":
        subprocess.run(["git", "-C", str(remote), "config", "uploadpack.allowFilter", "true"], check=True)
        work = _clone(url, place, environment, "--filter=blob:none")
    elif state == "worktree":
        work.git("worktree", "add", "-q", "-b", "side", str(place))
        work = GitFolder(place, environment, make=False)
    elif state == "detached":
        work.git("checkout", "-q", "--detach", "HEAD^")
    elif state == "sparse":
        work.write("other/deep/b.txt", b"b\n")
        work.write("other/c.txt", b"c\n")
        work.commit_all("more")
        work.git("sparse-checkout", "set", "data")
        work.write("data/a.txt", b"changed\n")
        assert not (work.folder / "other").exists()
        return work
    elif state == "split index":
        work.git("update-index", "--split-index")
    elif state == "locked":
        (work.folder / ".git" / "index.lock").touch()
    elif state == "clean and pushed":
        return work
    elif state == "crlf clone":
        (workshop.folder / "home" / ".gitconfig").write_text("[core]\n autocrlf = true\n")
        work = _clone(url, place, environment)
        work.git("config", "core.autocrlf", "true")
        os.utime(work.folder / "data" / "a.txt")
        work.write("new.py", b"new\n")
        return work
    elif state == "conflict":
        work.git("checkout", "-q", "-b", "other", "HEAD^")
        work.write("train.py", b"print('other')\n")
        work.commit_all("other")
        subprocess.run(["git", "merge", "main"], cwd=work.folder, env=environment, capture_output=True)
        assert "<<<<" in (work.folder / "train.py").read_text()
        return work
    dirty(work)
    if state == "read-only":
        for path in [work.folder / ".git", *(work.folder / ".git").rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    return work


def _clone(url: str, place: Path, environment: Mapping[str, str], *options: str) -> GitFolder:
    subprocess.run(
        ["git", "clone", "-q", *options, url, str(place)],
        env=dict(environment),
        check=True,
        capture_output=True,
    )
    return GitFolder(place, environment, make=False)


def test_touched_lfs_file_is_no_change_and_its_content_comes_from_the_blobs_where_no_remote_has_it(
    workshop: Workshop,
) -> None:
    work = GitFolder(workshop.folder / "work", workshop.environment)
    content = b"weights" * 1000
    work.git("config", "filter.lfs.clean", "cat")
    work.write(".gitattributes", b"*.bin filter=lfs -text\n")
    work.write("model.bin", pointer_of(content))
    commit = work.commit_all()
    work.write("model.bin", content)
    stored = workshop.there_and_back(work.folder)
    document = read_snapshot(workshop.blobs, stored.document.sha256 if stored.document else "")
    assert document.repositories[0].head == commit
    assert [item.is_stored for item in document.repositories[0].lfs] == [True]
    tree = work.git("rev-parse", "HEAD^{tree}")
    assert document.repositories[0].tree == tree


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_content_under_real_git_lfs_is_kept(workshop: Workshop) -> None:
    work = some_repository(workshop)
    work.git("lfs", "install", "--local")
    work.git("lfs", "track", "*.bin")
    work.write("a.bin", b"\0first" * 300)
    work.write("b.bin", b"\0second" * 300)
    work.commit_all("lfs")
    work.write("b.bin", b"\0changed" * 300)
    work.git("status")
    workshop.there_and_back(work.folder)


def test_plain_folder_comes_back_without_caches_environments_and_its_own_journals(workshop: Workshop) -> None:
    folder = workshop.folder / "plain"
    work = {
        "train.py": b"print(1)\n", "pkg/__init__.py": b"", "data.bin": b"\0\1", "run.sh": b"#!/bin/sh\n",
        "__pycache__/train.pyc": b"c", "venv/pyvenv.cfg": b"home = /usr\n", "venv/lib/x.py": b"x",
        "journals/0/x.tlj": b"journal",
    }  # fmt: skip
    for name, data in work.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "run.sh").chmod(0o755)
    os.symlink("train.py", folder / "link.py")
    stored = workshop.store(folder, never=(folder / "journals",))
    restored = workshop.restore(stored)
    kept = {b"train.py", b"pkg/__init__.py", b"data.bin", b"run.sh", b"link.py"}
    wanted = {path: value for path, value in manifest(folder).items() if path in kept}
    assert (manifest(restored.folder), restored.problems) == (wanted, [])
    assert not (restored.folder / ".git").exists()


def test_home_folder_and_root_are_never_taken_for_code(workshop: Workshop) -> None:
    home = workshop.folder / "home"
    (home / "notes.txt").write_text("private")
    for place in (home, Path("/")):
        stored = workshop.store(place)
        assert stored.document is None and "is no folder of code" in stored.reasons[0]


def test_what_is_too_large_is_named_with_its_digest_and_the_small_files_are_kept(workshop: Workshop) -> None:
    work = some_repository(workshop)
    work.write("big.bin", b"\0" * ((10 << 20) + 1))
    work.write("data/a.txt", b"b" * ((10 << 20) + 1))
    dirty(work)
    stored = workshop.store(work.folder)
    assert [(item.path, item.size_bytes, item.why) for item in stored.left_out] == [
        ("big.bin", (10 << 20) + 1, "larger than 10 MiB"),
        ("data/a.txt", (10 << 20) + 1, "larger than 10 MiB"),
    ]
    assert all(len(item.sha256 or "") == 64 for item in stored.left_out)
    restored = workshop.restore(stored)
    assert len(restored.problems) == 2
    assert (restored.folder / "new.py").read_bytes() == b"new = 1\n"
    # The version of the commit, which is said above not to be what ran.
    assert (restored.folder / "data/a.txt").read_bytes() == b"a\n"


AWS = "AKIA" + "ABCDEFGHIJKLMNOP"
PASSWORD = "hunter2" + "hunter2"
SECRETS = {
    ".env": f"TOKEN={PASSWORD}\n",
    "id_rsa": "key",
    "key.pem": "key",
    "config.yaml": f"db:\n  password: {PASSWORD}\n",
    "settings.py": f'DB_PASSWORD = "{PASSWORD}"\n',
    "aws.py": f"key = '{AWS}'\n",
    "url.py": f"u = 'https://me:{PASSWORD}@example.com/x'\n",
}


@pytest.mark.parametrize("how", ["untracked", "changed", "unpushed commit", "message", "plain folder"])
def test_planted_secrets_are_in_no_byte_that_was_stored(workshop: Workshop, how: str) -> None:
    if how == "plain folder":
        folder = workshop.folder / "plain"
        folder.mkdir()
        for name, text in SECRETS.items():
            (folder / name).write_text(text)
        (folder / "train.py").write_text("import os\npassword = os.environ['DB_PASSWORD']\n")
    else:
        work = some_repository(workshop)
        folder = work.folder
        work.write("train.py", b"import os\npassword = os.environ['DB_PASSWORD1']\n")
        if how == "changed":
            for name in SECRETS:
                work.write(name, b"nothing\n")
            work.commit_all()
        for name, text in SECRETS.items():
            work.write(name, text.encode())
        if how == "unpushed commit":
            work.commit_all()
            work.git("rm", "-q", *SECRETS)
            work.git("commit", "-q", "-m", "away")
    if how == "message":
        work.git("commit", "-q", "--allow-empty", "-m", f"log in with {AWS}")
    stored = workshop.store(folder)
    read_everything(workshop)
    restored = workshop.restore(stored)
    assert "password = os.environ" in (restored.folder / "train.py").read_text()
    if how in ("unpushed commit", "message"):
        assert any("looks like a secret" in reason for reason in stored.reasons)
    if how != "unpushed commit":
        assert {item.path for item in stored.left_out} == set(SECRETS)


def read_everything(workshop: Workshop) -> None:
    """No secret in any blob, nor in any object of a bundle."""
    blobs = [path for path in workshop.blobs.folder.rglob("*") if path.is_file()]
    bundles = [path for path in blobs if b"git bundle" in path.read_bytes()[:20]]
    bare = GitFolder(workshop.folder / "unpacked", workshop.environment)
    # One may build on another: the second time around all must be there.
    for check in (False, True):
        for bundle in bundles:
            fetch = ["git", "fetch", "-q", str(bundle), f"refs/*:refs/{bundle.name}/*"]
            subprocess.run(fetch, cwd=bare.folder, env=bare.environment, check=check, capture_output=True)
    names = bare.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    assert len(names) > 2
    objects = [bare.git("cat-file", "-p", name).encode() for name in names]
    for data in [*objects, *(path.read_bytes() for path in blobs)]:
        for secret in (AWS, PASSWORD):
            assert secret.encode() not in data


def test_files_that_the_run_writes_are_no_code_and_ignored_modules_are(workshop: Workshop) -> None:
    work = some_repository(workshop)
    work.write(".gitignore", b"generated/\n")
    work.commit_all()
    work.write("generated/module.py", b"g = 1\n")
    work.write("generated/other.py", b"never loaded\n")
    before = work.folder / "new.py"
    before.write_text("new")
    started_ns = time.time_ns()
    output = work.folder / "checkpoint.txt"
    output.write_text("output")
    os.utime(output, ns=(started_ns + 10**9, started_ns + 10**9))
    stored = workshop.store(
        work.folder, started_ns=started_ns, used=UsedFiles((work.folder / "generated" / "module.py",))
    )
    found = manifest(workshop.restore(stored).folder)
    assert {b"new.py", b"generated/module.py"} <= set(found)
    assert not {b"checkpoint.txt", b"generated/other.py"} & set(found)
    assert any("checkpoint.txt was written after" in reason for reason in stored.reasons)


def test_nothing_that_the_repository_names_is_run(workshop: Workshop) -> None:
    work = some_repository(workshop)
    work.write(".gitattributes", b"*.bin filter=evil diff=evil\n")
    work.write("data.bin", b"one\n")
    work.commit_all()
    witness = workshop.folder / "witness"
    trap = f"touch {witness}; cat"
    for key in ("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv"):
        work.git("config", key, trap)
    hooks = work.folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {witness}\n")
        (hooks / name).chmod(0o755)
    work.write("data.bin", b"two\n")
    work.git("config", "core.fsmonitor", f"touch {witness}; false")
    stored = workshop.store(work.folder)
    restored = workshop.restore(stored)
    assert not witness.exists()
    assert (restored.folder / "data.bin").read_bytes() == b"two\n"


def test_repository_of_another_user_is_stored(workshop: Workshop) -> None:
    work = some_repository(workshop)
    dirty(work)
    # git's own test switch: every folder counts as another user's.
    workshop.environment["GIT_TEST_ASSUME_DIFFERENT_OWNER"] = "1"
    environment = program_environment(workshop.environment) | {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    programs = Programs(environment, clock=SystemClock(), budget_s=60)
    store = CodeStore(programs, workshop.blobs, started_ns=time.time_ns() + 10**9)
    stored = store.store(work.folder, home=workshop.folder / "home")
    del workshop.environment["GIT_TEST_ASSUME_DIFFERENT_OWNER"]
    assert manifest(workshop.restore(stored).folder) == manifest(work.folder)


def test_damage_absence_and_a_used_folder_are_told(workshop: Workshop) -> None:
    work = some_repository(workshop)
    dirty(work)
    stored = workshop.store(work.folder)
    assert stored.document is not None
    snapshot = read_snapshot(workshop.blobs, stored.document.sha256)
    bundle = snapshot.repositories[0].bundles[-1]
    blob = workshop.blobs.folder / "sha256" / bundle.sha256[:2] / bundle.sha256
    used = workshop.folder / "used"
    used.mkdir()
    (used / "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        restore_code(snapshot, used, blobs=workshop.blobs, environment=workshop.environment)
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[-30] ^= 1
    blob.write_bytes(data)
    with pytest.raises(CorruptDataError, match="damaged"):
        workshop.restore(stored)
    blob.unlink()
    with pytest.raises(NotFoundError, match="no blob"):
        workshop.restore(stored)


def test_remote_that_lost_the_commit_is_named(workshop: Workshop) -> None:
    work = some_repository(workshop)
    work.publish(workshop.folder / "remote.git")
    dirty(work)
    stored = workshop.store(work.folder)
    shutil.rmtree(workshop.folder / "remote.git")
    with pytest.raises(NotFoundError, match=r"remote\.git.*push"):
        workshop.restore(stored)


def test_change_that_was_staged_and_taken_back_on_disk_is_none(workshop: Workshop) -> None:
    work = GitFolder(workshop.folder / "work", workshop.environment)
    work.write(".gitattributes", b"*.crlf text eol=crlf\n")
    work.write("a.crlf", b"a\r\n")
    work.commit_all()
    clean = workshop.there_and_back(work.folder)
    work.write("a.crlf", b"b\r\n")
    work.git("add", "a.crlf")
    assert workshop.store(work.folder).snapshot_id != clean.snapshot_id
    work.write("a.crlf", b"a\r\n")
    assert workshop.store(work.folder).snapshot_id == clean.snapshot_id


def test_history_that_cannot_be_searched_is_not_stored_and_not_searched_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = some_repository(workshop)
    work.write("big.txt", b"line\n" * 30_000)
    work.commit_all()
    monkeypatch.setattr("trainledger.provenance.programs.OUTPUT_BYTES_MAX", 100_000)
    for _ in range(2):
        stored = workshop.store(work.folder)
        assert any("could not be searched" in reason for reason in stored.reasons)
        restored = workshop.restore(stored)
        assert (manifest(restored.folder), restored.problems) == (manifest(work.folder), [])
    (record,) = (workshop.blobs.folder / "history").iterdir()
    assert "could not be searched" in record.read_text()


def test_full_disk_is_left_to_the_journals(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    work = some_repository(workshop)
    monkeypatch.setattr("trainledger.provenance.code_store.FREE_BYTES_MIN", 1 << 60)
    stored = workshop.store(work.folder)
    assert stored.document is None and "are free" in stored.reasons[0]
    assert not workshop.blobs.folder.exists()


def test_sparse_checkout_is_the_same_code_as_a_whole_one(workshop: Workshop) -> None:
    work = some_repository(workshop)
    work.write("other/b.txt", b"b\n")
    work.commit_all()
    whole = workshop.store(work.folder)
    work.git("sparse-checkout", "set", "data")
    sparse = workshop.there_and_back(work.folder)
    assert sparse.snapshot_id == whole.snapshot_id
    document = read_snapshot(workshop.blobs, sparse.document.sha256 if sparse.document else "")
    assert document.repositories[0].deleted == ("other",)


@pytest.mark.parametrize("name", ["a.crlf", "a.auto"])
def test_line_ends_that_git_calls_clean_and_a_checkout_would_change_come_back(
    workshop: Workshop, name: str
) -> None:
    work = GitFolder(workshop.folder / "work", workshop.environment)
    work.write(".gitattributes", b"*.crlf text eol=crlf\n*.auto text=auto\n")
    work.write(name, b"x\n" if name == "a.crlf" else b"x\r\n")
    work.commit_all()
    workshop.there_and_back(work.folder)
