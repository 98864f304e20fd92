"""Named, whole objects in a store that many machines share, as S3 has them: what blobs and their removal need.

Guarantees that an implementation gives: an object is there with all its bytes or not at all; what `put_new` or
`remove` has answered, every later `look` and `names` sees (S3 is strongly consistent since 2020).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

__all__ = ["Objects", "OpenUpload", "StoredObject"]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is now; `version` where the store keeps versions."""

    name: str
    size_bytes: int
    changed_us: int
    version: str | None = None


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload in parts that was begun and not ended."""

    name: str
    upload_id: str
    begun_us: int


class Objects(Protocol):
    """A store of objects. All calls block, and raise RetryableSourceError when it cannot be reached or refuses."""

    place: str
    """Where it is, as words for a person and for events; no secrets."""

    def look(self, name: str) -> StoredObject | None:
        """The object of this name, or None."""

    def names(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose names begin so, by name."""

    def open(self, name: str) -> BinaryIO:
        """The bytes of an object as a stream to be closed; raises NotFoundError."""

    def put_new(self, name: str, source: bytes | Path, *, sha256: str) -> bool:
        """Store bytes under a name that is free; False, and nothing is changed, where it is taken.

        Raises CorruptDataError when the bytes do not have this digest, and then stores nothing."""

    def copy_new(self, source: str, name: str) -> bool:
        """The same with the bytes of another object; raises NotFoundError where that is gone."""

    def remove(self, found: StoredObject) -> None:
        """Remove an object as it was seen; harmless when it is gone."""

    def open_uploads(self) -> Iterator[OpenUpload]:
        """Uploads in parts that are not ended."""

    def abort(self, upload: OpenUpload) -> None:
        """Give up an upload; harmless when it has ended."""
