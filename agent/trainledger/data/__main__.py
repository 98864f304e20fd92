"""`python -I -m trainledger.data`: measure or store what one call of the training named, beside the training.

Reads a request from stdin (see `request`), leaves its starter, and writes a journal of its own that holds one claim:
the starter's with what was found, as stage 1. Guarantees: it says nothing on stdout or stderr; it is niced; of a user
one works for datasets and one for artifacts at a time; it ends within TOTAL_BUDGET_S + WRITE_BUDGET_S, and what was
not found by then is told.
"""

import fcntl
import os
import signal
import sys
from contextlib import ExitStack, closing, suppress
from typing import Any

from trainledger_schemas.blobs import BLOBS_FOLDER, FolderBlobs
from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import TrainledgerError

from ..beside import TimeUpError, create_journal, detach, limit_time
from ..journal import JournalWriter
from ..redaction import hide_values_of, redact
from ..settings import process_environment
from .artifact import let_go, store_artifact
from .measure import measure_dataset
from .path_selection import PathSelection
from .request import DataRequest, parse_request

__all__ = ["main"]

REQUEST_BYTES_MAX = 4 << 20
# A dataset of 3 TB at 1 GB/s; a job that takes longer is better served by a version that a system keeps.
TOTAL_BUDGET_S = 3600
WRITE_BUDGET_S = 10
NICENESS = 10


def main() -> int:
    """Read the request, leave the starter, work, write; 0, or 2 when the request is none."""
    try:
        request = parse_request(sys.stdin.buffer.read(REQUEST_BYTES_MAX))
    except TrainledgerError as error:
        sys.stderr.write(f"trainledger.data: {error}\n")
        return 2
    if os.fork():
        os._exit(0)  # nothing of it is left behind as a zombie of the training
    detach(NICENESS)
    work_and_write(request, clock=SystemClock())
    return 0


def work_and_write(request: DataRequest, *, clock: Clock) -> None:
    """Find what can be found and append the claim to a new journal; raises OSError when that cannot be.

    What was held for it is there until the claim is: `finish` may wait for that."""
    hide_values_of(process_environment())
    blobs = FolderBlobs(request.uid_folder / BLOBS_FOLDER)
    limit_time(TOTAL_BUDGET_S)
    with ExitStack() as held:
        _work_and_write(request, blobs, held, clock=clock)


def _work_and_write(request: DataRequest, blobs: FolderBlobs, held: ExitStack, *, clock: Clock) -> None:
    try:
        held.enter_context(blobs.writing())
        found = _find(request, blobs, clock)
        signal.alarm(0)
    except TimeUpError:
        found = {"status": "partial", "reasons": [f"given up after {TOTAL_BUDGET_S} s"]}
    except OSError as error:
        found = {"status": "failed", "reasons": [redact(f"cannot be read or stored: {error}")]}
    except Exception as error:  # whatever a strange file provokes, that it was used is on record
        found = {"status": "failed", "reasons": [f"given up: {type(error).__name__}"]}
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WRITE_BUDGET_S)
    try:
        _write(request, found, clock)
    finally:
        let_go(request, blobs=blobs, now_ns=clock.wall_ns())
        signal.alarm(0)


class _Teller:
    """Says how far it is, as the claim of the starter once more, in a journal of its own: what was found is not
    written to one that the time limit may have cut into."""

    def __init__(self, request: DataRequest, clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._journal: JournalWriter | None = None

    def tell(self, done: int, expected: int | None) -> None:
        """See `Tell`. Where no journal can be written, the work goes on untold."""
        claim = self._request.claim | {"stage": 0, "done_bytes": done, "expected_bytes": expected}
        with suppress(OSError):
            if self._journal is None:
                self._journal = create_journal(self._request, self._clock)
            self._journal.append_claim(claim)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _write(request: DataRequest, found: dict[str, Any], clock: Clock) -> None:
    journal = create_journal(request, clock)
    try:
        reasons = [*request.claim.get("reasons", ()), *found.pop("reasons", ())]
        journal.append_claim(request.claim | found | {"stage": 1, "reasons": reasons})
    finally:
        journal.close()


def _find(request: DataRequest, blobs: FolderBlobs, clock: Clock) -> dict[str, Any]:
    blobs.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One at a time: a training that names a hundred folders at once must not have a hundred readers beside it. A
    # model does not wait for a large dataset.
    lock = "artifacts.lock" if request.claim["type"] == "artifact_logged" else "datasets.lock"
    fd = os.open(blobs.folder / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        claim = request.claim
        selection = PathSelection(claim.get("include", ()), claim.get("exclude", ()))
        with closing(_Teller(request, clock)) as teller:
            if claim["type"] == "artifact_logged":
                return store_artifact(request, blobs=blobs, clock=clock, tell=teller.tell)
            return measure_dataset(
                request.path,
                request.where,
                blobs=blobs,
                clock=clock,
                selection=selection,
                tell=teller.tell,
            )
    finally:
        os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
