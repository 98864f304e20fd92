"""A training process whose every point can be computed again: `python workload.py FOLDER THREADS BURST PAUSE_US CALLS`.

Thread t logs at step i the values k<t> = i / 2 + t and n<t> = -i, and at each seventh step e<t> = i as well, so
that rows of several shapes lie between each other. What `log()` returned from stands in FOLDER/progress, a file
of 64-bit words that outlives the process: words 0 to 7 the calls of each thread, then those of WORDS. The words
are written by single stores after the call returned; a kill can leave one call returned but not counted.
"""

import mmap
import os
import sys
import threading
import time
from pathlib import Path

import trainledger

__all__ = ["BEGUN", "ENDED", "LINES", "LINE_EVERY", "PID", "PROGRESS_BYTES", "STOP", "THREADS_MAX"]

THREADS_MAX = 8
LINES, PID, BEGUN, STOP, ENDED = range(THREADS_MAX, THREADS_MAX + 5)
PROGRESS_BYTES = 4096
LINE_EVERY = 20


def main(folder: Path, threads: int, burst: int, pause_us: int, calls: int) -> None:
    """Log until CALLS calls of each thread are done (0: for ever), or until word STOP is set."""
    fd = os.open(folder / "progress", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, PROGRESS_BYTES)
    words = memoryview(mmap.mmap(fd, PROGRESS_BYTES)).cast("Q")
    words[PID] = os.getpid()
    run = trainledger.init(config={"threads": threads, "burst": burst})
    words[BEGUN] = 1

    def train(thread: int) -> None:
        key, negative, extra = f"k{thread}", f"n{thread}", f"e{thread}"
        step = 0
        while not (calls and step == calls) and not words[STOP]:
            for _ in range(burst):
                step += 1
                point = {key: step * 0.5 + thread, negative: -step}
                if step % 7 == 0:
                    point[extra] = step
                run.log(point, step=step)
                words[thread] = step
                if thread == 0 and step % LINE_EVERY == 0:
                    line = step // LINE_EVERY
                    sys.stdout.write(f"line {line}\n")
                    sys.stdout.flush()
                    words[LINES] = line
                if step == calls:
                    break
            if pause_us:
                time.sleep(pause_us / 1e6)

    others = [threading.Thread(target=train, args=(number,)) for number in range(1, threads)]
    for other in others:
        other.start()
    train(0)
    for other in others:
        other.join()
    run.finish()
    words[ENDED] = 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
