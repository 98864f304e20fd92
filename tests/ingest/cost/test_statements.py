"""Closed months stand, and what is learned later is told as differences that add up to the newest bill exactly."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_store import fresh_store
from trainledger_ingest.cost.statements import CloseRequest, list_periods, write_statement
from trainledger_schemas.ids import id_bytes

S = 1_000_000
H = 3600 * S


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


OCTOBER = at("2026-10-20T10:00")
NOVEMBER = at("2026-11-03T10:00")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("statements")


@pytest.fixture
def tables(folder: Any) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), folder)


def close(tables: FilledTables, period: str, now: str = "2026-12-05", **more: Any) -> dict[str, Any]:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    number = 90 + len(tables.rows("cost_periods"))
    fields = write_statement(
        tables.store, tables.schema, CloseRequest(period, **more), now=moment, statement_id=id_of(number)
    )
    event = fields | {"statement_id": id_bytes(fields["statement_id"])}
    tables.event("period_closed", at(now), at_us=at(now), set_by="fin", **event)
    tables.take_in()
    return fields


def adjustments(tables: FilledTables) -> list[dict[str, Any]]:
    return tables.rows("cost_adjustments", rest="ORDER BY usage_hour, cause, kind, delta")


def two_months(tables: FilledTables) -> None:
    for run, begin in ((1, OCTOBER), (2, NOVEMBER)):
        node = f"node-{run}"
        tables.started(run, run + 10, begin, team="red", project="p", node=node)
        tables.alive(begin, begin + H, node=node)
        tables.usage(begin, begin + H, (run, run + 10), cores=2, node=node)
    tables.price(1, OCTOBER, nano=10 * 10**9)
    tables.take_in()


def test_a_closed_month_stands_and_a_later_price_is_a_difference_of_the_open_month(
    tables: FilledTables,
) -> None:
    two_months(tables)
    fields = close(tables, "2026-10")
    assert fields["totals"] == [{"currency": "USD", "amount": "10.000000000"}]
    assert adjustments(tables) == []
    tables.price(2, NOVEMBER, nano=12 * 10**9)
    tables.take_in()
    found = adjustments(tables)
    assert [
        (r["kind"], r["old_cost"], r["new_cost"], r["delta"], r["cause"], r["booked_in"]) for r in found
    ] == [
        ("idle", Decimal(5), Decimal(6), Decimal(1), "price", "2026-11"),
        ("run", Decimal(5), Decimal(6), Decimal(1), "price", "2026-11"),
    ]
    assert found[1]["team"] == "red" and found[1]["event_ref"] == "price_set trainledger.admin/0/2"
    lines = tables.rows("statement_lines", columns="kind, cost", rest="ORDER BY kind")
    assert lines == [{"kind": "idle", "cost": Decimal(5)}, {"kind": "run", "cost": Decimal(5)}]
    (period,) = list_periods(tables.store.query, tables.schema.views_database)
    assert period["is_intact"] and period["totals"] == {"USD": Decimal(10)}
