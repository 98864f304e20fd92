"""Facts of real git repositories in the states that people leave them in."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from trainledger.provenance.code import CodeFacts, capture_code
from trainledger.provenance.programs import Programs
from trainledger.provenance.settings import program_environment
from trainledger_schemas.clock import SystemClock

TOKEN = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"


class Repository:
    """A git repository made by script, with a home of its own so that no setting of the user matters."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment = kept | {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "n")
        self.git("config", "user.email", "e@example.com")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, name: str = "train.py", text: str = "print(1)\n") -> str:
        (self.folder / name).write_text(text)
        self.git("add", name)
        self.git("commit", "-q", "-m", "m")
        return self.git("rev-parse", "HEAD")

    def capture(self, folder: Path | None = None, **extra: str) -> CodeFacts:
        environment = program_environment(self.environment | extra)
        return capture_code(folder or self.folder, Programs(environment, clock=SystemClock(), budget_s=10))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "home").mkdir()
    return Repository(tmp_path / "project", tmp_path / "home")


def test_clean_commit_on_a_branch(repository: Repository) -> None:
    commit = repository.commit()
    repository.git("remote", "add", "origin", "https://example.com/team/project.git")
    facts = repository.capture()
    assert (facts.vcs, facts.commit, facts.branch, facts.dirty) == ("git", commit, "main", False)
    assert facts.repository == "https://example.com/team/project.git"
    assert facts.reasons == []


@pytest.mark.parametrize("how", ["changed", "staged", "removed", "mode", "merge conflict"])
def test_changed_tracked_files_are_dirty(repository: Repository, how: str) -> None:
    commit = repository.commit()
    script = repository.folder / "train.py"
    if how == "changed":
        script.write_text("print(2)\n")
    elif how == "staged":
        (repository.folder / "new file.py").write_text("x")
        repository.git("add", "new file.py")
    elif how == "removed":
        script.unlink()
    elif how == "mode":
        script.chmod(0o755)
    else:
        repository.git("checkout", "-q", "-b", "other")
        repository.commit(text="print('other')\n")
        repository.git("checkout", "-q", "main")
        commit = repository.commit(text="print('main')\n")
        with pytest.raises(subprocess.CalledProcessError):
            repository.git("merge", "other")
    facts = repository.capture()
    assert (facts.dirty, facts.commit) == (True, commit)


def test_untracked_files_alone_are_not_dirty_and_a_subfolder_finds_the_repository(
    repository: Repository,
) -> None:
    commit = repository.commit()
    below = repository.folder / "below"
    below.mkdir()
    (below / "notes.txt").write_text("x")
    facts = repository.capture(below)
    assert (facts.commit, facts.dirty) == (commit, False)


def test_no_commit_yet(repository: Repository) -> None:
    (repository.folder / "train.py").write_text("x")
    repository.git("add", "train.py")
    facts = repository.capture()
    assert (facts.vcs, facts.commit, facts.branch, facts.dirty) == ("git", None, "main", True)
    assert "commit: the repository has no commit yet" in facts.reasons


def test_detached_head(repository: Repository) -> None:
    commit = repository.commit()
    repository.git("checkout", "-q", "--detach")
    facts = repository.capture()
    assert (facts.commit, facts.branch, facts.dirty) == (commit, None, False)
    assert "branch: HEAD is detached" in facts.reasons


def test_linked_worktree(repository: Repository, tmp_path: Path) -> None:
    repository.commit()
    repository.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "train.py").write_text("print(3)\n")
    facts = repository.capture(tmp_path / "side")
    assert (facts.branch, facts.dirty) == ("side", True)
    assert repository.capture().dirty is False


def test_repository_without_a_remote_gives_its_folder_and_says_so(repository: Repository) -> None:
    repository.commit()
    facts = repository.capture()
    assert facts.repository == str(repository.folder)
    assert any(reason.startswith("repository address: no remote") for reason in facts.reasons)


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        pytest.param(
            f"https://{TOKEN}@example.com/a/b.git", "https://example.com/a/b.git", id="token as user"
        ),
        pytest.param(
            f"https://me:{TOKEN}@example.com/a.git", "https://example.com/a.git", id="token as password"
        ),
        pytest.param(
            f"https://example.com/a.git?private_token={TOKEN}#x", "https://example.com/a.git", id="query"
        ),
        pytest.param(
            f"ssh://git:{TOKEN}@example.com:22/a.git", "ssh://git@example.com:22/a.git", id="ssh password"
        ),
        pytest.param("git@example.com:a/b.git", "git@example.com:a/b.git", id="scp form"),
        pytest.param(f"ext::sh -c 'echo {TOKEN}'", "ext::", id="helper"),
        pytest.param("/srv/git/a.git", "/srv/git/a.git", id="folder"),
    ],
)
def test_address_holds_no_secret(repository: Repository, url: str, cleaned: str) -> None:
    repository.commit()
    repository.git("remote", "add", "origin", url)
    facts = repository.capture()
    assert facts.repository == cleaned
    assert TOKEN not in repr(facts)


def test_token_that_ci_injects_by_insteadof_is_not_seen(repository: Repository) -> None:
    repository.commit()
    repository.git("config", f"url.https://x:{TOKEN}@example.com/.insteadOf", "https://example.com/")
    repository.git("remote", "add", "origin", "https://example.com/a.git")
    facts = repository.capture()
    assert facts.repository == "https://example.com/a.git"
    assert TOKEN not in repr(facts)


def test_variables_of_a_hook_do_not_lead_to_another_repository(
    repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit()
    facts = repository.capture(GIT_DIR=str(tmp_path / "other"), GIT_INDEX_FILE=str(tmp_path / "index"))
    assert (facts.commit, facts.dirty) == (commit, False)


def test_nothing_that_the_repository_names_is_run_and_nothing_is_changed(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit(".gitattributes", "*.bin filter=evil diff=evil\n")
    repository.commit("data.bin", "one\n")
    witness = tmp_path / "witness"
    trap = f"touch {witness}; cat"
    for key in (
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "core.fsmonitor",
        "diff.evil.textconv",
    ):
        repository.git("config", key, trap)
    repository.git("config", "filter.evil.required", "true")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {witness}\n")
        (hooks / name).chmod(0o755)
    repository.git("-c", "core.fsmonitor=false", "config", "core.hooksPath", str(hooks))
    (repository.folder / "data.bin").write_text("two\n")
    index = (repository.folder / ".git" / "index").read_bytes()
    (repository.folder / ".git" / "index.lock").touch()
    facts = repository.capture()
    assert facts.dirty is True
    assert not witness.exists()
    assert (repository.folder / ".git" / "index").read_bytes() == index


def test_touched_lfs_file_is_compared_by_its_digest(repository: Repository) -> None:
    data = b"model weights"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\nsize {len(data)}\n"
    repository.commit("weights.bin", pointer)
    repository.commit(".gitattributes", "*.bin filter=lfs -text\n")
    repository.git("config", "filter.lfs.clean", "false")
    (repository.folder / "weights.bin").write_bytes(data)
    assert repository.capture().dirty is False
    (repository.folder / "weights.bin").write_bytes(b"other weights")
    assert repository.capture().dirty is True


def test_repository_of_another_user_is_read_and_said(repository: Repository) -> None:
    commit = repository.commit()
    # git's own test switch: every folder counts as another user's, as a mount in a container does for root.
    environment = program_environment(repository.environment) | {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    facts = capture_code(repository.folder, Programs(environment, clock=SystemClock(), budget_s=10))
    assert facts.commit == commit
    assert "code: the repository belongs to another user" in facts.reasons


def test_plain_folder_has_a_reason(tmp_path: Path) -> None:
    facts = capture_code(tmp_path, Programs(program_environment({}), clock=SystemClock(), budget_s=5))
    assert (facts.vcs, facts.repository, facts.commit, facts.dirty) == (None, None, None, None)
    assert len(facts.reasons) == 1


def test_spent_budget_and_missing_git_are_reasons_and_no_errors(repository: Repository) -> None:
    repository.commit()
    late = capture_code(repository.folder, Programs(program_environment(), clock=SystemClock(), budget_s=0))
    assert late.vcs == "git" and late.commit is None and "used up" in late.reasons[0]
    missing = repository.capture(PATH="/nowhere")
    assert "git is not installed" in missing.reasons[0] and missing.dirty is None


def test_program_that_hangs_is_ended_within_the_budget(repository: Repository, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    environment = program_environment(
        repository.environment | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    )
    facts = capture_code(repository.folder, Programs(environment, clock=SystemClock(), budget_s=0.3))
    assert facts.reasons == ["code: git took more than 0.3 s"]


SVN = """#!/bin/sh
case "$1" in
info) echo '<info><entry kind="dir" path="." revision="41"><url>https://me:pw@svn.example.com/r/branches/b</url>
<relative-url>^/branches/b</relative-url><wc-info><wcroot-abspath>ROOT</wcroot-abspath></wc-info></entry></info>';;
status) echo '<status><target path="."><entry path="a.py"><wc-status item="modified" props="none" revision="40"/></entry></target></status>';;
esac
"""


def test_subversion_is_asked_for_its_facts(tmp_path: Path) -> None:
    # A program that answers in the format of svn 1.14, because svn itself is rarely installed.
    work = tmp_path / "work"
    (work / ".svn").mkdir(parents=True)
    program = tmp_path / "bin" / "svn"
    program.parent.mkdir()
    program.write_text(SVN.replace("ROOT", str(work)))
    program.chmod(0o755)
    environment = program_environment({"PATH": f"{program.parent}:{os.environ['PATH']}"})
    facts = capture_code(work, Programs(environment, clock=SystemClock(), budget_s=5))
    assert (facts.vcs, facts.commit, facts.branch, facts.dirty) == ("svn", "41", "branches/b", True)
    assert facts.repository == "https://svn.example.com/r/branches/b"


@pytest.mark.parametrize("state", ["loose", "packed", "detached", "worktree", "no commit", "nonsense"])
def test_commit_is_read_where_git_is_not_installed(
    repository: Repository, tmp_path: Path, state: str
) -> None:
    commit: str | None = None if state == "no commit" else repository.commit()
    folder, branch = repository.folder, "main"
    if state == "packed":
        repository.git("pack-refs", "--all")
    elif state == "detached":
        repository.git("checkout", "-q", "--detach")
    elif state == "worktree":
        folder, branch = tmp_path / "side", "feature/side"
        repository.git("worktree", "add", "-q", "-b", branch, str(folder))
    elif state == "nonsense":
        (folder / ".git" / "HEAD").write_text("ref: refs/heads/../../../../etc/passwd")
        commit = None
    known = repository.capture(folder)
    facts = repository.capture(folder, PATH="/nowhere")
    if state == "nonsense":
        assert facts.commit is None
    else:
        assert (facts.commit, facts.branch) == (commit, None if state == "detached" else branch)
        assert (facts.commit, facts.branch) == (known.commit, known.branch)
