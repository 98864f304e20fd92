"""Who pays: the teams of the owner in the hour, then the declared team, with the evidence on each line."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.cost.focus_export import write_focus
from trainledger_ingest.cost.month import read_closed_month, read_statement
from trainledger_ingest.cost.report import read_report
from trainledger_ingest.cost.statements import CloseRequest, check_statements, write_statement
from trainledger_ingest.cost.waste import WasteChoice, read_waste
from trainledger_schemas.ids import id_bytes

S = 1_000_000
H = 3600 * S
TEN = int(datetime(2026, 11, 3, 10, tzinfo=UTC).timestamp()) * S


def owner(
    tables: FilledTables, name: str, *teams: str, hour: int, subject: str = "user", at_us: int = TEN
) -> None:
    tables.event(
        "owner_set", at_us, at_us=at_us, subject=subject, name=name, teams=list(teams), from_hour_us=TEN + hour * H,
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


def holder(run: int | None, **fields: Any) -> dict[str, Any]:
    """A holder of the host, by claim of a quarter, of a job of account physics."""
    known: dict[str, Any] = {
        "resource": "host", "kind": "run" if run else "untracked", "run_id": fixed_id(run) if run else None,
        "writer_id": fixed_id(run + 10) if run else None, "owner": "ann", "numerator": 1, "denominator": 4,
        "evidence": "slurm job 17", "account": "account:physics",
    }  # fmt: skip
    return known | fields


@pytest.fixture(scope="module")
def of_jobs(tmp_path_factory: pytest.TempPathFactory) -> FilledTables:
    """Jobs of account physics: runs of ann that declare red and nothing, work of hers without a run, and a pod's."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("accounts"))
    for run, team in ((1, "red"), (2, None)):
        tables.started(run, run + 10, TEN, team=team)
    for minute in range(0, 120, 5):
        at_us = TEN + minute * 60 * S
        holders = [holder(1), holder(2), holder(None), holder(None, owner=None, account="namespace:vision")]
        tables.event("allocation", at_us, at_us=at_us, key_frame=minute > 0, holders=holders)
    tables.alive(TEN, TEN + 2 * H)
    tables.price(1, TEN, nano=4 * 10**9)
    owner(tables, "ann", "gold", hour=0)
    owner(tables, "physics", "blue", "red", hour=1, subject="account")
    # A user of the same name is somebody else.
    owner(tables, "physics", "nobody", hour=0)
    tables.take_in()
    return tables


def test_an_account_pays_before_the_owner_and_is_a_team_of_which_nothing_is_said(
    of_jobs: FilledTables,
) -> None:
    lines = of_jobs.rows(
        "cost_lines",
        columns="toHour(usage_hour) AS hour, declared_team, owner, team, payer_evidence, account, cost",
        rest="WHERE kind IN ('run', 'untracked') ORDER BY hour, kind, declared_team, owner",
    )
    found = [(row["hour"], row["team"], row["payer_evidence"]) for row in lines]
    assert found == [
        (10, "physics", "slurm account physics may not use the declared team red"),
        (10, "physics", "slurm account physics"),
        (10, "physics", "slurm account physics"),
        (10, "vision", "pod namespace vision"),
        (11, "red", "declared team, which slurm account physics may use"),
        (11, "blue", "slurm account physics"),
        (11, "blue", "slurm account physics"),
        (11, "vision", "pod namespace vision"),
    ]
    assert [row["owner"] for row in lines] == ["ann", "ann", "ann", None] * 2
    assert all(row["cost"] == Decimal(1) for row in lines)
    assert {row["account"] for row in lines} == {"account:physics", "namespace:vision"}


def close(tables: FilledTables, period: str, at_us: int) -> None:
    request = CloseRequest(period, accepts_silent=True)
    now = datetime.fromtimestamp(at_us / S, UTC)
    number = 900 + len(tables.rows("cost_periods"))
    closed = write_statement(tables.store, tables.schema, request, now=now, statement_id=id_of(number))
    event = closed | {"statement_id": id_bytes(closed["statement_id"])}
    tables.event("period_closed", at_us, at_us=at_us, set_by="fin", **event)
    tables.take_in()


def test_a_report_by_account_has_what_their_jobs_cost_and_the_rest_by_kind(of_jobs: FilledTables) -> None:
    session = of_jobs.session
    report = read_report(session, by="account", start=None, end=None)
    # Two runs and the work of ann without one; a quarter of the node each.
    assert [(row["account"], row["kind"], row["cost"]) for row in report.rows] == [
        ("account:physics", None, "6.00"), ("namespace:vision", "untracked", "2.00"),
    ]  # fmt: skip
    assert report.totals == report.bills == {"USD": "8.00"}
    wasted = read_waste(session, WasteChoice(), by="account")
    assert [(row["account"], row["cost"]) for row in wasted.rows] == [
        (row["account"], row["cost"]) for row in report.rows
    ]


def test_a_file_for_finance_names_the_account(of_jobs: FilledTables, tmp_path: Path) -> None:
    path, month = tmp_path / "f.csv", (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    write_focus(of_jobs.session, path, month, version="1.4", statement=None)
    sums: dict[str, Decimal] = {}
    for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))):
        assert json.loads(row["Tags"]).get("account", "") == row["x_Account"]
        sums[row["x_Account"]] = sums.get(row["x_Account"], Decimal(0)) + Decimal(row["EffectiveCost"])
    assert sums == {"account:physics": 6, "namespace:vision": 2}


def test_a_closed_month_keeps_its_accounts_and_a_team_that_an_account_gets_later_is_a_difference(
    of_jobs: FilledTables,
) -> None:
    tables = of_jobs
    end_us = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * S
    close(tables, "2026-11", end_us)
    check_statements(tables.store, tables.schema)
    kept = tables.rows(
        "statement_lines", columns="account, count() AS n", rest="GROUP BY account ORDER BY account"
    )
    assert [(row["account"], row["n"]) for row in kept] == [("account:physics", 6), ("namespace:vision", 2)]
    month = read_closed_month(tables.session, "2026-11")
    assert month is not None
    stated = read_statement(tables.session, month, by="account").rows
    assert [(row["account"], row["cost"]) for row in stated] == [
        ("account:physics", "6.00"), ("namespace:vision", "2.00"),
    ]  # fmt: skip
    owner(tables, "physics", "green", hour=1, subject="account", at_us=end_us + H)
    tables.take_in()
    moved = tables.rows(
        "cost_adjustments",
        columns="team, sum(delta) AS delta",
        rest="WHERE cause = 'owner' GROUP BY team ORDER BY team",
    )
    assert [(row["team"], row["delta"]) for row in moved] == [
        ("blue", Decimal(-2)), ("green", Decimal(3)), ("red", Decimal(-1))
    ]  # fmt: skip
    # A late event that gives the second hour to another account: told as late, line by line.
    late_us = TEN + H + 60 * S
    tables.event(
        "allocation",
        end_us + 2 * H,
        at_us=late_us,
        key_frame=False,
        holders=[holder(1, account="account:chem")],
    )
    tables.take_in()
    late = tables.rows(
        "cost_adjustments",
        columns="account, sum(delta) AS delta",
        rest="WHERE cause = 'late' GROUP BY account",
    )
    by_account = {row["account"]: row["delta"] for row in late}
    assert by_account["account:chem"] > 0 and by_account["account:physics"] < 0
    assert sum(by_account.values()) == 0
    # Who pays for it by then is told behind that, from the whole amount.
    owner(tables, "chem", "gold", hour=0, subject="account", at_us=end_us + 3 * H)
    tables.take_in()
    chem = tables.rows(
        "cost_adjustments",
        columns="cause, team, substring(event_ref, 1, 9) AS event, sum(delta) AS delta",
        rest="WHERE account = 'account:chem' GROUP BY ALL ORDER BY cause, team",
    )
    whole = by_account["account:chem"]
    assert [(row["cause"], row["team"], row["delta"]) for row in chem] == [
        ("late", "chem", whole), ("owner", "chem", -whole), ("owner", "gold", whole)
    ]  # fmt: skip
    assert {row["event"] for row in chem if row["cause"] == "owner"} == {"owner_set"}
    booked = tables.rows("cost_adjustments", columns="sum(delta) AS delta")[0]["delta"]
    newest = tables.rows("cost_lines", columns="sum(cost) AS cost")[0]["cost"]
    assert tables.rows("statement_lines", columns="sum(cost) AS cost")[0]["cost"] + booked == newest
    # The next month books the differences with their accounts, and nothing is left to tell.
    close(tables, "2026-12", end_us + 32 * 24 * H)
    tables.derivation.catch_up()
    check_statements(tables.store, tables.schema)
    open_or_booked = tables.rows(
        "cost_adjustments", columns="is_booked, account", rest="GROUP BY is_booked, account ORDER BY account"
    )
    assert [(row["is_booked"], row["account"]) for row in open_or_booked] == [
        (True, "account:chem"), (True, "account:physics"), (True, "namespace:vision"), (True, None)
    ]  # fmt: skip
    # An account that is late, but had its team by then, is told with that team.
    tables.event(
        "allocation",
        end_us + 33 * 24 * H,
        at_us=TEN + 120 * S,
        key_frame=False,
        holders=[holder(1, account="account:chem")],
    )
    tables.take_in()
    fresh = tables.rows(
        "cost_adjustments",
        columns="cause, team",
        rest="WHERE account = 'account:chem' AND NOT is_booked GROUP BY ALL",
    )
    assert [(row["cause"], row["team"]) for row in fresh] == [("late", "gold")]
