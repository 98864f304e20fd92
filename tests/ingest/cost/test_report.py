"""A cost report: one row a group, rows that sum to the total, totals that equal the bills of the nodes."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US
from support.ingest_store import fresh_store
from trainledger_ingest.cost.money import minor_digits
from trainledger_ingest.cost.report import GROUPS, CostReport, make_report, read_report
from trainledger_schemas.errors import UsageError

HOUR = START_US - START_US % HOUR_US


def line(
    holder: str | None, kind: str, money: str | None, total: str, unpriced: float = 0.0
) -> dict[str, Any]:
    return {
        "holder": holder, "line_kind": kind, "money": money, "total": Decimal(total), "unpriced": unpriced,
    }  # fmt: skip


def row(
    by: str, holder: str | None, kind: str | None, cost: str | None, money: str | None, hours: float
) -> dict[str, Any]:
    return {by: holder, "kind": kind, "cost": cost, "currency": money, "unpriced_hours": hours}


def test_a_group_with_priced_and_unpriced_hours_is_one_row() -> None:
    lines = [
        line("red", "run", "USD", "1.5"),
        line("red", "run", None, "0", 2.25),
        line("blue", "run", None, "0", 1),
    ]
    report = make_report("team", lines, [{"money": "USD", "total": Decimal("1.5")}])
    assert list(report.rows) == [
        row("team", "blue", "run", None, None, 1.0),
        row("team", "red", "run", "1.50", "USD", 2.25),
    ]
    assert (report.totals, report.bills, report.unpriced_hours) == ({"USD": "1.50"}, {"USD": "1.50"}, 3.25)


def test_holders_without_the_group_are_a_row_a_kind_behind_the_groups() -> None:
    lines = [line(None, kind, "USD", "1") for kind in ("system", "idle", "unknown", "untracked")]
    report = make_report("team", [*lines, line("zoo", "run", "USD", "1")], [])
    assert [(r["team"], r["kind"]) for r in report.rows] == [
        ("zoo", "run"), (None, "idle"), (None, "system"), (None, "unknown"), (None, "untracked"),
    ]  # fmt: skip


def test_a_group_of_several_kinds_is_one_row_without_a_kind() -> None:
    lines = [line("n1", "idle", "USD", "1"), line("n1", "run", "USD", "2"), line("n2", "idle", "USD", "4")]
    report = make_report("node", lines, [])
    assert list(report.rows) == [
        row("node", "n1", None, "3.00", "USD", 0.0),
        row("node", "n2", "idle", "4.00", "USD", 0.0),
    ]


def test_currencies_are_never_added_up_and_unpriced_hours_are_said_once() -> None:
    lines = [
        line("red", "run", "USD", "1"),
        line("red", "run", "JPY", "100.4"),
        line("red", "run", None, "0", 5),
    ]
    report = make_report("team", lines, [])
    assert list(report.rows) == [
        row("team", "red", "run", "100", "JPY", 5.0),
        row("team", "red", "run", "1.00", "USD", 0.0),
    ]
    assert report.totals == {"JPY": "100", "USD": "1.00"}


def test_three_equal_teams_on_ten_are_shown_as_what_sums_to_ten() -> None:
    third = "3.333333333"
    lines = [line(team, "run", "USD", third) for team in "abc"] + [line(None, "idle", "USD", "0.000000001")]
    report = make_report("team", lines, [])
    assert [r["cost"] for r in report.rows] == ["3.34", "3.33", "3.33", "0.00"]
    assert report.totals == {"USD": "10.00"}


def test_a_sum_of_more_digits_than_decimal_arithmetic_keeps_is_exact() -> None:
    total = _decimal(10**35 + 5_000_000)
    report = make_report("team", [line("a", "run", "USD", str(total))], [{"money": "USD", "total": total}])
    assert report.totals == report.bills == {"USD": f"1{'0' * 26}.01"}


def test_nothing_at_all_is_an_empty_report() -> None:
    assert make_report("team", [], []) == CostReport("team", (), {}, {}, 0.0, False)


def test_an_unknown_group_is_refused_with_the_known_ones() -> None:
    class NoSession:
        views = "never asked"

    with pytest.raises(
        UsageError, match="'planet'; the groups are team, project, experiment, run, user, account, node, kind"
    ):
        read_report(NoSession(), by="planet", start=None, end=None)  # type: ignore[arg-type] # must not be asked


sums = st.tuples(
    st.sampled_from(("a", "b", "c", "d", None)),
    st.sampled_from(("run", "idle", "system")),
    st.sampled_from(("USD", "JPY", "KWD", None)),
    st.integers(0, 10**30),
)


@given(st.lists(sums, max_size=30))
def test_rows_sum_to_totals_and_totals_to_bills_to_the_minor_unit(
    found: list[tuple[str | None, str, str | None, int]],
) -> None:
    lines = []
    exact: dict[str, int] = {}
    for holder, kind, money, nano in found:
        lines.append(line(holder, kind, money, "0", 0.0 if money else 1.0) | {"total": _decimal(nano)})
        if money is not None:
            exact[money] = exact.get(money, 0) + nano
    bills = [{"money": money, "total": _decimal(nano)} for money, nano in exact.items()]
    report = make_report("team", lines, bills)
    assert report.totals == report.bills
    for money, total in report.totals.items():
        shown = [r["cost"] for r in report.rows if r["currency"] == money]
        assert _minor(total) == sum(map(_minor, shown))
        unit = 10 ** (9 - minor_digits(money))
        assert abs(_minor(total) * unit - exact[money]) * 2 <= unit
    assert report.unpriced_hours == sum(r["unpriced_hours"] for r in report.rows)
    keys = [(r["team"], r["currency"], "" if r["team"] else r["kind"]) for r in report.rows]
    assert len(set(keys)) == len(keys)


def _decimal(nano: int) -> Decimal:
    return Decimal((0, tuple(int(digit) for digit in str(nano)), -9))


def _minor(text: str) -> int:
    return int(text.replace(".", ""))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """Two nodes, two currencies, an hour without a price, two teams, an owner without a run, a silent time."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("report"))
    tables.started(1, 11, HOUR, team="red", project="vision", experiment="e1")
    tables.started(2, 12, HOUR, team="blue", project="vision", experiment="e2")
    for node in ("node-1", "node-2"):
        tables.alive(HOUR, HOUR + HOUR_US // 2 + 7, node=node)
        tables.present(HOUR + 2 * HOUR_US + 1_234_567, node=node)
        for second in range(0, 1200, 10):
            start = HOUR + second * 1_000_000
            tables.usage(start, start + 10_000_000, (1, 11), (2, 12), node=node, cores=0.333)
    tables.price(1, START_US, pattern="node-1", nano=10_000_000_001, from_hour_us=HOUR + HOUR_US)
    tables.price(2, START_US, pattern="node-2", nano=7_777_777_777, currency="EUR")
    tables.take_in()
    yield tables


@pytest.mark.parametrize("by", GROUPS)
def test_every_grouping_of_real_tables_sums_to_the_bills(tables: FilledTables, by: str) -> None:
    report = read_report(tables.session, by=by, start=None, end=None)
    assert set(report.totals) == {"USD", "EUR"}
    assert report.totals == report.bills
    for money, total in report.totals.items():
        assert _minor(total) == sum(_minor(r["cost"]) for r in report.rows if r["currency"] == money)
    assert report.unpriced_hours == pytest.approx(1.0, abs=1e-6)


def test_groups_are_found_where_they_belong(tables: FilledTables) -> None:
    by_team = read_report(tables.session, by="team", start=None, end=None).rows
    # node-1's first hour has no price, so each team has money from node-2 and hours from node-1.
    red = next(r for r in by_team if r["team"] == "red")
    assert (
        (red["kind"], red["currency"]) == ("run", "EUR")
        and Decimal(red["cost"]) > 0
        and red["unpriced_hours"] > 0
    )
    by_run = read_report(tables.session, by="run", start=None, end=None).rows
    assert {r["run"] for r in by_run if r["kind"] == "run"} == {id_of(1), id_of(2)}
    assert {r["user"] for r in read_report(tables.session, by="user", start=None, end=None).rows} == {
        "ann",
        None,
    }


@pytest.mark.parametrize("hours", [1, 2])
def test_a_period_that_is_not_whole_days_still_equals_the_bills(tables: FilledTables, hours: int) -> None:
    def text(us: int) -> str:
        return str(
            tables.store.rows(f"SELECT formatDateTime(toDateTime({us // 10**6}, 'UTC'), '%F %T') AS t")[0][
                "t"
            ]
        )

    cut = text(HOUR + hours * HOUR_US)
    before = read_report(tables.session, by="node", start=None, end=cut)
    behind = read_report(tables.session, by="node", start=cut, end=None)
    assert before.has_presence and behind.has_presence
    assert before.totals == before.bills and behind.totals == behind.bills
    whole = read_report(tables.session, by="node", start=None, end=None)
    for money, total in whole.totals.items():
        parts = _minor(before.totals.get(money, "0")) + _minor(behind.totals.get(money, "0"))
        assert abs(parts - _minor(total)) <= 1
    assert not read_report(tables.session, by="node", start=text(HOUR + 9 * HOUR_US), end=None).has_presence
