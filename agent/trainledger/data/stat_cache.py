"""Remembers the digests of files by what the file system says of them, so that unchanged ones are not read again.

One row a folder: the fingerprint of all that `lstat` says of what lies in it, what came of it, and the digests of its
files. Guarantees: a digest is given back only where device, inode, size, mtime, ctime and mode are the same as when
the file was hashed, and its ctime was RACY_NS older than the start of that hashing (the racy rule of git: a kernel
stamps times by its tick, a network file system by the second). Limits: a write through a mapping moves no time until
it is written back; a cache of another host or of a network file system without steady inodes is not used (the
caller's decision). What cannot be read or written is as if it were not there.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from .folder_listing import FileKey

__all__ = ["RACY_NS", "KnownFolder", "StatCache", "is_settled"]

RACY_NS = 2_000_000_000
_FORMAT = 2
_ROWS_AT_ONCE = 100


class KnownFolder(NamedTuple):
    """What came of a folder: the digest of the node of its files and links, their bytes and number, the names of
    the folders in it. `fingerprint` None: its files may be known, the folder as a whole is not."""

    fingerprint: bytes | None
    sha256: str
    size_bytes: int
    files: int
    folders: tuple[bytes, ...]


def is_settled(key: FileKey, *, started_ns: int) -> bool:
    """Whether a file's times are old enough, at the start of its hashing, to tell a later change."""
    return max(key.ctime_ns, key.mtime_ns) < started_ns - RACY_NS


class StatCache:
    """The rows of one host; `scope` tells its roots from those of other hosts."""

    def __init__(self, path: Path | None, scope: str) -> None:
        self._scope = scope
        self._connection: sqlite3.Connection | None = None
        self._kept: list[tuple[tuple[object, ...], tuple[object, ...]]] = []
        if path is None:
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=5, isolation_level=None)
            # What a power cut loses of it is hashed again.
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute("DROP TABLE IF EXISTS folders_1")
            # Two tables: a look at all folders must not walk over the digests of their files.
            self._connection.executescript(
                f"CREATE TABLE IF NOT EXISTS folders_{_FORMAT} (scope TEXT, path BLOB, fingerprint BLOB, "
                "sha256 TEXT, size_bytes INTEGER, files INTEGER, folders BLOB, PRIMARY KEY (scope, path)) "
                f"WITHOUT ROWID; CREATE TABLE IF NOT EXISTS contents_{_FORMAT} (scope TEXT, path BLOB, "
                "node BLOB, lines BLOB, PRIMARY KEY (scope, path))"
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

    def folders(self, top: bytes) -> dict[bytes, KnownFolder]:
        """What is known of a folder and of all below it, by path."""
        below = top.rstrip(b"/") + b"/"
        rows = self._rows(
            f"SELECT path, fingerprint, sha256, size_bytes, files, folders FROM folders_{_FORMAT} "
            "WHERE scope = ? AND (path = ? OR path BETWEEN ? AND ?)",
            (self._scope, top, below, below[:-1] + b"0"),
        )
        return {
            path: KnownFolder(fingerprint, sha256, size, files, tuple(folders.split(b"\0")[:-1]))
            for path, fingerprint, sha256, size, files, folders in rows
        }

    def node(self, path: bytes) -> bytes | None:
        """The node of the files and links of a folder that is known."""
        rows = self._rows(
            f"SELECT node FROM contents_{_FORMAT} WHERE scope = ? AND path = ?", (self._scope, path)
        )
        node: bytes | None = rows[0][0] if rows else None
        return node

    def files(self, path: bytes) -> dict[bytes, tuple[FileKey, str]]:
        """The files of a folder that were kept: name to key and SHA-256."""
        rows = self._rows(
            f"SELECT lines FROM contents_{_FORMAT} WHERE scope = ? AND path = ?", (self._scope, path)
        )
        found = {}
        try:
            for line in rows[0][0].split(b"\0")[:-1] if rows else ():
                *numbers, sha256, name = line.split(b" ", 7)
                found[name] = (FileKey(*map(int, numbers)), sha256.decode())
        except (ValueError, TypeError):
            return {}
        return found

    def keep(
        self, path: bytes, folder: KnownFolder, node: bytes, files: Mapping[bytes, tuple[FileKey, str]]
    ) -> None:
        """Remember a folder, its node and those of its files that need not be read again."""
        if self._connection is None:
            return
        lines = b"".join(
            b"%d %d %d %d %d %d %s %s\0" % (*key, sha256.encode(), name)
            for name, (key, sha256) in files.items()
        )
        folders = b"".join(name + b"\0" for name in folder.folders)
        self._kept.append(((self._scope, path, *folder[:4], folders), (self._scope, path, node, lines)))
        if len(self._kept) >= _ROWS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        rows, self._kept = self._kept, []
        if self._connection is None or not rows:
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for number, (table, values) in enumerate(
                (("folders", "?, ?, ?, ?, ?, ?, ?"), ("contents", "?, ?, ?, ?"))
            ):
                self._connection.executemany(
                    f"INSERT OR REPLACE INTO {table}_{_FORMAT} VALUES ({values})",
                    [row[number] for row in rows],
                )
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._give_up()

    def _rows(self, sql: str, values: tuple[object, ...]) -> list[Any]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error:
            self._give_up()
            return []

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
