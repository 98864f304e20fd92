"""Removes local copies of blobs that are in the store of all machines too, down to a limit a user.

What makes it safe: a training that finds a blob here does not store it again, and its claim may not have been read
yet. So the user's processes are kept from storing, then all claims that there are are read and dealt with, so that
each blob that they name was seen in the store after its event was in the log; only then does a copy go. A process
that is storing now keeps everything of its user.
"""

from collections.abc import Callable, Iterable

from trainledger.node.user_blobs import LocalCopy, UserBlobs
from trainledger_schemas.shared_blobs import SharedBlobs

__all__ = ["copies_above", "free_copies"]


def copies_above(copies: Iterable[LocalCopy], bytes_max: int) -> list[LocalCopy]:
    """The copies that must go for the others to take at most `bytes_max`: those used longest ago first."""
    ordered = sorted(copies, key=lambda copy: (copy.used_ns, copy.sha256))
    surplus = sum(copy.size_bytes for copy in ordered) - bytes_max
    chosen = []
    for copy in ordered:
        if surplus <= 0:
            break
        if copy.size_bytes:
            chosen.append(copy)
            surplus -= copy.size_bytes
    return chosen


def free_copies(local: UserBlobs, store: SharedBlobs, *, bytes_max: int, settle: Callable[[], bool]) -> int:
    """Bytes that were freed. `settle` reads all claims and deals with them; False when it did not come to an end.

    Raises RetryableError when the store cannot be asked."""
    freed = 0
    for uid in local.users():
        chosen = [
            copy
            for copy in copies_above(local.copies(uid), bytes_max)
            if store.is_kept(copy.sha256, copy.size_bytes)
        ]
        if not chosen:
            continue
        with local.quiet(uid) as is_quiet:
            if not is_quiet or not settle():
                continue
            for copy in chosen:
                local.remove(copy)
                freed += copy.size_bytes
    return freed
