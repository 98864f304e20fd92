"""The tables of node-hours and their prices, computed from `node_events` and the price events.

Every row is replaced whole under a higher version, so a refresh may be repeated or cut off anywhere. The version
says what a row was computed from: behind the newest event of its node that was known, then how many entries the price
book had, because it also says how an hour is dealt, and how many decisions there were on the run that a process is of.
The money of an hour names the version of the lines that it is for and is never shown with others; a change of rates
writes money alone (`StoredPrices`). `dealt_book` says up to which entry of the book all hours are dealt, `dealt_moves`
up to which decision.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from ..run_homes import EVENTS_A_DECISION
from ..storage.store import Store
from .closed_hours import ClosedHours, Closing, DealtNode
from .holder_sums import HOLDER_FIELDS, holder_columns
from .node_events import HOUR_US, NodeEvent, hour_of
from .node_facts import NodeFacts, WriterPlaces, read_node_events
from .node_hour import NodeHour, deal_node_hour
from .node_stream import cut_stream, hours_touched
from .presence import PresenceMode
from .prices import BOOK_EVENTS, Entry, Price, PriceBook, entry_of
from .pricing import priced_lines
from .stored_prices import PRICES_A_VERSION, StoredPrices

__all__ = ["CostTables"]

# Allocations count for 11 minutes and presence reaches over gaps; the events of a node are read from this far
# around the hours asked for, plus its nearest node event on either side.
MARGIN_US = 2 * HOUR_US
# Each hour is cut out of all events that were read: of a month at once that would be each hour of it 720 times.
HOURS_AT_ONCE = 12

_EVENT_COLUMNS = (
    "type, toUnixTimestamp64Micro(at) AS at_us, toString(boot_id) AS boot_id, toString(producer_id) AS producer_id, "
    "seq, body, offset"
)
_MONEY = pa.decimal128(38, 9)
_NANO_SCALE = Decimal(1).scaleb(-9)
_HOURS = pa.schema(
    [
        ("node_id", pa.string()),
        ("hour", pa.timestamp("s", tz="UTC")),
        ("version", pa.uint64()),
        ("presence_us", pa.uint64()),
        ("observed_us", pa.uint64()),
        ("kinds", pa.list_(pa.string())),
        ("run_ids", pa.list_(pa.binary(16))),
        ("attempts", pa.list_(pa.uint16())),
        ("owners", pa.list_(pa.string())),
        ("resources", pa.list_(pa.string())),
        ("held", pa.list_(pa.uint64())),
        ("used", pa.list_(pa.uint64())),
        ("evidence", pa.list_(pa.string())),
        ("unseen", pa.list_(pa.uint64())),
        ("accounts", pa.list_(pa.string())),
    ]
)
_PRICES = pa.schema(
    [
        ("node_id", pa.string()),
        ("hour", pa.timestamp("s", tz="UTC")),
        ("version", pa.uint64()),
        ("lines_version", pa.uint64()),
        ("price_id", pa.binary(16)),
        ("currency", pa.string()),
        ("bill", _MONEY),
        ("costs", pa.list_(_MONEY)),
        ("presence_us", pa.uint64()),
        ("observed_us", pa.uint64()),
        *HOLDER_FIELDS,
    ]
)


class CostTables:
    """Keeps node-hours and their money in step with the events of one generation."""

    def __init__(self, store: Store, generation: str) -> None:
        self._store = store
        self._generation = generation
        self._closed = ClosedHours(store, generation)
        # Entries are only ever added: as long as there are as many, they are the same.
        self._read_entries: list[Entry] = []
        self._book = PriceBook(())

    def stale(self) -> set[tuple[str, int]]:
        """Node-hours whose events are newer than their row, or whose difference to a closed month is not told."""
        rows = self._store.rows(
            f"SELECT e.node_id AS node_id, toUnixTimestamp(e.hour) AS hour FROM (SELECT node_id, hour, max(offset) + 1 "
            f"AS version FROM {self._generation}.node_events GROUP BY node_id, hour) AS e LEFT ANY JOIN "
            f"(SELECT node_id, hour, intDiv(version, {PRICES_A_VERSION}) AS version "
            f"FROM {self._generation}.node_hours FINAL) AS h "
            f"ON h.node_id = e.node_id AND h.hour = e.hour WHERE h.version < e.version"
        )
        behind = {(str(row["node_id"]), int(str(row["hour"])) * 1_000_000) for row in rows}
        return behind | self.unbooked()

    def unbooked(self) -> set[tuple[str, int]]:
        """Hours of closed months whose difference to the books is not told yet, or of older books."""
        return self._closed.stale(self._closed.closing())

    def hours_of(self, since_us: Mapping[str, int]) -> set[tuple[str, int]]:
        """Node-hours of which these runs held a part from the hour of their time on (microseconds since 1970)."""
        if not since_us:
            return set()
        rows = self._store.rows(
            f"SELECT node_id, toUnixTimestamp(hour) AS hour, arrayMap(run -> toString(run), run_ids) AS runs "
            f"FROM {self._generation}.node_hours FINAL WHERE hour >= toDateTime({{from:Int64}}, 'UTC') "
            "AND hasAny(run_ids, {ids:Array(Nullable(UUID))})",
            {"from": hour_of(min(since_us.values())) // 1_000_000, "ids": list(since_us)},
        )
        found = set()
        for row in rows:
            hour_us, runs = int(str(row["hour"])) * 1_000_000, row["runs"]
            if isinstance(runs, list) and any(
                hour_of(since_us.get(run, hour_us + HOUR_US)) <= hour_us for run in runs
            ):
                found.add((str(row["node_id"]), hour_us))
        return found

    def undealt_moves(self) -> dict[str, int]:
        """For `hours_of`: the runs of all moved processes, if not all hours are dealt by the decisions in force."""
        if self._number(f"max(decisions) FROM {self._generation}.dealt_moves") >= self._moves():
            return {}
        rows = self._store.rows(
            f"SELECT DISTINCT toString(arrayJoin([told_run_id, run_id])) AS run FROM {self._generation}.writer_homes"
        )
        return {str(row["run"]): 0 for row in rows}

    def note_moves(self) -> None:
        """All hours of moved processes are dealt by the decisions that are in force."""
        dealt = pa.table({"decisions": pa.array([self._moves()], pa.uint64())})
        self._store.insert(f"{self._generation}.dealt_moves", dealt)

    def prices_are_stale(self) -> bool:
        """Whether the price book has entries that not all hours are dealt by."""
        return self._dealt_entries() < self._count_entries()

    def refresh(self, node_hours: Collection[tuple[str, int]], *, prices_changed: bool) -> None:
        """Deal these hours, and all that they can change, anew; after a price change also those it is about."""
        if not node_hours and not prices_changed:
            return
        # Before the processes: which of them are of another run may be newer than the number says, never older.
        (entries, book), moves = self._price_book(), self._moves()
        writers, closing = self._writers(), self._closed.closing()
        version = len(entries) + moves
        wanted = set(node_hours)
        if prices_changed:
            changed = StoredPrices(
                self._store, self._generation, entries, known=self._dealt_entries(), closing=closing
            )
            wanted |= changed.write(version)
        by_node: dict[str, set[int]] = defaultdict(set)
        for node_id, hour_us in wanted:
            by_node[node_id].add(hour_us)
        for node_id, hours in sorted(by_node.items()):
            last_job = self._last_job(
                node_id, (book, closing.book, *(item.book for item in closing.by_month.values()))
            )
            for part in _in_parts(hours):
                node = self._deal_node(
                    node_id, part, book=book, book_version=version, writers=writers, last_job=last_job
                )
                self._write(node, closing)
        if prices_changed:
            dealt = pa.table({"entries": pa.array([len(entries)], pa.uint64())})
            self._store.insert(f"{self._generation}.dealt_book", dealt)
        elif self._count_entries() > len(entries) or self._moves() > moves:
            # Another worker took in a price or a decision meanwhile, and may have dealt these hours before the rows
            # above were there.
            self.refresh(node_hours, prices_changed=False)

    def _deal_node(
        self,
        node_id: str,
        hours: Collection[int],
        *,
        book: PriceBook,
        book_version: int,
        writers: WriterPlaces,
        last_job: str | None,
    ) -> DealtNode:
        facts = self._read(node_id, min(hours), max(hours) + HOUR_US, writers, last_job)
        fresh: list[NodeEvent] = [event for event in facts.events if hour_of(event.wall_us) in hours]
        touched = set(hours)
        # An event reaches into hours of other rules than its own, so every rule that ever holds is asked; each hour
        # is dealt under its own below, and those without presence fall away.
        for policy in book.policies_of(node_id):
            touched |= hours_touched(fresh, known=facts.events, policy=policy)
        if min(touched) < min(hours) - HOUR_US or max(touched) > max(hours) + HOUR_US:
            # Beyond what was read with a margin: nothing of those hours may be dealt from half of its events.
            facts = self._read(node_id, min(touched), max(touched) + HOUR_US, writers, last_job)
        dealt = []
        for hour_us in sorted(touched):
            hour_policy = book.policy_for(node_id, hour_us)
            stream = cut_stream(node_id, facts.events, hour_us, policy=hour_policy)
            node_hour = deal_node_hour(stream, hour_us, hour_policy)
            if node_hour.presence_us or hour_us in hours:
                dealt.append((node_hour, book.price_for(node_id, hour_us)))
        return DealtNode(node_id, dealt, facts.events, facts.version * PRICES_A_VERSION + book_version)

    def _write(self, node: DealtNode, closing: Closing) -> None:
        if not node.hours:
            return
        hours = pa.Table.from_pylist([_hour_row(hour, node.version) for hour, _ in node.hours], schema=_HOURS)
        prices = [_price_row(hour, price, node.version) for hour, price in node.hours]
        # Prices first: a node-hour row says that all is done, so a crash in between is found by `stale` or
        # `prices_are_stale`.
        self._closed.write(node, closing)
        self._store.insert(
            f"{self._generation}.node_hour_money", pa.Table.from_pylist(prices, schema=_PRICES)
        )
        self._store.insert(f"{self._generation}.node_hour_revisions", hours)
        self._store.insert(f"{self._generation}.node_hours", hours)

    def _read(
        self, node_id: str, start_us: int, end_us: int, writers: WriterPlaces, last_job: str | None
    ) -> NodeFacts:
        near = "hour >= toDateTime({start:Int64}, 'UTC') AND hour <= toDateTime({end:Int64}, 'UTC')"
        node = "node_id = {node:String}"
        # Before the events: what comes in between is then newer than the version says, and is dealt again.
        newest = self._store.rows(
            f"SELECT max(offset) + 1 AS version, countIf(type = 'reservation') > 0 AS has_jobs "
            f"FROM {self._generation}.node_events WHERE {node}",
            {"node": node_id},
        )[0]
        present = f"{node} AND type = 'node_present'"
        edge = "SELECT * FROM {g}.node_events WHERE {present} AND hour {sign} toDateTime({{{name}:Int64}}, 'UTC') "
        edge += "ORDER BY at {direction} LIMIT 1"
        before = edge.format(g=self._generation, present=present, sign="<", name="start", direction="DESC")
        after = edge.format(g=self._generation, present=present, sign=">", name="end", direction="ASC")
        table = self._store.query(
            f"SELECT {_EVENT_COLUMNS} FROM (SELECT * FROM {self._generation}.node_events WHERE {node} AND {near} "
            f"UNION ALL SELECT * FROM ({before}) UNION ALL SELECT * FROM ({after}) UNION ALL "
            f"SELECT * FROM {self._generation}.node_events WHERE {node} AND type = 'devices' AND NOT ({near}))",
            {
                "node": node_id,
                "start": (start_us - MARGIN_US) // 1_000_000,
                "end": (end_us + MARGIN_US) // 1_000_000,
            },
        )
        rows = table.to_pylist()
        if newest["has_jobs"]:
            rows += self._reservations(node_id, start_us, end_us, last_job)
        facts = read_node_events(rows, writers=writers)
        return NodeFacts(facts.events, int(str(newest["version"])), facts.senseless)

    def _last_job(self, node_id: str, books: Iterable[PriceBook]) -> str | None:
        """The job that ends last by the words that count: an owned node is there till then, however far off."""
        policies = [policy for book in books for policy in book.policies_of(node_id)]
        if not any(policy.presence.mode is PresenceMode.OWNED for policy in policies):
            return None
        # As `current_reservations` ranks what was said of a job.
        newest = (
            "(JSONExtractBool(body, 'is_over') AS is_over, if(is_over, 0, JSONExtractInt(body, 'end_us')), "
            "JSONExtractInt(body, 'read_us'), toString(producer_id), seq)"
        )
        rows = self._store.rows(
            "SELECT JSONExtractString(body, 'reservation_id') AS name, "
            f"argMax((JSONExtractInt(body, 'start_us'), JSONExtractInt(body, 'end_us')), {newest}) AS word "
            f"FROM {self._generation}.node_events WHERE node_id = {{node:String}} AND type = 'reservation' "
            "GROUP BY name HAVING word.2 > word.1 ORDER BY word.2 DESC, name DESC LIMIT 1",
            {"node": node_id},
        )
        return str(rows[0]["name"]) if rows else None

    def _reservations(
        self, node_id: str, start_us: int, end_us: int, last_job: str | None
    ) -> list[dict[str, Any]]:
        """All that was said of the jobs that reach into the time, of the one before it, and of the last."""
        mine = f"FROM {self._generation}.node_events WHERE node_id = {{node:String}} AND type = 'reservation'"
        name = "JSONExtractString(body, 'reservation_id')"
        bounds = {"node": node_id, "start": (start_us - MARGIN_US) // 1_000_000, "end": end_us + MARGIN_US}
        # A row stands at the hour in which its job ended, so older ones are left aside by the order of the table.
        names = self._store.rows(
            f"SELECT DISTINCT {name} AS name {mine} AND hour >= toDateTime({{start:Int64}}, 'UTC') "
            "AND JSONExtractInt(body, 'start_us') < {end:Int64} UNION DISTINCT "
            f"(SELECT {name} AS name {mine} AND hour < toDateTime({{start:Int64}}, 'UTC') ORDER BY at DESC LIMIT 1)",
            bounds,
        )
        wanted = {str(row["name"]) for row in names} | ({last_job} if last_job else set())
        if not wanted:
            return []
        rows: list[dict[str, Any]] = self._store.query(
            f"SELECT {_EVENT_COLUMNS} {mine} AND {name} IN {{names:Array(String)}}",
            {"node": node_id, "names": sorted(wanted)},
        ).to_pylist()
        return rows

    def _writers(self) -> WriterPlaces:
        # Most writers are of attempt 1 and of the run that they tell: only the others are read.
        rows = self._store.rows(
            f"SELECT toString(writer_id) AS writer_id, attempt FROM {self._generation}.writer_states FINAL "
            "WHERE attempt > 1 AND NOT gone"
        )
        moved = self._store.rows(
            f"SELECT toString(writer_id) AS writer_id, toString(run_id) AS run_id "
            f"FROM {self._generation}.writer_homes AS h FINAL WHERE h.run_id != told_run_id"
        )
        return WriterPlaces(
            {str(row["writer_id"]): int(str(row["attempt"])) for row in rows},
            {str(row["writer_id"]): str(row["run_id"]) for row in moved},
        )

    def _price_book(self) -> tuple[list[Entry], PriceBook]:
        """All entries in their order, and the book that they make. Read anew when there are more."""
        if len(self._read_entries) != self._count_entries():
            rows = self._store.rows(
                f"SELECT toString(type) AS kind, body FROM {self._generation}.admin_events "
                f"WHERE type IN {BOOK_EVENTS} ORDER BY offset, idx"
            )
            self._read_entries = [entry_of(str(row["kind"]), str(row["body"])) for row in rows]
            self._book = PriceBook(self._read_entries)
        return self._read_entries, self._book

    def _count_entries(self) -> int:
        return self._number(f"count() FROM {self._generation}.admin_events WHERE type IN {BOOK_EVENTS}")

    def _dealt_entries(self) -> int:
        return self._number(f"max(entries) FROM {self._generation}.dealt_book")

    def _moves(self) -> int:
        """How many decisions on the runs of processes are in force."""
        return self._number(f"intDiv(max(version), {EVENTS_A_DECISION}) FROM {self._generation}.writer_homes")

    def _number(self, sql: str) -> int:
        return int(str(self._store.query(f"SELECT {sql}").column(0)[0].as_py()))


def _in_parts(hours: Iterable[int]) -> Iterable[set[int]]:
    """Hours in order of time, no part longer than HOURS_AT_ONCE from its first hour to its last."""
    part: list[int] = []
    for hour_us in sorted(hours):
        if part and hour_us - part[0] >= HOURS_AT_ONCE * HOUR_US:
            yield set(part)
            part = []
        part.append(hour_us)
    if part:
        yield set(part)


def _hour_row(hour: NodeHour, version: int) -> dict[str, Any]:
    lines = hour.lines
    return {
        "node_id": hour.node_id,
        "hour": hour.hour_us // 1_000_000,
        "version": version,
        "presence_us": hour.presence_us,
        "observed_us": hour.observed_us,
        "kinds": [str(line.kind) for line in lines],
        "run_ids": [UUID(line.run_id).bytes if line.run_id else None for line in lines],
        "attempts": [line.attempt or 0 for line in lines],
        "owners": [line.owner for line in lines],
        "resources": [line.resource for line in lines],
        "held": [line.held_share for line in lines],
        "used": [line.used_share for line in lines],
        "evidence": [line.evidence for line in lines],
        "unseen": [line.unseen_share for line in lines],
        "accounts": [line.account for line in lines],
    }


def _price_row(hour: NodeHour, price: Price | None, version: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "node_id": hour.node_id,
        "hour": hour.hour_us // 1_000_000,
        "version": version,
        "lines_version": version,
        "price_id": None,
        "currency": None,
        "bill": None,
        "costs": [None] * len(hour.lines),
        "presence_us": hour.presence_us,
        "observed_us": hour.observed_us,
    }
    costs = [0] * len(hour.lines)
    if price is not None:
        bill, costs = priced_lines(hour, price)
        row |= {"price_id": UUID(price.price_id).bytes, "currency": price.currency}
        row |= {"bill": _money(bill), "costs": list(_moneys(costs))}
    return row | holder_columns(hour, costs)


def _money(nano: int) -> Decimal:
    return nano * _NANO_SCALE


def _moneys(costs: Iterable[int]) -> Iterable[Decimal]:
    return (_money(cost) for cost in costs)
