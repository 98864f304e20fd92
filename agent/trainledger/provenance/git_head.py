"""The commit and branch of a repository, read from its files where git is not installed."""

import os
from pathlib import Path

__all__ = ["read_head"]

_BYTES_MAX = 1 << 20
_LINKS_MAX = 5


def read_head(top: Path) -> tuple[str | None, str | None]:
    """Commit and branch that HEAD of the work tree `top` names, as far as they can be read; never raises."""
    own = top / ".git"
    if own.is_file():
        text = _text(own)
        own = top / text.removeprefix("gitdir:").strip() if text.startswith("gitdir:") else own
    # The branches of a linked work tree are in the common folder.
    common = own / (_text(own / "commondir").strip() or ".")
    name = _text(own / "HEAD").strip()
    branch = name.removeprefix("ref: refs/heads/") if name.startswith("ref: refs/heads/") else None
    for _ in range(_LINKS_MAX):
        if not name.startswith("ref: "):
            break
        name = _resolve(common, name.removeprefix("ref: "))
    is_commit = len(name) in (40, 64) and not set(name) - set("0123456789abcdef")
    return (name if is_commit else None), branch


def _resolve(common: Path, ref: str) -> str:
    if ".." in ref.split("/") or os.path.isabs(ref):
        return ""
    found = _text(common / ref).strip()
    if found:
        return found
    lines = (line.partition(" ") for line in _text(common / "packed-refs").splitlines())
    return next((commit for commit, _, name in lines if name == ref), "")


def _text(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_BYTES_MAX)
    except OSError:
        return ""
