"""Node-hours in the tables: whatever comes late, dies or is priced anew, they are those of the whole history."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.cost_events import HOUR, histories
from support.filled_tables import FilledTables
from support.ingest_events import START_US, fixed_id
from support.ingest_store import Crash, FaultyStore, fresh_store
from support.slow_cost import slow_node_hour
from trainledger_ingest.cost import bill_sql
from trainledger_ingest.cost import tables as cost_tables
from trainledger_ingest.cost.node_events import (
    HOUR_US,
    Allocation,
    Devices,
    Gap,
    Holder,
    Kind,
    NodeEvent,
    NodePresent,
    ProcessUsage,
    hour_of,
)
from trainledger_ingest.cost.node_facts import WriterPlaces, read_node_events
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.price_list import read_listed
from trainledger_ingest.cost.report import make_report
from trainledger_ingest.cost.stored_prices import PRICES_A_VERSION
from trainledger_ingest.cost.tables import CostTables
from trainledger_schemas.errors import RetryableStoreError

S = 1_000_000
SPACE = UUID(int=0)
CENT_NANO = 10**7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("cost-tables")


@pytest.fixture
def tables(folder: Any) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), folder)


def holder_fields(holder: Holder) -> dict[str, Any]:
    run = uuid5(SPACE, holder.run_id).bytes if holder.kind is Kind.RUN and holder.run_id else None
    return {"kind": str(holder.kind), "run_id": run, "writer_id": run, "owner": holder.owner}


def append(tables: FilledTables, event: NodeEvent) -> None:
    """The event as the agent would send it."""
    boot = uuid5(SPACE, event.boot_id).bytes
    at = event.wall_us
    match event:
        case NodePresent():
            tables.event(
                "node_present", at, clocks={"boot_id": boot, "boot_us": event.boot_us}, at_us=at, host="h", cores=4,
                memory_bytes=1, agent_version="t", leaving=event.leaving, busy_us=None, writers=[],
            )  # fmt: skip
        case ProcessUsage():
            usage = [holder_fields(h) | {"cpu_us": cpu, "memory_peak_bytes": 1} for h, cpu in event.usage]
            tables.event(
                "process_usage", at, clocks={"boot_id": boot}, start_us=event.start_us, end_us=event.end_us,
                cores=event.cores, usage=usage,
            )  # fmt: skip
        case Allocation():
            holders = [
                holder_fields(item.holder)
                | {"resource": item.resource, "numerator": item.numerator, "denominator": item.denominator}
                | {"evidence": item.evidence}
                for item in event.holders
            ]
            tables.event(
                "allocation", at, clocks={"boot_id": boot}, at_us=at, key_frame=True, holders=holders
            )
        case Devices():
            found = [
                {"device_id": d.uuid, "model": d.model, "memory_bytes": 1, "mig_profile": None}
                for d in event.devices
            ]
            tables.event("devices", at, clocks={"boot_id": boot}, at_us=at, devices=found)
        case Gap():
            tables.event(
                "gap", at, clocks={"boot_id": boot}, at_us=at, start_us=event.start_us, end_us=event.end_us,
                what="node", reason="test", count=1,
            )  # fmt: skip


def stored_events(tables: FilledTables) -> list[NodeEvent]:
    rows = tables.store.query(
        "SELECT type, toUnixTimestamp64Micro(at) AS at_us, toString(boot_id) AS boot_id, toString(producer_id) AS "
        f"producer_id, seq, body, offset FROM {tables.schema.tables.name('node_events')}"
    ).to_pylist()
    return list(read_node_events(rows, writers=WriterPlaces()).events)


def stored_shares(tables: FilledTables) -> dict[int, dict[Any, int]]:
    """Hour -> (resource, kind, run, owner) -> shares, nothing for hours without presence."""
    rows = tables.store.rows(
        "SELECT toUnixTimestamp(hour) AS hour, presence_us, kinds, run_ids, attempts, owners, resources, held "
        f"FROM {tables.schema.tables.name('node_hours')} FINAL"
    )
    found: dict[int, dict[Any, int]] = {}
    for row in rows:
        columns: Any = zip(
            row["resources"], row["kinds"], row["run_ids"], row["owners"], row["held"], strict=True
        )  # type: ignore[call-overload] # lists
        lines = {(r, str(k), str(i) if i else None, o): int(held) for r, k, i, o, held in columns if held}
        assert sum(lines.values()) == int(str(row["presence_us"])) * 10**6
        if lines:
            found[int(str(row["hour"])) * S] = lines
    return found


def expected_shares(events: list[NodeEvent]) -> dict[int, dict[Any, int]]:
    """From the slow oracle, hour by hour."""
    found = {}
    first, last = min(e.wall_us for e in events), max(e.wall_us for e in events)
    for hour_us in range(hour_of(first) - 2 * HOUR_US, hour_of(last) + 2 * HOUR_US, HOUR_US):
        shares = slow_node_hour(events, hour_us, CostPolicy()).shares
        lines = {(key[0], key[1], key[2], key[4]): share for key, share in shares.items() if share}
        if lines:
            found[hour_us] = lines
    return found


def bills_add_up(tables: FilledTables) -> None:
    """Lines sum to the bill of their hour to 10^-9, and a priced bill is price x presence."""
    rows = tables.store.rows(
        "SELECT b.usage_hour AS hour, any(b.bill) AS bill, sum(l.cost) AS cost, countIf(l.cost IS NULL) AS unpriced, "
        f"count() AS n FROM {tables.schema.views_database}.node_hour_bills AS b "
        f"LEFT JOIN {tables.schema.views_database}.cost_lines AS l "
        "ON l.usage_hour = b.usage_hour AND l.node_id = b.node_id WHERE b.present_s > 0 GROUP BY hour, b.node_id"
    )
    for row in rows:
        assert row["bill"] == row["cost"] and row["unpriced"] == (row["n"] if row["bill"] is None else 0), row


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(histories(), st.randoms(use_true_random=False), st.integers(0, 10**15))
def test_events_in_any_order_with_prices_between_give_the_hours_of_the_whole_history(
    folder: Any, events: list[NodeEvent], shuffle: Any, nano: int
) -> None:
    tables = FilledTables(fresh_store(), folder)
    # Journals arrive when an agent is back: later and in any order, some twice.
    arriving = [*events, *shuffle.sample(events, len(events) // 3)]
    shuffle.shuffle(arriving)
    cut = shuffle.randint(0, len(arriving))
    for number, part in enumerate((arriving[:cut], arriving[cut:])):
        for event in part:
            append(tables, event)
        tables.price(number + 1, START_US + number, nano=nano + number, from_hour_us=HOUR)
        tables.take_in()
    assert stored_shares(tables) == expected_shares(stored_events(tables))
    bills_add_up(tables)
    assert not tables.derivation.costs.stale() and not tables.derivation.costs.prices_are_stale()


def two_nodes(tables: FilledTables) -> None:
    tables.started(1, 11, HOUR, team="red")
    for node in ("node-1", "node-2"):
        tables.alive(HOUR, HOUR + HOUR_US // 3, node=node)
        tables.usage(HOUR + 60 * S, HOUR + 600 * S, (1, 11), node=node)
        found = [
            {"device_id": f"gpu-{n}", "model": f"m{n}", "memory_bytes": 1, "mig_profile": None}
            for n in (0, 1)
        ]
        tables.event("devices", HOUR, node=node, at_us=HOUR, devices=found)


def money(tables: FilledTables) -> list[dict[str, Any]]:
    return tables.rows(
        "cost_lines",
        columns="usage_hour, node_id, kind, toString(run_id) AS run, resource, held_hours, cost, currency",
        rest="ORDER BY ALL",
    )


OTHER_RULES: dict[str, Any] = {"nano": 10**10, "host_share_ppm": 500_000, "device_weights": {"m0": 3}}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("insert", [0, 2, 3])
def test_a_crash_between_the_inserts_of_a_price_change_is_mended_by_the_next_start(
    tables: FilledTables, insert: int, after: bool
) -> None:
    two_nodes(tables)
    tables.take_in()
    before = money(tables)
    generation = tables.schema.generation
    # Only the event comes in; what follows from it is cut off.
    tables.derivation.costs = _Idle(tables.store, generation)
    tables.price(1, START_US, **OTHER_RULES)
    tables.take_in()
    dying = CostTables(FaultyStore(tables.store, crash_insert=insert, after=after), generation)
    with pytest.raises(Crash):
        dying.refresh([], prices_changed=True)
    assert is_mended(tables) != before


@pytest.mark.parametrize("call", range(7, 11))
def test_a_rate_that_was_written_for_some_nodes_only_is_written_for_all(
    tables: FilledTables, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bill_sql, "NODES_MAX", 1)
    two_nodes(tables)
    tables.take_in()
    before = money(tables)
    generation = tables.schema.generation
    tables.derivation.costs = _Idle(tables.store, generation)
    tables.price(1, START_US, nano=10**10)
    tables.take_in()
    dying = CostTables(FaultyStore(tables.store, fail_calls=frozenset({call})), generation)
    with pytest.raises(RetryableStoreError):
        dying.refresh([], prices_changed=True)
    assert is_mended(tables) != before


def is_mended(tables: FilledTables) -> list[dict[str, Any]]:
    """The money after a start of the worker, which finds what is left to do, and after that nothing."""
    costs = CostTables(tables.store, tables.schema.generation)
    assert costs.prices_are_stale()
    costs.refresh(costs.stale(), prices_changed=True)
    mended = money(tables)
    assert all(row["cost"] is not None for row in mended)
    tables.store.command(f"TRUNCATE TABLE {tables.schema.generation}.dealt_book")
    costs.refresh([], prices_changed=costs.prices_are_stale())
    assert money(tables) == mended
    assert not costs.stale() and not costs.prices_are_stale()
    bills_add_up(tables)
    return mended


class _Idle(CostTables):
    """Does nothing: the worker died before it came to it."""

    def refresh(self, node_hours: Any, *, prices_changed: bool) -> None:
        return


def test_a_later_price_changes_money_and_no_share_and_no_revision(tables: FilledTables) -> None:
    two_nodes(tables)
    tables.price(1, START_US, nano=10**10)
    tables.take_in()
    first = stored_shares(tables)
    tables.price(2, START_US + 1, nano=2 * 10**10, pattern="node-2")
    tables.take_in()
    assert stored_shares(tables) == first
    totals = {
        row["node_id"]: row["bill"]
        for row in tables.rows("node_bills", columns="node_id, bill", rest="ORDER BY node_id")
    }
    assert abs(totals["node-2"] - 2 * totals["node-1"]) <= Decimal("1E-9") and totals["node-1"] > 0
    (kept,) = tables.store.rows(
        f"SELECT count() AS n FROM {tables.schema.tables.name('node_hour_revisions')}"
    )
    (current,) = tables.store.rows(
        f"SELECT count() AS n FROM {tables.schema.tables.name('node_hours')} FINAL"
    )
    assert kept == current
    bills_add_up(tables)


def test_another_way_to_deal_is_another_revision_and_the_old_ones_are_kept(tables: FilledTables) -> None:
    two_nodes(tables)
    tables.price(1, START_US, nano=10**10)
    tables.take_in()
    first = stored_shares(tables)
    tables.price(2, START_US + 1, pattern="node-2", **OTHER_RULES)
    tables.take_in()
    assert stored_shares(tables) != first
    (kept,) = tables.store.rows(
        f"SELECT count() AS n FROM {tables.schema.tables.name('node_hour_revisions')}"
    )
    (current,) = tables.store.rows(
        f"SELECT count() AS n FROM {tables.schema.tables.name('node_hours')} FINAL"
    )
    assert int(str(kept["n"])) > int(str(current["n"]))
    # The second price is not about node-1: its hours are not dealt anew. The first changed money alone.
    versions = {(row["node_id"], row["revision"] % PRICES_A_VERSION) for row in tables.rows("cost_lines")}
    assert versions == {("node-1", 1), ("node-2", 2)}
    bills_add_up(tables)


def test_an_agent_that_was_down_leaves_unknown_time_and_never_idle(tables: FilledTables) -> None:
    tables.alive(HOUR, HOUR + 600 * S)
    tables.alive(HOUR + 1800 * S, HOUR + 2400 * S)
    tables.price(1, START_US, nano=36 * 10**9)
    tables.take_in()
    (bill,) = tables.rows("node_bills")
    assert (bill["bill"], bill["unknown"], bill["difference"]) == (Decimal(24), Decimal(24), 0)
    # Nothing was measured in the rest either; windows of measured time tell idle apart.
    tables.usage(HOUR, HOUR + 600 * S, (1, 11), cores=1)
    tables.take_in()
    (bill,) = tables.rows("node_bills")
    assert (bill["run"], bill["idle"], bill["unknown"]) == (Decimal("1.5"), Decimal("4.5"), Decimal(18))


def test_a_million_node_hours_are_summed_by_the_engine_as_by_integers(tables: FilledTables) -> None:
    """10^6 hours of three lines at up to a million an hour: no sum and no product may wrap or round."""
    generation = tables.schema.generation
    count, rate = 1_000_000, 10**15  # the dearest price
    # Bills near the top, each with its own last digits; two lines are fixed, the third is the rest.
    place = f"SELECT concat('n', toString(number % 1000)), toDateTime({HOUR // S} + intDiv(number, 1000) * 3600, 'UTC'), 1"
    runs = [f"toUUID('00000000-0000-4000-8000-00000000000{n}')" for n in (1, 2)]
    held = HOUR_US * 10**6 // 4
    bill = f"toDecimal128({rate} - number, 9) / 1000000000"
    columns = "node_id, hour, version, presence_us, observed_us, kinds, run_ids, attempts, owners, resources, held, used, evidence"
    money = "node_id, hour, version, lines_version, price_id, currency, bill, costs"
    rest = f"FROM numbers({count}) SETTINGS max_insert_block_size = {count}"
    tables.store.command(
        f"INSERT INTO {generation}.node_hours ({columns}) {place}, {HOUR_US}, {HOUR_US}, ['run', 'run', 'idle'], "
        f"[{runs[0]}, {runs[1]}, NULL], [1, 1, 0], ['a', 'b', NULL], ['host', 'host', 'host'], "
        f"[{held}, {2 * held}, {held}], [NULL, NULL, NULL], ['', '', ''] {rest}"
    )
    tables.store.command(
        f"INSERT INTO {generation}.node_hour_money ({money}) {place}, 1, {runs[0]}, 'USD', {bill} AS b, "
        f"[toDecimal128('123456.789012345', 9), toDecimal128('0.000000001', 9), b - toDecimal128('123456.789012346', 9)] "
        f"{rest}"
    )
    bills = sum(range(rate - count + 1, rate + 1))
    parts = {"a": 123_456_789_012_345 * count, "b": count, "idle": bills - 123_456_789_012_346 * count}
    # One pass over the lines, one over the bills: the queries of a report by user, and of the day's bills.
    lines = tables.store.query(
        "SELECT owner AS holder, kind AS line_kind, currency AS money, sum(cost) AS total, 0. AS unpriced "
        f"FROM {tables.session.views}.cost_lines GROUP BY ALL"
    ).to_pylist()
    days = tables.store.query(
        "SELECT currency AS money, sum(bill) AS total, sum(difference) AS difference "
        f"FROM {tables.session.views}.node_bills GROUP BY money"
    ).to_pylist()
    assert {r["holder"] or r["line_kind"]: r["total"] for r in lines} == {
        n: _money(p) for n, p in parts.items()
    }
    assert days == [{"money": "USD", "total": _money(bills), "difference": 0}]
    report = make_report("user", lines, days)
    shown = {row["user"] or row["kind"]: int(row["cost"].replace(".", "")) for row in report.rows}
    assert report.totals == report.bills
    total = int(report.totals["USD"].replace(".", ""))
    assert total == sum(shown.values()) == (2 * bills + CENT_NANO) // (2 * CENT_NANO)
    for name, nano in parts.items():
        assert abs(shown[name] * CENT_NANO - nano) < CENT_NANO


def _money(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9)


DAY_US = 24 * HOUR_US
ARRIVALS = {
    "prices last": ("first boot", "second boot", "owned", "plain"),
    "prices first": ("plain", "owned", "first boot", "second boot"),
    "late boot": ("owned", "second boot", "plain", "first boot"),
}


def arrive(tables: FilledTables, what: str) -> None:
    """A node owned from five days before it is first seen until it is rented from the day after; it boots twice."""
    now_us = HOUR + 5 * DAY_US
    if what == "owned":
        tables.price(1, now_us, nano=10**10, presence="owned", owned_from_us=HOUR)
    elif what == "plain":
        tables.price(2, now_us + 1, nano=13 * 10**9, from_hour_us=now_us + DAY_US)
    else:
        begin_us = now_us + (what == "second boot") * (DAY_US + HOUR_US // 2)
        boot = {"boot_id": uuid5(SPACE, what).bytes, "boot_us": S}
        for at_us in (begin_us, begin_us + HOUR_US):
            tables.event(
                "node_present", at_us, clocks=boot | {"boot_us": S + at_us - begin_us}, at_us=at_us, host="h",
                cores=4, memory_bytes=1, agent_version="t", leaving=False, busy_us=None, writers=[],
            )  # fmt: skip


def bills_by_hour(tables: FilledTables) -> list[dict[str, Any]]:
    return tables.rows(
        "node_hour_bills",
        columns="usage_hour, present_s, observed_s, bill",
        rest="WHERE present_s > 0 ORDER BY usage_hour",
    )


@pytest.mark.parametrize("order", ARRIVALS)
@pytest.mark.parametrize("is_live", [True, False], ids=["live", "replayed"])
def test_each_hour_is_dealt_under_the_rule_of_that_hour_whatever_comes_first(
    tables: FilledTables, order: str, is_live: bool
) -> None:
    for what in ARRIVALS[order]:
        arrive(tables, what)
        if is_live:
            tables.take_in()
    tables.take_in()
    found = bills_by_hour(tables)
    # Owned for six days, all of which count, then there for the hour between its events.
    assert sum(row["present_s"] for row in found) == 6 * 86_400 + 3600
    assert sum(row["bill"] for row in found) == 6 * 24 * 10 + 13
    if is_live:
        # As a rebuild does it: every hour with an event, in one refresh after all prices.
        for table in ("node_hours", "node_hour_money"):
            tables.store.command(f"TRUNCATE TABLE {tables.schema.tables.name(table)}")
        tables.derivation.catch_up()
        assert bills_by_hour(tables) == found
    bills_add_up(tables)


def book_price(number: int, pattern: str, nano: int, **fields: Any) -> dict[str, Any]:
    return {
        "price_id": fixed_id(number), "pattern": pattern, "nano_per_hour": nano, "currency": "USD", "from_hour_us": 0,
        "presence": "observed", "owned_from_us": None, "owned_to_us": None, "host_share_ppm": None,
        "device_weights": {}, "note": None, "source": "aws-spot",
    } | fields  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_hours_are_dealt_in_parts_as_all_at_once(
    tables: FilledTables, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.started(1, 11, HOUR, team="red")
    tables.present(*range(HOUR - HOUR_US // 3, HOUR + 7 * HOUR_US, 1200 * S))
    tables.alive(HOUR + 2 * HOUR_US + 7 * S, HOUR + 4 * HOUR_US + 7 * S)
    tables.usage(HOUR + 2 * HOUR_US - 60 * S, HOUR + 3 * HOUR_US + 60 * S, (1, 11), cores=2)
    tables.price(1, START_US, nano=10**10)
    tables.take_in()
    expected = expected_shares(stored_events(tables))
    assert stored_shares(tables) == expected and len(expected) == 8
    for table in ("node_hours", "node_hour_money"):
        tables.store.command(f"TRUNCATE TABLE {tables.schema.tables.name(table)}")
    monkeypatch.setattr(cost_tables, "HOURS_AT_ONCE", at_once)
    tables.derivation.catch_up()
    assert stored_shares(tables) == expected
    bills_add_up(tables)


def test_prices_that_are_set_together_are_those_of_as_many_events(tables: FilledTables) -> None:
    tables.alive(HOUR, HOUR + 2 * HOUR_US)
    hourly = [
        book_price(n + 1, "node-*", n * 10**9, from_hour_us=HOUR + (n - 1) * HOUR_US) for n in (1, 2, 3)
    ]
    # Of two for one pattern and hour the later in the list counts.
    again = book_price(9, "node-*", 7 * 10**9, from_hour_us=HOUR)
    tables.event("prices_set", START_US, at_us=START_US, set_by="ann", prices=[*hourly, again])
    tables.take_in()
    bills = [row["bill"] for row in bills_by_hour(tables)]
    assert bills == [Decimal(7), Decimal(2)]
    shown = tables.rows(
        "prices", columns="set_by, source, toInt64(per_hour) AS rate", rest="ORDER BY ordinal"
    )
    assert [(row["set_by"], row["source"], row["rate"]) for row in shown] == [
        ("ann", "aws-spot", rate) for rate in (1, 2, 3, 7)
    ]
    assert read_listed(tables.session).book.price_for("node-1", HOUR).nano_per_hour == 7 * 10**9  # type: ignore[union-attr] # there is one


def test_a_new_price_is_written_for_hours_from_its_own_on_and_for_its_nodes_alone(
    tables: FilledTables,
) -> None:
    for node in ("node-1", "node-2"):
        tables.alive(HOUR, HOUR + 4 * HOUR_US - S, node=node)
    tables.price(1, START_US, nano=10**10)
    tables.take_in()

    def versions() -> dict[tuple[str, int], int]:
        rows = tables.store.rows(
            f"SELECT node_id, toUnixTimestamp(hour) AS at, version % {PRICES_A_VERSION} AS entries "
            f"FROM {tables.schema.tables.name('node_hour_money')} FINAL"
        )
        return {
            (str(row["node_id"]), (int(str(row["at"])) * S - HOUR) // HOUR_US): int(str(row["entries"]))
            for row in rows
        }

    assert set(versions().values()) == {1}
    tables.price(2, START_US + 1, nano=2 * 10**10, pattern="node-2", from_hour_us=HOUR + 2 * HOUR_US)
    tables.take_in()
    changed = {place for place, version in versions().items() if version == 2}
    assert changed == {("node-2", hour) for hour in (2, 3)} and len(versions()) == 8
    assert not tables.derivation.costs.prices_are_stale()
    bills_add_up(tables)


def test_a_price_that_comes_while_hours_are_dealt_is_not_lost(tables: FilledTables) -> None:
    tables.alive(HOUR, HOUR + HOUR_US // 2)
    tables.take_in()
    tables.derivation.costs = _Idle(tables.store, tables.schema.generation)

    class Late(CostTables):
        """Another worker takes in a price when the hours of this one are about to be written."""

        def _write(self, node: Any, closing: Any) -> None:
            if not self._count_entries():
                tables.price(1, START_US, nano=10**10)
                tables.take_in()
                CostTables(tables.store, tables.schema.generation).refresh([], prices_changed=True)
            super()._write(node, closing)

    tables.alive(HOUR + HOUR_US // 2, HOUR + HOUR_US - S)
    tables.take_in()
    Late(tables.store, tables.schema.generation).refresh([("node-1", HOUR)], prices_changed=False)
    (bill,) = bills_by_hour(tables)
    assert bill["bill"] == Decimal("9.997222222")


def test_an_owned_node_that_is_watched_outside_of_its_dates_shows_as_unpriced(tables: FilledTables) -> None:
    tables.price(
        1, START_US, nano=10**10, presence="owned", owned_from_us=HOUR, owned_to_us=HOUR + 2 * HOUR_US
    )
    for first in (HOUR - 2 * HOUR_US, HOUR + 3 * HOUR_US):
        tables.alive(first, first + HOUR_US // 2)
    tables.take_in()
    found = [(row["present_s"], row["bill"]) for row in bills_by_hour(tables)]
    # Half an hour before, two owned hours, half an hour behind; the boot is one, so time between is there and unseen.
    assert [item for item in found if item[1] is not None] == [(3600.0, Decimal(10))] * 2
    assert next(present for present, bill in found if bill is None) == 3600.0
    report = make_report(
        "kind",
        tables.rows(
            "cost_lines",
            columns="kind AS holder, kind AS line_kind, currency AS money, sum(ifNull(cost, toDecimal128(0, 9))) AS total, "
            "sumIf(held_hours, cost IS NULL) AS unpriced",
            rest="GROUP BY ALL",
        ),
        [],
    )
    assert report.unpriced_hours > 0 and report.totals == {"USD": "20.00"}


def test_jobs_are_asked_for_where_a_node_has_any_and_then_also_those_that_end_long_after(
    tables: FilledTables,
) -> None:
    class Heard(FaultyStore):
        asked: list[str]

        def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
            self.asked.append(sql)
            return super().rows(sql, parameters)

    store = Heard(tables.store)
    hour = [("node-1", HOUR + HOUR_US)]
    tables.alive(HOUR, HOUR + 3 * HOUR_US)
    tables.take_in()
    store.asked = []
    CostTables(store, tables.schema.generation).refresh(hour, prices_changed=False)
    assert store.asked and not [sql for sql in store.asked if "reservation_id" in sql]
    tables.event(
        "reservation", HOUR, node="node-1", reservation_id="r1", source="sacct", cluster="c", job="7", owner="eve",
        account=None, start_us=HOUR, end_us=HOUR + 9 * HOUR_US, is_over=True, read_us=HOUR, state="COMPLETED",
        restarts=0, partition=None, qos=None, cpu_milli=4000, device_milli=0, memory_bytes=None, node_cores=4,
        node_devices=None, set_by="t",
    )  # fmt: skip
    tables.take_in()
    store.asked = []
    CostTables(store, tables.schema.generation).refresh(hour, prices_changed=False)
    assert len([sql for sql in store.asked if "reservation_id" in sql]) == 1
    lines = tables.rows(
        "cost_lines", columns="owner, held_hours", rest=f"WHERE usage_hour = {hour[0][1] // S}"
    )
    assert lines == [{"owner": "eve", "held_hours": 1.0}]
