"""Which blobs are needed: everything named by a run that is not retracted, or meant by an alias, and all they name."""

from collections.abc import Iterable

from trainledger_schemas.blob_references import Named, walk_named
from trainledger_schemas.errors import CorruptDataError, FatalError, NotFoundError
from trainledger_schemas.tree_manifest import ReadNode

from ..session import Session

__all__ = ["Needed", "read_named", "spread"]


class Needed(frozenset[str]):
    """Digests of blobs that must stay; `unread` documents are not there, so that what they name is not known."""

    unread: int = 0


def read_named(session: Session) -> list[Named]:
    """What runs and aliases name, by the tables as they are now."""
    views = session.views
    rows = session.query(
        f"SELECT DISTINCT sha256, kind FROM {views}.blob_references WHERE "
        f"run_id NOT IN (SELECT run_id FROM {views}.runs WHERE state = 'retracted') OR sha256 IN ("
        f"SELECT replaceOne(assumeNotNull(digest), 'sha256:', '') FROM {views}.model_aliases WHERE is_current)"
    ).to_pylist()
    return [Named(str(row["sha256"]), str(row["kind"])) for row in rows]


def spread(named: Iterable[Named], read: ReadNode) -> Needed:
    """They and all that they name. A document that is not there is counted: who keeps blobs in the right order keeps
    it before what it names. Raises FatalError for one that is damaged, RetryableError as `read` does."""
    seen: set[Named] = set()
    unread = 0
    for item in named:
        try:
            for _ in walk_named(item, read, seen=seen):
                pass
        except NotFoundError:
            unread += 1
        except CorruptDataError as error:
            raise FatalError(
                f"nothing was removed: what sha256:{item.sha256} names cannot be known, because {error}"
            ) from error
    needed = Needed(item.sha256 for item in seen)
    needed.unread = unread
    return needed
