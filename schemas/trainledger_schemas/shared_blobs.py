"""Blobs in a store that many machines share, safe beside a garbage collection that runs at any time.

    sha256/ab/<64 digits>        a blob; where that name is condemned, sha256/ab/<64 digits>.1, then .2 ...
    condemned/<64 digits>[.n]    a mark: this name is given up for ever, its object may be removed at any time
    uploaders/<UUID>             JSON {"node"}: a spool whose events name blobs here; a collection must know them all

A name that bears a mark is never written again, so a removal that comes late, by whoever it was begun, can only meet
what nobody relies on. A writer first has the event that names the blob in the log, then asks for the mark, then for
the object; whoever removes reads the log after the mark was set (`docs/adr/0008-garbage.md` has the proof).
"""

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from .blobs import BLOCK_BYTES, BlobRef, sha256_of
from .errors import CorruptDataError, NotFoundError, RetryableSourceError
from .objects import Objects, StoredObject

__all__ = [
    "BLOBS",
    "MARKS",
    "UPLOADERS",
    "Generation",
    "MarksLooked",
    "SharedBlobs",
    "blob_name",
    "mark_name",
    "parse_blob_name",
    "register_uploader",
]

BLOBS = "sha256/"
MARKS = "condemned/"
UPLOADERS = "uploaders/"
# Each generation was condemned once; more would be a fault.
GENERATIONS_MAX = 1000
# What looks at more marks than this lists them all, a thousand a request, where there are not very many.
MARKS_LISTED_FROM = 64
MARKS_LISTED_MAX = 100_000
DOCUMENT_BYTES_MAX = 1 << 30
_NAME = re.compile(r"sha256/([0-9a-f]{2})/((?:\1)[0-9a-f]{62})(?:\.([1-9]\d{0,3}))?")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Generation = tuple[str, int]
"""A digest, and how often its names before were condemned."""


def blob_name(sha256: str, generation: int = 0) -> str:
    """The name of a blob; raises CorruptDataError when the digest is none."""
    if not _DIGEST.fullmatch(sha256):
        raise CorruptDataError(f"{sha256[:80]!r} is no SHA-256 in hexadecimal digits")
    return f"{BLOBS}{sha256[:2]}/{sha256}" + (f".{generation}" if generation else "")


def mark_name(sha256: str, generation: int = 0) -> str:
    """The name of the mark of a blob's name."""
    return MARKS + blob_name(sha256, generation).rpartition("/")[2]


def parse_blob_name(name: str) -> Generation | None:
    """What a name is of; None for anything else."""
    found = _NAME.fullmatch(name)
    return None if found is None else (found[2], int(found[3] or 0))


def register_uploader(objects: Objects, producer_id: str, node_id: str) -> None:
    """Say in the store whose events name blobs there, before the first of them is stored. A repeat is harmless."""
    data = json.dumps({"node": node_id}).encode()
    objects.put_new(f"{UPLOADERS}{producer_id}", data, sha256=hashlib.sha256(data).hexdigest())


class MarksLooked:
    """Whether names are condemned, as it was after this was made: make it when the event is in the log.

    For one event or a few, by any number of threads. Of many names the marks are listed once."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._asked = 0
        self._listed: frozenset[str] | None = None

    def is_condemned(self, sha256: str, generation: int) -> bool:
        """Whether this name bears a mark; raises RetryableSourceError."""
        name = mark_name(sha256, generation)
        with self._lock:
            self._asked += 1
            if self._asked == MARKS_LISTED_FROM:
                found = [item.name for item in islice(self._objects.names(MARKS), MARKS_LISTED_MAX + 1)]
                self._listed = frozenset(found) if len(found) <= MARKS_LISTED_MAX else None
        return self._objects.look(name) is not None if self._listed is None else name in self._listed


class SharedBlobs:
    """See BlobStore. Bytes are checked on every read."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.place = objects.place

    def put(self, data: bytes) -> BlobRef:
        """See BlobStore."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.keep(data, sha256, len(data))
        return BlobRef(sha256, len(data))

    def put_file(self, path: Path) -> BlobRef:
        """See BlobStore."""
        ref = BlobRef(sha256_of(path), path.stat().st_size)
        self.keep(path, ref.sha256, ref.size_bytes)
        return ref

    def keep(
        self,
        source: bytes | Path,
        sha256: str,
        size_bytes: int,
        *,
        marks: MarksLooked | None = None,
        looks_first: bool = True,
    ) -> int:
        """See that a blob is there under a name that is not condemned; how many bytes had to be sent.

        The event that names it must be in the log before, and before `marks` were made. `looks_first` False saves a
        request for a blob that is new, and sends one that is there in vain. Raises CorruptDataError when the bytes
        are others."""
        marks = marks or MarksLooked(self._objects)
        for generation in range(GENERATIONS_MAX):
            if marks.is_condemned(sha256, generation):
                continue
            name = blob_name(sha256, generation)
            found = self._objects.look(name) if looks_first else None
            if found is None:
                if self._objects.put_new(name, source, sha256=sha256):
                    return size_bytes
                found = self._objects.look(name)
            if found is not None and found.size_bytes == size_bytes:
                return 0
            raise CorruptDataError(
                f"{name} in {self.place} has {found.size_bytes if found else 'no'} bytes, not {size_bytes}: remove it "
                "there by the tools of the store, and it is sent again"
            )
        raise CorruptDataError(f"{blob_name(sha256)} in {self.place} was condemned {GENERATIONS_MAX} times")

    def revive(self, sha256: str) -> bool:
        """Whether a blob that is not at hand here is kept there; one that is condemned is copied under a new name."""
        kept = self._holder(sha256)
        if kept is None:
            return False
        for generation in range(GENERATIONS_MAX):
            if self._objects.look(mark_name(sha256, generation)) is not None:
                continue
            name = blob_name(sha256, generation)
            if self._objects.look(name) is not None:
                return True
            try:
                self._objects.copy_new(kept.name, name)
            except NotFoundError:
                return False
            return self._objects.look(name) is not None
        return False

    def is_kept(self, sha256: str, size_bytes: int) -> bool:
        """Whether it is there whole under a name that is not condemned."""
        for generation in range(GENERATIONS_MAX):
            if self._objects.look(mark_name(sha256, generation)) is None:
                found = self._objects.look(blob_name(sha256, generation))
                return found is not None and found.size_bytes == size_bytes
        return False

    def has(self, sha256: str) -> bool:
        """See BlobSource."""
        return self._holder(sha256) is not None

    def read(self, sha256: str) -> bytes:
        """See BlobSource. For documents: at most DOCUMENT_BYTES_MAX."""
        sink = io.BytesIO()
        for block in self._blocks(sha256):
            if sink.tell() > DOCUMENT_BYTES_MAX:
                raise CorruptDataError(f"the blob sha256:{sha256} is too large to be read at once")
            sink.write(block)
        return sink.getvalue()

    def copy_to(self, sha256: str, target: Path) -> None:
        """See BlobSource."""
        with target.open("xb") as sink:
            try:
                for block in self._blocks(sha256):
                    sink.write(block)
                sink.flush()
            except BaseException:
                # Also for KeyboardInterrupt: half a file must not look like a whole one.
                target.unlink()
                raise

    def _blocks(self, sha256: str) -> Iterator[bytes]:
        name, opened = self._opened(sha256)
        digest = hashlib.sha256()
        size = 0
        try:
            with opened as source:
                while block := source.read(BLOCK_BYTES):
                    digest.update(block)
                    size += len(block)
                    yield block
        except OSError as error:
            raise RetryableSourceError(f"{name} in {self.place} could not be read: {error}") from error
        if digest.hexdigest() != sha256:
            raise CorruptDataError(
                f"{name} in {self.place} is damaged: its {size} bytes have the SHA-256 {digest.hexdigest()}; "
                "remove it there, and it is sent again by a machine that has it, or take it from a backup"
            )

    def _opened(self, sha256: str) -> tuple[str, BinaryIO]:
        name = blob_name(sha256)
        try:
            return name, self._objects.open(name)
        except NotFoundError:
            pass
        for is_last in (False, True):
            found = self._holder(sha256)
            if found is None:
                break
            try:
                return found.name, self._objects.open(found.name)
            except NotFoundError:
                # It was condemned and removed just now; where it is needed it has a new name.
                if is_last:
                    raise
        raise NotFoundError(f"{self.place} has no blob sha256:{sha256}")

    def _holder(self, sha256: str) -> StoredObject | None:
        """An object of these bytes, condemned or not: to be read it only has to be there."""
        found = self._objects.look(blob_name(sha256))
        if found is not None:
            return found
        others = self._objects.names(f"{blob_name(sha256)}.")
        return next((item for item in others if parse_blob_name(item.name)), None)
