"""Who pays: the teams of the owner in the hour, then the declared team, with the evidence on each line."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from support.filled_tables import FilledTables
from support.ingest_store import fresh_store

S = 1_000_000
H = 3600 * S
TEN = int(datetime(2026, 11, 3, 10, tzinfo=UTC).timestamp()) * S


def owner(tables: FilledTables, name: str, *teams: str, hour: int) -> None:
    tables.event(
        "owner_set", TEN, at_us=TEN, subject="user", name=name, teams=list(teams), from_hour_us=TEN + hour * H,
        set_by="adm", note=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Runs of ann that declare red, blue, and nothing, for four hours."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("payers"))
    for run, team in ((1, "red"), (2, "blue"), (3, None)):
        tables.started(run, run + 10, TEN, team=team)
    for hour in range(4):
        tables.usage(TEN + hour * H, TEN + (hour + 1) * H, (1, 11), (2, 12), (3, 13), cores=1)
    tables.alive(TEN, TEN + 4 * H)
    tables.price(1, TEN, nano=4 * 10**9)
    # Set in another order than they count in; of one hour the last counts; an empty list ends it.
    owner(tables, "ann", hour=3)
    owner(tables, "ann", "gold", hour=1)
    owner(tables, "ann", "red", "green", hour=2)
    owner(tables, "ann", "green", "red", hour=1)
    owner(tables, "bob", "gold", hour=0)
    tables.take_in()
    return tables.rows(
        "cost_lines",
        columns="toHour(usage_hour) AS hour, declared_team, team, payer_evidence, cost",
        rest="WHERE kind = 'run' ORDER BY hour, declared_team",
    )


DECLARED = ("blue", "red", None)
EXPECTED = {
    10: [("blue", "declared team"), ("red", "declared team"), (None, None)],
    11: [
        ("green", "owner ann may not use the declared team blue"),
        ("red", "declared team, which owner ann may use"),
        ("green", "owner ann"),
    ],
    12: [
        ("red", "owner ann may not use the declared team blue"),
        ("red", "declared team, which owner ann may use"),
        ("red", "owner ann"),
    ],
    13: [("blue", "declared team"), ("red", "declared team"), (None, None)],
}


@pytest.mark.parametrize("hour", EXPECTED)
def test_the_team_that_pays_is_the_owners_in_that_hour(lines: list[dict[str, Any]], hour: int) -> None:
    found = [row for row in lines if row["hour"] == hour]
    assert [row["declared_team"] for row in found] == list(DECLARED)
    assert [(row["team"], row["payer_evidence"]) for row in found] == EXPECTED[hour]
    assert all(row["cost"] == Decimal(1) for row in found)
