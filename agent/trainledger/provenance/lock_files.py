"""Lock files near the code of a run: found, stored as blobs, and compared with what is installed.

Looked for in the folder of the code and above it, up to the top of the repository. Guarantees: the bytes that are
stored are those that were compared; a file that holds what looks like a secret is not stored, and named. Limits:
LOCK_FILES_MAX files of LOCK_BYTES_MAX; lock files in YAML are stored and not compared (the standard library has no
reader for them).
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.blobs import BlobStore

from ..redaction import redact
from .packages import canonical_name
from .withholding import holds_secret

__all__ = ["LockFiles", "find_lock_files", "locked_versions", "store_lock_files"]

LOCK_FILES_MAX = 10
LOCK_BYTES_MAX = 20 << 20
FOLDERS_MAX = 8
DIFFERENCES_TOLD_MAX = 3
# In the order in which they say what was meant to be installed.
_NAMES = (
    "uv.lock pylock.toml poetry.lock pdm.lock Pipfile.lock conda-lock.yml pixi.lock requirements.txt".split()
)
_PATTERN = re.compile(
    r"pylock\.[^.]+\.toml|[^/]*conda-lock\.ya?ml|requirements[^/]*\.txt|[^/]*requirements\.txt"
)
_TOPS = (".git", ".hg", ".svn")
_PIN = re.compile(r"(?m)^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*(?P<version>[^\s;\\]+)")


@dataclass(slots=True)
class LockFiles:
    """`stored`: path relative to the code's folder -> SHA-256, the one that comes first first."""

    stored: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def first(self) -> str | None:
        """The digest of the one that comes first."""
        return next(iter(self.stored.values()), None)


def find_lock_files(folder: Path, home: Path) -> list[Path]:
    """The nearest folder's first; `home` and what is above it are nobody's project."""
    found: list[Path] = []
    for place in [folder, *folder.parents][:FOLDERS_MAX]:
        if place in (home, *home.parents):
            break
        try:
            names = os.listdir(place)
        except OSError:
            break
        locks = [name for name in names if name in _NAMES or _PATTERN.fullmatch(name)]
        found += [place / name for name in sorted(locks, key=_rank)]
        if any(name in names for name in _TOPS):
            break
    return found


def store_lock_files(folder: Path, home: Path, installed: Mapping[str, str], blobs: BlobStore) -> LockFiles:
    """Store those near `folder` and say where `installed` (canonical name to version) differs; never raises."""
    result = LockFiles()
    for path in find_lock_files(folder, home):
        name = os.path.relpath(path, folder)
        if len(result.stored) >= LOCK_FILES_MAX:
            result.reasons.append(f"lock files: only the first {LOCK_FILES_MAX} are stored")
            break
        try:
            data = path.read_bytes() if path.stat().st_size <= LOCK_BYTES_MAX else None
            text = "" if data is None else data.decode("utf-8", "replace")
            if path.suffix == ".txt" and "--hash" not in text:
                continue  # a list of wishes, not of what was resolved
            if data is None:
                result.reasons.append(f"lock files: {name} is larger than {LOCK_BYTES_MAX >> 20} MiB")
            elif holds_secret(path.name, text):
                result.reasons.append(
                    f"lock files: {redact(name)} holds what looks like a secret; it is not stored"
                )
            else:
                result.stored[redact(name)] = blobs.put(data).sha256
                result.reasons += _differences(name, locked_versions(path.name, text), installed)
        except OSError as error:
            result.reasons.append(redact(f"lock files: {name}: {error.strerror}"))
    return result


def locked_versions(name: str, text: str) -> dict[str, set[str]]:
    """Canonical name to the versions that a lock file allows (several by platform); empty where it cannot be read."""
    versions: dict[str, set[str]] = {}
    try:
        for package, version in _locked(name, text):
            versions.setdefault(canonical_name(package), set()).add(version)
    except (ValueError, TypeError, AttributeError, KeyError):  # written by hand, or of a later form
        return {}
    return versions


def _locked(name: str, text: str) -> Iterator[tuple[str, str]]:
    if name.endswith((".lock", ".toml")) and name not in ("Pipfile.lock", "pixi.lock"):
        told = tomllib.loads(text)
        for entry in told.get("package") or told.get("packages") or ():
            if "version" in entry:
                yield str(entry["name"]), str(entry["version"])
    elif name == "Pipfile.lock":
        for entry, details in (json.loads(text).get("default") or {}).items():
            yield entry, str(details.get("version", "")).removeprefix("==")
    elif name.endswith(".txt"):
        for match in _PIN.finditer(text):
            yield match["name"], match["version"]


def _differences(name: str, locked: Mapping[str, set[str]], installed: Mapping[str, str]) -> list[str]:
    other = [
        f"{package} {' or '.join(sorted(locked[package]))} is locked, {installed[package]} is installed"
        for package in sorted(locked.keys() & installed.keys())
        if installed[package] not in locked[package]
    ]
    if not other:
        return []
    more = f"; {len(other) - DIFFERENCES_TOLD_MAX} more" if len(other) > DIFFERENCES_TOLD_MAX else ""
    return [
        f"lock files: {redact(name)} is not what is installed: {'; '.join(other[:DIFFERENCES_TOLD_MAX])}{more}"
    ]


def _rank(name: str) -> tuple[int, str]:
    return (_NAMES.index(name) if name in _NAMES else len(_NAMES), name)
