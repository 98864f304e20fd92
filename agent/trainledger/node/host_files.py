"""Files below /proc and /sys that are read again and again, whole."""

import os
from pathlib import Path

__all__ = ["OpenFile"]

READ_BYTES = 16 << 10


class OpenFile:
    """Stays open, and is read with `pread`; b"" when it is missing or cannot be read.

    Where the kernel makes a file of many records, one call gives no more than a page of it, however much is asked for.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    @property
    def is_open(self) -> bool:
        """Whether the file is there."""
        return self._descriptor >= 0

    def read(self, bytes_max: int = 65536) -> bytes:
        """What the file says now."""
        if self._descriptor < 0:
            return b""
        try:
            data = part = os.pread(self._descriptor, min(bytes_max, READ_BYTES), 0)
            while part and len(data) < bytes_max:
                part = os.pread(self._descriptor, min(bytes_max - len(data), READ_BYTES), len(data))
                data += part
            return data
        except OSError:
            return b""

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
