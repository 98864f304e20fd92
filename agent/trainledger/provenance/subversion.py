"""A Subversion working copy: what differs from its revision.

A snapshot of it holds the raw bytes of every file that was modified, added or is unversioned; `svn checkout` of the
revision gives the rest. svn is asked without network and without prompts.
"""

import os
import stat
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .programs import Programs, UnavailableError

__all__ = ["WorkingCopy", "ask_svn", "read_working_copy"]

_OPTIONS = ("--xml", "--non-interactive", "--config-option", "servers:global:http-timeout=5")
_GONE = frozenset({"deleted", "missing", "incomplete"})
_HERE = frozenset({"modified", "added", "replaced", "conflicted", "unversioned", "merged"})


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """`files` are relative to `top`; `revisions` names what is at another revision than the root."""

    top: Path
    url: str
    revision: str
    files: tuple[bytes, ...]
    deleted: tuple[str, ...]
    revisions: tuple[tuple[str, str], ...]


def ask_svn(folder: Path, programs: Programs, *arguments: str) -> ElementTree.Element:
    """What svn says as XML; raises UnavailableError."""
    text = programs.run(["svn", arguments[0], *_OPTIONS, *arguments[1:]], folder)
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UnavailableError(f"svn: its answer could not be read: {error}") from error


def read_working_copy(folder: Path, programs: Programs) -> WorkingCopy:
    """Ask svn for the whole working copy that holds `folder`; raises UnavailableError."""
    info = ask_svn(folder, programs, "info", ".")
    top = Path(info.findtext("./entry/wc-info/wcroot-abspath") or folder)
    url = info.findtext("./entry/url") or ""
    below = info.findtext("./entry/relative-url") or ""
    entries = ask_svn(top, programs, "info", "-R", ".").findall("./entry")
    root = next((entry for entry in entries if entry.get("path") == "."), None)
    if root is None:
        raise UnavailableError("svn: the root of the working copy is not known")
    revision = root.get("revision") or ""
    files: list[bytes] = []
    deleted: list[str] = []
    for entry in ask_svn(top, programs, "status", ".").iter("entry"):
        state, path = entry.find("wc-status"), entry.get("path") or ""
        item = "" if state is None else state.get("item")
        if item in _GONE:
            deleted.append(path)
        elif item in _HERE or (state is not None and state.get("props") == "modified"):
            files += _files_at(top, path)
    return WorkingCopy(
        top,
        root.findtext("url") or url.removesuffix(below.removeprefix("^")),
        revision,
        tuple(sorted(set(files))),
        tuple(sorted(deleted)),
        tuple(
            (entry.get("path") or "", entry.get("revision") or "")
            for entry in entries
            if entry.get("revision") not in (revision, None)
            and entry.findtext("wc-info/schedule") == "normal"
        ),
    )


def _files_at(top: Path, path: str) -> Iterator[bytes]:
    whole = os.fsencode(top / path)
    try:
        is_folder = stat.S_ISDIR(os.lstat(whole).st_mode)
    except OSError:
        return
    if not is_folder:
        yield os.fsencode(path)
        return
    for folder, names, files in os.walk(whole):
        names[:] = [name for name in names if name != b".svn"]
        for name in files:
            yield os.path.relpath(os.path.join(folder, name), os.fsencode(top))
