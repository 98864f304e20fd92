"""Remembers the digests of files by what the file system says of them, so that unchanged ones are not read again.

One row a folder: the fingerprint of all that `lstat` says of its files, and their digests. Guarantees: a digest is
given back only where device, inode, size, mtime, ctime and mode are the same as when the file was hashed, and its
ctime was RACY_NS older than the start of that hashing (the racy rule of git: a kernel stamps times by its tick, a
network file system by the second). Limits: a write through a mapping moves no time until it is written back; a
cache of another host or of a network file system without steady inodes is not used (the caller's decision).
What cannot be read or written is as if it were not there.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

__all__ = ["RACY_NS", "FileKey", "StatCache", "is_settled"]

RACY_NS = 2_000_000_000
_FORMAT = 1
_ROWS_AT_ONCE = 100


class FileKey(NamedTuple):
    """What must be equal for a file to be taken as unchanged."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    mode: int


def is_settled(key: FileKey, *, started_ns: int) -> bool:
    """Whether a file's times are old enough, at the start of its hashing, to tell a later change."""
    return max(key.ctime_ns, key.mtime_ns) < started_ns - RACY_NS


class StatCache:
    """The rows of one host; `scope` tells its roots from those of other hosts."""

    def __init__(self, path: Path | None, scope: str) -> None:
        self._scope = scope
        self._connection: sqlite3.Connection | None = None
        self._kept: list[tuple[str, bytes, bytes | None, bytes, bytes]] = []
        if path is None:
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=5, isolation_level=None)
            # What a power cut loses of it is hashed again.
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS folders_{_FORMAT} (scope TEXT, path BLOB, fingerprint BLOB, "
                "node BLOB, files BLOB, PRIMARY KEY (scope, path)) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error):
            self._give_up()

    def __enter__(self) -> "StatCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._give_up()

    def same_folder(self, path: bytes, fingerprint: bytes) -> bytes | None:
        """What was kept with `keep` for a folder whose files all have the same keys; else None."""
        row = self._row(path, "fingerprint, node")
        return row[1] if row is not None and row[0] == fingerprint else None

    def files(self, path: bytes) -> dict[bytes, tuple[FileKey, str]]:
        """The files of a folder that were kept: name to key and SHA-256."""
        row = self._row(path, "files")
        if row is None:
            return {}
        found = {}
        try:
            for line in row[0].split(b"\0")[:-1]:
                *numbers, sha256, name = line.split(b" ", 7)
                found[name] = (FileKey(*map(int, numbers)), sha256.decode())
        except (ValueError, TypeError):
            return {}
        return found

    def keep(
        self, path: bytes, fingerprint: bytes | None, node: bytes, files: Mapping[bytes, tuple[FileKey, str]]
    ) -> None:
        """Remember a folder; `fingerprint` None: its files one by one, never the folder as a whole."""
        if self._connection is None:
            return
        lines = b"".join(
            b"%d %d %d %d %d %d %s %s\0" % (*key, sha256.encode(), name)
            for name, (key, sha256) in files.items()
        )
        self._kept.append((self._scope, path, fingerprint, node, lines))
        if len(self._kept) >= _ROWS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        rows, self._kept = self._kept, []
        if self._connection is None or not rows:
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                f"INSERT OR REPLACE INTO folders_{_FORMAT} VALUES (?, ?, ?, ?, ?)", rows
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._give_up()

    def _row(self, path: bytes, columns: str) -> tuple[bytes, ...] | None:
        if self._connection is None:
            return None
        try:
            found: tuple[bytes, ...] | None = self._connection.execute(
                f"SELECT {columns} FROM folders_{_FORMAT} WHERE scope = ? AND path = ?", (self._scope, path)
            ).fetchone()
        except sqlite3.Error:
            self._give_up()
            return None
        return found

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
