"""Rows: the fast way from log() to the journal, one generated function for each set of keys.

A function is generated at the third use of a set of keys and calls nothing but C: pack, crc32, mmap.write. Its
values are converted before anything shared is touched, so a slow or nasty `__float__` harms nobody. Whatever it
cannot do (other keys, text, None, nested dicts) goes the slow way, which handles everything. At most SHAPES_MAX
sets get a function; further ones are written as rows that name their keys.
"""

import json
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

from .journal import JournalWriter
from .notices import Notices
from .values import convert

__all__ = ["RowWriter"]

SHAPES_MAX = 256
USES_BEFORE_SHAPE = 3
KEY_SETS_WATCHED_MAX = 1024
ORDERS_MAX = 1024
KEYS_A_RECORD_MAX = 1500
SHAPE_KEYS_MAX = 30_000

_Log = Callable[[Mapping[str, Any], int], None]

_SOURCE = """
def log(d, step):
    try:
        b = pack({head}, step, now(), {values})
        b = join(b, crc32(b, {residue}))
    except refused:
        slow(d, step)
        return
    try:
        journal.write(b)
    except (ValueError, OSError):
        journal.append(b, 1, {count})
"""


class RowWriter:
    """Writes rows of one run; `by_length` leads from the number of keys to the function to try."""

    def __init__(self, open_journal: Callable[[], JournalWriter | None], notices: Notices) -> None:
        self.by_length: dict[int, _Log] = {}
        self._open_journal = open_journal
        self._notices = notices
        self._reset()

    def forget(self) -> None:
        """Start anew, as after a fork: the same dict, because closures hold it."""
        self.by_length.clear()
        self._reset()

    def slow(self, data: Mapping[Any, Any], step: Any) -> None:
        """Write any row; never raises into training."""
        try:
            journal = self._open_journal()
            if journal is None:
                return
            converted = convert(data, self._notices)
            number = self._step(step)
            for key, text in converted.texts:
                journal.append_control(TEXT, json.dumps({"key": key, "text": text}).encode(), step=number)
            if converted.numbers:
                self._write_numbers(journal, converted.numbers, number)
                self._learn(journal, data, converted.numbers)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            self._notices.once(
                "row", f"a call of log() could not be recorded: {error}; give it a dict of numbers"
            )
            self._notices.count("calls")

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._shapes: dict[tuple[str, ...], _Log] = {}
        self._orders: dict[tuple[Any, ...], _Log] = {}
        self._uses: dict[tuple[str, ...], int] = {}
        self._next_shape = 1

    def _step(self, step: Any) -> int:
        try:
            return max(-(1 << 63), min(int(step), (1 << 63) - 1))
        except (TypeError, ValueError, OverflowError):
            self._notices.once("step", f"step {step!r} is no whole number: recorded as 0")
            return 0

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
                    json.dumps(keys).encode(), struct.pack(f"<{len(keys)}d", *(numbers[key] for key in keys))
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
                if self._uses[keys] < USES_BEFORE_SHAPE - 1 or self._next_shape > SHAPES_MAX:
                    return
                if len(keys) > SHAPE_KEYS_MAX:
                    return
                self._shapes[keys] = self._define(journal, keys)
            if tuple(data) == keys and all(type(key) is str for key in data):
                self._offer(tuple(data), self._shapes[keys])

    def _define(self, journal: JournalWriter, keys: tuple[str, ...]) -> _Log:
        shape = self._next_shape
        self._next_shape += 1
        records = []
        begin = 0
        for part in _fitting(list(keys)):
            body = {"shape": shape, "start": begin, "total": len(keys), "keys": part}
            records.append(pack_control(DEFINITION, json.dumps(body).encode(), step=0, wall_ns=wall_ns()))
            begin += len(part)
        journal.define(records)
        size = ROW_OVERHEAD_BYTES + 8 * len(keys)
        names = {
            "pack": struct.Struct(f"<Iqq{len(keys)}d").pack,
            "join": struct.Struct(f"<{size - 4}sI").pack,
            "crc32": crc32,
            "now": wall_ns,
            "journal": journal,
            "slow": self.slow,
            "refused": (
                KeyError,
                TypeError,
                ValueError,
                ArithmeticError,
                RuntimeError,
                AttributeError,
                struct.error,
            ),
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

    def _offer(self, order: tuple[Any, ...], log: _Log) -> None:
        if len(self._orders) >= ORDERS_MAX:
            return
        self._orders[order] = log
        orders = self._orders
        same_length = {id(shaped) for known, shaped in orders.items() if len(known) == len(order)}
        if len(same_length) == 1:
            self.by_length[len(order)] = log
            return
        slow = self.slow

        def choose(data: Mapping[str, Any], step: int) -> None:
            shaped = orders.get(tuple(data))
            if shaped is None:
                slow(data, step)
            else:
                shaped(data, step)

        self.by_length[len(order)] = choose


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
