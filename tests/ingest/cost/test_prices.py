"""Which price a node has in an hour, and that its lines sum to its bill."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.cost_events import HOUR, histories
from trainledger_ingest.cost.node_events import HOUR_US, NodeEvent
from trainledger_ingest.cost.node_hour import deal_node_hour
from trainledger_ingest.cost.node_stream import NodeStream
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import PresenceMode, PresenceRule
from trainledger_ingest.cost.prices import (
    Entry,
    Price,
    PriceBook,
    PriceEnd,
    nano_rate,
    price_fields,
    whole_hour,
)
from trainledger_ingest.cost.pricing import priced_lines
from trainledger_schemas.errors import UsageError


def price(price_id: str, pattern: str, from_hours: int = 0, set_at_us: int = 0, nano: int = 10**9) -> Price:
    return Price(price_id, pattern, nano, "USD", HOUR + from_hours * HOUR_US, set_at_us)


def id_for(prices: list[Price], node_id: str, hours: int = 0) -> str | None:
    found = PriceBook(prices).price_for(node_id, HOUR + hours * HOUR_US)
    return found.price_id if found else None


def test_the_longest_literal_beginning_wins_and_then_the_exact_name() -> None:
    prices = [price("all", "*"), price("gpu", "gpu-*"), price("one", "gpu-1"), price("group", "gpu-1*")]
    assert id_for(prices, "gpu-1") == "one"
    assert id_for(prices, "gpu-12") == "group"
    assert id_for(prices, "gpu-2") == "gpu"
    assert id_for(prices, "cpu") == "all"
    # More literal characters, but a shorter beginning.
    assert id_for([price("end", "*-large-spot"), price("begin", "g*")], "g1-large-spot") == "begin"


def test_only_star_and_question_mark_are_special_in_a_pattern() -> None:
    prices = [price("set", "gpu[12]"), price("any", "gpu?"), price("star", "*]")]
    assert id_for(prices, "gpu1") == "any"
    assert id_for(prices, "gpu[12]") == "set"
    assert id_for(prices, "x[1]") == "star"
    assert id_for([price("not", "n[!a]")], "nb") is None
    assert id_for([price("case", "GPU*")], "gpu1") is None


@pytest.mark.parametrize(("first", "second"), [("gpu-*2", "gpu-?2"), ("gpu-?2", "gpu-*2")])
def test_of_two_patterns_of_one_rank_the_price_set_last_counts(first: str, second: str) -> None:
    # Also where the other one has the later beginning.
    prices = [price("first", first, 3, 1), price("second", second, 0, 2)]
    for order in (prices, prices[::-1]):
        assert id_for(order, "gpu-12", 5) == "second"


def test_prices_set_in_one_microsecond_count_by_their_order() -> None:
    assert id_for([price("a", "g*", 0, 1), price("b", "g?", 0, 1)], "gp") == "b"
    assert id_for([price("b", "g?", 0, 1), price("a", "g*", 0, 1)], "gp") == "a"
    assert id_for([price("b", "g*", 0, 1), price("a", "g*", 0, 1)], "gp") == "a"


def test_a_wider_pattern_set_later_does_not_override_a_more_specific_one() -> None:
    assert id_for([price("gpu", "gpu-*"), price("all", "*", 5, 9)], "gpu-1", 9) == "gpu"


def test_the_latest_beginning_counts_and_then_the_one_set_last() -> None:
    prices = [price("old", "*"), price("new", "*", 2, 1), price("newer", "*", 2, 2)]
    assert [id_for(prices, "n", hours) for hours in (-1, 0, 1, 2, 3)] == [
        None,
        "old",
        "old",
        "newer",
        "newer",
    ]
    assert id_for(prices[::-1], "n", 2) == "newer"


def test_what_stands_is_what_counts_and_what_is_to_come() -> None:
    again = price("again", "gpu-*", set_at_us=5)
    entries: list[Entry] = [
        price("old", "gpu-*", -9), price("first", "gpu-*"), again, price("later", "gpu-*", 4),
        price("over", "cpu-*"), PriceEnd("end", "cpu-*", HOUR + HOUR_US), PriceEnd("ending", "gpu-*", HOUR + 9 * HOUR_US),
    ]  # fmt: skip
    assert PriceBook(entries).standing(HOUR + HOUR_US) == {"again", "later", "ending"}
    assert PriceBook(entries).standing(HOUR) == {"again", "later", "over", "end", "ending"}


def test_one_price_of_each_pattern_is_in_effect() -> None:
    prices = [
        price("old", "*", -1, 1),
        price("new", "*", 0, 2),
        price("newest", "*", 0, 3),
        price("later", "*", 1, 4),
        price("to come", "gpu-*", 2, 5),
    ]
    book = PriceBook(prices)
    assert [book.in_effect(HOUR + hours * HOUR_US) for hours in (-2, -1, 0, 1, 2)] == [
        set(), {"old"}, {"newest"}, {"later"}, {"later", "to come"},
    ]  # fmt: skip


def test_a_price_set_back_to_an_earlier_rate_counts_again() -> None:
    assert id_for([price("a", "*", 0, 1), price("b", "*", 0, 2), price("c", "*", 0, 3)], "n") == "c"


def test_a_node_without_a_price_is_unpriced_and_dealt_by_the_default_rules() -> None:
    book = PriceBook([price("gpu", "gpu-*")])
    assert book.price_for("cpu-1", HOUR) is None
    assert book.policy_for("cpu-1", HOUR) == CostPolicy()


def test_fields_of_a_price_survive_the_way_through_the_event() -> None:
    extra = {
        "presence": "owned",
        "owned_from_us": HOUR,
        "host_share_ppm": 200_000,
        "device_weights": {"H100": 4},
    }
    fields = price_fields(
        "p1", pattern="gpu-*", nano_per_hour=12_436_438_356, currency="EUR", from_hour_us=HOUR, extra=extra
    )
    policy = CostPolicy(PresenceRule(PresenceMode.OWNED, HOUR, None), 200_000, (("H100", 4),))
    expected = Price("p1", "gpu-*", 12_436_438_356, "EUR", HOUR, 7, policy)
    assert Price.from_fields(fields | {"at_us": 7}) == expected
    assert PriceBook([expected]).policy_for("gpu-1", HOUR) == policy


@pytest.mark.parametrize(
    ("text", "nano"),
    [("0", 0), ("12.4364", 12_436_400_000), ("0.000000001", 1), ("1e3", 10**12), ("1000000", 10**15)],
)
def test_a_rate_is_read_exactly(text: str, nano: int) -> None:
    assert nano_rate(text) == nano


@pytest.mark.parametrize(
    "text",
    ["minus", "-1", "", "NaN", "sNaN", "Infinity", "1000000.01", "0.0000000001", "1.0000000000000000000001"],
)
def test_a_rate_that_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        nano_rate(text)


def test_prices_take_effect_on_whole_hours_alone() -> None:
    assert whole_hour(HOUR, "x") == HOUR
    with pytest.raises(UsageError, match="whole UTC hour"):
        whole_hour(HOUR + 60_000_000, "10:01")


@settings(max_examples=100, deadline=None)
@given(histories(), st.integers(0, 10**15))
def test_the_costs_of_the_lines_sum_to_the_bill_exactly(events: list[NodeEvent], nano: int) -> None:
    hour = deal_node_hour(NodeStream("n", tuple(events)), HOUR, CostPolicy())
    bill, costs = priced_lines(hour, price("p", "*", nano=nano))
    assert sum(costs) == bill
    assert abs(bill * HOUR_US - hour.presence_us * nano) * 2 <= HOUR_US
    for line, cost in zip(hour.lines, costs, strict=True):
        assert abs(cost * hour.presence_us * 10**6 - bill * line.held_share) < hour.presence_us * 10**6


def test_the_dearest_price_for_a_month_fits_the_money_columns() -> None:
    dearest = price("p", "*", nano=nano_rate("1000000"))
    assert dearest.bill_nano(HOUR_US) * 24 * 31 * 10_000 < 10**29 * 10**9
    assert dearest.bill_nano(HOUR_US) == 10**15


def end(pattern: str, from_hours: int, set_at_us: int) -> PriceEnd:
    return PriceEnd(f"end of {pattern}", pattern, HOUR + from_hours * HOUR_US, set_at_us)


def test_a_price_that_ended_leaves_the_node_to_the_next_pattern_or_without_a_price() -> None:
    entries: list[Entry] = [
        price("all", "*"),
        price("gpu", "gpu-*", 0, 1),
        end("gpu-*", 3, 2),
        price("again", "gpu-*", 5, 3),
    ]
    book = PriceBook(entries)
    found = [book.price_for("gpu-1", HOUR + hours * HOUR_US) for hours in (2, 3, 4, 5)]
    assert [item and item.price_id for item in found] == ["gpu", "all", "all", "again"]
    assert PriceBook([*entries[1:3]]).price_for("gpu-1", HOUR + 3 * HOUR_US) is None
    # Set anew for the hour in which it ended, it counts again; ended for the hour in which it was set, it never did.
    assert (
        PriceBook([*entries, price("anew", "gpu-*", 3, 9)]).price_for("gpu-1", HOUR + 4 * HOUR_US) is not None
    )
    assert PriceBook([entries[1], end("gpu-*", 0, 9)]).price_for("gpu-1", HOUR) is None
    following = book.next_of_pattern("gpu-*", HOUR + 3 * HOUR_US)
    assert following is not None and following.price_id == "again"
    assert book.price_of_pattern("gpu-*", HOUR + 3 * HOUR_US) is None
    assert book.in_effect(HOUR + 3 * HOUR_US) == {"all"}


def test_an_owned_node_has_a_price_between_its_dates_alone() -> None:
    rule = PresenceRule(PresenceMode.OWNED, HOUR + HOUR_US // 2, HOUR + 3 * HOUR_US)
    owned = Price("own", "own-*", 10**9, "USD", 0, 0, CostPolicy(rule, 300_000))
    book = PriceBook([price("all", "*"), owned])
    hours = [HOUR + n * HOUR_US for n in (-1, 0, 2, 3)]
    assert [book.price_for("own-1", hour) is owned for hour in hours] == [False, True, True, False]
    # Outside of them it is no other price's either: the hours show as unpriced, dealt by the default rules.
    assert book.price_for("own-1", hours[0]) is None and book.policy_for("own-1", hours[3]) == CostPolicy()
    assert book.policy_for("own-1", hours[1]) == owned.policy


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("*", "g*", "g?", "gp")), st.integers(0, 4), st.integers(0, 3), st.booleans()
        ),
        max_size=8,
    )
)
def test_the_book_finds_what_a_look_at_every_entry_finds(drawn: list[tuple[str, int, int, bool]]) -> None:
    entries = [
        price(str(n), pattern, hours, at) if sets else PriceEnd(str(n), pattern, HOUR + hours * HOUR_US, at)
        for n, (pattern, hours, at, sets) in enumerate(drawn)
    ]
    book = PriceBook(entries)
    ordered = sorted(entries, key=lambda entry: entry.set_at_us)
    for hours in range(6):
        best: tuple[tuple[int, bool], int, str] | None = None
        for pattern in ("*", "g*", "g?", "gp"):
            terms = [
                (entry.from_hour_us, place, entry)
                for place, entry in enumerate(ordered)
                if entry.pattern == pattern and entry.from_hour_us <= HOUR + hours * HOUR_US
            ]
            if not terms or not isinstance((newest := max(terms, key=lambda term: term[:2]))[2], Price):
                continue
            rank = (len(pattern.rstrip("*?")), "*" not in pattern and "?" not in pattern)
            if best is None or (rank, newest[1]) > best[:2]:
                best = (rank, newest[1], newest[2].price_id)
        found = book.price_for("gp", HOUR + hours * HOUR_US)
        assert (found.price_id if found else None) == (best[2] if best else None)
