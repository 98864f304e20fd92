"""What an installer is told so that it installs the packages of a run, and nothing else. Pure but for `is_here`.

    from an index                   name==version
    from an address, a repository   that address with its hash, that commit
    from a file or folder           the same one: in the restored code, or where it was, if it has the recorded bytes

A package that was installed from a place is never looked for on an index: another one may have its name there.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from trainledger_schemas.blobs import sha256_of

__all__ = ["Requirements", "is_here", "read_requirements", "usable_lock"]

# They come with every environment, or only look on.
_NOT_INSTALLED = frozenset({"pip", "trainledger"})
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_ADDRESS = re.compile(r"[!-~]+")
_SUBFOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*")
_EDITABLE = "editable file://"
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(slots=True)
class Requirements:
    """`pinned`: one line a package. `editable`, `folders`: folders to install from, editable or by a copy.
    `beside`: editable ones whose modules are restored beside the code. `missing`: what cannot be had, and why."""

    pinned: dict[str, str] = field(default_factory=dict)
    editable: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


IsHere = Callable[[str, str | None], bool]


def is_here(path: str, sha256: str | None) -> bool:
    """Whether a file or folder is there, a file with these bytes where they are known."""
    try:
        return os.path.isdir(path) or (os.path.isfile(path) and sha256 in (None, sha256_of(Path(path))))
    except OSError:
        return False


def read_requirements(provenance: Mapping[str, Any], root: str, exists: IsHere = is_here) -> Requirements:
    """From the recorded packages; `root`: the folder of the restored code."""
    found = Requirements()
    places = provenance.get("outside_places") or ()
    sources, old_root = provenance.get("package_sources") or {}, provenance.get("code_root")
    for name, version in sorted((provenance.get("packages") or {}).items()):
        if name in _NOT_INSTALLED:
            continue
        # What is written into a file of requirements must be a name and a version, and no option or address.
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            found.missing.append(f"package {name[:100]!r}: {version[:100]!r} is no version")
            continue
        source = str(sources.get(name, ""))
        if source.startswith(_EDITABLE):
            folder = _moved(source.removeprefix(_EDITABLE).split(" ")[0], old_root, root)
            where = unquote(source.removeprefix(_EDITABLE).split(" ")[0])
            if folder is None and any(PurePath(place).is_relative_to(where) for place in places):
                found.beside.append(
                    f"package {name}: of {where} the modules alone are restored, without what is installed with them"
                )
            elif folder is None:
                found.missing.append(
                    f"package {name}: editable, from {where}, which is not in the stored code"
                )
            else:
                found.editable[name] = folder
        elif source.startswith("file://") and " git " not in source:
            _take_local(found, name, source.split(" "), (old_root, root), exists)
        elif "[redacted" in source:
            found.missing.append(f"package {name}: its address holds a secret, which was not recorded")
        else:
            found.pinned[name] = _pin(name, version, source)
    return found


def usable_lock(provenance: Mapping[str, Any], *, has_uv: bool) -> str | None:
    """The stored lock file that is installed from: its path, relative to the code. None: from the pinned versions.

    Only one that nothing recorded contradicts: what was installed is what ran."""
    reasons = [str(reason) for reason in provenance.get("reasons") or ()]
    for path in provenance.get("lock_files") or {}:
        if any(reason.startswith(f"lock files: {path} is not what is installed") for reason in reasons):
            continue
        name = PurePath(path).name
        if name.endswith(".txt") or (has_uv and (name == "uv.lock" or name.startswith("pylock"))):
            return str(path)
    return None


def _moved(address: str, old_root: str | None, root: str) -> str | None:
    """Where what an address of a file names lies in the restored code; None outside of it."""
    place = PurePath(unquote(address))
    if old_root is None or ".." in place.parts or not place.is_relative_to(old_root):
        return None
    return str(PurePath(root) / place.relative_to(old_root))


def _take_local(
    found: Requirements, name: str, words: list[str], roots: tuple[str | None, str], exists: IsHere
) -> None:
    """A wheel, a source archive or a folder of this machine."""
    address = words[0].removeprefix("file://").partition("#")[0]
    path = _moved(address, *roots) or unquote(address)
    digest = next((w.partition("=")[2] for w in words[1:] if w.startswith("sha256=")), None)
    if ".." in PurePath(path).parts or not exists(path, digest):
        found.missing.append(
            f"package {name}: installed from {unquote(address)}, which is not here"
            + (f" with SHA-256 {digest}; put it there" if digest else "; put it there")
        )
    elif path.endswith(_ARCHIVES):
        found.pinned[name] = f"{name} @ {PurePath('/', path).as_uri()}"
    else:
        found.folders[name] = path


def _pin(name: str, version: str, source: str) -> str:
    address, *words = source.split(" ")
    try:
        scheme = urlsplit(address).scheme
    except ValueError:
        scheme = ""
    told = dict(word.partition("=")[::2] for word in words if "=" in word)
    folder = told.get("subdirectory", "")
    behind = f"subdirectory={folder}" if _SUBFOLDER.fullmatch(folder) else ""
    if not _ADDRESS.fullmatch(address) or scheme not in ("https", "http", "ssh", "file"):
        return f"{name}=={version}"
    if len(words) > 1 and words[0] == "git" and _COMMIT.fullmatch(words[1]):
        # To pip an address without a host is none behind a name.
        named = "" if scheme == "file" else f"{name} @ "
        return f"{named}git+{address}@{words[1]}{behind and '#' + behind}"
    digest = told.get("sha256", "")
    is_known = re.fullmatch(r"[0-9a-f]{64}", digest) is not None
    # Without a hash, the content is compared afterwards; what came over an open line may be anybody's.
    if (scheme == "https" or (scheme == "http" and is_known)) and words[:1] != ["git"]:
        parts = [f"sha256={digest}"] if is_known else []
        fragment = "&".join(parts + [behind] * bool(behind))
        return f"{name} @ {address.partition('#')[0]}{fragment and '#' + fragment}"
    return f"{name}=={version}"
