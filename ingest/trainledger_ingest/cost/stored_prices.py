"""Prices of node-hours that are dealt already: after a price change their money is made anew, and their shares stay.

Who held what does not depend on the rate, so only hours that get another price are written, by the engine, from the
shares that are there. Hours that have to be dealt anew are named instead: where the price book now divides a node
otherwise, where a row of money belongs to no row of shares, and in closed months, whose differences need their cause.

What is to be done is read from the rows themselves, so it may be cut off anywhere and is found again.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ..storage.store import Store
from .bill_sql import bill_sql, costs_sql, money_sql, node_chunks, price_parameters, sections_sql
from .closed_hours import Closing
from .holder_sums import UNPRICED_COLUMNS, UNSEENS_SQL, costs_of_holders
from .prices import DEFAULT_POLICY, Entry, Price, PriceBook, matches

__all__ = ["PRICES_A_VERSION", "StoredPrices"]

PRICES_A_VERSION = 1 << 20


class StoredPrices:
    """The money of one generation's node-hours after new entries of the price book.

    `entries`: the book in the order of its events; up to `known` of them all hours are dealt by."""

    def __init__(
        self, store: Store, generation: str, entries: Sequence[Entry], *, known: int, closing: Closing
    ) -> None:
        self._store = store
        self._generation = generation
        self._new = entries[known:]
        self._before, self._book = PriceBook(entries[:known]), PriceBook(entries)
        self._closing = closing
        self._ruled = [
            entry for entry in entries if isinstance(entry, Price) and entry.policy != DEFAULT_POLICY
        ]
        policies = dict.fromkeys([DEFAULT_POLICY, *(price.policy for price in self._ruled)])
        self._policies = {policy: number for number, policy in enumerate(policies)}

    def write(self, version: int) -> set[tuple[str, int]]:
        """Give each hour its price where money alone changes; the hours that have to be dealt anew instead.

        `version`: below PRICES_A_VERSION, and no less than that of any row."""
        to_deal: set[tuple[str, int]] = set()
        rated: list[str] = []
        for node, start_us in self._nodes().items():
            if self._before.rules_of(node) == self._book.rules_of(node):
                rated.append(node)
            else:
                to_deal |= self._hours_from(node, start_us)
        for chunk in node_chunks(rated, (self._book,)):
            parameters = self._parameters(chunk)
            self._store.command(self._rewriting(version), parameters)
            to_deal |= self._hours_to_deal(parameters)
        return to_deal

    def _nodes(self) -> dict[str, int]:
        """Nodes that new entries are about, and the first hour that they can change."""
        starts: dict[str, int] = {}
        for entry in self._new:
            starts[entry.pattern] = min(entry.from_hour_us, starts.get(entry.pattern, entry.from_hour_us))
        rows = self._store.rows(
            f"SELECT DISTINCT toString(node_id) AS node FROM {self._generation}.node_hours"
        )
        found: dict[str, int] = {}
        for node in (str(row["node"]) for row in rows):
            begins = [start_us for pattern, start_us in starts.items() if matches(node, pattern)]
            if begins:
                found[node] = min(begins)
        return found

    def _hours_from(self, node: str, start_us: int) -> set[tuple[str, int]]:
        """The known hours of a node from an hour on.

        An hour of an owned node that has no row yet lies between two events, of which the later one is among them."""
        rows = self._store.rows(
            f"SELECT DISTINCT node_id, toUnixTimestamp(hour) AS hour FROM {self._generation}.node_hours "
            "WHERE node_id = {node:String} AND toUnixTimestamp(hour) >= {start:Int64}",
            {"node": node, "start": start_us // 1_000_000},
        )
        return _node_hours(rows)

    def _hours_to_deal(self, parameters: dict[str, Any]) -> set[tuple[str, int]]:
        rows = self._store.rows(
            f"SELECT node_id, toUnixTimestamp(hour) AS hour FROM ({self._hours()}) "
            "WHERE is_torn OR is_changed AND (is_ruled_anew OR is_closed)",
            parameters,
        )
        return _node_hours(rows)

    def _rewriting(self, version: int) -> str:
        bill = bill_sql("presence_us", "nano_per_hour")
        costs = f"arrayMap(cost -> toNullable({money_sql('cost')}), dealt)"
        unpriced = "arrayResize([], length(held), CAST(NULL AS Nullable(Decimal(38, 9))))"
        newer = f"intDiv(version, {PRICES_A_VERSION}) * {PRICES_A_VERSION} + {version}"
        stay, sums = ", ".join(("presence_us", "observed_us", *UNPRICED_COLUMNS)), costs_of_holders("dealt")
        # Without a price the rate is 0, and so are the sums. Hours of many months may get one price.
        return f"""INSERT INTO {self._generation}.node_hour_money (node_id, hour, version, lines_version, price_id,
              currency, bill, costs, {stay}, {", ".join(sums)})
            SELECT node_id, hour, {newer}, version, new_id, new_currency, if(place = 0, NULL, {money_sql("bill_nano")}),
              if(place = 0, {unpriced}, {costs}), {stay}, {", ".join(sums.values())}
            FROM (SELECT *, {bill} AS bill_nano, {costs_sql("bill_nano", "held")} AS dealt FROM ({self._hours()})
              WHERE is_changed AND NOT is_torn AND NOT is_ruled_anew AND NOT is_closed)
            SETTINGS max_partitions_per_insert_block = 0"""

    def _hours(self) -> str:
        """Every node-hour of a chunk with the price that it should have, and what is to be done with it."""
        months = ", ".join(f"'{period}'" for period in self._closing.statements) or "''"
        return f"""SELECT h.* EXCEPT (price_id, has_price), p.place AS place,
            toUInt64(({{nanos:Array(UInt64)}})[place]) AS nano_per_hour,
            if(place = 0, NULL, toUUID(({{ids:Array(String)}})[place])) AS new_id,
            if(place = 0, NULL, ({{currencies:Array(String)}})[place]) AS new_currency,
            NOT h.has_price AS is_torn, NOT (h.price_id <=> new_id) AS is_changed,
            transform(ifNull(toString(h.price_id), ''), {{ruled:Array(String)}}, {{rules:Array(UInt32)}}, toUInt32(0))
              != ({{policies:Array(UInt32)}})[place] AS is_ruled_anew,
            formatDateTime(h.hour, '%Y-%m', 'UTC') IN ({months}) AS is_closed
          FROM ({self._priced()}) AS h
          ASOF INNER JOIN ({sections_sql()}) AS p ON p.node = h.node_id AND p.since <= h.hour"""

    def _priced(self) -> str:
        """As view priced_node_hours, from the tables: a generation that a rebuild makes has no views yet."""
        holders = ", ".join(UNPRICED_COLUMNS)
        return f"""SELECT l.* EXCEPT (join_key), {holders},
            m.node_id = l.node_id AND m.hour = l.hour AND m.lines_version = l.version AS has_price,
            if(has_price, m.price_id, NULL) AS price_id
          FROM (SELECT node_id, hour, version, presence_us, observed_us, held, used, {UNSEENS_SQL} AS unseens,
              cityHash64(node_id, hour, version) AS join_key
            FROM {self._generation}.node_hours FINAL WHERE node_id IN {{chunk:Array(String)}}) AS l
          LEFT ANY JOIN (
            SELECT node_id, hour, lines_version, price_id, {holders},
              cityHash64(node_id, hour, lines_version) AS join_key
            FROM {self._generation}.node_hour_money FINAL WHERE node_id IN {{chunk:Array(String)}}) AS m
          ON m.join_key = l.join_key"""

    def _parameters(self, chunk: list[str]) -> dict[str, Any]:
        """The parameters of `_hours` for some nodes."""
        parameters, known = price_parameters(self._book, chunk)
        return parameters | {
            "chunk": chunk,
            "policies": [self._policies[price.policy] for price in known],
            "ruled": [price.price_id for price in self._ruled],
            "rules": [self._policies[price.policy] for price in self._ruled],
        }


def _node_hours(rows: Iterable[dict[str, object]]) -> set[tuple[str, int]]:
    return {(str(row["node_id"]), int(str(row["hour"])) * 1_000_000) for row in rows}
