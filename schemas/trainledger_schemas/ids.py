"""Identifiers. 16 random bytes, never derived from a clock; shown as UUID text."""

import os
import uuid
from collections.abc import Callable

__all__ = ["IdSource", "id_bytes", "id_text", "random_id"]

IdSource = Callable[[], bytes]


def random_id() -> bytes:
    """16 random bytes in the form of a version 4 UUID."""
    raw = bytearray(os.urandom(16))
    raw[6] = (raw[6] & 0x0F) | 0x40
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def id_text(raw: bytes) -> str:
    """The UUID text of 16 bytes."""
    return str(uuid.UUID(bytes=raw))


def id_bytes(text: str) -> bytes:
    """The 16 bytes of UUID text; raises ValueError for anything else."""
    return uuid.UUID(text).bytes
