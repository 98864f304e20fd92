"""What was wasted of a bill and why: parts that sum to it exactly, and what was not measured is never waste."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, fixed_id
from support.ingest_store import fresh_store
from support.random_cluster import BEGIN_US, HOURS, RandomCluster, S
from support.slow_waste import slow_parts, slow_table, slow_why
from trainledger_ingest.cost.node_facts import WriterPlaces, read_node_events
from trainledger_ingest.cost.report import read_report
from trainledger_ingest.cost.waste import WASTED, WHYS, WasteChoice, make_waste, read_waste
from trainledger_schemas.errors import UsageError

ALL = WasteChoice()


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def events_of(tables: FilledTables, node: str) -> list[Any]:
    generation = tables.schema.generation
    attempts = {
        str(row["id"]): int(str(row["attempt"]))
        for row in tables.store.rows(
            f"SELECT toString(writer_id) AS id, attempt FROM {generation}.writer_states FINAL"
        )
    }
    rows = tables.store.query(
        "SELECT type, toUnixTimestamp64Micro(at) AS at_us, toString(boot_id) AS boot_id, toString(producer_id) AS "
        f"producer_id, seq, body, offset FROM {generation}.node_events WHERE node_id = '{node}'"
    ).to_pylist()
    return list(read_node_events(rows, writers=WriterPlaces(attempts)).events)


def expected_parts(cluster: RandomCluster) -> dict[tuple[Any, ...], int]:
    """(currency, team, kind, run, outcome, resource, use, why) -> nano, from events alone."""
    prices = {
        str(row["node"]): (int(row["per_hour"].scaleb(9)), str(row["currency"]))
        for row in cluster.tables.rows("prices")
    }
    runs = {id_of(run.number): run for run in cluster.runs}
    found: dict[tuple[Any, ...], int] = defaultdict(int)
    for node in ("node-1", "node-2"):
        rate, currency = prices.get(node, (0, None))
        events = events_of(cluster.tables, node)
        for hour in range(HOURS):
            for part in slow_parts(events, BEGIN_US + hour * HOUR_US, rate):
                resource, kind, run_id, attempt, *_ = part.key
                run = runs.get(run_id or "")
                outcome = None
                if run is not None:
                    outcome = "retried" if (attempt or 1) < len(run.writers) else run.status or "running"
                why = slow_why(kind, outcome, part.use)
                team = run.team if run else None
                found[currency, team, kind, run_id, outcome, resource, part.use, why] += part.nano
    return dict(found)


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_every_part_is_that_of_the_slow_calculation_and_they_sum_to_the_bills(
    tables: FilledTables, seed: int
) -> None:
    cluster = RandomCluster(tables, seed)
    expected = expected_parts(cluster)
    stored: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in tables.rows("cost_waste"):
        run = None if row["run_id"] is None else str(row["run_id"])
        # Since their nodes went silent, runs that nobody ended are lost; that changes no reason.
        outcome = "running" if row["outcome"] == "lost" else row["outcome"]
        key = (
            row["currency"],
            row["team"],
            row["kind"],
            run,
            outcome,
            row["resource"],
            row["use"],
            row["why"],
        )
        stored[key] += int((row["cost"] or Decimal(0)).scaleb(9))
        waste = None if row["why"] == "unknown" else row["why"] in WASTED
        assert (None if row["is_waste"] is None else bool(row["is_waste"])) == waste
    assert dict(stored) == expected
    bills = {row["currency"]: row["bill"] for row in tables.rows("node_bills") if row["bill"] is not None}
    for currency in bills:
        nano = sum(value for key, value in stored.items() if key[0] == currency)
        bill = sum(r["bill"] for r in tables.rows("node_bills") if r["currency"] == currency)
        assert nano == int(bill.scaleb(9))
    check_report(tables, expected)


def check_report(tables: FilledTables, expected: dict[tuple[Any, ...], int]) -> None:
    """The report by team is the slow table, its rows are those of `cost`, and no cent is lost."""
    report = read_waste(tables.session, ALL, by="team")
    plain = read_report(tables.session, by="team", start=None, end=None)
    assert [(r["team"], r["kind"], r["cost"], r["currency"], r["unpriced_hours"]) for r in report.rows] == [
        (r["team"], r["kind"], r["cost"], r["currency"], r["unpriced_hours"]) for r in plain.rows
    ]
    for currency in plain.totals:
        cells: dict[tuple[str, str], int] = defaultdict(int)
        for (money, team, kind, _run, _outcome, _resource, _use, why), nano in expected.items():
            if money == currency:
                cells[team or f"~{kind}", why] += nano
        shown: dict[tuple[str, str], int] = {}
        for row in report.rows:
            if row["currency"] == currency:
                name = row["team"] or f"~{row['kind']}"
                shown |= {(name, why): int(row[why].replace(".", "")) for why in WHYS if row[why] is not None}
                assert sum(Decimal(row[why] or 0) for why in WHYS) == Decimal(row["cost"])
        wanted = slow_table(cells)
        assert {k: v for k, v in shown.items() if v} == {k: v for k, v in wanted.items() if v}
        (total,) = [row for row in report.totals if row["currency"] == currency]
        assert (
            sum(Decimal(total[why] or 0) for why in WHYS)
            == Decimal(total["cost"])
            == Decimal(plain.bills[currency])
        )


def test_what_was_not_measured_is_neither_used_nor_wasted(tables: FilledTables) -> None:
    """Ten minutes of a GPU at 36 an hour, of which a window in the middle was measured: half busy."""
    held = {
        "resource": "device:g", "kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11), "owner": "ann",
        "numerator": 1, "denominator": 1, "evidence": "claim",
    }  # fmt: skip
    device = {"device_id": "g", "model": "m", "memory_bytes": 1, "mig_profile": None}
    tables.started(1, 11, BEGIN_US, team="red")
    tables.exited(1, 11, BEGIN_US + 600 * S)
    tables.alive(BEGIN_US, BEGIN_US + 600 * S)
    tables.event("devices", BEGIN_US, at_us=BEGIN_US, devices=[device])
    tables.event("allocation", BEGIN_US, at_us=BEGIN_US, key_frame=False, holders=[held])
    tables.price(1, BEGIN_US, nano=36_000_000_000, host_share_ppm=0)
    tables.take_in()
    report = read_waste(tables.session, ALL, by="team")
    (red,) = [row for row in report.rows if row["team"] == "red"]
    assert (red["cost"], red["unknown"], red["wasted"], red["wasted_pct_min"], red["used"]) == (
        "6.00", "6.00", None, None, None,
    )  # fmt: skip
    whole = {"device_id": "g", "part_id": "", "observed_us": 120 * S, "busy_us": 60 * S, "energy_mj": None}
    tables.event(
        "process_usage", BEGIN_US + 360 * S, start_us=BEGIN_US + 240 * S, end_us=BEGIN_US + 360 * S, cores=4,
        usage=[], devices=[whole],
    )  # fmt: skip
    tables.take_in()
    (red,) = [row for row in read_waste(tables.session, ALL, by="team").rows if row["team"] == "red"]
    assert (red["used"], red["unused"], red["unknown"], red["wasted"]) == ("0.60", "0.60", "4.80", "0.60")
    assert (red["wasted_pct_min"], red["wasted_pct_max"]) == (10.0, 90.0)
    (day,) = [row for row in tables.rows("cost_daily") if row["team"] == "red"]
    assert day["cost_held_unused"] == Decimal("0.600000000"), "a missing sample is not time without use"


def test_who_was_left_nothing_by_a_claim_has_a_row_as_in_cost(tables: FilledTables) -> None:
    """Red claims all of the node; what blue ran there is worth nothing, in both reports."""
    held = {
        "resource": "host", "kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11), "owner": "ann",
        "numerator": 1, "denominator": 1, "evidence": "claim",
    }  # fmt: skip
    for run, team in ((1, "red"), (2, "blue")):
        tables.started(run, 10 * run + 1, BEGIN_US, team=team)
    tables.alive(BEGIN_US, BEGIN_US + 600 * S)
    tables.event("allocation", BEGIN_US, at_us=BEGIN_US, key_frame=False, holders=[held])
    tables.usage(BEGIN_US, BEGIN_US + 600 * S, (1, 11), (2, 21))
    tables.price(1, BEGIN_US, nano=36_000_000_000)
    tables.take_in()
    for by in ("team", "run", "outcome"):
        paid = read_report(tables.session, by=by, start=None, end=None)
        report = read_waste(tables.session, ALL, by=by)
        assert [(row[by], row["cost"]) for row in report.rows] == [
            (row[by], row["cost"]) for row in paid.rows
        ]
    (blue,) = read_waste(tables.session, WasteChoice(team="blue"), by="team").rows
    assert (blue["cost"], blue["used"], blue["wasted"], blue["wasted_pct_min"]) == (
        "0.00",
        "0.00",
        "0.00",
        None,
    )


def test_hours_dealt_before_this_was_stored_are_unknown_and_not_wasted(tables: FilledTables) -> None:
    cluster = RandomCluster(tables, 1)
    generation = tables.schema.generation
    tables.store.command(
        f"INSERT INTO {generation}.node_hours SELECT * REPLACE(version + 1 AS version, [] AS unseen) "
        f"FROM {generation}.node_hours FINAL"
    )
    tables.store.command(
        f"INSERT INTO {generation}.node_hour_money SELECT * REPLACE(version + 1 AS version, lines_version + 1 AS "
        f"lines_version) FROM {generation}.node_hour_money FINAL"
    )
    uses = {row["use"] for row in cluster.tables.rows("cost_waste", rest="WHERE kind NOT IN ('idle')")}
    assert uses == {"used", "unknown"}
    bill = sum(row["bill"] or 0 for row in tables.rows("node_bills"))
    assert sum(row["cost"] or 0 for row in tables.rows("cost_waste")) == bill


def test_one_team_alone_by_run_sums_to_what_that_team_pays(tables: FilledTables) -> None:
    RandomCluster(tables, 1)
    (paid,) = tables.rows(
        "cost_lines", columns="sum(cost) AS cost", rest="WHERE team = 'blue' AND currency = 'USD'"
    )
    report = read_waste(tables.session, WasteChoice(team="blue"), by="run")
    (total,) = [row for row in report.totals if row["currency"] == "USD"]
    assert Decimal(total["cost"]) == paid["cost"].quantize(Decimal("0.01"), ROUND_HALF_UP) > 0
    assert report.costs.bills == {} and {row["kind"] for row in report.rows} == {"run"}


def test_a_group_that_does_not_exist_is_refused(tables: FilledTables) -> None:
    with pytest.raises(UsageError, match="the groups are team"):
        read_waste(tables.session, ALL, by="colour")


_line = st.tuples(
    st.sampled_from(("red", "blue", None)),
    st.sampled_from(("USD", "JPY", None)),
    st.sampled_from(WHYS),
    st.integers(0, 10**13),
)


@given(st.lists(_line, max_size=12))
def test_reasons_sum_to_rows_and_rows_to_totals_whatever_the_amounts(found: list[Any]) -> None:
    lines = [
        {"holder": holder, "line_kind": "run" if holder else why, "money": money, "why": why, "unpriced": 0.0,
         "total": Decimal(nano).scaleb(-9) if money else Decimal(0)}
        for holder, money, why, nano in found
    ]  # fmt: skip
    report = make_waste("team", lines, [])
    for row in report.rows:
        if row["currency"] is not None:
            assert sum(Decimal(row[why] or 0) for why in WHYS) == Decimal(row["cost"])
            wasted = sum(Decimal(row[why] or 0) for why in WASTED)
            assert row["wasted"] is None or Decimal(row["wasted"]) == wasted
            low, high = row["wasted_pct_min"], row["wasted_pct_max"]
            assert low is None or 0 <= low <= high <= 100
    for total in report.totals:
        assert sum(Decimal(total[why] or 0) for why in WHYS) == Decimal(total["cost"])


def test_an_attempt_that_is_learned_after_the_hours_were_dealt_is_told_apart(tables: FilledTables) -> None:
    """As where the partition of the nodes is read before that of the runs."""
    tables.alive(BEGIN_US, BEGIN_US + 600 * S)
    tables.usage(BEGIN_US, BEGIN_US + 300 * S, (1, 11))
    tables.usage(BEGIN_US + 300 * S, BEGIN_US + 600 * S, (1, 12))
    tables.price(1, BEGIN_US, nano=36_000_000_000)
    tables.take_in()
    tables.started(1, 11, BEGIN_US)
    tables.exited(1, 11, BEGIN_US + 300 * S, "failed")
    tables.started(1, 12, BEGIN_US + 300 * S, joined="resume")
    tables.exited(1, 12, BEGIN_US + 600 * S)
    tables.take_in()
    found = {row["why"]: row["cost"] for row in tables.rows("cost_waste", rest="WHERE kind = 'run'")}
    assert found == {"retried": Decimal("0.75"), "used": Decimal("0.75")}
