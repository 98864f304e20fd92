"""Closed months stand, and what is learned later is told as differences that add up to the newest bill exactly."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from support.slow_cost import slow_node_hour
from trainledger_ingest.cost.month import explain_month, hours_without_price, read_bookings, read_closed_month
from trainledger_ingest.cost.node_events import NodeEvent
from trainledger_ingest.cost.node_facts import WriterPlaces, read_node_events
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import PresenceMode, PresenceRule
from trainledger_ingest.cost.statements import CloseRequest, list_periods, write_statement
from trainledger_schemas.avro_codec import encode_event
from trainledger_schemas.errors import UsageError
from trainledger_schemas.events import TOPIC_NODES
from trainledger_schemas.ids import id_bytes

S = 1_000_000
H = 3600 * S


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


OCTOBER = at("2026-10-31T10:00")
NOVEMBER = at("2026-11-01T10:00")


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


def own(tables: FilledTables, name: str, *teams: str, start: str, when: int) -> None:
    tables.event(
        "owner_set", when, at_us=when, subject="user", name=name, teams=list(teams), from_hour_us=at(start),
        set_by="adm", note=None,
    )  # fmt: skip


def alive(tables: FilledTables, start_us: int, end_us: int, *, node: str) -> None:
    """A node event each minute, of a boot that began an hour before the run of October."""
    for at_us in range(start_us, end_us + 1, 60 * S):
        tables.event(
            "node_present", at_us, node=node, clocks={"boot_us": at_us - OCTOBER + 5 * H}, at_us=at_us, host=node,
            cores=4, memory_bytes=1, agent_version="t", leaving=False, busy_us=None, writers=[],
        )  # fmt: skip


def adjustments(tables: FilledTables) -> list[dict[str, Any]]:
    return tables.rows("cost_adjustments", rest="ORDER BY usage_hour, cause, kind, delta")


def two_months(tables: FilledTables) -> None:
    for run, begin in ((1, OCTOBER), (2, NOVEMBER)):
        node = f"node-{run}"
        tables.started(run, run + 10, begin, team="red", project="p", node=node)
        alive(tables, begin, begin + H, node=node)
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


def test_a_month_that_cannot_be_closed_yet_is_refused_with_what_to_do(tables: FilledTables) -> None:
    two_months(tables)
    for period, now, message in (
        ("2026-11", "2026-11-30T23:59:59", "2026-11 is not over before 2026-12-01 00:00 UTC"),
        ("2026-11", "2026-12-05", "months are closed in their order: close 2026-10 first"),
        ("2026-13", "2026-12-05", "'2026-13' is not a month"),
    ):
        with pytest.raises(UsageError, match=message):
            close(tables, period, now)
    alive(tables, OCTOBER, OCTOBER + H // 2, node="other")
    tables.price(5, NOVEMBER, nano=10**9, pattern="other", from_hour_us=at("2026-11-01"))
    tables.price(6, NOVEMBER + 1, nano=10**9, pattern="node-*")
    tables.store.command(f"TRUNCATE TABLE {tables.schema.tables.name('admin_events')}")
    tables.take_in()
    tables.derivation.costs.refresh([], prices_changed=True)
    with pytest.raises(UsageError, match=r"0\.5000 node-hours of 2026-10 have no price"):
        close(tables, "2026-10")
    closed = close(tables, "2026-10", accepts_unpriced=True)
    assert closed["unpriced_hours"] == 0.5
    with pytest.raises(UsageError, match="2026-10 is closed already"):
        close(tables, "2026-10")
    # A price that comes now is the difference of hours that had none.
    tables.price(7, NOVEMBER + 2, nano=4 * 10**9)
    tables.take_in()
    found = adjustments(tables)
    assert [(r["old_cost"], r["new_cost"], r["cause"]) for r in found] == [(None, Decimal(2), "price")]


def test_tables_that_are_behind_the_log_are_refused(tables: FilledTables) -> None:
    two_months(tables)
    now = datetime(2026, 12, 5, tzinfo=UTC)

    def written(period: str, **more: Any) -> None:
        accepts = {"accepts_silent": more.pop("accepts_silent", False)}
        request = CloseRequest(period, **accepts)
        write_statement(tables.store, tables.schema, request, now=now, statement_id=id_of(70), **more)

    # Of November nothing later is known: fine where the log is read to its end, else the tables may be behind.
    close(tables, "2026-10")
    with pytest.raises(
        UsageError, match=r"partition 0 of trainledger.nodes is in the tables up to 2026-11-01 11:00"
    ):
        written("2026-11", is_log_read=False)
    end = at("2026-12-01")
    alive(tables, end - 10 * 60 * S, end - 60 * S, node="node-3")
    tables.take_in()
    with pytest.raises(UsageError, match=r"1 nodes \(node-3\) were there at the end of 2026-11"):
        written("2026-11")
    written("2026-11", is_log_read=False, accepts_silent=True)
    alive(tables, end, end, node="node-3")
    tables.take_in()
    written("2026-11", is_log_read=False)


def test_rows_that_were_written_for_a_close_that_died_count_for_nothing(tables: FilledTables) -> None:
    two_months(tables)
    request = CloseRequest("2026-10")
    moment = datetime(2026, 12, 5, tzinfo=UTC)
    write_statement(tables.store, tables.schema, request, now=moment, statement_id=id_of(77))
    assert tables.rows("statement_lines") == [] and tables.rows("cost_periods") == []
    close(tables, "2026-10")
    assert len(tables.rows("statement_lines")) == 2


def test_changed_rows_of_a_statement_are_noticed(tables: FilledTables) -> None:
    two_months(tables)
    close(tables, "2026-10")
    name = tables.schema.tables.name("statement_lines")
    tables.store.command(
        f"ALTER TABLE {name} UPDATE cost = cost + 1 WHERE kind = 'run' SETTINGS mutations_sync = 2"
    )
    (period,) = list_periods(tables.store.query, tables.schema.views_database)
    assert not period["is_intact"]
    tables.store.command(f"ALTER TABLE {name} DELETE WHERE kind = 'run' SETTINGS mutations_sync = 2")
    with pytest.raises(UsageError, match="the statement of 2026-10 has 1 of 2 lines"):
        read_closed_month(tables.session, "2026-10")


def test_a_difference_is_booked_once_and_a_later_one_goes_on_from_it(tables: FilledTables) -> None:
    two_months(tables)
    close(tables, "2026-10")
    tables.price(2, NOVEMBER, nano=12 * 10**9, pattern="node-1")
    tables.take_in()
    second = close(tables, "2026-11")
    assert second["adjusted"] == [{"currency": "USD", "amount": "2.000000000"}]
    assert [(r["booked_in"], r["is_booked"]) for r in adjustments(tables)] == [("2026-11", True)] * 2
    tables.price(3, NOVEMBER + 1, nano=15 * 10**9, pattern="node-1")
    tables.take_in()
    fresh = [r for r in adjustments(tables) if not r["is_booked"]]
    assert [(r["old_cost"], r["new_cost"], r["booked_in"]) for r in fresh] == [
        (Decimal(6), Decimal("7.5"), "2026-12")
    ] * 2
    assert all(p["is_intact"] for p in list_periods(tables.store.query, tables.schema.views_database))


def explained(tables: FilledTables, period: str) -> list[tuple[str, str]]:
    month = read_closed_month(tables.session, period)
    assert month is not None
    return [(row["booked_in"], row["delta"]) for row in explain_month(tables.session, month).rows]


def test_the_cents_of_what_a_month_booked_never_move(tables: FilledTables) -> None:
    two_months(tables)
    close(tables, "2026-10")
    # Half a cent more for red, and half a cent for nobody: one cent is posted.
    tables.price(2, NOVEMBER, nano=10_010_000_000, pattern="node-1")
    tables.take_in()
    open_rows = explained(tables, "2026-10")
    assert sorted(open_rows) == [("2026-11", "0.00"), ("2026-11", "0.01")]
    close(tables, "2026-11")
    tables.price(3, NOVEMBER + 1, nano=10_020_000_000, pattern="node-1")
    tables.take_in()
    rows = explained(tables, "2026-10")
    assert [row for row in rows if row[0] == "2026-11"] == open_rows
    assert sorted(row for row in rows if row[0] == "2026-12") == [("2026-12", "0.00"), ("2026-12", "0.01")]
    assert read_bookings(tables.session) == {"2026-11": {"USD": "0.01"}, "2026-12": {"USD": "0.01"}}


def test_each_cause_is_told_apart_with_the_event_and_who(tables: FilledTables) -> None:
    two_months(tables)
    found = [{"device_id": "gpu-0", "model": "m", "memory_bytes": 1, "mig_profile": None}]
    tables.event("devices", OCTOBER, node="node-1", at_us=OCTOBER, devices=found)
    tables.take_in()
    close(tables, "2026-10")
    before = tables.rows("statement_lines", rest="ORDER BY ALL")
    # Half an hour more of the run, told late; then the other host share and the rate; then another team.
    tables.usage(OCTOBER + H, OCTOBER + H + H // 2, (1, 11), cores=2, node="node-1")
    alive(tables, OCTOBER + H, OCTOBER + H + H // 2, node="node-1")
    tables.price(2, NOVEMBER, nano=20 * 10**9, pattern="node-1", host_share_ppm=500_000)
    own(tables, "ann", "blue", start="2026-10-01", when=at("2026-12-06"))
    tables.take_in()
    rows = adjustments(tables)
    causes = {
        cause: sum((r["delta"] for r in rows if r["cause"] == cause), Decimal(0))
        for cause in ("late", "policy", "price", "owner")
    }
    assert causes == {"late": Decimal(5), "policy": 0, "price": Decimal(15), "owner": 0}
    moved = {r["team"]: r["delta"] for r in rows if r["cause"] == "owner"}
    assert set(moved) == {"red", "blue"} and moved["blue"] == -moved["red"] > 0
    refs = {r["cause"]: (r["event_ref"].split()[0], r["booked_by"]) for r in rows}
    assert refs == {
        "late": ("node_present", "node node-1"), "policy": ("price_set", "test"), "price": ("price_set", "test"),
        "owner": ("owner_set", "adm"),
    }  # fmt: skip
    assert tables.rows("statement_lines", rest="ORDER BY ALL") == before
    month = read_closed_month(tables.session, "2026-10")
    assert month is not None
    explanation = explain_month(tables.session, month)
    assert explanation.sums == (
        {"currency": "USD", "statement": "10.00", "differences": "20.00", "newest": "30.00"},
    )
    amounts = [abs(Decimal(r["delta"])) for r in explanation.rows]
    assert amounts == sorted(amounts, reverse=True)


def test_a_new_owner_gets_the_whole_amount_on_top_of_the_other_causes(tables: FilledTables) -> None:
    two_months(tables)
    close(tables, "2026-10")
    tables.price(2, NOVEMBER, nano=12 * 10**9, pattern="node-1")
    own(tables, "ann", "green", start="2026-10-01", when=at("2026-12-06"))
    tables.take_in()
    shown = {
        (r["cause"], r["team"], r["old_cost"], r["new_cost"], r["event_ref"].split()[0])
        for r in adjustments(tables)
    }
    price = {("price", team, Decimal(5), Decimal(6), "price_set") for team in ("red", None)}
    red, green = (Decimal(6), Decimal(0)), (Decimal(0), Decimal(6))
    assert shown == price | {
        ("owner", "red", *red, "owner_set"),
        ("owner", "green", *green, "owner_set"),
    }
    check_books(tables)
    # Once that is booked, a price is green's.
    close(tables, "2026-11", now="2026-12-07")
    tables.price(3, NOVEMBER + 1, nano=14 * 10**9, pattern="node-1")
    tables.take_in()
    fresh = {(r["cause"], r["team"], r["delta"]) for r in adjustments(tables) if not r["is_booked"]}
    assert fresh == {("price", "green", Decimal(1)), ("price", None, Decimal(1))}
    # Nor is it the owner of before, when the run has another project.
    tables.started(1, 40, OCTOBER - H, project="q", team="red", node="node-1")
    tables.take_in()
    moved = {
        (r["project"], r["delta"], r["event_ref"].split()[0])
        for r in adjustments(tables)
        if r["cause"] == "owner" and not r["is_booked"]
    }
    assert moved == {("p", Decimal(-7), "run"), ("q", Decimal(7), "run")}


def test_a_late_import_is_by_who_made_it(tables: FilledTables) -> None:
    two_months(tables)
    close(tables, "2026-10")
    job: dict[str, Any] = {
        "node": "node-1", "reservation_id": "r1", "source": "sacct", "cluster": "c", "job": "1", "owner": "eve", "account": None,
        "start_us": OCTOBER, "end_us": OCTOBER + H, "is_over": True, "read_us": NOVEMBER, "state": "COMPLETED",
        "restarts": 0, "partition": None, "qos": None, "cpu_milli": 1000, "device_milli": 0, "memory_bytes": None,
        "node_cores": 4, "node_devices": 0, "set_by": "root",
    }  # fmt: skip
    topic = TOPIC_NODES
    envelope = tables.producer.envelope(None, topic=topic) | {"wall_us": NOVEMBER}
    tables.log.append(topic, encode_event("reservation", {"envelope": envelope, **job}))
    tables.take_in()
    assert {(r["cause"], r["booked_by"]) for r in adjustments(tables)} == {("late", "root")}


CHANGES = ("late use", "late presence", "price", "boot presence", "host share", "owner", "project", "close")


@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.lists(st.sampled_from(CHANGES), min_size=2, max_size=6), st.integers(1, 10**6))
def test_statement_and_differences_are_the_newest_bill_whatever_happens(
    folder: Any, changes: list[str], odd: int
) -> None:
    tables = FilledTables(fresh_store(), folder)
    two_months(tables)
    own(tables, "ann", "green", "red", start="2026-11-01", when=NOVEMBER)
    tables.price(2, OCTOBER + 1, nano=10**10 + odd)
    tables.take_in()
    close(tables, "2026-10")
    stands = tables.rows("statement_lines", rest="WHERE period = '2026-10' ORDER BY ALL")
    for number, change in enumerate(changes):
        apply(tables, change, number, odd)
        tables.take_in()
    check_books(tables)
    assert tables.rows("statement_lines", rest="WHERE period = '2026-10' ORDER BY ALL") == stands
    check_newest(tables)
    assert not tables.derivation.costs.stale()


def apply(tables: FilledTables, change: str, number: int, odd: int) -> None:
    when, nano = NOVEMBER + number + 1, (11 + number) * 10**9 + odd
    match change:
        case "late use":
            begin = OCTOBER + (number + 1) * H
            tables.usage(begin, begin + 7 * S, (3, 13), cores=1.5, node="node-1")
        case "late presence":
            begin = OCTOBER - H // 2 * (number + 1)
            alive(tables, begin, begin + H // 3, node="node-1")
        case "price":
            tables.price(20 + number, when, nano=nano)
        case "boot presence":
            tables.price(20 + number, when, nano=nano, presence="boot")
        case "host share":
            tables.price(20 + number, when, nano=nano, host_share_ppm=300_000)
        case "owner":
            teams = ("blue",) if number % 2 else ("gold", "red")
            own(tables, "ann", *teams, start=f"2026-10-{25 + number}", when=at("2026-12-06") + number)
        case "project":
            tables.started(1, 40 + number, OCTOBER - H, project=f"p{number}", team="red", node="node-1")
        case "close" if "2026-11" not in {row["period"] for row in tables.rows("cost_periods")}:
            close(tables, "2026-11")


def by_team(rows: list[dict[str, Any]], amount: str) -> dict[Any, Decimal]:
    found: dict[Any, Decimal] = {}
    for row in rows:
        if row[amount]:
            key = (
                row["period"],
                row["team"],
                row["project"],
                str(row["run_id"]),
                row["node_id"],
                row["kind"],
            )
            found[key] = found.get(key, Decimal(0)) + row[amount]
    return {key: total for key, total in found.items() if total}


def check_books(tables: FilledTables) -> None:
    """Of each closed month: what was stated and what was learned since is what is known now, team by team."""
    closed = {row["period"] for row in tables.rows("cost_periods")}
    stated = [row | {"delta": row["cost"]} for row in tables.rows("statement_lines")]
    now = [row | {"period": f"{row['usage_hour']:%Y-%m}"} for row in tables.rows("cost_lines")]
    newest = by_team([row for row in now if row["period"] in closed], "cost")
    assert by_team([*stated, *adjustments(tables)], "delta") == newest
    posted: dict[str, Decimal] = {}
    for period in sorted(closed):
        month = read_closed_month(tables.session, period)
        assert month is not None
        explanation = explain_month(tables.session, month)
        for sums in explanation.sums:
            total = sum((cost for key, cost in newest.items() if key[0] == period), Decimal(0))
            assert sums["newest"] == str(total.quantize(Decimal("0.01"), ROUND_HALF_UP))
            assert Decimal(sums["statement"]) + Decimal(sums["differences"]) == Decimal(sums["newest"])
            shown = [Decimal(row["delta"]) for row in explanation.rows if row["currency"] == sums["currency"]]
            assert sum(shown, Decimal(0)) == Decimal(sums["differences"])
        for row in explanation.rows:
            posted[row["booked_in"]] = posted.get(row["booked_in"], Decimal(0)) + Decimal(row["delta"])
    bookings = {month: Decimal(sums["USD"]) for month, sums in read_bookings(tables.session).items()}
    assert {month: total for month, total in posted.items() if total} == {
        month: total for month, total in bookings.items() if total
    }


def check_newest(tables: FilledTables) -> None:
    """The newest bill of each node-hour, from the slow rules and in Decimal."""
    found = tables.rows("node_hour_bills", rest="WHERE present_s > 0 ORDER BY node_id, usage_hour")
    prices = tables.rows("prices", columns="*", rest="ORDER BY set_at")
    body = tables.store.rows(
        f"SELECT body FROM {tables.schema.tables.name('admin_events')} WHERE type = 'price_set' ORDER BY at DESC LIMIT 1"
    )
    presence = PresenceMode.BOOT if '"presence":"boot"' in str(body[0]["body"]) else PresenceMode.OBSERVED
    for row in found:
        events = node_events(tables, row["node_id"])
        hour_us = int(row["usage_hour"].replace(tzinfo=UTC).timestamp()) * S
        slow = slow_node_hour(events, hour_us, CostPolicy(PresenceRule(presence)))
        bill = (prices[-1]["per_hour"] * slow.presence_us / Decimal(H)).quantize(
            Decimal("1E-9"), ROUND_HALF_UP
        )
        assert row["bill"] == bill, row
        lines = tables.rows(
            "cost_lines",
            rest=f"WHERE node_id = '{row['node_id']}' AND toUnixTimestamp(usage_hour) = {hour_us // S}",
        )
        exact: dict[str, Decimal] = {}
        for key, share in slow.shares.items():
            part = bill * share / (slow.presence_us * Decimal(10**6))
            exact[key[1]] = exact.get(key[1], Decimal(0)) + part
        for kind, cost in exact.items():
            stored = sum((line["cost"] for line in lines if line["kind"] == kind), Decimal(0))
            assert abs(stored - cost) <= len(lines) * Decimal("1E-9")


def node_events(tables: FilledTables, node: str) -> list[NodeEvent]:
    rows = tables.store.query(
        "SELECT type, toUnixTimestamp64Micro(at) AS at_us, toString(boot_id) AS boot_id, toString(producer_id) AS "
        f"producer_id, seq, body, offset FROM {tables.schema.tables.name('node_events')} WHERE node_id = {{n:String}}",
        {"n": node},
    ).to_pylist()
    return list(read_node_events(rows, writers=WriterPlaces()).events)


def booked(tables: FilledTables) -> Decimal:
    """All that the statements bill, with the differences that they book."""
    lines = tables.rows("statement_lines", columns="sum(cost) AS money")[0]["money"]
    return Decimal(
        lines
        + tables.rows("cost_adjustments", columns="sum(delta) AS money", rest="WHERE is_booked")[0]["money"]
    )


def test_a_month_that_was_empty_when_a_later_one_was_closed_is_closed_before_the_next(
    tables: FilledTables,
) -> None:
    two_months(tables)
    close(tables, "2026-10")
    september = at("2026-09-10T10:00")
    alive(tables, september, september + H, node="late")
    tables.price(2, NOVEMBER, nano=12 * 10**9)
    tables.take_in()
    with pytest.raises(UsageError, match="close 2026-09 first"):
        close(tables, "2026-11")
    fields = close(tables, "2026-09")
    assert fields["totals"] == [{"currency": "USD", "amount": "12.000000000"}]
    close(tables, "2026-11")
    assert booked(tables) == tables.rows("node_bills", columns="sum(bill) AS money")[0]["money"] == 36
    assert all(row["is_intact"] for row in list_periods(tables.store.query, tables.schema.views_database))


def test_a_booked_hour_that_a_rebuild_does_not_deal_any_more_is_a_difference(tables: FilledTables) -> None:
    two_months(tables)
    owned = {"presence": "owned", "owned_from_us": OCTOBER - 2 * H}
    tables.price(2, OCTOBER, nano=10 * 10**9, pattern="node-1", **owned)
    tables.take_in()
    close(tables, "2026-10")
    assert booked(tables) == 30
    tables.price(3, NOVEMBER, nano=10 * 10**9, pattern="node-1")
    tables.take_in()
    live = adjustments(tables)
    assert sum(row["delta"] for row in live) == -20
    # A rebuild begins with the events and the statements alone.
    for table in ("node_hours", "node_hour_money", "closed_hours"):
        tables.store.command(f"TRUNCATE TABLE {tables.schema.tables.name(table)}")
    tables.derivation.catch_up()
    assert adjustments(tables) == live
    assert not tables.derivation.costs.stale()


def end_price(tables: FilledTables, number: int, at_us: int, pattern: str, *, from_hour_us: int = 0) -> None:
    tables.event(
        "price_ended", at_us, at_us=at_us, price_id=fixed_id(number), pattern=pattern, from_hour_us=from_hour_us,
        set_by="fin", note=None,
    )  # fmt: skip


def test_a_price_that_ends_behind_a_closing_is_a_difference_by_the_event_that_ended_it(
    tables: FilledTables,
) -> None:
    two_months(tables)
    tables.price(2, OCTOBER + 1, nano=30 * 10**9, pattern="node-1")
    tables.take_in()
    close(tables, "2026-10")
    # What counts behind the end is the wider price, which is older than the closing.
    end_price(tables, 3, at("2026-12-06"), "node-1")
    tables.take_in()
    found = adjustments(tables)
    assert [(r["delta"], r["cause"], r["event_ref"].split()[0], r["booked_by"]) for r in found] == [
        (Decimal(-10), "price", "price_ended", "fin")
    ] * 2
    end_price(tables, 4, at("2026-12-07"), "*", from_hour_us=at("2026-10-01"))
    tables.take_in()
    assert [(r["old_cost"], r["new_cost"]) for r in adjustments(tables)] == [(Decimal(15), None)] * 2
    check_books(tables)
    assert all(row["bill"] is None for row in tables.rows("node_hour_bills"))


def job(tables: FilledTables, number: int, start_us: int, end_us: int, *, node: str) -> None:
    """A job of ann that is over, of a scheduler's records: four cores of four, and no agent need be there."""
    times = {"wall_us": end_us, "boot_us": 0}
    fields: dict[str, Any] = {
        "envelope": tables.producer.envelope(None, topic=TOPIC_NODES) | times, "node": node, "cluster": "c",
        "reservation_id": f"slurm c {number}", "source": "sacct", "job": str(number), "owner": "ann",
        "account": "account:ml", "start_us": start_us, "end_us": end_us, "is_over": True, "read_us": end_us,
        "state": "COMPLETED", "restarts": 0, "partition": None, "qos": None, "cpu_milli": 4000, "device_milli": 0,
        "memory_bytes": None, "node_cores": 4, "node_devices": None, "set_by": "root",
    }  # fmt: skip
    tables.log.append(TOPIC_NODES, encode_event("reservation", fields))


def test_owned_hours_before_the_only_job_stay_billed_once_their_difference_is_booked(
    tables: FilledTables,
) -> None:
    two_months(tables)
    day = 24 * H
    job(tables, 1, OCTOBER, OCTOBER + 2 * H, node="ghost")
    tables.price(2, OCTOBER, nano=8 * 10**9, pattern="ghost", presence="owned", owned_from_us=OCTOBER)
    tables.take_in()
    close(tables, "2026-10")
    # It turns out that the node was owned two days before; nothing else is known of it.
    early = {"presence": "owned", "owned_from_us": OCTOBER - 2 * day}
    tables.price(3, NOVEMBER, nano=8 * 10**9, pattern="ghost", **early)
    tables.take_in()
    right = tables.rows("cost_lines", columns="* EXCEPT revision", rest="ORDER BY ALL")
    assert sum(row["cost"] for row in right if row["node_id"] == "ghost") == 50 * 8
    assert close(tables, "2026-11")["adjusted"] == [{"currency": "USD", "amount": "384.000000000"}]
    assert tables.rows("cost_lines", columns="* EXCEPT revision", rest="ORDER BY ALL") == right
    assert [row for row in adjustments(tables) if not row["is_booked"]] == []
    check_books(tables)


def test_a_month_that_is_closed_after_a_later_one_books_no_differences(tables: FilledTables) -> None:
    two_months(tables)
    close(tables, "2026-10")
    tables.price(2, NOVEMBER, nano=12 * 10**9, pattern="node-1")
    september = at("2026-09-10T10:00")
    alive(tables, september, september + H, node="late")
    tables.take_in()
    told = adjustments(tables)
    assert close(tables, "2026-09")["adjustments"] == 0
    # Cause and event stay too, although the price was known when September was closed.
    assert adjustments(tables) == told and {row["booked_in"] for row in told} == {"2026-11"}
    tables.price(3, NOVEMBER + 1, nano=11 * 10**9, pattern="late")
    tables.take_in()
    late = [row for row in adjustments(tables) if row["node_id"] == "late"]
    assert [(row["period"], row["delta"], row["cause"]) for row in late] == [("2026-09", 1, "price")]
    assert close(tables, "2026-11")["adjusted"] == [{"currency": "USD", "amount": "3.000000000"}]
    check_books(tables)


def test_differences_of_hours_that_lost_their_price_are_booked_only_when_accepted(
    tables: FilledTables,
) -> None:
    two_months(tables)
    close(tables, "2026-10")
    tables.price(2, NOVEMBER, nano=10**9, pattern="node-2")
    end_price(tables, 3, at("2026-12-06"), "*")
    tables.take_in()
    assert hours_without_price(tables.session, "2026-10") == 1
    with pytest.raises(
        UsageError, match=r"1\.0000 node-hours of 2026-10 were billed and have no price any more"
    ):
        close(tables, "2026-11")
    closed = close(tables, "2026-11", accepts_unpriced=True)
    assert closed["adjusted"] == [{"currency": "USD", "amount": "-10.000000000"}]
