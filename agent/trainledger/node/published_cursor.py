"""How far each topic of the spool is published, and what is on its way to the broker.

`acknowledged` moves only over records that the broker has taken, in order: a later one that was taken first
waits. It is what the cursor file says, `<spool>/published.cursor`, JSON {topic: offset}, replaced as a whole and
fsynced. After a crash everything from there is sent again; a reader drops the repeats by (producer id, seq).
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trainledger.node.identity import write_durably
from trainledger_schemas.errors import FatalSourceError

__all__ = ["Outcome", "TopicProgress", "load_cursor", "save_cursor"]

CURSOR_FILE = "published.cursor"


class Outcome(Protocol):
    """What a client's future tells."""

    @property
    def is_done(self) -> bool: ...
    @property
    def exception(self) -> BaseException | None: ...


@dataclass(slots=True)
class TopicProgress:
    """One topic: `next_offset` is the next to send, `acknowledged` the end of what the broker has for certain."""

    topic: str
    acknowledged: int
    next_offset: int
    in_flight_bytes: int = 0
    sent: deque[tuple[int, int, Outcome]] = field(default_factory=deque)

    def add(self, offset: int, size_bytes: int, outcome: Outcome) -> None:
        """Note a record as on its way."""
        self.sent.append((offset + 1, size_bytes, outcome))
        self.in_flight_bytes += size_bytes
        self.next_offset = offset + 1

    def settle(self) -> int:
        """Move over what the broker has taken; how many records. Raises what the first failed one failed with."""
        moved = 0
        while self.sent and self.sent[0][2].is_done:
            end, size_bytes, outcome = self.sent[0]
            if outcome.exception is not None:
                raise outcome.exception
            self.sent.popleft()
            self.in_flight_bytes -= size_bytes
            self.acknowledged = end
            moved += 1
        return moved

    def step_over(self, end: int) -> None:
        """There is nothing readable below `end`: go on there once what was sent before is taken."""
        self.next_offset = max(self.next_offset, end)
        if not self.sent:
            self.acknowledged = self.next_offset

    def rewind(self) -> None:
        """Forget what is on its way; the next record to send is the first that is not certain."""
        self.sent.clear()
        self.in_flight_bytes = 0
        self.next_offset = self.acknowledged


def load_cursor(spool: Path) -> dict[str, int]:
    """The stored cursor; empty when there is none. Raises FatalSourceError when it cannot be understood."""
    path = spool / CURSOR_FILE
    try:
        record = json.loads(path.read_bytes())
        return {str(topic): int(offset) for topic, offset in record.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise FatalSourceError(
            f"{path} cannot be understood: {error}; remove it and the whole spool is published again (repeats"
            " are dropped by the reader)"
        ) from error


def save_cursor(spool: Path, offsets: Mapping[str, int]) -> None:
    """Replace the stored cursor; on disk when this returns."""
    write_durably(spool / CURSOR_FILE, json.dumps(dict(offsets)).encode())
