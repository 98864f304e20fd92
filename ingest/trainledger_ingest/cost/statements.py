"""Closing a month: an immutable statement of its lines, and of what moved in the months closed before it.

The rows are written first, under an id that nobody had; the event `period_closed` with that id, their digest and
their totals makes them count. A close that dies between leaves rows that count for nothing. Months are closed in
their order, so that every difference is booked in exactly one open month: the one behind the last closed. A month
before it that was empty, and is closed after it, books none.

Refused: a month that is not over, one whose forerunner is open, one that is closed, hours without a price unless they
are accepted, and tables that are behind the log.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import RecoveryError, UsageError
from trainledger_schemas.events import TOPIC_ADMIN, TOPIC_NODES
from trainledger_schemas.ids import id_text, random_id

from ..reports.times import parse_month
from ..storage.migrate import Schema
from ..storage.store import Store
from .money import nano_of, nano_to_text
from .tables import CostTables

__all__ = [
    "CloseRequest",
    "carry_statements",
    "check_statements",
    "close_month",
    "list_periods",
    "write_statement",
]

# As long as two node events may lie apart, see `presence`.
ALIVE_S = 90
NODES_NAMED_MAX = 5

Query = Callable[[str, Mapping[str, object] | None], pa.Table]
"""Runs one SELECT of the product."""

# What a month books: a difference is told for the month behind the last closed, so an earlier one books nothing.
_TO_BOOK = "NOT is_booked AND booked_in <= {period:String}"
_TABLES = ("statement_lines", "statement_hours", "statement_adjustments")
_COPIED = (
    "usage_hour, node_id, kind, run_id, attempt, owner, team, project, experiment, resource, held_hours, used_hours, "
    "share, cost, currency, price_id, evidence, revision, device_hours, declared_team, payer_evidence, account"
)
# Behind the text of a row, so that the digests of rows from before there were accounts stay what they are.
_ACCOUNT_TEXT = "if(account IS NULL, '', toJSONString(tuple('account', account)))"
# What the digest covers: who pays how much for what, and why; not the floats that only inform.
_LINE_TEXT = (
    "concat(toJSONString(tuple('line', toString(usage_hour), toString(node_id), toString(kind), toString(run_id), "
    "attempt, owner, team, project, experiment, resource, toString(cost), currency, toString(price_id), evidence, "
    f"toString(revision), declared_team, payer_evidence)), {_ACCOUNT_TEXT})"
)
_ADJUSTMENT_TEXT = (
    "concat(toJSONString(tuple('adjustment', toString(period), toString(usage_hour), toString(node_id), "
    "toString(kind), toString(run_id), owner, team, project, experiment, toString(old_cost), toString(new_cost), "
    f"toString(delta), currency, toString(cause), event_ref, toString(booked_at), booked_by)), {_ACCOUNT_TEXT})"
)


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """`period`: YYYY-MM; `accepts_unpriced`: hours without a price are closed as unpriced; `accepts_silent`: nothing
    need be known from after the month."""

    period: str
    accepts_unpriced: bool = False
    accepts_silent: bool = False
    note: str | None = None


def close_month(
    store: Store,
    schema: Schema,
    fields: Mapping[str, Any],
    *,
    clock: Clock,
    append: Callable[[str, Mapping[str, Any]], None],
    is_log_read: bool = True,
) -> dict[str, Any]:
    """Close the month that `fields` (of a CloseRequest) name; `append` takes the event. Returns its fields."""
    now = datetime.fromtimestamp(clock.wall_ns() / 1e9, UTC)
    request = CloseRequest(**fields)
    event = write_statement(
        store, schema, request, now=now, statement_id=id_text(random_id()), is_log_read=is_log_read
    )
    append("period_closed", event)
    return event


def write_statement(
    store: Store,
    schema: Schema,
    request: CloseRequest,
    *,
    now: datetime,
    statement_id: str,
    is_log_read: bool = True,
) -> dict[str, Any]:
    """Check, write the rows, and return the fields of the event that makes them count.

    `is_log_read`: the caller has taken in everything that the log holds; otherwise the tables must show that they
    are beyond the month. Raises UsageError with what is to be done first."""
    first, behind = parse_month(request.period)
    period = f"{first:%Y-%m}"
    _check_time_and_order(store, schema, period, behind, now)
    _check_tables(store, schema, period)
    if not request.accepts_silent:
        _check_end(store, schema, period, behind, is_log_read=is_log_read)
    positions = _positions(store, schema)
    bounds = {"start": f"{first:%Y-%m-%d %H:%M:%S}", "end": f"{behind:%Y-%m-%d %H:%M:%S}"}
    unpriced = _check_prices(store, schema, request, first, bounds)
    _insert_rows(store, schema, bounds | {"id": statement_id, "period": period})
    if _positions(store, schema)[TOPIC_ADMIN] != positions[TOPIC_ADMIN]:
        raise UsageError(f"a price or owner was set while {period} was being closed; close it again")
    digest, lines, adjustments = _stored_digest(store, schema.generation, statement_id)
    return {
        "statement_id": statement_id,
        "period": period,
        "digest": digest,
        "lines": lines,
        "adjustments": adjustments,
        "totals": _totals(store, schema, "statement_lines", "cost", statement_id),
        "adjusted": _totals(store, schema, "statement_adjustments", "delta", statement_id),
        "unpriced_hours": unpriced,
        "positions": [
            {"topic": topic, "partition": partition, "end": end}
            for topic, ends in positions.items()
            for partition, end in sorted(ends.items())
        ],
        "note": request.note,
    }


def list_periods(query: Query, views: str) -> list[dict[str, Any]]:
    """The closed months, with `is_intact`: whether the rows still have the digest of the event."""
    rows: list[dict[str, Any]] = query(
        f"SELECT * FROM {views}.cost_periods ORDER BY period", None
    ).to_pylist()
    for row in rows:
        row["totals"], row["adjusted"] = dict(row["totals"]), dict(row["adjusted"])
        row["statement_id"] = str(row["statement_id"])
        found = _digest(
            query,
            f"{views}.statement_lines WHERE statement_id = {{id:UUID}}",
            f"{views}.cost_adjustments WHERE is_booked AND booked_in = {{period:String}}",
            {"id": row["statement_id"], "period": row["period"]},
        )
        row["is_intact"] = found == (row["digest"], row["lines"], row["adjustments"])
    return rows


def carry_statements(store: Store, old: Schema, new: Schema) -> None:
    """Copy the rows of all statements into a new generation, which has none yet."""
    for table in _TABLES:
        store.command(
            f"INSERT INTO {new.tables.name(table)} SELECT * FROM {old.tables.name(table)} WHERE statement_id IN "
            f"(SELECT toUUID(JSONExtractString(body, 'statement_id')) FROM {old.generation}.admin_events "
            "WHERE type = 'period_closed')"
        )


def check_statements(store: Store, schema: Schema) -> None:
    """Raise RecoveryError unless the rows of every closed month of this generation have the digest of its event."""
    rows = store.query(
        "SELECT JSONExtractString(body, 'period') AS period, JSONExtractString(body, 'statement_id') AS id, "
        f"JSONExtractString(body, 'digest') AS digest FROM {schema.generation}.admin_events "
        "WHERE type = 'period_closed' ORDER BY offset LIMIT 1 BY period"
    ).to_pylist()
    broken = [
        row["period"]
        for row in rows
        if _stored_digest(store, schema.generation, row["id"])[0] != row["digest"]
    ]
    if broken:
        raise RecoveryError(
            f"the statement of {', '.join(broken)} in {schema.generation} is not the one that was closed: "
            "put the tables back from a backup that has it"
        )


def _check_time_and_order(store: Store, schema: Schema, period: str, behind: datetime, now: datetime) -> None:
    if now < behind:
        raise UsageError(f"{period} is not over before {behind:%Y-%m-%d %H:%M} UTC; close it then")
    closed = {
        str(row["period"]) for row in store.rows(f"SELECT period FROM {schema.views_database}.cost_periods")
    }
    if period in closed:
        raise UsageError(f"{period} is closed already; `trainledger admin period ls` shows when and by whom")
    rows = store.rows(
        f"SELECT DISTINCT formatDateTime(hour, '%Y-%m', 'UTC') AS period FROM {schema.generation}.node_hours FINAL "
        "WHERE presence_us > 0 ORDER BY period"
    )
    before = [str(row["period"]) for row in rows if str(row["period"]) < period]
    # A month that was empty when a later one was closed has no books: what is learned of it is closed like any other.
    missing = [month for month in before if month not in closed]
    if missing:
        raise UsageError(f"months are closed in their order: close {missing[0]} first")


def _check_tables(store: Store, schema: Schema, period: str) -> None:
    """Refuse while anything that was read is not dealt."""
    costs = CostTables(store, schema.generation)
    if costs.stale() or costs.prices_are_stale():
        raise UsageError(f"hours of {period} are not dealt yet; close it again in a moment")


def _check_end(store: Store, schema: Schema, period: str, behind: datetime, *, is_log_read: bool) -> None:
    """Refuse tables that are behind: a node that was alive at the end of the month must have been heard since, and
    so must every partition of the log that is not known to be read to its end."""
    end = {"end": f"{behind:%Y-%m-%d %H:%M:%S}"}
    events = f"{schema.generation}.node_events WHERE type = 'node_present'"
    silent = store.rows(
        "SELECT toString(node_id) AS node, max(at) AS newest, argMax(JSONExtractBool(body, 'leaving'), at) AS is_gone "
        f"FROM {events} GROUP BY node HAVING NOT is_gone AND newest < toDateTime({{end:String}}, 'UTC') "
        f"AND newest >= toDateTime({{end:String}}, 'UTC') - {ALIVE_S} ORDER BY node",
        end,
    )
    if silent:
        names = ", ".join(str(row["node"]) for row in silent[:NODES_NAMED_MAX])
        raise UsageError(
            f"{len(silent)} nodes ({names}) were there at the end of {period}, and nothing is known of them since: "
            "the log or the tables are behind. Close it when their events are in, or with --accept-silent"
        )
    late = store.rows(
        f"SELECT partition, max(at) AS newest FROM {events} GROUP BY partition "
        "HAVING newest < toDateTime({end:String}, 'UTC') ORDER BY partition",
        end,
    )
    if late and not is_log_read:
        raise UsageError(
            f"partition {late[0]['partition']} of {TOPIC_NODES} is in the tables up to "
            f"{late[0]['newest']:%Y-%m-%d %H:%M} UTC, which is before the end of {period}: "
            "wait for `trainledger ingest`, or close with --accept-silent"
        )


def _check_prices(
    store: Store, schema: Schema, request: CloseRequest, first: datetime, bounds: Mapping[str, object]
) -> float:
    """The node-hours of the month without a price; refuse them, and those that it would pay back, unless accepted."""
    period = f"{first:%Y-%m}"
    unpriced = _unpriced_hours(store, schema, bounds)
    if unpriced and not request.accepts_unpriced:
        raise UsageError(
            f"{unpriced:.4f} node-hours of {period} have no price; set one with `trainledger price set --node PATTERN "
            f"--usd-per-hour X --from {first:%Y-%m-%d}`, or close with --accept-unpriced"
        )
    lost = _hours_that_lost_their_price(store, schema, period)
    if lost and not request.accepts_unpriced:
        months = ", ".join(lost)
        raise UsageError(
            f"{sum(lost.values()):.4f} node-hours of {months} were billed and have no price any more, and {period} "
            "would pay them back; set one with `trainledger price set --node PATTERN --usd-per-hour X --from "
            f"{min(lost)}-01`, or close with --accept-unpriced"
        )
    return unpriced


def _positions(store: Store, schema: Schema) -> dict[str, dict[int, int]]:
    rows = store.rows(
        f"SELECT toString(topic) AS topic, partition, max(end) AS end FROM {schema.generation}.ingest_ledger "
        "WHERE topic IN ({a:String}, {n:String}) GROUP BY topic, partition",
        {"a": TOPIC_ADMIN, "n": TOPIC_NODES},
    )
    found: dict[str, dict[int, int]] = {TOPIC_ADMIN: {}, TOPIC_NODES: {}}
    for row in rows:
        found[str(row["topic"])][int(str(row["partition"]))] = int(str(row["end"]))
    return found


def _unpriced_hours(store: Store, schema: Schema, bounds: Mapping[str, object]) -> float:
    rows = store.rows(
        f"SELECT sum(present_s) / 3600 AS hours FROM {schema.views_database}.node_hour_bills WHERE bill IS NULL AND "
        "usage_hour >= toDateTime({start:String}, 'UTC') AND usage_hour < toDateTime({end:String}, 'UTC')",
        bounds,
    )
    return float(str(rows[0]["hours"] or 0))


def _hours_that_lost_their_price(store: Store, schema: Schema, period: str) -> dict[str, float]:
    """Node-hours by closed month whose differences the month would book, and that have no price any more."""
    views = schema.views_database
    rows = store.rows(
        f"SELECT formatDateTime(usage_hour, '%Y-%m', 'UTC') AS month, sum(present_s) / 3600 AS hours "
        f"FROM {views}.node_hour_bills WHERE bill IS NULL AND present_s > 0 AND (node_id, usage_hour) IN "
        f"(SELECT node_id, usage_hour FROM {views}.cost_adjustments WHERE {_TO_BOOK}) GROUP BY month ORDER BY month",
        {"period": period},
    )
    return {str(row["month"]): float(str(row["hours"])) for row in rows}


def _insert_rows(store: Store, schema: Schema, parameters: Mapping[str, object]) -> None:
    of_month = (
        "usage_hour >= toDateTime({start:String}, 'UTC') AND usage_hour < toDateTime({end:String}, 'UTC')"
    )
    views, generation = schema.views_database, schema.generation
    store.command(
        f"INSERT INTO {generation}.statement_lines (statement_id, period, {_COPIED}) SELECT {{id:UUID}}, "
        f"{{period:String}}, {_COPIED} FROM {views}.cost_lines WHERE {of_month}",
        parameters,
    )
    store.command(
        f"""INSERT INTO {generation}.statement_hours SELECT {{id:UUID}}, {{period:String}}, h.hour AS usage_hour,
          h.node_id, h.version, h.presence_us, p.bill, CAST(p.currency AS Nullable(String))
        FROM (SELECT * FROM {generation}.node_hours FINAL) AS h
        LEFT JOIN (SELECT * FROM {generation}.node_hour_money FINAL) AS p
          ON p.node_id = h.node_id AND p.hour = h.hour AND p.lines_version = h.version
        WHERE {of_month}""",
        parameters,
    )
    columns = (
        "period, usage_hour, node_id, kind, run_id, owner, team, project, experiment, old_cost, new_cost, delta, "
        "currency, cause, event_ref, booked_at, booked_by, account"
    )
    store.command(
        f"INSERT INTO {generation}.statement_adjustments (statement_id, booked_in, {columns}) SELECT {{id:UUID}}, "
        f"{{period:String}}, {columns} FROM {views}.cost_adjustments WHERE {_TO_BOOK}",
        parameters,
    )


def _stored_digest(store: Store, generation: str, statement_id: str) -> tuple[str, int, int]:
    where = "WHERE statement_id = {id:UUID}"
    lines, adjustments = (
        f"{generation}.{table} {where}" for table in ("statement_lines", "statement_adjustments")
    )
    return _digest(store.query, lines, adjustments, {"id": statement_id})


def _digest(
    query: Query, lines: str, adjustments: str, parameters: Mapping[str, object]
) -> tuple[str, int, int]:
    """SHA-256 over the SHA-256 of each node's and day's rows, in order; with the counts of both kinds of rows."""
    whole = hashlib.sha256()
    counts = []
    for kind, source, text in (("line", lines, _LINE_TEXT), ("adjustment", adjustments, _ADJUSTMENT_TEXT)):
        rows = query(
            "SELECT toString(node_id) AS node, toString(toDate(usage_hour, 'UTC')) AS day, count() AS n, "
            f"lower(hex(SHA256(arrayStringConcat(arraySort(groupArray({text})), '\\n')))) AS digest "
            f"FROM {source} GROUP BY node, day ORDER BY node, day",
            parameters,
        ).to_pylist()
        for row in rows:
            whole.update(f"{kind} {row['node']!r} {row['day']} {row['n']} {row['digest']}\n".encode())
        counts.append(sum(row["n"] for row in rows))
    return whole.hexdigest(), counts[0], counts[1]


def _totals(store: Store, schema: Schema, table: str, column: str, statement_id: str) -> list[dict[str, str]]:
    rows = store.query(
        f"SELECT assumeNotNull(currency) AS money, sum({column}) AS total FROM {schema.generation}.{table} "
        f"WHERE statement_id = {{id:UUID}} AND {column} IS NOT NULL GROUP BY money ORDER BY money",
        {"id": statement_id},
    ).to_pylist()
    return [{"currency": row["money"], "amount": nano_to_text(nano_of(row["total"]))} for row in rows]
