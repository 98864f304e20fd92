"""Which distributions are on the training's module path: version, content id, and where they were installed from.

Read from the metadata on disk; nothing is imported and no installer is started. A content id is what the installer
wrote down; `find_changed` compares it with the files that are there.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from trainledger_schemas.clock import Clock
from trainledger_schemas.package_content import RecordEntry, content_entries, content_id

from ..redaction import clean_url, redact
from .settings import PACKAGES_MAX

__all__ = ["Packages", "canonical_name", "find_changed", "read_packages"]

_VERSION_CHARS_MAX = 100
_NAME_CHARS_MAX = 200
_SOURCE_CHARS_MAX = 500
_BLOCK_BYTES = 1 << 20
# RECORD is what an installer writes last; file systems and archives may cut times to two seconds.
_SETTLED_NS = 2 * 10**9


@dataclass(slots=True)
class Packages:
    """By canonical name. `records`: the RECORD files that content ids come from; `changed`: packages whose files are
    not those of their RECORD."""

    versions: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    records: dict[str, Path] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def contents(self) -> dict[str, str]:
        """What stands for all of them together: content ids, versions where there is none; empty where a package is
        neither what its version nor what its content id says."""
        if self.changed or not self.ids:
            return {}
        return {name: self.ids.get(name, f"version {version}") for name, version in self.versions.items()}


def read_packages(sys_path: Sequence[str], cwd: Path) -> Packages:
    """The distributions on a module path; the first of a name wins, as in an import."""
    found = Packages()
    unreadable = 0
    for distribution in metadata.distributions(path=[str(cwd / entry) for entry in sys_path]):
        try:
            # Typed as texts, but None when the fields are missing.
            name: str | None = distribution.metadata["Name"]
            version: str | None = distribution.version
        except Exception:  # a damaged installation raises whatever its bytes provoke; the others still count
            unreadable += 1
            continue
        if name is None or version is None:
            unreadable += 1
        elif len(found.versions) < PACKAGES_MAX and canonical_name(name) not in found.versions:
            key = canonical_name(name)
            found.versions[key] = version[:_VERSION_CHARS_MAX]
            _add_content(found, key, distribution)
    if unreadable:
        found.reasons.append(f"packages: {unreadable} have metadata that cannot be read")
    if len(found.versions) >= PACKAGES_MAX:
        found.reasons.append(f"packages: only the first {PACKAGES_MAX} are listed")
    return found


def find_changed(packages: Packages, *, clock: Clock, end_ns: int) -> list[str]:
    """Take away the ids of packages whose files are not those of their RECORD any more; returns the reasons.

    A file is read when its size differs or it is newer than RECORD. At `end_ns` (monotonic) the rest is believed."""
    reasons = []
    for count, (name, path) in enumerate(sorted(packages.records.items())):
        if clock.monotonic_ns() > end_ns:
            left = len(packages.records) - count
            reasons.append(f"packages: the files of {left} were not compared with what was installed")
            break
        changed = _changed_files(path)
        if changed:
            del packages.ids[name]
            packages.changed.append(name)
            more = f" and {len(changed) - 1} more files" if len(changed) > 1 else ""
            reasons.append(f"packages: {name} was changed after it was installed: {changed[0]}{more}")
    return reasons


def canonical_name(name: str) -> str:
    """Lower case, words joined by `-`: two spellings of one distribution are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()[:_NAME_CHARS_MAX]


def _add_content(found: Packages, name: str, distribution: metadata.Distribution) -> None:
    try:
        record, origin = distribution.read_text("RECORD"), distribution.read_text("direct_url.json")
        source, is_editable = _source(json.loads(origin)) if origin else (None, False)
    except Exception:  # as above: what its bytes provoke
        return
    if source is not None:
        found.sources[name] = source
    identity = content_id(record) if record and not is_editable else None
    folder = getattr(distribution, "_path", None)
    if identity is not None and isinstance(folder, Path):
        found.ids[name] = identity
        found.records[name] = folder / "RECORD"


def _source(origin: dict[str, object]) -> tuple[str, bool]:
    """What direct_url.json (PEP 610) says, on one line; and whether the package is editable."""
    url = redact(clean_url(str(origin.get("url"))))
    parts, is_editable = [url], False
    for kind in ("vcs_info", "archive_info", "dir_info"):
        told = origin.get(kind)
        if isinstance(told, dict):
            is_editable = kind == "dir_info" and told.get("editable") is True
            parts += [str(told[key]) for key in ("vcs", "commit_id") if key in told]
            parts += [f"{key}={value}" for key, value in sorted((told.get("hashes") or {}).items())]
    if isinstance(origin.get("subdirectory"), str):
        parts.append(f"subdirectory={quote(str(origin['subdirectory']))}")
    return " ".join((["editable"] if is_editable else []) + parts)[:_SOURCE_CHARS_MAX], is_editable


def _changed_files(record: Path) -> list[str]:
    root = record.parent.parent
    try:
        settled_ns = record.stat().st_mtime_ns + _SETTLED_NS
        entries = list(content_entries(record.read_text(encoding="utf-8", errors="surrogateescape")))
    except OSError:
        return ["RECORD"]
    return [redact(entry.path) for entry in entries if _is_changed(root, entry, settled_ns)]


def _is_changed(root: Path, entry: RecordEntry, settled_ns: int) -> bool:
    path = os.path.join(root, entry.path)
    try:
        status = os.stat(path)
        if entry.size_bytes is not None and status.st_size != entry.size_bytes:
            return True
        if status.st_mtime_ns <= settled_ns:
            return False
        kind, _, expected = entry.hash.partition("=")
        digest = hashlib.new(kind)
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except (OSError, ValueError):  # gone, or a hash that this Python does not know
        return True
    return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=") != expected
