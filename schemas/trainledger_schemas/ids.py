"""Identifiers. 16 random bytes, never derived from a clock; shown as UUID text.

Written without the module uuid, which takes 10 ms to load: more than all else that `import trainledger` needs.
"""

import os
import re
from collections.abc import Callable

__all__ = ["IdSource", "id_bytes", "id_text", "random_id"]

IdSource = Callable[[], bytes]

ID_BYTES = 16
_HEX = re.compile(r"[0-9a-fA-F]{32}")


def random_id() -> bytes:
    """16 random bytes in the form of a version 4 UUID."""
    raw = bytearray(os.urandom(ID_BYTES))
    raw[6] = (raw[6] & 0x0F) | 0x40
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def id_text(raw: bytes) -> str:
    """The UUID text of 16 bytes; raises ValueError for another number of bytes."""
    if len(raw) != ID_BYTES:
        raise ValueError(f"an id has {ID_BYTES} bytes, not {len(raw)}")
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_bytes(text: str) -> bytes:
    """The 16 bytes of UUID text, in any form that uuid.UUID reads; raises ValueError for anything else."""
    digits = text.replace("urn:", "").replace("uuid:", "").strip("{}").replace("-", "")
    if not _HEX.fullmatch(digits):
        raise ValueError(f"{text[:80]!r} is no id: it needs 32 hexadecimal digits, as in a UUID")
    return bytes.fromhex(digits)
