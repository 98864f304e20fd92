"""Which partition a key belongs to: the first 8 bytes of SHA-256(key), modulo N.

N is fixed for the life of a topic name and stored with it. A topic that must grow gets a new name: were N
changed in place, one run's events would stand in two partitions, read in no order, and per-journal positions
would be kept twice.
"""

import hashlib

__all__ = ["partition_of"]


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions` (at least 1)."""
    if partitions < 1:
        raise ValueError(f"a topic has at least 1 partition, not {partitions}")
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % partitions
