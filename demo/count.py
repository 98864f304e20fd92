"""Logs without pause and notes in a file, after each return, how many calls of log() have returned.

usage: count.py PROGRESS_FILE
"""

import sys

import trainledger

run = trainledger.init()
with open(sys.argv[1], "r+b", buffering=0) as progress:
    step = 0
    while True:
        run.log({"count": float(step)}, step=step)
        step += 1
        progress.seek(0)
        progress.write(step.to_bytes(8, "little"))
