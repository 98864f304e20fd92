"""A run without a cost says which of the reasons it is."""

from pathlib import Path

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US
from support.ingest_store import fresh_store
from trainledger_ingest.reports.description import describe_run

S = 1_000_000
HOUR = START_US - START_US % HOUR_US


def reason(tables: FilledTables, run: int) -> str:
    return dict(describe_run(tables.session, id_of(run)).facts)["cost"]


@pytest.fixture
def tables(tmp_path: Path) -> FilledTables:
    return FilledTables(fresh_store(), tmp_path)


def test_a_run_between_two_looks_of_the_agent_was_too_short(tables: FilledTables) -> None:
    tables.alive(HOUR, HOUR + 600 * S)
    tables.started(1, 11, HOUR + 100 * S)
    tables.exited(1, 11, HOUR + 100 * S + S // 2)
    tables.take_in()
    assert reason(tables, 1) == "too short to be measured"


def test_a_run_without_an_agent_says_how_to_have_one(tables: FilledTables) -> None:
    tables.alive(HOUR, HOUR + 600 * S, node="node-2")
    tables.started(1, 11, HOUR + 100 * S)
    tables.exited(1, 11, HOUR + 100 * S + S // 2)
    tables.take_in()
    assert reason(tables, 1).startswith("unknown: no agent watched it; start `trainledger up`")


def test_a_measured_run_without_a_price_says_how_to_set_one(tables: FilledTables) -> None:
    tables.started(1, 11, HOUR)
    tables.present(HOUR, HOUR + 30 * S, HOUR + 60 * S, writers=[(1, 11)])
    tables.usage(HOUR, HOUR + 30 * S, (1, 11))
    tables.exited(1, 11, HOUR + 60 * S)
    tables.take_in()
    assert reason(tables, 1).startswith("unknown: no price for its node-hours; set one with")
    tables.price(7, HOUR + 61 * S, nano=10**9)
    tables.take_in()
    assert reason(tables, 1).endswith(" USD")
