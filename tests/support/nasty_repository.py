"""A git repository in every state that loses something in a patch, and what its files are, byte for byte."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["GitFolder", "make_nasty", "manifest", "plain_environment", "pointer_of"]

BINARY = bytes(range(256)) * 20
LATIN = b"caf\xe9.txt"
NEWLINE = b"two\nlines.txt"


def plain_environment(home: Path) -> dict[str, str]:
    """The environment of a user without any git settings of his own."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": str(home / ".config")}


class GitFolder:
    """A repository and git in it."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, make: bool = True, form: str = "sha1"
    ) -> None:
        self.folder = folder
        self.environment = dict(environment)
        if make:
            folder.mkdir(parents=True)
            self.git("init", "-q", "-b", "main", f"--object-format={form}")
        self.git("config", "user.name", "n")
        self.git("config", "user.email", "e@example.com")
        self.git("config", "protocol.file.allow", "always")

    def git(self, *arguments: str | bytes) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=self.environment, capture_output=True, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.decode("utf-8", "replace").strip()

    def write(self, path: str | bytes, data: bytes, *, mode: int = 0o644) -> None:
        whole = os.fsencode(self.folder) + b"/" + os.fsencode(path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        if os.path.islink(whole):
            os.unlink(whole)
        with open(whole, "wb") as file:
            file.write(data)
        os.chmod(whole, mode)

    def commit_all(self, message: str = "m") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def publish(self, bare: Path) -> None:
        """Make a bare remote with all that is committed."""
        subprocess.run(
            ["git", "clone", "-q", "--bare", str(self.folder), str(bare)], env=self.environment, check=True
        )
        self.git("remote", "add", "origin", str(bare))
        self.git("fetch", "-q", "origin")
        self.git("branch", "-q", "--set-upstream-to=origin/main", "main")

    def state(self) -> tuple[bytes, str, str]:
        """What a capture must leave as it is: the index, the objects, and what git says has changed."""
        index = self.folder / ".git" / "index"
        content = index.read_bytes() if index.exists() else b""
        return (
            content,
            self.git("count-objects", "-v"),
            self.git("--no-optional-locks", "status", "--porcelain"),
        )


def pointer_of(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


def make_nasty(folder: Path, environment: Mapping[str, str]) -> GitFolder:
    """The repository, its remotes beside it (`<folder>-remotes`), everything pushed but the last commit."""
    remotes = folder.parent / f"{folder.name}-remotes"
    modules = {}
    for name in ("moved", "edited"):
        module = GitFolder(folder.parent / f"{folder.name}-{name}", environment)
        module.write("lib.py", b"x = 1\n")
        module.commit_all()
        module.publish(remotes / f"{name}.git")
        modules[name] = module
    nasty = GitFolder(folder, environment)
    _commit_old(nasty)
    for name in modules:
        nasty.git(
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            str(remotes / f"{name}.git"),
            f"sub/{name}",
        )
    nasty.commit_all("submodules")
    nasty.publish(remotes / "nasty.git")
    nasty.write("unpushed.txt", b"a commit that no remote has\n")
    nasty.commit_all("unpushed")
    _change(nasty)
    return nasty


def _commit_old(nasty: GitFolder) -> None:
    nasty.write(
        ".gitattributes",
        b"*.crlf text eol=crlf\n*.auto text=auto\n*.ident ident\n*.lfs filter=lfs diff=lfs merge=lfs -text\n"
        b"*.utf16 text working-tree-encoding=UTF-16LE eol=lf\n",
    )
    nasty.write(".gitignore", b"ignored/\n*.log\n")
    nasty.write("train.py", b"print('old')\n" * 30)
    nasty.write("binary.bin", BINARY)
    nasty.write("renamed.py", b"def f():\n    return 1\n" * 20)
    nasty.write("mode.sh", b"#!/bin/sh\n")
    nasty.write("gone.txt", b"will be removed\n")
    nasty.write("becomes_link", b"a file\n")
    os.symlink("train.py", nasty.folder / "becomes_file")
    nasty.write("both.py", b"one\n")
    nasty.write(LATIN, b"latin name\n")
    nasty.write(NEWLINE, b"newline name\n")
    nasty.write("same.crlf", b"a\r\nb\r\n")
    nasty.write("changed.crlf", b"a\r\nb\r\n")
    nasty.write("mixed.auto", b"plain\n")
    nasty.write("id.ident", b"$Id$\n")
    nasty.write("skipped.cfg", b"lr: 1\n")
    nasty.write("assumed.cfg", b"lr: 1\n")
    nasty.write("becomes_folder", b"a file\n")
    nasty.write("folder/becomes/file.txt", b"deep\n")
    nasty.write("off.sh", b"#!/bin/sh\n", mode=0o755)
    nasty.write("untracked_again.txt", b"kept on disk\n")
    nasty.write("encoded.utf16", "gr\u00fcn\n".encode("utf-16-le"))
    nasty.write("emptied.txt", b"not empty\n")
    nasty.write("unchanged.txt", b"as it was\n")
    # As `git lfs` has it: the pointer is committed, the content lies on disk.
    nasty.git("config", "filter.lfs.clean", "cat")
    for name in ("kept.lfs", "changed.lfs"):
        nasty.write(name, pointer_of(b"weights of " + name.encode()))
    nasty.commit_all("old")


def _change(nasty: GitFolder) -> None:
    nasty.write("train.py", b"print('new')\n" + b"print('old')\n" * 29)
    nasty.write("binary.bin", BINARY[:300] + b"inserted" + BINARY[300:])
    nasty.git("mv", "renamed.py", "after_rename.py")
    nasty.write("mode.sh", b"#!/bin/sh\n", mode=0o755)
    (nasty.folder / "gone.txt").unlink()
    (nasty.folder / "becomes_link").unlink()
    os.symlink("/nowhere/at all", nasty.folder / "becomes_link")
    nasty.write("becomes_file", b"now a file\n")
    nasty.write("both.py", b"staged\n")
    nasty.git("add", "both.py")
    nasty.write("both.py", b"staged, then changed\n")
    nasty.write("intent.py", b"only the intent to add\n")
    nasty.git("add", "-N", "intent.py")
    nasty.write(LATIN, b"latin name, changed\n")
    nasty.write(NEWLINE, b"newline name, changed\n")
    nasty.write("changed.crlf", b"a\r\nb\r\nc\r\n")
    nasty.write("mixed.auto", b"mixed\r\nendings\n")
    nasty.write("id.ident", b"$Id: expanded $\nmore\n")
    nasty.git("update-index", "--skip-worktree", "skipped.cfg")
    nasty.write("skipped.cfg", b"lr: 2\n")
    nasty.git("update-index", "--assume-unchanged", "assumed.cfg")
    nasty.write("assumed.cfg", b"lr: 3\n")
    (nasty.folder / "becomes_folder").unlink()
    nasty.write("becomes_folder/inside.txt", b"x\n")
    nasty.git("rm", "-q", "-r", "folder")
    nasty.write("folder", b"now a file\n")
    nasty.write("off.sh", b"#!/bin/sh\n", mode=0o644)
    nasty.git("rm", "-q", "--cached", "untracked_again.txt")
    nasty.write("encoded.utf16", "gr\u00fcn, blau\n".encode("utf-16-le"))
    nasty.write("emptied.txt", b"")
    nasty.write("-dash", b"a name like an option\n")
    nasty.write("sub/edited/extra.py", b"untracked in a submodule\n")
    nasty.write("kept.lfs", b"weights of kept.lfs")
    nasty.write("changed.lfs", b"other weights\0\1")
    nasty.write("new file.py", b"untracked\n")
    nasty.write("deep/er/new.bin", b"\0\1\2")
    nasty.write("ignored/cache.bin", b"ignored")
    nasty.write("run.log", b"ignored too")
    (nasty.folder / "empty" / "inner").mkdir(parents=True)
    moved = GitFolder(nasty.folder / "sub" / "moved", nasty.environment, make=False)
    moved.write("lib.py", b"x = 2\n")
    moved.commit_all("moved on, not pushed")
    GitFolder(nasty.folder / "sub" / "edited", nasty.environment, make=False).write("lib.py", b"x = 3\n")
    nested = GitFolder(nasty.folder / "nested", nasty.environment)
    nested.write("inner.py", b"y = 1\n")
    nested.commit_all()
    nested.write("inner.py", b"y = 2\n")
    inmost = GitFolder(nasty.folder / "nested" / "deeper", nasty.environment)
    inmost.write("inmost.py", b"z = 0\n")
    inmost.commit_all()
    bare_of_commits = GitFolder(nasty.folder / "fresh", nasty.environment)
    bare_of_commits.write("first.py", b"z = 1\n")


def manifest(
    folder: Path, *, without: Iterable[bytes] = (b"ignored", b"run.log")
) -> dict[bytes, tuple[str, str]]:
    """Path to (kind with x bit, digest or link target), empty folders included, repositories' own folders not."""
    top = os.fsencode(folder)
    found: dict[bytes, tuple[str, str]] = {}
    for place, names, files in os.walk(top):
        relative = os.path.relpath(place, top)
        names[:] = [n for n in names if n not in (b".git", b".svn")]
        links = [n for n in names if os.path.islink(place + b"/" + n)]
        is_repository = os.path.lexists(place + b"/.git")
        if relative != b"." and not names and not files and not is_repository:
            found[relative] = ("folder", "")
        for name in [*(f for f in files if f != b".git"), *links]:
            path = os.path.normpath(os.path.join(relative, name))
            whole = place + b"/" + name
            if os.path.islink(whole):
                found[path] = ("link", os.fsdecode(os.readlink(whole)))
                continue
            status = os.stat(whole)
            kind = "executable" if status.st_mode & stat.S_IXUSR else "file"
            with open(whole, "rb") as file:
                found[path] = (kind, hashlib.sha256(file.read()).hexdigest())
    skipped = set(without)
    return {p: v for p, v in found.items() if p.split(b"/")[0] not in skipped and p not in skipped}
