"""A Subversion working copy: what differs from a checkout of its revision.

A snapshot of it holds the raw bytes of every file that was modified, added or is unversioned; `svn checkout` of the
revision gives the rest. A working copy may be a mix: folders and files at other revisions, of other places in the
repository (switched), or not there at all (a sparse depth); each difference is named. What an `svn:externals` property
brings along is a working copy of its own. svn is asked without network and without prompts.
"""

import base64
import os
import stat
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from .programs import Programs, UnavailableError

__all__ = ["WorkingCopy", "ask_svn", "changes_as_text", "read_working_copy"]

_OPTIONS = ("--non-interactive", "--config-option", "servers:global:http-timeout=5")
# Of paths in one command: a command line has an end.
TARGETS_MAX = 500
_GONE = frozenset({"deleted", "missing", "incomplete"})
_HERE = frozenset({"modified", "added", "replaced", "conflicted", "unversioned", "merged", "obstructed"})


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """Paths are relative to `top`. `new` are those of `files` that are not versioned; `revisions`, `switched` (path to
    address) and `depths` name what is not as at the root; `externals` are working copies inside. `properties`:
    those that were changed, with their new value, None for one that was taken away.
    `described`: what has changed properties, or was deleted.
    """

    top: Path
    url: str
    revision: str
    files: tuple[bytes, ...]
    new: tuple[bytes, ...] = ()
    deleted: tuple[str, ...] = ()
    revisions: tuple[tuple[str, str], ...] = ()
    switched: tuple[tuple[str, str], ...] = ()
    depths: tuple[tuple[str, str], ...] = ()
    externals: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    properties: tuple[tuple[str, str, str | None], ...] = ()


def ask_svn(folder: Path, programs: Programs, *arguments: str) -> ElementTree.Element:
    """What svn says as XML; raises UnavailableError."""
    text = programs.run(["svn", arguments[0], "--xml", *_OPTIONS, *arguments[1:]], folder)
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UnavailableError(f"svn: its answer could not be read: {error}") from error


def changes_as_text(copy: WorkingCopy, programs: Programs, without: Collection[str]) -> bytes:
    """What svn calls changed, contents and properties, for people to read, except for the files `without`."""
    versioned = {os.fsdecode(path) for path in set(copy.files).difference(copy.new)}
    paths = versioned.union(copy.described).difference(without)
    if not paths:
        return b""
    # Of a folder its properties alone. Names as they are: in `diff` an @ at the end is taken for a part of them.
    targets = sorted(paths)[:TARGETS_MAX]
    form = ("--internal-diff", "--show-copies-as-adds", "--depth", "empty")
    return programs.run(["svn", "diff", *_OPTIONS, *form, "--", *targets], copy.top)


def read_working_copy(folder: Path, programs: Programs) -> WorkingCopy:
    """Ask svn for the whole working copy that holds `folder`; raises UnavailableError."""
    info = ask_svn(folder, programs, "info", ".")
    top = Path(info.findtext("./entry/wc-info/wcroot-abspath") or folder)
    entries = ask_svn(top, programs, "info", "-R", ".").findall("./entry")
    root = next((entry for entry in entries if entry.get("path") == "."), None)
    if root is None:
        raise UnavailableError("svn: the root of the working copy is not known")
    files: list[bytes] = []
    new: list[bytes] = []
    deleted: list[str] = []
    externals: list[str] = []
    outside: list[str] = []
    described: list[str] = []
    removed: list[str] = []
    for entry in ask_svn(top, programs, "status", "--ignore-externals", ".").iter("entry"):
        state, path = entry.find("wc-status"), entry.get("path") or ""
        item = "" if state is None else state.get("item")
        if state is not None and state.get("props") == "modified" and item in ("normal", "modified"):
            described.append(path)
        if item == "external":
            # It may lie deeper: svn names the first folder that it made for it.
            new += _files_at(top, path, externals, whole=True)
        elif item in _GONE:
            deleted.append(path)
            # Of what is missing without svn's doing it can tell no difference.
            removed += [path] if item == "deleted" else []
        elif item in _HERE or (state is not None and state.get("file-external")):
            # A working copy inside that nobody registered is one like an external.
            here = list(_files_at(top, path, externals, whole=item != "normal"))
            files += here
            new += here if item == "unversioned" else []
            outside += [path] if item != "modified" else []
    old = [entry for entry in entries if _is_old(entry, outside)]
    return WorkingCopy(
        top,
        root.findtext("url") or "",
        root.get("revision") or "",
        tuple(sorted({*files, *new})),
        tuple(sorted(set(new))),
        tuple(sorted(deleted)),
        _other_revisions(old, root),
        _other_places(old, root),
        tuple((entry.get("path") or "", depth) for entry in old if (depth := _depth(entry)) != "infinity"),
        tuple(sorted(externals)),
        (*described, *removed),
        _changed_properties(top, described, programs),
    )


def _changed_properties(
    top: Path, paths: Sequence[str], programs: Programs
) -> tuple[tuple[str, str, str | None], ...]:
    """Of the first TARGETS_MAX files with changed properties those that differ."""
    if not paths:
        return ()
    targets = [_target(path) for path in sorted(paths)[:TARGETS_MAX]]
    now = _properties(ask_svn(top, programs, "proplist", "-v", *targets))
    before = _properties(ask_svn(top, programs, "proplist", "-v", "-r", "BASE", *targets))
    return tuple(
        (path, name, now.get((path, name)))
        for path, name in sorted({*now, *before})
        if now.get((path, name)) != before.get((path, name))
    )


def _properties(told: ElementTree.Element) -> dict[tuple[str, str], str]:
    found = {}
    for target in told.iter("target"):
        for item in target.iter("property"):
            value = item.text or ""
            if item.get("encoding") == "base64":
                value = base64.b64decode(value).decode("utf-8", "surrogateescape")
            found[target.get("path") or "", item.get("name") or ""] = value
    return found


def _is_old(entry: ElementTree.Element, outside: Sequence[str]) -> bool:
    """Whether a checkout brings it: what was added, and all below it, only the snapshot has."""
    path = entry.get("path") or ""
    is_normal = entry.findtext("wc-info/schedule") in ("normal", "delete")
    return is_normal and not any(path == place or path.startswith(f"{place}/") for place in outside)


def _depth(entry: ElementTree.Element) -> str:
    return (entry.findtext("wc-info/depth") or "infinity") if entry.get("kind") == "dir" else "infinity"


def _other_revisions(
    entries: Sequence[ElementTree.Element], root: ElementTree.Element
) -> tuple[tuple[str, str], ...]:
    """What is at another revision than the folder that it is in."""
    known = {".": root.get("revision") or ""}
    found = []
    for entry in sorted(entries, key=lambda e: (e.get("path") or "").split("/")):
        path, revision = entry.get("path") or "", entry.get("revision") or ""
        known[path] = revision
        if revision and revision != known.get(os.path.dirname(path) or ".", known["."]):
            found.append((path, revision))
    return tuple(found)


def _other_places(
    entries: Sequence[ElementTree.Element], root: ElementTree.Element
) -> tuple[tuple[str, str], ...]:
    """What comes from another address than its place in the working copy says."""
    known = {".": root.findtext("url") or ""}
    found = []
    for entry in sorted(entries, key=lambda e: (e.get("path") or "").split("/")):
        path, url = entry.get("path") or "", entry.findtext("url") or ""
        known[path] = url
        above = known.get(os.path.dirname(path) or ".")
        if path != "." and above is not None and unquote(url) != f"{unquote(above)}/{os.path.basename(path)}":
            found.append((path, url))
    return tuple(found)


def _target(path: str) -> str:
    # svn reads what stands behind an @ as a revision.
    return f"{path}@" if "@" in path else path


def _files_at(top: Path, path: str, inner: list[str], *, whole: bool) -> Iterator[bytes]:
    """The file, or where `whole` all files of the folder; working copies in it are added to `inner` instead."""
    place = os.fsencode(top / path)
    try:
        is_folder = stat.S_ISDIR(os.lstat(place).st_mode)
    except OSError:
        return
    if not is_folder:
        yield os.fsencode(path)
        return
    for folder, names, files in os.walk(place) if whole else ():
        relative = os.fsdecode(os.path.relpath(folder, os.fsencode(top)))
        if b".svn" in names and relative not in inner:
            inner.append(relative)
            names[:] = []
            continue
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(folder, name), os.fsencode(top))
