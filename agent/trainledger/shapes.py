"""Rows: the fast way from log() to the journal, one generated function for each set of keys.

A function is generated at the third use of a set of keys and calls nothing but C: pack, crc32, mmap.write. Its
values are converted before anything shared is touched, so a slow or nasty `__float__` harms nobody. Whatever it
cannot do (other keys, text, None, nested dicts) goes the slow way, which handles everything. At most SHAPES_MAX
sets get a function, and their definitions, which each segment repeats, take at most DEFINITION_BYTES_MAX;
further ones are written as rows that name their keys.

A dict whose length is that of one known set is tried with that set's function: if all its keys are there, it is
that set. This holds for plain dicts alone (a defaultdict has every key), so others are looked up by their keys.
"""

import itertools
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from trainledger_schemas.clock import wall_ns
from trainledger_schemas.journal import (
    DEFINITION,
    RESIDUE,
    ROW,
    ROW_OVERHEAD_BYTES,
    TEXT,
    pack_control,
    pack_row,
)

from .interruption import is_from_handler
from .journal import JournalWriter, json_bytes
from .notices import Notices
from .values import convert

__all__ = ["RowWriter"]

SHAPES_MAX = 256
USES_BEFORE_SHAPE = 3
KEY_SETS_WATCHED_MAX = 1024
ORDERS_MAX = 1024
KEYS_A_RECORD_MAX = 1500
SHAPE_KEYS_MAX = 30_000
DEFINITION_BYTES_MAX = 4 << 20
STEP_MAX = (1 << 63) - 1

_Log = Callable[[Mapping[str, Any], int], None]

_SOURCE = """
def log(d, step):
    try:
        b = pack({head}, step, now(), {values})
        b = join(b, crc32(b, {residue}))
    except Exception as refusal:
        slow(d, step, refusal)
        return
    try:
        journal.write(b)
    except Exception as refusal:
        journal.append(b, 1, {count}, refusal)
"""


class RowWriter:
    """Writes rows of one run. `by_length` leads from the number of keys of a dict to the function to try;
    `by_keys` takes any Mapping; `slow` takes anything."""

    def __init__(self, open_journal: Callable[[], JournalWriter | None], notices: Notices) -> None:
        self.by_length: dict[int, _Log] = {}
        self._orders: dict[tuple[Any, ...], _Log] = {}
        self._open_journal = open_journal
        self._notices = notices
        self._reset()

    def forget(self) -> None:
        """Start anew, as after a fork: the same dicts, because closures hold them."""
        self.by_length.clear()
        self._orders.clear()
        self._reset()

    def by_keys(self, data: Mapping[Any, Any], step: Any) -> None:
        """Write a row by the function of exactly its keys, if there is one."""
        try:
            row = self._orders.get(tuple(data))
        except Exception as error:  # no Mapping, or one of the user's that raises
            self.slow(data, step, error)
            return
        if row is None:
            self.slow(data, step)
        else:
            row(data, step)

    def slow(self, data: Any, step: Any, refusal: Exception | None = None) -> None:
        """Write any row; never raises into training. `refusal`: why the fast way did not take it."""
        if refusal is not None and is_from_handler(refusal):
            raise refusal
        try:
            journal = self._open_journal()
            if journal is None:
                return
            if not isinstance(data, Mapping):
                self._refuse(f"log() takes a dict of numbers, not a {type(data).__name__}")
                return
            converted = convert(data, self._notices)
            number = self._step(step)
            for key, text in converted.texts.items():
                journal.append_control(TEXT, json_bytes({"key": key, "text": text}), step=number)
            if converted.numbers:
                self._write_numbers(journal, converted.numbers, number)
                self._learn(journal, data, converted.numbers)
        except Exception as error:  # what is given may raise anything; training must not notice
            if is_from_handler(error):
                raise
            self._refuse(
                f"a call of log() could not be recorded ({type(error).__name__}); give it a dict of numbers"
            )

    def _refuse(self, text: str) -> None:
        self._notices.once("row", text)
        self._notices.count("calls")

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._shapes: dict[tuple[str, ...], _Log] = {}
        self._uses: dict[tuple[str, ...], int] = {}
        # A counter in C: two shapes of one number would make both unreadable.
        self._shape_numbers = itertools.count(1)
        self._definition_bytes = 0

    def _step(self, step: Any) -> int:
        try:
            number = int(step)
        except Exception as error:  # text, NaN, an object of the user's
            if is_from_handler(error):
                raise
            self._notices.once(
                "step", f"a step of type {type(step).__name__} is no whole number: recorded as 0"
            )
            return 0
        if number != step and not isinstance(step, str):
            self._notices.once(
                "step part", f"a step of {step!s:.40} is no whole number: cut to {number}; so are others"
            )
        if not -STEP_MAX - 1 <= number <= STEP_MAX:
            self._notices.once("step range", "a step is beyond 64 bits: recorded as the nearest that is not")
        return max(-STEP_MAX - 1, min(number, STEP_MAX))

    def _write_numbers(self, journal: JournalWriter, numbers: dict[str, float], step: int) -> None:
        shaped = self._shapes.get(tuple(numbers))
        if shaped is not None:
            shaped(numbers, step)
            return
        names = list(numbers)
        for begin in range(0, len(names), KEYS_A_RECORD_MAX):
            part = names[begin : begin + KEYS_A_RECORD_MAX]
            for keys in _fitting(part):
                body = pack_row(
                    json_bytes(keys), struct.pack(f"<{len(keys)}d", *(numbers[key] for key in keys))
                )
                journal.append(pack_control(ROW, body, step=step, wall_ns=wall_ns()), 1, len(keys))

    def _learn(self, journal: JournalWriter, data: Mapping[Any, Any], numbers: dict[str, float]) -> None:
        keys = tuple(numbers)
        with self._lock:
            if keys not in self._shapes:
                self._uses[keys] = self._uses.get(keys, 0) + 1
                if len(self._uses) > KEY_SETS_WATCHED_MAX:
                    self._uses.clear()
                    return
                if self._uses[keys] < USES_BEFORE_SHAPE - 1 or len(keys) > SHAPE_KEYS_MAX:
                    return
                if self._definition_bytes > DEFINITION_BYTES_MAX:
                    return
                shape = next(self._shape_numbers)
                if shape > SHAPES_MAX:
                    return
                self._shapes[keys] = self._define(journal, keys, shape)
            if tuple(data) == keys and all(type(key) is str for key in data):
                self._offer(keys, self._shapes[keys])

    def _define(self, journal: JournalWriter, keys: tuple[str, ...], shape: int) -> _Log:
        records = []
        begin = 0
        for part in _fitting(list(keys)):
            body = {"shape": shape, "start": begin, "total": len(keys), "keys": part}
            records.append(pack_control(DEFINITION, json_bytes(body), step=0, wall_ns=wall_ns()))
            begin += len(part)
        self._definition_bytes += sum(map(len, records))
        journal.define(records)
        size = ROW_OVERHEAD_BYTES + 8 * len(keys)
        names = {
            "pack": struct.Struct(f"<Iqq{len(keys)}d").pack,
            "join": struct.Struct(f"<{size - 4}sI").pack,
            "crc32": crc32,
            "now": wall_ns,
            "journal": journal,
            "slow": self.slow,
        }
        source = _SOURCE.format(
            head=shape << 16 | size >> 2,
            residue=RESIDUE,
            count=len(keys),
            # repr of an exact str: a subclass could write code here.
            values=", ".join(f"d[{str.__repr__(key)}]" for key in keys),
        )
        # The keys are data, quoted by repr; nothing else of the source comes from outside.
        exec(compile(source, "<shape>", "exec"), names)  # noqa: S102 generated function, see above
        log: _Log = names["log"]  # type: ignore[assignment]  # made by the line above
        return log

    def _offer(self, order: tuple[str, ...], log: _Log) -> None:
        if len(self._orders) >= ORDERS_MAX:
            return
        self._orders[order] = log
        same_length = [known for known in self._orders if len(known) == len(order)]
        self.by_length[len(order)] = log if len(same_length) == 1 else self.by_keys


def _fitting(keys: list[str]) -> list[list[str]]:
    """Cut keys so that each record stays far below the format's limit, however long they are."""
    parts: list[list[str]] = [[]]
    size = 0
    for key in keys:
        size += len(key.encode()) * 6 + 16
        if size > 200_000 and parts[-1]:
            parts.append([])
            size = len(key.encode()) * 6 + 16
        parts[-1].append(key)
    return parts
