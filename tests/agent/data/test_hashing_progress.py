"""How far hashing is, is told while it takes long, and not where it does not."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.polling import poll_until
from support.training import read_journals
from trainledger.data.hashing_progress import FIRST_S, LONGEST_S, SIZING_S, HashingProgress, tree_bytes
from trainledger.data.path_selection import PathSelection
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.ids import id_text, random_id


def test_short_work_is_not_told_and_long_work_ever_less_often() -> None:
    clock, told, sized = ManualClock(), list[tuple[int, int | None]](), threading.Event()

    def sizing() -> int:
        sized.set()
        return 400

    progress = HashingProgress(lambda done, expected: told.append((done, expected)), sizing, clock=clock)
    progress.add(10)
    clock.advance(FIRST_S - 1)
    progress.add(10)
    assert not told and not sized.is_set()
    clock.advance(1)
    progress.add(10)
    assert sized.wait(10) and not told
    poll_until(lambda: threading.active_count() == 1 or progress._expected is not None, deadline_s=10)
    clock.advance(SIZING_S)
    progress.add(10)
    assert told == [(40, 400)]
    for _ in range(3600):
        clock.advance(1)
        progress.add(1)
    assert told[-1] == (400, 400)
    assert 3600 / LONGEST_S - 5 < len(told) < 3600 / LONGEST_S + 5


def test_size_of_what_counts(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for place, size in (("1.txt", 1), ("a/2.txt", 20), ("a/b/3.txt", 300), ("a/b/4.jpg", 4000)):
        (tmp_path / place).write_bytes(b"x" * size)
    assert tree_bytes(tmp_path, PathSelection()) == 4321
    assert tree_bytes(tmp_path, PathSelection(("*.txt",), ("a/b",))) == 21
    assert tree_bytes(tmp_path / "1.txt", PathSelection()) == 1


# In a process of its own, for its signals; as if five seconds were over at once.
PROCESS = """
import sys
from trainledger.data import __main__ as process, hashing_progress
from trainledger.data.request import parse_request
from trainledger_schemas.clock import SystemClock
hashing_progress.FIRST_S = hashing_progress.SIZING_S = hashing_progress.LONGEST_S = 0.0
process.work_and_write(parse_request(sys.stdin.buffer.read()), clock=SystemClock())
"""


@pytest.mark.parametrize("event", ["dataset_used", "artifact_logged"])
def test_claims_of_long_work_say_how_far_it_is(tmp_path: Path, event: str) -> None:
    (tmp_path / "data").mkdir()
    for number in range(50):
        (tmp_path / "data" / f"{number}").write_bytes(b"%04d" % number * 250)
    user = tmp_path / "journals" / str(os.geteuid())
    user.mkdir(parents=True)
    call = "use_id" if event == "dataset_used" else "artifact_id"
    claim = {"type": event, call: id_text(random_id()), "stage": 0, "kind": "dataset", "name": "d",
             "at_us": 1, "status": "declared", "reasons": []}  # fmt: skip
    request = {"run_id": id_text(random_id()), "parent_journal": id_text(random_id()), "uid_folder": str(user),
               "claim": claim, "path": os.fsencode(tmp_path / "data").hex()}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], input=json.dumps(request).encode(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    claims = [claim for journal in read_journals(tmp_path / "journals") for claim in journal.claims_of(event)]
    (found,) = (claim for claim in claims if claim["stage"] == 1)
    under_way = sorted(claim["done_bytes"] for claim in claims if claim["stage"] == 0)
    assert found["size_bytes"] == 50_000 and "done_bytes" not in found
    assert len(under_way) > 10 and set(under_way) <= set(range(500, 50_001, 500))
    assert {claim["expected_bytes"] for claim in claims if claim["stage"] == 0} <= {None, 50_000}
    assert {claim[call] for claim in claims} == {claim[call]}
