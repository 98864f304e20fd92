"""Hours of closed months: what is known now against what was booked, hour by hour, and why they differ.

Each dealt hour of a closed month has a row in `closed_hours`, empty where nothing moved, under the version of its
node-hour. So a crash, a late event that met the closing itself, and a close that books the differences are all found
by `stale`: a row is missing, or was computed against older books.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pyarrow as pa

from trainledger_schemas import __version__

from ..storage.store import Store
from .adjustments import Adjustment, Bill, EventRef, Owed, explain_difference
from .node_events import NodeEvent
from .node_hour import NodeHour, deal_node_hour
from .node_stream import cut_stream
from .policy import CostPolicy
from .prices import BOOK_EVENTS, DEFAULT_POLICY, Entry, Price, PriceBook, PriceEnd, entry_of
from .pricing import bill_by_holder

__all__ = ["ClosedHours", "Closing", "DealtNode", "period_of"]

_MONEY = pa.decimal128(38, 9)
_SCHEMA = pa.schema(
    [
        ("node_id", pa.string()),
        ("hour", pa.timestamp("s", tz="UTC")),
        ("version", pa.uint64()),
        ("closes", pa.uint32()),
        ("kinds", pa.list_(pa.string())),
        ("run_ids", pa.list_(pa.binary(16))),
        ("owners", pa.list_(pa.string())),
        ("currencies", pa.list_(pa.string())),
        ("old_costs", pa.list_(_MONEY)),
        ("new_costs", pa.list_(_MONEY)),
        ("deltas", pa.list_(_MONEY)),
        ("causes", pa.list_(pa.string())),
        ("event_refs", pa.list_(pa.string())),
        ("booked_at", pa.list_(pa.timestamp("us", tz="UTC"))),
        ("booked_by", pa.list_(pa.string())),
        ("accounts", pa.list_(pa.string())),
    ]
)


def period_of(hour_us: int) -> str:
    """The month that an hour belongs to, YYYY-MM, UTC."""
    return datetime.fromtimestamp(hour_us // 1_000_000, UTC).strftime("%Y-%m")


@dataclass(frozen=True, slots=True)
class Closing:
    """The closed months, and what was known when the last of them was closed that booked differences.

    `by_month`: the same for months that were closed after it, and before it in time: they booked nothing.
    `statements`: statement id by month; `book`: the prices then; `price_events`: the event of every price by its id;
    `price_ends`: where prices end, with the event that says so; `moved`: the newest decision since that processes are
    of another run; `ends`: offsets behind the node events that were known then, by partition."""

    statements: Mapping[str, str] = field(default_factory=dict)
    closes: int = 0
    closed_at_us: int = 0
    ends: Mapping[int, int] = field(default_factory=dict)
    book: PriceBook = field(default_factory=lambda: PriceBook(()))
    price_events: Mapping[str, EventRef] = field(default_factory=dict)
    price_ends: Sequence[tuple[PriceEnd, EventRef]] = ()
    moved: EventRef | None = None
    by_month: Mapping[str, "Closing"] = field(default_factory=dict)

    def known_of(self, hour_us: int) -> "Closing":
        """What was known when the hour's books were last made."""
        return self.by_month.get(period_of(hour_us), self)

    def holds(self, hour_us: int) -> bool:
        """Whether the hour's month is closed."""
        return bool(self.statements) and period_of(hour_us) in self.statements

    def told_by(self, then: Price | None, price: Price | None, hour_us: int) -> EventRef:
        """The event that made `price` count in an hour instead of `then`: a price that was set, or one that ended."""
        found = [ref for ref in (self.price_events.get(price.price_id) if price else None,) if ref]
        if then is not None:
            found += [
                ref
                for end, ref in self.price_ends
                if end.pattern == then.pattern and end.from_hour_us <= hour_us
            ]
        return max(found, key=lambda ref: ref.at_us, default=EventRef("", self.closed_at_us, ""))


@dataclass(frozen=True, slots=True)
class DealtNode:
    """Hours of one node as they are now, their prices, and the events they were dealt from."""

    node_id: str
    hours: Sequence[tuple[NodeHour, Price | None]]
    events: tuple[NodeEvent, ...]
    version: int


class ClosedHours:
    """The derived table `closed_hours` of one generation."""

    def __init__(self, store: Store, generation: str) -> None:
        self._store = store
        self._generation = generation

    def closing(self) -> Closing:
        """What is closed now; a month is closed by the first event that says so."""
        first: dict[str, dict[str, Any]] = {}
        for row in self._admin_events("period_closed"):
            body = json.loads(row["body"])
            first.setdefault(body["period"], body)
        if not first:
            return Closing()
        bodies = list(first.values())
        newest = bodies.index(max(bodies, key=lambda body: str(body["period"])))
        rows = [row for kind in BOOK_EVENTS for row in self._admin_events(kind)]
        book = [(row, entry_of(row["kind"], row["body"])) for row in sorted(rows, key=_place)]
        statements = {period: body["statement_id"] for period, body in first.items()}
        closing = self._known(bodies[newest], statements, book)
        late = {body["period"]: self._known(body, statements, book) for body in bodies[newest + 1 :]}
        return replace(closing, by_month=late)

    def _known(
        self,
        last: Mapping[str, Any],
        statements: Mapping[str, str],
        book: Sequence[tuple[dict[str, Any], Entry]],
    ) -> Closing:
        """What was known at one closing."""
        known = _ends(last, "trainledger.admin")
        return Closing(
            statements=statements,
            closes=len(statements),
            closed_at_us=int(last["at_us"]),
            ends=_ends(last, "trainledger.nodes"),
            book=PriceBook(
                entry for row, entry in book if int(row["offset"]) < known.get(int(row["partition"]), 0)
            ),
            price_events={entry.price_id: _admin_ref(row) for row, entry in book if isinstance(entry, Price)},
            price_ends=[(entry, _admin_ref(row)) for row, entry in book if isinstance(entry, PriceEnd)],
            moved=next(
                (
                    _admin_ref(row)
                    for row in reversed(self._admin_events("writers_moved"))
                    if int(row["offset"]) >= known.get(int(row["partition"]), 0)
                ),
                None,
            ),
        )

    def stale(self, closing: Closing) -> set[tuple[str, int]]:
        """Hours of closed months that have moved on and whose differences are missing or of older books."""
        if not closing.statements:
            return set()
        months = ", ".join(f"'{period}'" for period in closing.statements)
        rows = self._store.rows(
            f"""SELECT h.node_id AS node_id, toUnixTimestamp(h.hour) AS hour
            FROM (SELECT toString(node_id) AS node_id, hour, version FROM {self._generation}.node_hours FINAL
              WHERE formatDateTime(hour, '%Y-%m', 'UTC') IN ({months})) AS h
            LEFT ANY JOIN (SELECT toString(node_id) AS node_id, usage_hour AS hour, revision
              FROM {self._generation}.statement_hours WHERE statement_id IN ({_ids(closing)})) AS s
              ON s.node_id = h.node_id AND s.hour = h.hour
            LEFT ANY JOIN (SELECT toString(node_id) AS node_id, hour, version, closes, notEmpty(deltas) AS is_moved
              FROM {self._generation}.closed_hours FINAL) AS d ON d.node_id = h.node_id AND d.hour = h.hour
            WHERE h.version != s.revision
              AND (d.version != h.version OR (d.is_moved AND d.closes != {{n:UInt32}}))
            UNION DISTINCT
            -- Booked, and nobody is there any more: dealt again, such an hour is a row of nothing.
            SELECT toString(node_id) AS node_id, toUnixTimestamp(usage_hour) AS hour
            FROM {self._generation}.statement_hours WHERE statement_id IN ({_ids(closing)})
              AND (toString(node_id), usage_hour) NOT IN
                (SELECT toString(node_id), hour FROM {self._generation}.node_hours)""",
            {"n": closing.closes},
        )
        return {(str(row["node_id"]), int(str(row["hour"])) * 1_000_000) for row in rows}

    def write(self, node: DealtNode, closing: Closing) -> None:
        """The differences of the node's hours in closed months."""
        hours = [(hour, price) for hour, price in node.hours if closing.holds(hour.hour_us)]
        if not hours:
            return
        booked = self._booked([hour.hour_us for hour, _ in hours], node.node_id, closing)
        users = self._users(hours)
        late: dict[int, _LateEvents] = {}
        rows = []
        for hour, price in hours:
            now = bill_by_holder(hour, price, users)
            before = booked.get(hour.hour_us, {})
            found: list[Adjustment] = []
            if _money(before) != _money(now):
                known = closing.known_of(hour.hour_us)
                if id(known) not in late:
                    late[id(known)] = _LateEvents(self._store, self._generation, node.node_id, known)
                newest = late[id(known)].ref(hour.hour_us)
                chain = _chain(node, hour, price, closing=known, users=users, late=newest)
                found = explain_difference(before, chain)
            rows.append(_row(hour, node.version, closing.closes, found))
        self._store.insert(f"{self._generation}.closed_hours", pa.Table.from_pylist(rows, schema=_SCHEMA))

    def _booked(self, hours: Collection[int], node_id: str, closing: Closing) -> dict[int, Bill]:
        """What statements hold of these hours, with the adjustments that later statements booked."""
        where = f"""node_id = {{node:String}} AND statement_id IN ({_ids(closing)})
          AND usage_hour >= toDateTime({{start:Int64}}, 'UTC') AND usage_hour <= toDateTime({{end:Int64}}, 'UTC')"""
        rows = self._store.query(
            f"""SELECT toUnixTimestamp(usage_hour) AS hour, kind, toString(run_id) AS run, owner, account, currency,
              sum(amount) AS total
            FROM (
              SELECT usage_hour, toString(kind) AS kind, run_id, owner, account, currency,
                ifNull(cost, toDecimal128(0, 9)) AS amount
              FROM {self._generation}.statement_lines WHERE {where}
              UNION ALL
              SELECT usage_hour, toString(kind) AS kind, run_id, owner, account, toNullable(currency) AS currency,
                delta AS amount
              FROM {self._generation}.statement_adjustments WHERE {where}
            )
            GROUP BY hour, kind, run, owner, account, currency""",
            {"node": node_id, "start": min(hours) // 1_000_000, "end": max(hours) // 1_000_000},
        ).to_pylist()
        found: dict[int, dict[Owed, int]] = {}
        for row in rows:
            owed = Owed(row["kind"], row["run"], row["owner"], row["currency"], row["account"])
            found.setdefault(int(row["hour"]) * 1_000_000, {})[owed] = int(Fraction(row["total"]) * 10**9)
        return dict(found)

    def _users(self, hours: Iterable[tuple[NodeHour, Price | None]]) -> dict[str, str | None]:
        unnamed = {
            line.run_id for hour, _ in hours for line in hour.lines if line.run_id and line.owner is None
        }
        if not unnamed:
            return {}
        ids = ", ".join(f"toUUID('{UUID(run_id)}')" for run_id in sorted(unnamed))
        rows = self._store.rows(
            f"SELECT toString(run_id) AS run, user FROM {self._generation}.run_states FINAL WHERE run_id IN ({ids})"
        )
        return {str(row["run"]): None if row["user"] is None else str(row["user"]) for row in rows}

    def _admin_events(self, kind: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._store.query(
            "SELECT toString(type) AS kind, body, toString(topic) AS topic, partition, offset, idx FROM "
            f"{self._generation}.admin_events WHERE type = {{kind:String}} ORDER BY offset, idx",
            {"kind": kind},
        ).to_pylist()
        return rows


class _LateEvents:
    """The newest event of a node that came after the closing, by hour."""

    def __init__(self, store: Store, generation: str, node_id: str, closing: Closing) -> None:
        self._node_id = node_id
        self._closed_at_us = closing.closed_at_us
        ends = closing.ends or {0: 0}
        known = f"transform(partition, {list(ends)}, {list(ends.values())}, 0)"
        rows = store.query(
            "SELECT toUnixTimestamp(hour) AS hour, max(offset) AS newest, argMax(toString(type), offset) AS kind, "
            "argMax(toString(topic), offset) AS topic, argMax(partition, offset) AS place, "
            "argMax(JSONExtractInt(body, 'wall_us'), offset) AS wall_us, "
            "argMax(JSONExtractString(body, 'set_by'), offset) AS set_by "  # of what a person imported
            f"FROM {generation}.node_events WHERE node_id = {{node:String}} AND offset >= {known} GROUP BY hour",
            {"node": node_id},
        ).to_pylist()
        self._by_hour = {int(row["hour"]) * 1_000_000: row for row in rows}

    def ref(self, hour_us: int) -> EventRef | None:
        """The event that an hour changed by: its own, else its neighbours', else the nearest."""
        if not self._by_hour:
            return None
        row = self._by_hour[min(self._by_hour, key=lambda other: (abs(other - hour_us), other))]
        event = f"{row['kind']} {row['topic']}/{row['place']}/{row['newest']}"
        by = row["set_by"] or f"node {self._node_id}"
        return EventRef(event, max(self._closed_at_us, int(row["wall_us"])), by)


def _chain(
    node: DealtNode,
    hour: NodeHour,
    price: Price | None,
    *,
    closing: Closing,
    users: dict[str, str | None],
    late: EventRef | None,
) -> list[tuple[str, Bill, EventRef]]:
    """Bills from the books to now, one cause at a time; see the module `adjustments`."""
    then = closing.book.price_for(node.node_id, hour.hour_us)
    old, new = (item.policy if item else DEFAULT_POLICY for item in (then, price))
    nobody = EventRef("", closing.closed_at_us, "")
    told = closing.told_by(then, price, hour.hour_us)

    def bill(policy: CostPolicy) -> Bill:
        if policy == new:
            return bill_by_holder(hour, then, users)
        stream = cut_stream(node.node_id, node.events, hour.hour_us, policy=policy)
        return bill_by_holder(deal_node_hour(stream, hour.hour_us, policy), then, users)

    # Without a late event a process was counted to another run, or the rules themselves are newer than the statement.
    chain = [
        ("late", bill(old), late)
        if late
        else ("run", bill(old), closing.moved)
        if closing.moved
        else ("policy", bill(old), nobody._replace(event=f"rules of trainledger {__version__}"))
    ]
    if old.presence != new.presence:
        old = replace(old, presence=new.presence)
        chain.append(("presence", bill(old), told))
    if old != new:
        chain.append(("policy", bill(new), told))
    return [*chain, ("price", bill_by_holder(hour, price, users), told)]


def _ends(body: Mapping[str, Any], topic: str) -> dict[int, int]:
    return {int(item["partition"]): int(item["end"]) for item in body["positions"] if item["topic"] == topic}


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    return int(row["offset"]), int(row["idx"])


def _admin_ref(row: Mapping[str, Any]) -> EventRef:
    body = json.loads(row["body"])
    place = f"{row['kind']} {row['topic']}/{row['partition']}/{row['offset']}"
    return EventRef(place, int(body["at_us"]), str(body["set_by"]))


def _ids(closing: Closing) -> str:
    return ", ".join(f"toUUID('{UUID(statement_id)}')" for statement_id in closing.statements.values())


def _money(bill: Bill) -> dict[Owed, int]:
    return {owed: nano for owed, nano in bill.items() if nano and owed.currency is not None}


def _decimal(nano: int | None) -> Decimal | None:
    return None if nano is None else Decimal(nano).scaleb(-9)


def _row(hour: NodeHour, version: int, closes: int, found: Sequence[Adjustment]) -> dict[str, Any]:
    return {
        "node_id": hour.node_id,
        "hour": hour.hour_us // 1_000_000,
        "version": version,
        "closes": closes,
        "kinds": [item.owed.kind for item in found],
        "run_ids": [UUID(item.owed.run_id).bytes if item.owed.run_id else None for item in found],
        "owners": [item.owed.owner for item in found],
        "currencies": [item.owed.currency for item in found],
        "old_costs": [_decimal(item.old_nano) for item in found],
        "new_costs": [_decimal(item.new_nano) for item in found],
        "deltas": [_decimal(item.delta_nano) for item in found],
        "causes": [item.cause for item in found],
        "event_refs": [item.ref.event for item in found],
        "booked_at": [item.ref.at_us for item in found],
        "booked_by": [item.ref.by for item in found],
        "accounts": [item.owed.account for item in found],
    }
