"""Slurm's trackable resources of a job: `billing=8,cpu=8,gres/gpu=1,gres/gpu:h100=1,mem=64G,node=1`.

A typed device is one of the generic ones and is not added to them; where the generic count is missing (it is, unless
AccountingStorageTRES names gres/gpu) the typed ones are summed. A MIG instance counts as its part of a device, as in
the bill of a node that is watched.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from trainledger_schemas.errors import UsageError

__all__ = ["Amounts", "amounts_of", "parse_tres"]

# Eighths of a device that an instance of so many slices takes; by its memory too where that says otherwise (one slice
# with twice the memory, and the four slices of an A30).
_EIGHTHS = {1: 1, 2: 2, 3: 4, 4: 4, 7: 8}
_ODD_EIGHTHS = {(1, 6): 2, (1, 20): 2, (1, 24): 2, (1, 35): 2, (1, 45): 2, (2, 12): 4, (4, 24): 8}
_MIG = re.compile(r"(?:.*[._-])?([12347])g\.(\d+)gb.*", re.IGNORECASE)
AMOUNT_MAX = 10**9
BYTES_MAX = 2**63 - 1
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)[nc]?")


class Amounts(NamedTuple):
    """Thousandths of cores and of devices, and bytes."""

    cpu_milli: int
    device_milli: int
    memory_bytes: int | None


def parse_tres(text: str) -> dict[str, str]:
    """Name to amount as text; raises UsageError for what is none."""
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, amount = part.partition("=")
        if not equals or not name or not amount:
            raise UsageError(f"{text[:120]!r} is no AllocTRES such as cpu=8,gres/gpu=1,mem=64G")
        found[name] = amount
    return found


def amounts_of(tres: Mapping[str, str]) -> Amounts:
    """What a job had."""
    typed = {
        name.partition(":")[2]: _whole(name, amount)
        for name, amount in tres.items()
        if name.startswith("gres/gpu:")
    }
    instances = {name: _eighths(name) for name in typed}
    generic = _whole("gres/gpu", tres["gres/gpu"]) if "gres/gpu" in tres else sum(typed.values())
    parts = sum(count for name, count in typed.items() if instances[name] is not None)
    whole = max(0, generic - parts)
    eighths = sum(count * (instances[name] or 0) for name, count in typed.items())
    cpus = _whole("cpu", tres.get("cpu", "0"))
    return Amounts(1000 * cpus, 1000 * whole + 125 * eighths, _bytes(tres.get("mem")))


def _eighths(name: str) -> int | None:
    found = _MIG.fullmatch(name)
    if found is None:
        return None
    slices, memory = int(found[1]), int(found[2])
    return _ODD_EIGHTHS.get((slices, memory), _EIGHTHS[slices])


def _whole(name: str, amount: str) -> int:
    if not amount.isdecimal() and _SIZE.fullmatch(amount) is None:
        raise UsageError(f"{name}={amount[:40]} is no amount")
    number = int(amount) if amount.isdecimal() else (_bytes(amount) or 0)
    if number > AMOUNT_MAX:
        raise UsageError(f"{name}={amount[:40]} is more than any job has")
    return number


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    try:
        # A number without a unit is in megabytes.
        number = int(Decimal(found[1]) * 1024 ** (_UNITS[found[2]] or 2)) if found else None
    except InvalidOperation:
        return None
    if number is not None and number > BYTES_MAX:
        raise UsageError(f"{text[:40]} is more memory than any job has")
    return number
