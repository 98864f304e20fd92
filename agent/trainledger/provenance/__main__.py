"""`python -I -m trainledger.provenance`: capture code and environment of one run, beside the training.

The process reads a request from stdin (see `request`), leaves its starter (own session, child of init, no
terminal), and writes a journal of its own that holds one claim. Guarantees: it ends within TOTAL_BUDGET_S +
WRITE_BUDGET_S unless a file system holds it; it says nothing on stdout or stderr; it is niced. It starts no run
and ends none: its journal names the starter's as parent.
"""

import os
import signal
import sys
from contextlib import ExitStack

from trainledger_schemas.blobs import BLOBS_FOLDER, FolderBlobs
from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import TrainledgerError

from ..beside import TimeUpError, create_journal, detach, limit_time
from ..redaction import hide_values_of
from ..settings import process_environment
from .claim import Capture
from .request import Request, parse_request
from .settings import NICENESS, REQUEST_BYTES_MAX, TOTAL_BUDGET_S, WRITE_BUDGET_S

__all__ = ["main"]


def main() -> int:
    """Read the request, leave the starter, capture, write; 0, or 2 when the request is none."""
    try:
        request = parse_request(sys.stdin.buffer.read(REQUEST_BYTES_MAX))
    except TrainledgerError as error:
        sys.stderr.write(f"trainledger.provenance: {error}\n")
        return 2
    if os.fork():
        # The starter may wait for this process, or not: nothing of it is left behind as a zombie for long.
        os._exit(0)
    detach(NICENESS)
    capture_and_write(request, clock=SystemClock())
    return 0


def capture_and_write(request: Request, *, clock: Clock) -> None:
    """Capture within the budget and append the claim to a new journal; raises OSError when that cannot be."""
    with ExitStack() as held:
        _capture_and_write(request, held, clock=clock)


def _capture_and_write(request: Request, held: ExitStack, *, clock: Clock) -> None:
    hide_values_of(process_environment())
    capture = Capture(request, environment=process_environment(), clock=clock)
    limit_time(TOTAL_BUDGET_S)
    try:
        _hold_blobs(request, held)
        capture.run()
        signal.alarm(0)
    except TimeUpError:
        capture.cut_short(f"not found within {TOTAL_BUDGET_S} s")
    except Exception as error:  # whatever a strange environment provokes, what was found before is written
        capture.cut_short(f"given up: {type(error).__name__}")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WRITE_BUDGET_S)
    journal = create_journal(request, clock)
    try:
        journal.append_claim(capture.claim())
    finally:
        journal.close()
        signal.alarm(0)


def _hold_blobs(request: Request, held: ExitStack) -> None:
    """Until the claim is in a journal nothing that it names is removed."""
    try:
        held.enter_context(FolderBlobs(request.uid_folder / BLOBS_FOLDER).writing())
    except OSError:
        pass  # a disk that takes no lock takes no blobs either; all else can be captured


if __name__ == "__main__":
    sys.exit(main())
