"""What reports read is what the lines sum to, whoever wrote it: the dealing, a new price, or the migration."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from support.filled_tables import FilledTables
from support.ingest_events import HOUR_US, START_US
from support.ingest_store import fresh_store
from support.random_cluster import RandomCluster
from trainledger_ingest.cost.periods import period_parts
from trainledger_ingest.cost.report import GROUPS, read_report
from trainledger_ingest.cost.repricing import book_of, read_repricing
from trainledger_ingest.cost.waste import WasteChoice, read_waste
from trainledger_ingest.storage.migrate import migrate

DAY_US = 24 * HOUR_US
MIDNIGHT_US = START_US - START_US % DAY_US + DAY_US
MIGRATION = "0026_node_hour_money.sql"
WHO = "kind, run_id, attempt, owner, team, project, experiment, account, currency"


@pytest.fixture(scope="module", params=[-13, -1], ids=["within-a-day", "around-midnight"])
def tables(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FilledTables]:
    """Two hours of two nodes; the teams of both users change after the first."""
    tables, begin_us = (
        FilledTables(fresh_store(), tmp_path_factory.mktemp("holders")),
        MIDNIGHT_US + request.param * HOUR_US,
    )
    for number, user in enumerate(("ann", "bob", "ann", "bob")):
        tables.event(
            "owner_set", START_US, at_us=START_US, subject="user", name=user, teams=[f"{user}{number}", "red"],
            from_hour_us=begin_us + number // 2 * HOUR_US, set_by="adm", note=None,
        )  # fmt: skip
    RandomCluster(tables, 1, begin_us=begin_us)
    yield tables


def money(tables: FilledTables) -> list[dict[str, Any]]:
    """The rows of money, all but their versions; times of devices to what a float holds."""
    rows: list[dict[str, Any]] = tables.store.query(
        "SELECT * EXCEPT (version, lines_version), arrayMap(h -> round(h, 9), holder_device_hours) AS hours, "
        "arrayMap(h -> round(h, 9), holder_device_used) AS used, arrayMap(h -> round(h, 9), holder_device_unseen) AS unseen "
        f"FROM {tables.schema.generation}.node_hour_money FINAL ORDER BY node_id, hour"
    ).to_pylist()
    for row in rows:
        for name in ("hours", "used", "unseen"):
            del row[f"holder_device_{name}"]
    return rows


def deal_anew(tables: FilledTables) -> None:
    for table in ("node_hours", "node_hour_money"):
        tables.store.command(f"TRUNCATE TABLE {tables.schema.generation}.{table}")
    tables.derivation.catch_up()


def test_rows_from_before_are_made_as_the_dealing_makes_them(tables: FilledTables) -> None:
    before, generation = money(tables), tables.schema.generation
    assert len(before) >= 4 and any(row["bill"] for row in before)
    columns = "node_id, hour, version, lines_version, price_id, currency, bill, costs"
    for is_again in (False, True):
        tables.store.command(
            f"DELETE FROM {tables.store.database}.schema_migrations WHERE name = '{MIGRATION}'"
        )
        if not is_again:
            tables.store.command(
                f"CREATE TABLE {generation}.node_hour_prices ENGINE = ReplacingMergeTree(version) ORDER BY (node_id, hour) "
                f"AS SELECT {columns} FROM {generation}.node_hour_money FINAL"
            )
            tables.store.command(f"TRUNCATE TABLE {generation}.node_hour_money")
        # The second time as after a crash before the migration was noted.
        migrate(tables.store)
        assert money(tables) == before


def test_the_days_are_the_sums_of_the_lines(tables: FilledTables) -> None:
    exact = "sum(cost) AS c, sum(cost_used) AS cu, sum(cost_unused) AS cn, sum(cost_unknown) AS cx"
    hours = "sum(held_hours) AS h, sum(unused_hours) AS un, sum(unknown_hours) AS x, sum(device_hours) AS d"
    lines, days = (
        tables.rows(
            view,
            columns=f"{day} AS of_day, node_id, {WHO}, {exact}, {empty} AS e, {hours}",
            rest="GROUP BY ALL ORDER BY ALL",
        )
        for view, day, empty in (
            ("cost_lines", "toDate(usage_hour, 'UTC')", "countIf(held_share = 0)"),
            ("cost_days", "day", "sum(empty_lines)"),
        )
    )
    assert len(days) == len(lines)
    for line, day in zip(lines, days, strict=True):
        assert {name: day[name] for name in line if name not in ("h", "un", "x", "d")} == {
            name: line[name] for name in line if name not in ("h", "un", "x", "d")
        }
        assert [day[name] or 0 for name in ("h", "un", "x", "d")] == pytest.approx(
            [line[name] or 0 for name in ("h", "un", "x", "d")], abs=1e-9
        )
    assert {"ann0", "bob1", "ann2", "bob3"} <= {row["team"] for row in days}


def text(hour: int) -> str:
    """The hour, counted from midnight, as reports take it."""
    at = datetime.fromtimestamp((MIDNIGHT_US + hour * HOUR_US) / 1e6, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


PERIODS = {
    "all": (None, None),
    "a day and an hour": (-24, 1),
    "one hour": (0, 1),
    "from within a day": (-12, None),
}


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("by", ["team", "run", "day", "outcome"])
def test_a_period_that_is_cut_at_midnight_is_that_of_its_hours(
    tables: FilledTables, by: str, period: str
) -> None:
    start, end = (None if hour is None else text(hour) for hour in PERIODS[period])
    source = "cost_outcomes" if by == "outcome" else "cost_lines"
    where = f"usage_hour >= toDateTime('{start or '2000-01-01 00:00:00'}', 'UTC')"
    where += f" AND usage_hour < toDateTime('{end or '2100-01-01 00:00:00'}', 'UTC')"
    rows = tables.rows(
        source,
        columns=f"{GROUPS[by]} AS g, if(g IS NULL, kind, '') AS k, currency AS m, sum(cost) AS c",
        rest=f"WHERE {where} AND currency IS NOT NULL GROUP BY g, k, m",
    )
    report = read_report(tables.session, by=by, start=start, end=end)
    shown = {
        (r[by], r["kind"] if r[by] is None else "", r["currency"]): r["cost"]
        for r in report.rows
        if r["currency"]
    }
    assert shown.keys() == {(row["g"], row["k"], row["m"]) for row in rows}
    assert all(abs(float(shown[row["g"], row["k"], row["m"]]) - float(row["c"])) < 0.01 for row in rows)
    assert report.totals == report.bills
    waste = read_waste(tables.session, WasteChoice(start, end), by=by)
    assert [(r[by], r["kind"], r["cost"], r["currency"]) for r in waste.rows] == [
        (r[by], r["kind"], r["cost"], r["currency"]) for r in report.rows
    ]


def test_two_books_with_the_prices_of_the_tables_are_the_report(tables: FilledTables) -> None:
    prices = tables.rows(
        "prices",
        columns="node, toString(per_hour) AS rate, currency, toString(from_hour) AS since",
        rest="ORDER BY ordinal",
    )
    book = "".join(
        f'[[price]]\nnode = "{row["node"]}"\nfrom = "{row["since"][:10]}T{row["since"][11:16]}Z"\nper_hour = "{row["rate"]}"\n'
        f'currency = "{row["currency"]}"\n'
        for row in prices
    )
    for by in set(GROUPS) - {"outcome"}:
        for period in ((None, None), (text(-12), text(1))):
            found = read_repricing(
                tables.session, (book_of(book), book_of(book)), by=by, start=period[0], end=period[1]
            )
            report = read_report(tables.session, by=by, start=period[0], end=period[1])
            assert {(r[by], r["currency"], r["new"]) for r in found.rows} == {
                (r[by], r["currency"], r["cost"]) for r in report.rows if r["currency"]
            }


def test_a_new_price_writes_what_the_dealing_writes(tables: FilledTables) -> None:
    tables.price(
        11, START_US + 1, nano=7_777_777_777, pattern="node-?", from_hour_us=MIDNIGHT_US - 12 * HOUR_US
    )
    tables.price(
        12,
        START_US + 2,
        nano=10**15,
        pattern="node-1",
        from_hour_us=MIDNIGHT_US - 12 * HOUR_US,
        currency="EUR",
    )
    for number, pattern, hour in ((7, "node-2", -48), (8, "node-?", 0)):
        tables.event(
            "price_ended", START_US + number, at_us=START_US + number, price_id=bytes([number]) * 16, pattern=pattern,
            from_hour_us=MIDNIGHT_US + hour * HOUR_US, set_by="ann", note=None,
        )  # fmt: skip
    tables.take_in()
    written = money(tables)
    deal_anew(tables)
    assert money(tables) == written
    assert {row["currency"] for row in written} >= {"EUR", None}


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        (None, None, [(True, None, None)]),
        (
            "2026-10-01 00:00:00",
            "2026-11-01 00:00:00",
            [(True, "2026-10-01 00:00:00", "2026-11-01 00:00:00")],
        ),
        (
            "2026-10-01 05:00:00",
            "2026-10-03 02:00:00",
            [
                (True, "2026-10-02 00:00:00", "2026-10-03 00:00:00"),
                (False, "2026-10-01 05:00:00", "2026-10-02 00:00:00"),
                (False, "2026-10-03 00:00:00", "2026-10-03 02:00:00"),
            ],
        ),
        (
            "2026-10-01 05:00:00",
            "2026-10-02 04:00:00",
            [(False, "2026-10-01 05:00:00", "2026-10-02 04:00:00")],
        ),
        (
            None,
            "2026-10-01 01:00:00",
            [(True, None, "2026-10-01 00:00:00"), (False, "2026-10-01 00:00:00", "2026-10-01 01:00:00")],
        ),
    ],
    ids=["open", "month", "days-and-hours", "no-whole-day", "open-begin"],
)
def test_a_period_is_cut_at_midnight(start: str | None, end: str | None, parts: list[Any]) -> None:
    assert [(part.is_days, part.start, part.end) for part in period_parts(start, end)] == parts
