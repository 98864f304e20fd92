"""The bill of a node-hour and its division among the lines, as the engine computes it: thousands of hours at once.

The same numbers as `Price.bill_nano` and `priced_lines`, to the last digit (a test compares them): a bill rounded half
up to 10^-9 of the currency, dealt by largest remainder over the shares held, ties to the line that comes first.
Products go up to 10^15 x 3.6 x 10^15, beyond 64 bits and within 128.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from .node_events import HOUR_US
from .prices import Price, PriceBook

__all__ = ["bill_sql", "costs_sql", "money_sql", "node_chunks", "price_parameters", "sections_sql"]

# A node has a section for each price of its own: few, or one an hour where a cloud auctions its machines. They are
# parameters of a statement, which has to stay small.
SECTIONS_MAX = 20_000
NODES_MAX = 2_000
_SECONDS_MAX = 2**32 - 1
_LINES_MAX = 65_536


def bill_sql(presence_us: str, nano_per_hour: str) -> str:
    """What presence costs at a rate, in 10^-9 of the currency; both are SQL, the result is a UInt64."""
    twice = f"toUInt128({presence_us}) * 2 * {nano_per_hour}"
    return f"toUInt64(intDiv({twice} + {HOUR_US}, {2 * HOUR_US}))"


def costs_sql(bill: str, shares: str) -> str:
    """A bill (10^-9, UInt64) dealt over an array of shares (UInt64): an array of the same length that sums to it."""
    # arrayMap over arrays of one element binds a value once, where WITH would leave its name in the query.
    ordered = f"(r, i) -> toUInt128(r) * {_LINES_MAX} + ({_LINES_MAX - 1} - i)"
    rest = "(s, p) -> toUInt64(toUInt128(bill) * s - toUInt128(p) * whole)"
    return (
        "arrayMap((bill, shares) -> arrayMap((whole) -> arrayMap((parts) -> arrayMap((marks, left) -> "
        "if(left = 0, parts, "
        "arrayMap((part, mark) -> part + (mark >= arrayReverseSort(marks)[left]), parts, marks)), "
        f"[arrayMap({ordered}, arrayMap({rest}, shares, parts), "
        "arrayEnumerate(shares))], [bill - arraySum(parts)])[1], "
        "[arrayMap(s -> toUInt64(intDiv(toUInt128(bill) * s, whole)), shares)])[1], "
        f"[greatest(arraySum(shares), 1)])[1], [{bill}], [{shares}])[1]"
    )


def money_sql(nano: str) -> str:
    """10^-9 of a currency (UInt64) as an amount."""
    return f"CAST(toDecimal128({nano}, 9) / 1000000000 AS Decimal(38, 9))"


def sections_sql(book: str = "") -> str:
    """The prices of a book by `node` and `since`, as `price_parameters` gives them: its `place` among them, 0 for none.

    `{nanos...}`, `{ids...}` and `{currencies...}` are parallel arrays to look up a place in."""
    return (
        "SELECT section.1 AS node, toDateTime(section.2, 'UTC') AS since, section.3 AS place FROM ("
        f"SELECT arrayJoin(arrayZip({{nodes{book}:Array(String)}}, {{since{book}:Array(UInt32)}}, "
        f"{{places{book}:Array(UInt32)}})) AS section)"
    )


def price_parameters(
    book: PriceBook, nodes: Iterable[str], name: str = ""
) -> tuple[dict[str, Any], list[Price]]:
    """Parameters of a statement for a book's prices of these nodes, and the prices by place, from 1."""
    places: dict[str, int] = {}
    known: list[Price] = []
    sections: list[tuple[str, int, int]] = []
    for node in nodes:
        for since_us, price in book.sections_of(node):
            if price is not None and price.price_id not in places:
                known.append(price)
                places[price.price_id] = len(known)
            place = places[price.price_id] if price else 0
            sections.append((node, min(since_us // 1_000_000, _SECONDS_MAX), place))
    columns = list(zip(*sections, strict=True)) or [(), (), ()]
    return {
        f"nodes{name}": list(columns[0]),
        f"since{name}": list(columns[1]),
        f"places{name}": list(columns[2]),
        f"nanos{name}": [price.nano_per_hour for price in known],
        f"ids{name}": [price.price_id for price in known],
        f"currencies{name}": [price.currency for price in known],
    }, known


def node_chunks(nodes: Collection[str], books: Collection[PriceBook]) -> Iterator[list[str]]:
    """The nodes, so many at a time that the prices of their books fit one statement."""
    chunk: list[str] = []
    count = 0
    for node in sorted(nodes):
        more = sum(len(book.sections_of(node)) for book in books)
        if chunk and (len(chunk) >= NODES_MAX or count + more > SECTIONS_MAX):
            yield chunk
            chunk, count = [], 0
        chunk.append(node)
        count += more
    if chunk:
        yield chunk
