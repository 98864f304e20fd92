"""Compressing what the tables have: within bounds, never the newest segment, and whatever kills it."""

import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from support.polling import poll_until
from trainledger.node.identity import load_identity
from trainledger.node.node_settings import SpoolSettings
from trainledger.node.spool import Spool
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.events import TOPIC_LOGS
from trainledger_schemas.spool import Frame
from trainledger_schemas.spool_reader import SpoolReader, list_segments

SMALL = SpoolSettings(segment_bytes=64 << 10, budget_bytes=64 << 20)
KILL_ROUNDS = 12
COMPRESS = """
import sys
from pathlib import Path
from trainledger.node.identity import load_identity
from trainledger.node.node_settings import SpoolSettings
from trainledger.node.spool import Spool
from trainledger_schemas.clock import SystemClock
folder = Path(sys.argv[1])
spool = Spool.open(folder, identity=load_identity(folder), clock=SystemClock(), settings=SpoolSettings())
print("open", flush=True)
while spool.compress_read("trainledger.logs", 1 << 60, segments_max=1):
    pass
print("done", flush=True)
sys.stdin.read()
"""


def open_spool(folder: Path) -> Spool:
    folder.mkdir(parents=True, exist_ok=True)
    return Spool.open(folder, identity=load_identity(folder), clock=SystemClock(), settings=SMALL)


def fill(spool: Spool, segments: int) -> None:
    """Log chunks of text that is not quite repetitive until there are so many segments."""
    source = random.Random(7)
    base = 0
    while len(list_segments(spool.folder / TOPIC_LOGS)) <= segments:
        text = [f"step {n} loss {source.random()}" for n in range(base, base + 200)]
        spool.append(
            "log_chunk",
            {
                "run_id": bytes(16),
                "writer_id": bytes(16),
                "stream": "stdout",
                "first_line": base,
                "at_us": [0] * len(text),
                "offset": [0] * len(text),
                "text": text,
            },
            key=bytes(16),
        )
        base += 200
    spool.sync()


def read_all(folder: Path, end: int) -> list[tuple[int, int, bytes]]:
    """Offset, number and payload of each record."""
    reader, offset = SpoolReader(folder, TOPIC_LOGS), 0
    frames: list[Frame] = []
    while found := reader.read(offset, end=end, bytes_max=1 << 20):
        frames += found
        offset = found[-1].offset + 1
    assert reader.skipped == 0
    return [(frame.offset, frame.seq, frame.payload) for frame in frames]


def test_compression_stops_at_the_number_that_it_was_given_and_before_the_newest(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool, 5)
    end = spool.next_offset(TOPIC_LOGS)
    before, used = read_all(tmp_path, end), spool.used_bytes()
    assert spool.compress_read(TOPIC_LOGS, 1 << 60, segments_max=2) == 2
    assert [s.compressed for s in list_segments(tmp_path / TOPIC_LOGS)][:3] == [True, True, False]
    assert spool.compress_read(TOPIC_LOGS, 1 << 60) >= 3
    assert [s.compressed for s in list_segments(tmp_path / TOPIC_LOGS)][-2:] == [True, False]
    assert spool.compress_read(TOPIC_LOGS, 1 << 60) == 0
    assert read_all(tmp_path, end) == before
    assert spool.used_bytes() < used
    spool.close()


def test_what_is_not_in_the_tables_stays_plain(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool, 4)
    second = list_segments(tmp_path / TOPIC_LOGS)[1]
    assert spool.compress_read(TOPIC_LOGS, second.base + 1) == 1
    assert [s.compressed for s in list_segments(tmp_path / TOPIC_LOGS)][:2] == [True, False]
    spool.close()


def is_far_enough(folder: Path, goal: int, process: "subprocess.Popen[str]") -> bool:
    return sum(1 for _ in folder.glob("*.seg.gz")) >= goal or process.poll() is not None


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_in_the_middle_of_compressing_loses_nothing(tmp_path: Path, seed: int) -> None:
    spool = open_spool(tmp_path)
    fill(spool, 60)
    end = spool.next_offset(TOPIC_LOGS)
    spool.close()
    before = read_all(tmp_path, end)
    chance = random.Random(seed)
    killed_within = 0
    for _ in range(KILL_ROUNDS):
        packed = sum(s.compressed for s in list_segments(tmp_path / TOPIC_LOGS))
        goal = packed + chance.randrange(1, 5)
        with subprocess.Popen(
            [sys.executable, "-c", COMPRESS, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == "open\n"
            poll_until(partial(is_far_enough, tmp_path / TOPIC_LOGS, goal, process), pause_s=0)
            process.send_signal(signal.SIGKILL)
            killed_within += any((tmp_path / TOPIC_LOGS).glob("*.seg"))
        assert read_all(tmp_path, end) == before, f"seed {seed}"  # as the dead left it
    assert killed_within
    again = open_spool(tmp_path)
    assert again.next_offset(TOPIC_LOGS) == end
    assert not list((tmp_path / TOPIC_LOGS).glob("*.new"))
    assert read_all(tmp_path, end) == before
    again.close()
