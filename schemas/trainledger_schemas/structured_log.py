"""What a daemon says about itself: one JSON object a line on stderr.

Of other libraries only errors come out, in the same form and at most one a minute and library: the Kafka client tells
why it cannot connect in its log alone, and does so ten times a second. A message of our own that repeats is the
caller's to limit: `Repeats` says when one is due again.
"""

import json
import logging
from typing import TextIO

from .clock import Clock, SystemClock, iso_utc

__all__ = ["JsonFormatter", "Repeats", "quiet_libraries", "say", "set_up_log"]

_FIELDS = "trainledger_fields"
_LIBRARIES = ("clickhouse_connect", "kafka", "urllib3")
_OURS = ("trainledger", "trainledger_ingest")


class JsonFormatter(logging.Formatter):
    """Formats a record as {"at", "level", "event", ...fields}, one line whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": iso_utc(int(record.created * 1e6)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if not record.name.startswith("trainledger."):
            line["logger"] = record.name
        library = _library_of(record)
        if library:
            line |= {
                "event": f"the {library} client reports an error and goes on trying",
                "why": line["event"],
            }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_log(stream: TextIO, level: int = logging.INFO, *, clock: Clock | None = None) -> None:
    """Send the log of this process to `stream` as JSON; see the module. For a daemon only."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_LibraryLimit(clock or SystemClock()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


def quiet_libraries() -> None:
    """Keep the logs of client libraries off stderr, for a command: its own error says what they say, in one line."""
    for name in _LIBRARIES:
        logging.getLogger(name).addHandler(logging.NullHandler())


def say(
    level: int,
    event: str,
    fields: dict[str, object] | None = None,
    *,
    error: BaseException | None = None,
    daemon: str = "agent",
) -> None:
    """Log `event` (a short sentence) with `fields` of its own; `daemon` is who says it."""
    logging.getLogger(f"trainledger.{daemon}").log(
        level, event, extra={_FIELDS: fields or {}}, exc_info=error
    )


class Repeats:
    """Says a condition that lasts at most once each `interval_s`; the first time at once."""

    def __init__(self, clock: Clock, interval_s: float = 60.0) -> None:
        self._clock = clock
        self._interval_ns = round(interval_s * 1e9)
        self._said_ns: dict[str, int] = {}

    def is_due(self, what: str) -> bool:
        """Whether `what` was not said within the interval; saying yes counts as saying it."""
        now_ns = self._clock.monotonic_ns()
        last_ns = self._said_ns.get(what)
        if last_ns is not None and now_ns - last_ns < self._interval_ns:
            return False
        self._said_ns[what] = now_ns
        return True


class _LibraryLimit(logging.Filter):
    """Lets through of each library one error an interval, and none of its warnings."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._repeats = Repeats(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        library = _library_of(record)
        return not library or (record.levelno >= logging.ERROR and self._repeats.is_due(library))


def _library_of(record: logging.LogRecord) -> str:
    """Which of the client libraries a record is of; empty for others."""
    library = record.name.partition(".")[0]
    return library if library in _LIBRARIES else ""
