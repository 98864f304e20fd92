"""Who held a node-hour, each holder once, and the sums of its lines: what reports read instead of the lines.

A holder is a kind, run, attempt, owner and account; it has a line for the host and for each device that it held. The
sums are exact where the lines are: shares and money are whole numbers. Migration 0026 has the same in SQL, for rows
from before it; a test compares them.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import pyarrow as pa

from .node_events import HOST, HOUR_US
from .node_hour import Line, NodeHour

__all__ = [
    "HOLDER_FIELDS",
    "UNPRICED_COLUMNS",
    "UNSEENS_SQL",
    "costs_of_holders",
    "holder_columns",
    "sums_by_place",
]

_WHO = ("holder_kinds", "holder_runs", "holder_attempts", "holder_owners", "holder_accounts")
_HELD = (
    "holder_held",
    "holder_used",
    "holder_unseen",
    "holder_device_hours",
    "holder_device_used",
    "holder_device_unseen",
    "holder_empty_lines",
)
_MONEY = ("holder_costs", "holder_costs_used", "holder_costs_unseen")
# What stays as it is when an hour gets another price.
UNPRICED_COLUMNS = ("places", *_WHO, *_HELD)
# Hours that were dealt before version 19 of the tables do not say what was not measured.
UNSEENS_SQL = (
    "if(empty(unseen), arrayMap((kind, part, use) -> toUInt64(if(kind = 'idle', 0, part - ifNull(use, 0))), "
    "kinds, held, used), unseen)"
)
HOLDER_FIELDS = [
    ("places", pa.list_(pa.uint16())),
    ("holder_kinds", pa.list_(pa.string())),
    ("holder_runs", pa.list_(pa.binary(16))),
    ("holder_attempts", pa.list_(pa.uint16())),
    ("holder_owners", pa.list_(pa.string())),
    ("holder_accounts", pa.list_(pa.string())),
    ("holder_held", pa.list_(pa.uint64())),
    ("holder_used", pa.list_(pa.uint64())),
    ("holder_unseen", pa.list_(pa.uint64())),
    ("holder_device_hours", pa.list_(pa.float64())),
    ("holder_device_used", pa.list_(pa.float64())),
    ("holder_device_unseen", pa.list_(pa.float64())),
    ("holder_empty_lines", pa.list_(pa.uint16())),
    ("holder_costs", pa.list_(pa.uint64())),
    ("holder_costs_used", pa.list_(pa.uint64())),
    ("holder_costs_unseen", pa.list_(pa.uint64())),
]


def holder_columns(hour: NodeHour, costs: Sequence[int]) -> dict[str, list[Any]]:
    """The columns HOLDER_FIELDS of a node-hour; `costs` by line, 10^-9 of the currency, 0 without a price."""
    numbers: dict[tuple[Any, ...], int] = {}
    places = [numbers.setdefault(_who(line), len(numbers) + 1) for line in hour.lines]
    sums: list[list[Any]] = [[0, 0, 0, None, 0.0, 0.0, 0, 0, 0, 0] for _ in numbers]
    for line, place, cost, device in zip(hour.lines, places, costs, _device_hours(hour), strict=True):
        total = sums[place - 1]
        held, used, unseen = line.held_share, line.used_share or 0, line.unseen_share
        if device is not None:
            total[3] = (total[3] or 0.0) + device
            if held:
                total[4] += device * used / held
                # A line that was not measured at all counts whole, without the error of a division.
                total[5] += device if unseen == held else device * unseen / held
        cost_used = cost * used // (held or 1)
        known = cost * (used + unseen) // held if held else cost
        for number, part in ((0, held), (1, used), (2, unseen), (6, held == 0), (7, cost), (8, cost_used)):
            total[number] += part
        total[9] += known - cost_used
    kinds, runs, attempts, owners, accounts = zip(*numbers, strict=True) if numbers else ((),) * 5
    who = (kinds, [UUID(run).bytes if run else None for run in runs], attempts, owners, accounts)
    names = (*_WHO, *_HELD, *_MONEY)
    columns = (*who, *(zip(*sums, strict=True) if sums else ((),) * (len(_HELD) + len(_MONEY))))
    return {"places": places} | {name: list(column) for name, column in zip(names, columns, strict=True)}


def costs_of_holders(costs: str) -> dict[str, str]:
    """The columns of money in SQL, from `costs` (of the lines, 10^-9), `held`, `used`, `unseens` and `places`."""
    used = f"arrayMap((c, h, u) -> toUInt64(intDiv(toUInt128(c) * ifNull(u, 0), greatest(h, 1))), {costs}, held, used)"
    known = (
        "arrayMap((c, h, u, n) -> if(h = 0, c, toUInt64(intDiv(toUInt128(c) * (ifNull(u, 0) + n), greatest(h, 1)))), "
        f"{costs}, held, used, unseens)"
    )
    unseen = f"arrayMap((k, u) -> k - u, {known}, {used})"
    return dict(zip(_MONEY, map(sums_by_place, (costs, used, unseen)), strict=True))


def sums_by_place(parts: str) -> str:
    """Parts of the lines (UInt64), summed by holder; SQL, over a column `places`."""
    # As in bill_sql: what stands within the inner arrayMap would be computed for each holder anew.
    one = "toUInt64(arraySum((x, place) -> if(place = k, x, 0), parts, places))"
    return f"arrayMap(parts -> arrayMap(k -> {one}, range(1, arrayMax(places) + 1)), [{parts}])[1]"


def _who(line: Line) -> tuple[Any, ...]:
    return str(line.kind), line.run_id, line.attempt or 0, line.owner, line.account


def _device_hours(hour: NodeHour) -> Iterable[float | None]:
    """Of each line the hours of its device that it held; None for the host, and for a device that nobody held."""
    sums: dict[str, int] = {}
    for line in hour.lines:
        sums[line.resource] = sums.get(line.resource, 0) + line.held_share
    for line in hour.lines:
        whole = sums[line.resource]
        is_known = line.resource != HOST and whole
        yield hour.presence_us / HOUR_US * line.held_share / whole if is_known else None
