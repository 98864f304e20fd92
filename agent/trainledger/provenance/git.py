"""git in one work tree, with every program that the repository names switched off.

Guarantees: the user's index, objects and configuration stay as they are; no hook, filter, file system monitor or
other program of the repository is run; nothing is fetched.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..redaction import redact
from .programs import Programs, UnavailableError

__all__ = ["Git", "clean_address", "open_git", "read_config"]

_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false")


class Git:
    """git in the work tree `top`, with options before each command and variables in its environment."""

    def __init__(
        self,
        top: Path,
        programs: Programs,
        options: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.top = top
        self.programs = programs
        self._options = options
        self._variables = dict(variables or {})

    def run(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """What git says; raises UnavailableError when it fails."""
        return self.programs.run(
            ["git", *self._options, *arguments], self.top, stdin=stdin, variables=self._variables
        )

    def ask(self, *arguments: str) -> bytes | None:
        """What git says, without the line's end; None when it exits with a status."""
        try:
            return self.run(*arguments).rstrip(b"\n")
        except UnavailableError as error:
            if error.exit_code is None:
                raise
            return None

    def lines(self, *arguments: str, stdin: bytes | None = None) -> list[bytes]:
        """The entries of an answer that ends each with a zero byte."""
        return [entry for entry in self.run(*arguments, stdin=stdin).split(b"\0") if entry]

    def with_options(self, options: list[str]) -> "Git":
        """The same with more options."""
        return Git(self.top, self.programs, (*self._options, *options), self._variables)


def open_git(folder: Path, programs: Programs) -> tuple[Git, list[str]]:
    """git of the repository that holds `folder`, and what is to be said of it; raises UnavailableError."""
    reasons: list[str] = []
    options: tuple[str, ...] = _SAFE
    find_top = ("rev-parse", "--show-toplevel")
    try:
        found = programs.run(["git", *options, *find_top], folder)
    except UnavailableError as error:
        if "dubious ownership" not in str(error):
            raise
        # Usual in containers that run as root on mounted folders. Only this git may look, and with the
        # repository's programs switched off there is nothing of its owner's that could run as us.
        options = (*options, "-c", "safe.directory=*")
        found = programs.run(["git", *options, *find_top], folder)
        reasons.append("code: the repository belongs to another user")
    git = Git(Path(os.fsdecode(found.removesuffix(b"\n"))), programs, options)
    return git.with_options(_switch_off_filters(git)), reasons


def _switch_off_filters(git: Git) -> list[str]:
    """Options that empty every configured filter; `status` would run them on files that were touched."""
    options: list[str] = []
    for key, _ in read_config(git, r"^filter\..*\.(clean|smudge|process|required)$"):
        if "=" in key:
            raise UnavailableError(
                f"git was not asked: {key} cannot be switched off because of the = in its name"
            )
        value = "false" if key.endswith(".required") else ""
        options += ["-c", f"{key}={value}"]
    return options


def read_config(git: Git, pattern: str) -> Iterator[tuple[str, str]]:
    """Settings whose names match, as (name, value); the addresses are as they are written."""
    try:
        found = git.run("config", "-z", "--get-regexp", pattern)
    except UnavailableError as error:
        if error.exit_code == 1:  # git's answer when nothing matches
            return
        raise
    for entry in os.fsdecode(found).split("\0"):
        if entry:
            key, _, value = entry.partition("\n")
            yield key, value


def clean_address(url: str) -> str:
    """An address without anything secret: no user and password, no query, no helper's command line."""
    helper, double_colon, _ = url.partition("::")
    if double_colon and helper.isalnum():
        return f"{helper}::"
    scheme, separator, rest = url.partition("://")
    if not separator:
        return redact(url)  # git@host:path, or a folder
    authority, slash, path = rest.split("?", 1)[0].split("#", 1)[0].partition("/")
    user, at, host = authority.rpartition("@")
    # In ssh the user is part of the address (git@); in http it may be the token itself.
    kept_user = (
        redact(user.partition(":")[0]) + at if scheme in ("ssh", "git+ssh", "ssh+git", "svn+ssh") else ""
    )
    return f"{scheme}://{kept_user}{redact(host + slash + path)}"
