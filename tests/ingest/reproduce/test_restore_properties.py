"""Whatever people do to a repository, its code comes back byte for byte, and the same code has the same id."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.code_workshop import Workshop
from support.nasty_repository import GitFolder

EXAMPLES = int(os.environ.get("EXAMPLES", "10"))
NAMES = ("a.py", "b.crlf", "c.auto", "dir/d.bin", "dir/e.ident", "sp ace", "dir2/deep/f")
CONTENTS = (b"", b"x\n", b"x\r\n", b"x\r\ny\n", b"\0\1\2", b"$Id$\n", b"$Id: x $\n", "ü\n".encode("latin-1"))
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
    st.tuples(
        st.sampled_from(
            "stage remove unlink mode link folder commit push stash detach assume skip touch empty intent".split()
        ),
        st.sampled_from(NAMES),
        st.just(b""),
    ),
)


def apply(work: GitFolder, operation: str, name: str, content: bytes) -> None:
    """One thing that a person does; what git refuses is not done."""
    path = work.folder / name
    if operation == "write":
        _clear(work.folder, path)
        work.write(name, content)
    elif operation == "unlink" and os.path.lexists(path) and not path.is_dir():
        path.unlink()
    elif operation == "mode" and path.is_file() and not path.is_symlink():
        path.chmod(path.stat().st_mode ^ 0o111)
    elif operation == "link":
        _clear(work.folder, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("somewhere")
    elif operation == "folder":
        _clear(work.folder, path)
        (path / "inside").mkdir(parents=True)
    elif operation == "touch" and path.is_file():
        os.utime(path)
    elif operation == "empty" and path.parent.is_dir():
        (path.parent / "empty folder").mkdir(exist_ok=True)
    else:
        _git(work, operation, name)


def _git(work: GitFolder, operation: str, name: str) -> None:
    commands = {
        "stage": ["add", "--", name],
        "remove": ["rm", "-q", "--cached", "--", name],
        "commit": ["commit", "-q", "-a", "-m", "m"],
        "push": ["push", "-q", "-f", "origin", "HEAD:main"],
        "stash": ["stash"],
        "detach": ["checkout", "-q", "--detach"],
        "assume": ["update-index", "--assume-unchanged", "--", name],
        "skip": ["update-index", "--skip-worktree", "--", name],
        "intent": ["add", "-N", "--", name],
    }
    if operation in commands:
        subprocess.run(
            ["git", *commands[operation]], cwd=work.folder, env=work.environment, capture_output=True
        )


def _clear(top: Path, path: Path) -> None:
    """Make room for a file of this name."""
    for place in path.parents:
        if place != top and place.is_relative_to(top) and (place.is_symlink() or place.is_file()):
            place.unlink()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATIONS, min_size=1, max_size=12), st.booleans())
def test_any_work_tree_comes_back(operations: list[tuple[str, str, bytes]], has_remote: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        workshop = Workshop(Path(name))
        work = GitFolder(workshop.folder / "work", workshop.environment)
        work.write(".gitattributes", b"*.crlf text eol=crlf\n*.auto text=auto\n*.ident ident\n")
        for file in NAMES[:5]:
            work.write(file, b"first\r\n" if file.endswith("crlf") else b"first\n")
        work.commit_all()
        if has_remote:
            work.publish(workshop.folder / "remote.git")
        for operation in operations:
            apply(work, *operation)
        before = work.state()
        stored = workshop.there_and_back(work.folder)
        assert work.state() == before
        assert stored.left_out == ()
