"""What a run has cost so far: the same as view runs, across closed months, later prices and hours without one."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from support.filled_tables import FilledTables, id_of
from support.ingest_store import fresh_store
from trainledger_ingest.cost.statements import CloseRequest, write_statement
from trainledger_ingest.reports.run_cost import cost_so_far
from trainledger_schemas.ids import id_bytes

S = 1_000_000
H = 3600 * S
NOVEMBER = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * S


def cost(tables: FilledTables, run: int) -> Decimal | None:
    """What is answered, after it was compared with the view."""
    told = cost_so_far(tables.store, tables.schema.generation, id_of(run))
    rows = tables.rows("runs", columns="cost, currency", rest=f"WHERE run_id = '{id_of(run)}'")
    found = None if told["cost"] is None else Decimal(told["cost"])
    assert [(row["cost"], row["currency"]) for row in rows] == ([(found, told["currency"])] if rows else [])
    return found


def test_the_cost_so_far_is_that_of_all_hours_at_the_newest_prices(tmp_path: Path) -> None:
    tables = FilledTables(fresh_store(), tmp_path)
    begin, end = NOVEMBER - H, NOVEMBER + H
    for run in (1, 2):
        tables.started(run, 10 + run, begin)
    tables.started(3, 13, begin, node="node-2")
    tables.price(1, begin, pattern="node-1", nano=8 * 10**9)
    for node, used in (("node-1", ((1, 11), (2, 12))), ("node-2", ((3, 13),))):
        tables.alive(begin, end, node=node)
        for hour in (begin, NOVEMBER):
            tables.usage(hour, hour + H, *used, node=node)
    tables.take_in()
    # A quarter of the node for two hours each.
    assert cost(tables, 1) == cost(tables, 2) == 4 and cost(tables, 3) is None
    assert cost(tables, 9) is None, "nobody knows it"
    # An hour with a price and one without are no amount.
    tables.price(2, end, pattern="node-2", nano=4 * 10**9, from_hour_us=NOVEMBER)
    tables.take_in()
    assert cost(tables, 3) is None
    closed = write_statement(
        tables.store, tables.schema, CloseRequest("2026-10", accepts_unpriced=True, accepts_silent=True),
        now=datetime(2026, 11, 2, tzinfo=UTC), statement_id=id_of(90),
    )  # fmt: skip
    event = closed | {"statement_id": id_bytes(closed["statement_id"])}
    tables.event("period_closed", end, at_us=end, set_by="fin", **event)
    tables.take_in()
    assert cost(tables, 1) == 4
    # A statement stands; what the run cost is what is known now.
    tables.price(3, end, pattern="node-1", nano=16 * 10**9)
    tables.price(4, end, pattern="node-2", nano=4 * 10**9)
    tables.take_in()
    assert cost(tables, 1) == 8 and cost(tables, 3) == 2
    tables.price(5, end, pattern="node-2", nano=4 * 10**9, currency="EUR", from_hour_us=NOVEMBER)
    tables.take_in()
    assert cost(tables, 3) is None, "two currencies are no amount"
