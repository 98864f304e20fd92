"""One `admin gc`: the folders of this machine, then the store of all machines, in the order that makes it safe."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from trainledger_schemas.blob_references import Named
from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.errors import RetryableError, TrainledgerError
from trainledger_schemas.journal_readers import read_readers
from trainledger_schemas.objects import Objects
from trainledger_schemas.shared_blobs import SharedBlobs

from ..log_state import LogState
from ..session import Session
from .folder import collect_folder, held_folders
from .needed import read_named, spread
from .report import Policy, Report
from .shared import collect_shared, read_marks, unknown_uploaders

__all__ = ["collect"]

NOT_KNOWN = (
    "its journals are read by another agent, or were read into another home before, so that these tables do not know "
    "all that names these blobs"
)
OpenSession = Callable[[], AbstractContextManager[Session]]


def collect(
    open_session: OpenSession,
    *,
    folders: list[Path],
    known: BlobSource,
    objects: Objects | None,
    policy: Policy,
) -> list[Report]:
    """A report for each place. `known`: where documents are read for the folders.

    Raises RetryableError, before anything is changed, where the tables are not up with the log, and TrainledgerError
    where the store is also another ledger's."""
    reports = []
    # Before the log is read: what is condemned now; and nobody stores here from now on.
    marks = {} if objects is None else read_marks(objects)
    with held_folders(folders) as (held, busy):
        state, named = _read(open_session)
        if state.unread != 0:
            raise RetryableError(f"nothing was removed: {state.why or 'the tables are behind the log'}")
        reports += [_left_out(folder, "a process is storing there now; run it again") for folder in busy]
        ours = [folder for folder in held if _is_known(folder, state)]
        reports += [_left_out(folder, NOT_KNOWN) for folder in held if folder not in ours]
        if ours:
            needed = spread(named, known.read)
            reports += [collect_folder(folder, needed, policy=policy) for folder in ours]
    if objects is not None:
        unknown = unknown_uploaders(objects, frozenset(state.producers))
        if unknown:
            raise _not_ours(objects.place, unknown)
        needed = spread(named, SharedBlobs(objects).read)
        reports.append(collect_shared(objects, marks, needed, policy=policy))
    return reports


def _read(open_session: OpenSession) -> tuple[LogState, list[Named]]:
    with open_session() as session:
        state = session.log_state()
        return state, read_named(session) if state.unread == 0 else []


def _is_known(folder: Path, state: LogState) -> bool:
    """Whether all that was ever said of a folder's blobs is in the tables: its journals were read just now, and every
    spool that read them before is known."""
    if state.journals is None or not folder.is_relative_to(state.journals):
        return False
    readers = read_readers(Path(state.journals))
    return readers is not None and readers <= set(state.producers)


def _left_out(folder: Path, why: str) -> Report:
    return Report(str(folder), notes=[f"left out: {why}"])


def _not_ours(place: str, unknown: list[str]) -> TrainledgerError:
    return TrainledgerError(
        f"{place} also keeps the blobs of spools whose events these tables do not have: {', '.join(unknown[:5])}. "
        "Nothing was removed there: wait until their agents have published, give each ledger a prefix of its own, "
        "or, when such a spool is gone for good with its runs, remove its object in uploaders/"
    )
