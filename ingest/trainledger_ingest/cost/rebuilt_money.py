"""What a rebuild did to the bills of nodes and to the booked hours of closed months: told, never refused."""

from typing import Any

from ..storage.migrate import Schema
from ..storage.store import Store

__all__ = ["compare_money"]

TOLD_MAX = 20
# Hours in which nobody was there are rows in one generation and none in the other.
_BILLS = (
    "SELECT toString(h.node_id) AS node, formatDateTime(h.hour, '%Y-%m', 'UTC') AS month, "
    "ifNull(toString(currency), 'unpriced') AS money, count() AS n, sum(presence_us) AS present, "
    "sum(ifNull(bill, toDecimal128(0, 9))) AS total "
    # The tables themselves: the new generation has no views yet.
    "FROM (SELECT * FROM {generation}.node_hours FINAL) AS h "
    "LEFT JOIN (SELECT node_id, hour, lines_version, bill, currency FROM {generation}.node_hour_money FINAL) AS p "
    "ON p.node_id = h.node_id AND p.hour = h.hour AND p.lines_version = h.version WHERE presence_us > 0 "
    "GROUP BY node, month, money"
)
_BOOKED = (
    "SELECT toString(node_id) AS node, toString(period) AS month, ifNull(toString(currency), 'unpriced') AS money, "
    "count() AS n, sum(presence_us) AS present, sum(ifNull(bill, toDecimal128(0, 9))) AS total "
    "FROM {generation}.statement_hours WHERE statement_id IN (SELECT toUUID(JSONExtractString(body, 'statement_id')) "
    "FROM {generation}.admin_events WHERE type = 'period_closed') GROUP BY node, month, money"
)


def compare_money(store: Store, old: Schema, new: Schema) -> list[dict[str, Any]]:
    """A row of counts for bills and for booked hours, by node, month and currency, then a row a difference.

    `rows_before` and `rows_after` count node-hours; a difference has the money of both in `table`."""
    rows: list[dict[str, Any]] = []
    for table, what, sums in (("node_hours", "bill", _BILLS), ("statement_hours", "books", _BOOKED)):
        found = store.query(
            "SELECT node, month, money, o.n AS n_before, f.n AS n_after, o.total AS before, f.total AS after, "
            "o.present != f.present OR o.total != f.total AS differs "
            f"FROM ({sums.format(generation=old.generation)}) AS o "
            f"FULL JOIN ({sums.format(generation=new.generation)}) AS f USING (node, month, money) "
            "ORDER BY month, node, money"
        ).to_pylist()
        differing = [row for row in found if row["differs"]]
        before, after = (sum(row[name] for row in found) for name in ("n_before", "n_after"))
        rows.append(_row(table, before, after, len(differing)))
        rows += [
            _row(
                f"{what} of {row['node']} in {row['month']}, {row['money']}: {row['before']:f} before, "
                f"{row['after']:f} after",
                row["n_before"],
                row["n_after"],
                1,
            )
            for row in differing[:TOLD_MAX]
        ]
    return rows


def _row(table: str, before: int, after: int, differ: int) -> dict[str, Any]:
    return {"table": table, "rows_before": before, "rows_after": after, "groups_that_differ": differ}
