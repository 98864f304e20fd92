"""The bar of long work: on a terminal after half a second, nowhere else, and gone at the end."""

import os
import subprocess
import sys

import pytest

WORK = """
import sys
from trainledger_ingest.cli.progress import progress_bar
from trainledger_schemas.clock import ManualClock
clock = ManualClock()
with progress_bar("replaying", clock=clock) as tell:
    for done in range(0, 1001, 100):
        tell(done, 1000)
        clock.sleep(float(sys.argv[1]))
clock.sleep(10)
tell(1, 2)
print("done")
"""


def work(step_s: float, *, on_terminal: bool) -> tuple[str, str]:
    """(stdout, what stderr got)."""
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", WORK, str(step_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs if on_terminal else subprocess.PIPE,
            env=os.environ | {"TERM": "xterm"},
            text=True,
        )
        os.set_blocking(ours, False)
        try:
            told = os.read(ours, 1 << 20).decode()
        except BlockingIOError:
            told = ""
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 0, done.stderr
    return done.stdout, told + (done.stderr or "")


@pytest.mark.parametrize(("step_s", "on_terminal"), [(0.2, False), (0.01, True)], ids=["piped", "short work"])
def test_nothing_is_drawn_where_nobody_would_see_it(step_s: float, on_terminal: bool) -> None:
    assert work(step_s, on_terminal=on_terminal) == ("done\n", "")


def test_long_work_on_a_terminal_is_drawn_on_stderr_and_wiped() -> None:
    out, told = work(0.2, on_terminal=True)
    assert out == "done\n"
    assert "replaying" in told and "1000/1000" in told
    assert told.rstrip().endswith("\x1b[2K") and "1/2" not in told
