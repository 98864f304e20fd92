"""The content id of a Python distribution: what is in it, whoever installed it. Pure.

SHA-256 in hexadecimal digits over the lines `path hash` of its RECORD, sorted, each ended by a newline, in UTF-8; hash
as it stands there: `sha256=` and unpadded URL-safe base64. Left out is what an installer adds or moves out of
site-packages: RECORD and its signatures, INSTALLER, REQUESTED, direct_url.json and uv's notes in the .dist-info folder,
compiled files, scripts, headers and data. So the id is the same after pip, after uv, and for the RECORD inside the
wheel itself; two builds of one version have different ids.
"""

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import CorruptDataError

__all__ = ["RecordEntry", "content_entries", "content_id", "wheel_content_id"]

_NOTES = frozenset(
    "RECORD RECORD.jws RECORD.p7s INSTALLER REQUESTED direct_url.json uv_cache.json uv_build.json".split()
)
_IN_PLACE = ("purelib", "platlib")


class RecordEntry(NamedTuple):
    """A file as RECORD has it: path relative to the folder of the .dist-info, hash, size in bytes if it says so."""

    path: str
    hash: str
    size_bytes: int | None


def content_id(record: str) -> str | None:
    """The id from the text of a RECORD, of an installation or of a wheel; None where it cannot identify the content
    (no file is listed, or one has no hash)."""
    entries = list(content_entries(record))
    if not entries or any(not entry.hash for entry in entries):
        return None
    lines = sorted(f"{entry.path} {entry.hash}\n" for entry in entries)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def content_entries(record: str) -> Iterator[RecordEntry]:
    """The files that count, under the paths that they have once installed."""
    try:
        for row in csv.reader(io.StringIO(record)):
            path = _place(row[0]) if row else None
            if path is not None:
                told = [*row[1:3], "", ""]
                yield RecordEntry(path, told[0], int(told[1]) if told[1].isdigit() else None)
    except csv.Error:
        yield RecordEntry("RECORD", "", None)  # one that cannot be read identifies nothing


def wheel_content_id(wheel: Path) -> str | None:
    """The id of what a wheel would install. Raises CorruptDataError when the file is no wheel, and OSError."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
            if len(names) != 1 or names[0].count("/") != 1:
                raise CorruptDataError(f"{wheel} has no RECORD: it is no wheel")
            return content_id(archive.read(names[0]).decode("utf-8", "surrogateescape"))
    except zipfile.BadZipFile as error:
        raise CorruptDataError(f"{wheel} is no wheel: {error}") from error


def _place(path: str) -> str | None:
    """Where a file lies below site-packages; None for one that does not count."""
    if path.startswith(("../", "/")) or path.endswith(".pyc"):
        return None
    folder, _, rest = path.partition("/")
    if folder.endswith(".dist-info") and rest in _NOTES:
        return None
    if folder.endswith(".data") and rest:
        # As in a wheel: an installer spreads these over the scheme's folders.
        kind, _, inner = rest.partition("/")
        return inner if kind in _IN_PLACE else None
    return path
