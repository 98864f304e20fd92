"""Many blobs to new files, side by side: from S3 each is some round trips of waiting.

Every file has the digest that was asked for or is not there. Limits: FETCHES_AT_ONCE files; a file whose connection
breaks is begun again, FETCH_TRIES in all.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.daemon_pool import DaemonPool
from trainledger_schemas.errors import NotFoundError, RetryableError

__all__ = ["FETCHES_AT_ONCE", "Wanted", "fetch", "fetch_all"]

FETCHES_AT_ONCE = 16
FETCH_TRIES = 3


class Wanted(NamedTuple):
    """A blob, and the new file that it goes to."""

    sha256: str
    target: Path


def fetch(blobs: BlobSource, wanted: Wanted) -> Wanted:
    """Write one; raises as `BlobSource.copy_to`, and RetryableError when it broke FETCH_TRIES times."""
    for left in reversed(range(FETCH_TRIES)):
        try:
            blobs.copy_to(wanted.sha256, wanted.target)
            break
        except RetryableError:
            if not left:
                raise
    return wanted


def fetch_all(blobs: BlobSource, wanted: Iterable[Wanted]) -> Iterator[tuple[Wanted, bool]]:
    """Write all; each with whether it could be had, in no order. Raises the first error that is not NotFoundError."""

    def one(item: Wanted) -> tuple[Wanted, bool]:
        try:
            return fetch(blobs, item), True
        except NotFoundError:
            return item, False

    with DaemonPool[tuple[Wanted, bool]](FETCHES_AT_ONCE, "trainledger-fetch") as pool:
        for item in wanted:
            if pool.is_busy:
                yield pool.take()
            pool.submit(partial(one, item))
        while pool.under_way:
            yield pool.take()
