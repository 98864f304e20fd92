"""Records that a kill cut in the middle, found by a reader of its own, from the drawing in docs/formats.md."""

import struct
import zlib
from pathlib import Path

__all__ = ["count_torn"]

HEADER_BYTES = 128
RESIDUE = 0x2144DF1C


def count_torn(journals: Path) -> int:
    """Journals below `journals` whose written part ends in a record that fails its CRC."""
    folders = {path.parent for path in journals.glob("*/*/*.tlj")}
    return sum(_is_torn(max(folder.glob("*.tlj")).read_bytes()) for folder in folders)


def _is_torn(segment: bytes) -> bool:
    at = HEADER_BYTES
    while at + 4 <= len(segment):
        size = (struct.unpack_from("<I", segment, at)[0] & 0xFFFF) * 4
        if size == 0:
            # A copy begins at the head; bytes behind a missing one cannot be.
            return False
        if at + size > len(segment) or zlib.crc32(segment[at : at + size], RESIDUE) != RESIDUE:
            return True
        at += size
    return False
