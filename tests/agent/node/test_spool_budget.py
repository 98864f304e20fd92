"""What the spool gives up over its budget, in which order, and that it says so."""

from pathlib import Path
from typing import Any

import numpy as np

from support.journals import open_spool, read_frames, read_records
from trainledger.node.spool import Spool
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS
from trainledger_schemas.point_codec import PointBlock, decode_metrics
from trainledger_schemas.spool_reader import SpoolReader

RUN, WRITER = b"r" * 16, b"w" * 16
BUDGET = 4 * 64 * 1024


def append_hardware(spool: Spool, number: int) -> None:
    stat = {"minimum": 1.0, "mean": 1.0, "maximum": 1.0, "last": 1.0, "samples": number}
    stats = [{"device": "host", "name": "n" * 900, **stat}]
    spool.append("hardware", {"start_us": number, "end_us": number, "stats": stats}, key=b"node-1")


def append_log(spool: Spool, lines: list[str]) -> None:
    fields: dict[str, Any] = {"run_id": RUN, "writer_id": WRITER, "stream": "stdout", "first_line": 1}
    fields |= {"at_us": [1] * len(lines), "offset": [1] * len(lines), "text": lines}
    spool.append("log_chunk", fields, key=RUN)


def append_points(spool: Spool, start: int) -> None:
    steps = np.arange(start, start + 500, dtype=np.int64)
    values = np.random.default_rng(start).random((500, 2))
    block = PointBlock(("loss", "acc"), steps, steps, steps, values)
    fields = {"run_id": RUN, "writer_id": WRITER, "blocks": [block], "texts": []}
    spool.append_metrics(fields, key=RUN)


def append_claim(spool: Spool, number: int) -> None:
    changes = [{"key": "k", "value": f"{number} " + "v" * 2000, "number": None}]
    fields = {"run_id": RUN, "writer_id": WRITER, "at_us": number, "changes": changes}
    spool.append("summary_set", fields, key=RUN)


def gaps(folder: Path) -> list[dict[str, Any]]:
    return [record for name, record in read_records(folder, TOPIC_NODES) if name == "gap"]


def test_hardware_is_thinned_first_and_nothing_else_goes(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, budget_bytes=BUDGET)
    append_log(spool, ["DEBUG kept"])
    for number in range(400):
        append_hardware(spool, number)
    spool.close()
    kept = [r["start_us"] for name, r in read_records(tmp_path, TOPIC_NODES) if name == "hardware"]
    assert len(kept) < 400 and kept[0] == 0 and kept[-1] == 399
    found = gaps(tmp_path)
    assert {gap["what"] for gap in found} == {"hardware"}
    assert sum(gap["count"] for gap in found) == 400 - len(kept)
    assert [r["text"] for _, r in read_records(tmp_path, TOPIC_LOGS)] == [["DEBUG kept"]]


def test_debug_lines_go_before_other_lines_and_line_numbers_stay(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, budget_bytes=BUDGET)
    for number in range(300):
        append_log(spool, [f"loss {number}", f"DEBUG {number} " + "d" * 2000])
    spool.close()
    chunks = [record["text"] for _, record in read_records(tmp_path, TOPIC_LOGS)]
    assert [chunk[0] for chunk in chunks] == [f"loss {number}" for number in range(300)]
    emptied = sum(1 for chunk in chunks if chunk[1] == "")
    assert emptied > 50 and sum(gap["count"] for gap in gaps(tmp_path)) == emptied


def test_logs_go_before_metrics_and_the_latest_stay(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, budget_bytes=BUDGET)
    append_points(spool, 0)
    for number in range(300):
        append_log(spool, [f"{number} " + "x" * 2000])
    spool.close()
    numbers = [int(record["text"][0].split()[0]) for _, record in read_records(tmp_path, TOPIC_LOGS)]
    assert numbers[-1] == 299 and len(numbers) < 200
    assert numbers == list(range(numbers[0], 300))
    assert sum(gap["count"] for gap in gaps(tmp_path)) == 300 - len(numbers)
    [frame] = read_frames(tmp_path, TOPIC_METRICS)
    assert len(decode_metrics(frame.payload).blocks[0].step) == 500


def test_metrics_are_thinned_again_and_again_and_keep_the_last_row_of_each_event(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, budget_bytes=BUDGET)
    for number in range(200):
        append_points(spool, 500 * number)
    assert spool.used_bytes() <= BUDGET
    spool.close()
    rows = [decode_metrics(frame.payload).blocks[0].step for frame in read_frames(tmp_path, TOPIC_METRICS)]
    assert [int(steps[-1]) for steps in rows] == [500 * n + 499 for n in range(200)]
    assert max(map(len, rows)) == 500 and min(map(len, rows)) <= 125
    assert sum(gap["count"] for gap in gaps(tmp_path)) == 200 * 500 - sum(map(len, rows))


def test_run_events_are_never_given_up(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, budget_bytes=BUDGET)
    for number in range(400):
        append_claim(spool, number)
    assert spool.used_bytes() > BUDGET
    spool.close()
    assert len(read_records(tmp_path, TOPIC_RUNS)) == 400
    assert gaps(tmp_path) == []


def test_a_reader_meets_a_hole_and_not_an_error(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, budget_bytes=BUDGET)
    append_log(spool, ["first"])
    reader = SpoolReader(tmp_path, TOPIC_LOGS)
    spool.sync()
    assert len(reader.read(0, end=1, bytes_max=1)) == 1
    for number in range(300):
        append_log(spool, [f"{number} " + "x" * 2000])
    spool.sync()
    [frame] = reader.read(1, end=spool.synced_end(TOPIC_LOGS), bytes_max=1)
    assert frame.offset > 50 and reader.begin() == 0 and reader.skipped == 0
    spool.close()
