"""What the spool gives up when nobody reads it and it has used its budget.

In this order, oldest segments first, until 90 % of the budget is met: hardware measurements are thinned to one
in six, debug lines of logs are emptied, logs go, metrics are thinned to every second row, again and again if
it must be. Run events, node events and admin events never go. What is given up is counted, by kind, with the
time it spans; the spool says so in `gap` events. Offsets are kept: a segment is rewritten with fewer or
smaller frames under its name, so that a reader meets a hole and not a wall.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from trainledger_schemas.avro_codec import decode_event, encode_event, event_type
from trainledger_schemas.errors import DeadLetterError
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_NODES
from trainledger_schemas.point_codec import PointBlock, decode_metrics, encode_metrics
from trainledger_schemas.spool import Frame

from .spool_topic import TopicLog

__all__ = ["Loss", "SpoolBudget"]

HARDWARE_KEPT_ONE_IN = 6
TARGET_SHARE = 0.9
# Each round halves the rows; a block of 2**20 rows is down to one after as many.
METRICS_ROUNDS_MAX = 20
_DEBUG = re.compile(r"\b(?:DEBUG|TRACE)\b")


@dataclass(slots=True)
class Loss:
    """What one step gave up: `count` events, lines or rows between two wall times."""

    what: str
    reason: str
    count: int = 0
    start_us: int = 0
    end_us: int = 0

    def add(self, frame: Frame, count: int) -> None:
        """Count something of a frame."""
        self.start_us = min(self.start_us or frame.wall_us, frame.wall_us)
        self.end_us = max(self.end_us, frame.wall_us)
        self.count += count


class SpoolBudget:
    """Keeps the plain segments of all topics within a number of bytes."""

    def __init__(self, topics: Mapping[str, TopicLog], bytes_max: int) -> None:
        self._topics = topics
        self._bytes_max = bytes_max
        self._done: set[tuple[str, int, str]] = set()

    def used_bytes(self) -> int:
        """Bytes of all segments that nobody has read yet."""
        return sum(log.plain_bytes for log in self._topics.values())

    def enforce(self) -> list[Loss]:
        """Give up what must go; an empty list when the budget is met. Blocks while it rewrites segments."""
        if self.used_bytes() <= self._bytes_max:
            return []
        target = round(self._bytes_max * TARGET_SHARE)
        losses: list[Loss] = []
        for topic, name, loss, change in self._steps():
            for segment in self._topics[topic].sealed():
                mark = (topic, segment.base, name)
                if self.used_bytes() <= target:
                    break
                if segment.compressed or mark in self._done:
                    continue
                self._done.add(mark)
                self._topics[topic].rewrite(segment, change)
            if loss.count:
                losses.append(loss)
        return losses

    def _steps(self) -> Iterator[tuple[str, str, Loss, Callable[[Frame], Frame | None]]]:
        hardware = Loss("hardware", "spool budget: one measurement in six kept")
        yield TOPIC_NODES, "hardware", hardware, _thin_hardware(hardware)
        debug = Loss("logs", "spool budget: debug lines emptied")
        yield TOPIC_LOGS, "debug", debug, partial(_empty_debug_lines, loss=debug)
        logs = Loss("logs", "spool budget: logs dropped")
        yield TOPIC_LOGS, "logs", logs, partial(_drop, loss=logs)
        for number in range(METRICS_ROUNDS_MAX):
            metrics = Loss("metrics", "spool budget: every second row kept")
            yield TOPIC_METRICS, f"metrics {number}", metrics, partial(_thin_rows, loss=metrics)


def _thin_hardware(loss: Loss) -> Callable[[Frame], Frame | None]:
    seen = 0

    def change(frame: Frame) -> Frame | None:
        nonlocal seen
        if not _is_type(frame, "hardware"):
            return frame
        seen += 1
        if seen % HARDWARE_KEPT_ONE_IN == 1:
            return frame
        loss.add(frame, 1)
        return None

    return change


def _drop(frame: Frame, loss: Loss) -> None:
    loss.add(frame, 1)


def _empty_debug_lines(frame: Frame, loss: Loss) -> Frame | None:
    # The lines stay as empty ones: the chunk has only the number of its first line.
    try:
        record = decode_event(frame.payload).record
    except DeadLetterError:
        return frame
    lines = ["" if _DEBUG.search(line) else line for line in record["text"]]
    emptied = sum(1 for old, new in zip(record["text"], lines, strict=True) if old != new)
    if not emptied:
        return frame
    loss.add(frame, emptied)
    return replace(frame, payload=encode_event("log_chunk", {**record, "text": lines}))


def _thin_rows(frame: Frame, loss: Loss) -> Frame | None:
    try:
        event = decode_metrics(frame.payload)
    except DeadLetterError:
        return frame
    blocks = [_every_second(block) for block in event.blocks]
    lost = sum(len(old.step) - len(new.step) for old, new in zip(event.blocks, blocks, strict=True))
    if not lost:
        return frame
    loss.add(frame, lost)
    payload = encode_metrics(
        event.envelope, event.run_id, writer_id=event.writer_id, blocks=blocks, texts=event.texts
    )
    return replace(frame, payload=payload)


def _every_second(block: PointBlock) -> PointBlock:
    # From the end, so that the latest value of each key stays.
    return block.rows(slice((len(block.step) + 1) % 2, None, 2))


def _is_type(frame: Frame, name: str) -> bool:
    try:
        return event_type(frame.payload) == name
    except DeadLetterError:
        return False
