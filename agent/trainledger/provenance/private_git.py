"""A private git directory over a user's work tree: bytes are stored as they lie on disk.

It has its own index (a copy) and its own new objects, and finds the old objects through the user's repository or
none. Its attributes win over those of the work tree, so no conversion of line ends, no filter, no textconv program
and no hook is run, and the user's index and objects are not touched. Settings of the user do not reach it, so the
same files give the same ids everywhere.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .git import Git
from .programs import UnavailableError

__all__ = ["Layout", "open_private", "read_layout"]

# Fixed, so that the same state has the same commit id; git refuses the second 0.
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "trainledger"), ("EMAIL", "code@trainledger"), ("DATE", "@1 +0000"))
}
_ATTRIBUTES = "* -text -eol -filter -ident -working-tree-encoding !diff !merge\n"
_CONFIG = """
[core]
\tbare = false
\tautocrlf = false
\tsafecrlf = false
\tfsmonitor = false
\thooksPath = /dev/null
\tsparseCheckout = false
\tquotePath = false
\tlogAllRefUpdates = false
[gc]
\tauto = 0
[i18n]
\tcommitEncoding = UTF-8
[pack]
\tthreads = 1
"""
_PASSED_ON = ("core.filemode", "core.ignorecase", "core.symlinks")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a repository keeps its parts: a linked work tree has its own `git_dir` and a common one."""

    git_dir: Path
    common_dir: Path
    object_format: str


def read_layout(git: Git) -> Layout:
    """Ask git; raises UnavailableError."""
    git_dir = git.run("rev-parse", "--absolute-git-dir").removesuffix(b"\n")
    common = git.run("rev-parse", "--git-common-dir").removesuffix(b"\n")
    form = git.ask("rev-parse", "--show-object-format") or b"sha1"
    # Relative to the folder that git was asked in.
    return Layout(Path(os.fsdecode(git_dir)), git.top / os.fsdecode(common), form.decode("ascii"))


def open_private(top: Path, user: Git, layout: Layout | None, folder: Path) -> Git:
    """Make the private directory in `folder` for the work tree `top`; without a layout it has no history."""
    form = layout.object_format if layout is not None else "sha1"
    variables = {
        "GIT_DIR": str(folder),
        "GIT_WORK_TREE": str(top),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LITERAL_PATHSPECS": "1",
    } | _IDENTITY
    bare = Git(top, user.programs)
    bare.run("init", "-q", "--bare", f"--object-format={form}", "--template=", "--", str(folder))
    config = _CONFIG
    (folder / "info").mkdir(exist_ok=True)
    (folder / "info" / "attributes").write_text(_ATTRIBUTES)
    try:
        if layout is not None:
            _copy_state(layout, folder)
            variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = _quoted(layout.common_dir / "objects")
            config += _passed_on(user)
        with (folder / "config").open("a") as file:
            file.write(config)
    except OSError as error:
        raise UnavailableError(f"git: the index could not be copied: {error}") from error
    options = _ignore_options(user)
    return Git(top, user.programs, options, variables)


def _copy_state(layout: Layout, folder: Path) -> None:
    for name in ("index", *(path.name for path in layout.git_dir.glob("sharedindex.*"))):
        if (layout.git_dir / name).is_file():
            shutil.copy2(layout.git_dir / name, folder / name)
    for source, name in (
        (layout.common_dir / "shallow", "shallow"),
        (layout.common_dir / "info" / "exclude", "info/exclude"),
    ):
        if source.is_file():
            shutil.copy2(source, folder / name)


def _passed_on(user: Git) -> str:
    lines = "[core]\n"
    for name in _PASSED_ON:
        value = user.ask("config", "--type=bool", "--get", name)
        if value in (b"true", b"false"):
            lines += f"\t{name.partition('.')[2]} = {value.decode()}\n"
    if user.ask("config", "--get", "extensions.partialclone") is not None:
        # Objects that a partial clone lacks are no damage.
        lines += '[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = origin\n[remote "origin"]\n'
        lines += "\tpromisor = true\n\turl = /nowhere\n"
    return lines


def _ignore_options(user: Git) -> tuple[str, ...]:
    found = user.ask("config", "--type=path", "--get", "core.excludesfile")
    return ("-c", f"core.excludesFile={os.fsdecode(found)}") if found else ()


def _quoted(path: Path) -> str:
    text = str(path)
    if not any(char in text for char in ':"\n\\'):
        return text
    # The list is separated by colons; git reads C-like quotes in it.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
