"""What a daemon says: JSON lines, and of its client libraries no more than one error a minute."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from trainledger_schemas.clock import ManualClock
from trainledger_schemas.structured_log import say, set_up_log


class Log:
    """The log of this process as a daemon's, until the test ends."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.stream = io.StringIO()
        set_up_log(self.stream, clock=self.clock)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        yield Log()
    finally:
        root.handlers[:], level = before
        root.setLevel(level)


def test_our_own_lines_come_out_all(log: Log) -> None:
    for _ in range(3):
        say(logging.WARNING, "trying again", {"why": "no disk"}, daemon="ingest")
    assert [(line["event"], line["why"]) for line in log.lines()] == [("trying again", "no disk")] * 3


def test_of_a_client_library_one_error_a_minute_comes_out_and_no_warning(log: Log) -> None:
    for _ in range(100):
        logging.getLogger("kafka.cluster").warning("No node available")
        logging.getLogger("kafka.net.manager").error("Connection failed: %s", "ECONNREFUSED")
        logging.getLogger("kafka.coordinator").error("Error sending")
    [line] = log.lines()
    assert line["event"] == "the kafka client reports an error and goes on trying"
    assert (line["why"], line["logger"]) == ("Connection failed: ECONNREFUSED", "kafka.net.manager")
    logging.getLogger("urllib3").error("another library")
    assert len(log.lines()) == 2
    log.clock.advance(61)
    logging.getLogger("kafka.coordinator").error("Error sending")
    assert log.lines()[-1]["why"] == "Error sending"


def test_other_loggers_are_not_limited(log: Log) -> None:
    for _ in range(2):
        logging.getLogger("kafkaesque").warning("a module of somebody else")
    assert [line["event"] for line in log.lines()] == ["a module of somebody else"] * 2
