"""Objects in memory with the promises of S3 and no more, and actors on them that take turns at every call.

A listing is not one moment: each name is looked for when its turn comes. Whoever is at turn is chosen from outside, so
that a test decides, call by call, how writers and collections meet; an actor can be killed between any two calls.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from trainledger_schemas.errors import CorruptDataError, NotFoundError
from trainledger_schemas.objects import OpenUpload, StoredObject

__all__ = ["Actor", "Killed", "MemoryObjects"]

Gate = Callable[[], None]


class Killed(BaseException):
    """Thrown into an actor that is killed."""


class MemoryObjects:
    """The objects; `through(gate)` is the same store as an actor sees it."""

    place = "memory"

    def __init__(self) -> None:
        self.data: dict[str, tuple[bytes, int]] = {}
        self.uploads: list[OpenUpload] = []
        self.now_us = 0
        self._gate: Gate = lambda: None

    def through(self, gate: Gate) -> "MemoryObjects":
        seen = MemoryObjects.__new__(MemoryObjects)
        seen.__dict__ = dict(self.__dict__)
        seen._gate = gate
        seen._top = self
        return seen

    _top: "MemoryObjects | None" = None

    def _now(self) -> int:
        return (self._top or self).now_us

    def look(self, name: str) -> StoredObject | None:
        self._gate()
        return self._seen(name)

    def names(self, prefix: str) -> Iterator[StoredObject]:
        last = ""
        while True:
            self._gate()
            later = [name for name in self.data if name.startswith(prefix) and name > last]
            if not later:
                return
            last = min(later)
            found = self._seen(last)
            assert found is not None
            yield found

    def open(self, name: str) -> BinaryIO:
        self._gate()
        if name not in self.data:
            raise NotFoundError(f"{name} is not there")
        return io.BytesIO(self.data[name][0])

    def put_new(self, name: str, source: bytes | Path, *, sha256: str) -> bool:
        data = source if isinstance(source, bytes) else source.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptDataError(f"{name} would have other bytes")
        self._gate()
        if name in self.data:
            return False
        self.data[name] = (data, self._now())
        return True

    def copy_new(self, source: str, name: str) -> bool:
        self._gate()
        if source not in self.data:
            raise NotFoundError(f"{source} is not there")
        if name in self.data:
            return False
        self.data[name] = (self.data[source][0], self._now())
        return True

    def remove(self, found: StoredObject) -> None:
        self._gate()
        self.data.pop(found.name, None)

    def open_uploads(self) -> Iterator[OpenUpload]:
        self._gate()
        yield from list(self.uploads)

    def abort(self, upload: OpenUpload) -> None:
        self._gate()
        if upload in self.uploads:
            self.uploads.remove(upload)

    def _seen(self, name: str) -> StoredObject | None:
        if name not in self.data:
            return None
        data, changed_us = self.data[name]
        return StoredObject(name, len(data), changed_us)


class Actor:
    """Runs `work(gate)` in a thread that stops at every gate until `turn` lets it go on to the next."""

    def __init__(self, work: Callable[[Gate], None]) -> None:
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._is_killed = False
        self.is_done = False
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def turn(self) -> None:
        """Let it go on to its next gate, or to its end."""
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        """End it where it stands."""
        if not self.is_done:
            self._is_killed = True
            self._go.release()
        self._thread.join()

    def _gate(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self._is_killed:
            raise Killed

    def _run(self, work: Callable[[Gate], None]) -> None:
        try:
            self._gate()
            work(self._gate)
        except Killed:
            pass
        except Exception as error:  # told to whoever gives the turn
            self.error = error
        finally:
            self.is_done = True
            self._stopped.release()
