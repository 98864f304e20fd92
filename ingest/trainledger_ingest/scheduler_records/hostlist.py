"""Slurm's short form of many nodes, `node[01-03,07],gpu-a`, and its long one."""

import re
from itertools import product

from trainledger_schemas.errors import UsageError

__all__ = ["NODES_MAX", "expand_hostlist"]

NODES_MAX = 100_000
_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\],]+)|(,)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand_hostlist(text: str) -> tuple[str, ...]:
    """The names, in order; raises UsageError for what is no list of nodes, or more than NODES_MAX."""
    names: list[str] = []
    pieces: list[list[str]] = []
    end = 0
    for found in _PART.finditer(text):
        if found.start() != end:
            raise _wrong(text)
        end = found.end()
        numbers, plain, comma = found.groups()
        if comma:
            names += _joined(pieces, text)
            pieces = []
        else:
            pieces.append([plain] if plain is not None else _numbers(numbers, text))
    if end != len(text):
        raise _wrong(text)
    names += _joined(pieces, text)
    if len(names) > NODES_MAX:
        raise UsageError(f"{text[:80]!r} names more than {NODES_MAX} nodes")
    return tuple(dict.fromkeys(names))


def _joined(pieces: list[list[str]], text: str) -> list[str]:
    if not pieces:
        raise _wrong(text)
    count = 1
    for piece in pieces:
        count *= len(piece)
    if count > NODES_MAX:
        raise UsageError(f"{text[:80]!r} names more than {NODES_MAX} nodes")
    return ["".join(parts) for parts in product(*pieces)]


def _numbers(text: str, whole: str) -> list[str]:
    found: list[str] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise _wrong(whole)
        first, last = match[1], match[2] or match[1]
        if not 0 <= int(last) - int(first) < NODES_MAX:
            raise _wrong(whole)
        found += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return found


def _wrong(text: str) -> UsageError:
    return UsageError(f"{text[:80]!r} is no list of nodes such as node[01-03],gpu-a")
