"""`python -m trainledger_ingest.reproduce.start_ranks FIRST COUNT SIZE ADDRESS PORT CMD ...`

Starts the ranks of a launch that no known launcher made. Each gets RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE,
MASTER_ADDR and MASTER_PORT. The first that fails ends the others and gives the exit status; a signal goes to all.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["main", "rank_environment", "starting_command"]

END_WAIT_S = 10.0


def starting_command(place: Sequence[int | str], command: Sequence[str]) -> list[str]:
    """The command line; `place`: first rank, ranks here, ranks in all, address and port of rank 0."""
    program = [sys.executable, "-P", "-m", "trainledger_ingest.reproduce.start_ranks"]
    return [*program, *(str(part) for part in place), *command]


def rank_environment(place: Sequence[str], local: int) -> dict[str, str]:
    """The variables of the rank that is number `local` here; `place` as for `starting_command`."""
    first, count, size, address, port = place
    return {
        "RANK": str(int(first) + local),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }


def main(arguments: Sequence[str]) -> int:
    """Start, wait, and return the exit status as a shell has it."""
    place, command = arguments[:5], arguments[5:]
    ranks = [
        subprocess.Popen(command, env=os.environ | rank_environment(place, local))
        for local in range(int(place[1]))
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: _send(ranks, got))
    left, status = list(ranks), 0
    while left:
        pid, code = os.wait()
        ended = [rank for rank in left if rank.pid == pid]
        left = [rank for rank in left if rank.pid != pid]
        for rank in ended:
            rank.returncode = os.waitstatus_to_exitcode(code)
            if rank.returncode and not status:
                status = rank.returncode if rank.returncode > 0 else 128 - rank.returncode
                _send(left, signal.SIGTERM)
                signal.signal(signal.SIGALRM, lambda *_: _send(ranks, signal.SIGKILL))
                signal.setitimer(signal.ITIMER_REAL, END_WAIT_S)
    return status


def _send(ranks: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for rank in ranks:
        if rank.returncode is None:
            try:
                os.kill(rank.pid, number)
            except ProcessLookupError:
                pass  # it has just ended


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
