"""The engine's bills and their division are those of Python, to the last digit."""

from hypothesis import given, settings
from hypothesis import strategies as st

from support.ingest_store import fresh_store
from trainledger_ingest.cost.bill_sql import bill_sql, costs_sql, money_sql, node_chunks, price_parameters
from trainledger_ingest.cost.money import largest_remainder, nano_of
from trainledger_ingest.cost.node_events import HOUR_US
from trainledger_ingest.cost.prices import Price, PriceBook

RATE_MAX = 10**15
rates = st.one_of(st.integers(0, RATE_MAX), st.sampled_from((0, 1, RATE_MAX)))
presences = st.one_of(st.integers(0, HOUR_US), st.sampled_from((0, 1, HOUR_US)))
# Equal weights make ties, which the first line wins; a million shares a microsecond make the largest sums.
weights = st.lists(
    st.one_of(st.integers(0, 3), st.integers(0, HOUR_US * 10**6)), min_size=1, max_size=12
).filter(any)
hours = st.lists(st.tuples(rates, presences, weights), min_size=1, max_size=30)


@settings(deadline=None)
@given(hours)
def test_bills_and_costs_are_those_of_python(found: list[tuple[int, int, list[int]]]) -> None:
    limited = [(rate, presence, _at_most_whole(shares)) for rate, presence, shares in found]
    rows = (
        fresh_store()
        .query(
            f"""SELECT bill, {costs_sql("bill", "shares")} AS costs, {money_sql("bill")} AS money FROM (
          SELECT {bill_sql("presence", "rate")} AS bill, shares FROM (
            SELECT arrayJoin(arrayZip({{rates:Array(UInt64)}}, {{presences:Array(UInt64)}},
              {{shares:Array(Array(UInt64))}})) AS t, t.1 AS rate, t.2 AS presence, t.3 AS shares))""",
            {
                "rates": [rate for rate, _, _ in limited],
                "presences": [presence for _, presence, _ in limited],
                "shares": [shares for _, _, shares in limited],
            },
        )
        .to_pylist()
    )
    for row, (rate, presence, shares) in zip(rows, limited, strict=True):
        bill = Price("", "*", rate, "USD", 0).bill_nano(presence)
        assert (row["bill"], nano_of(row["money"])) == (bill, bill)
        assert row["costs"] == largest_remainder(bill, shares, range(len(shares)))


def _at_most_whole(shares: list[int]) -> list[int]:
    """Shares of one node-hour: they sum to no more than its microseconds x 10^6."""
    over = sum(shares) // (HOUR_US * 10**6) + 1
    return [share // over for share in shares] if over > 1 else shares


prices = st.lists(
    st.tuples(
        st.sampled_from(("*", "gpu-*", "gpu-1", "gpu-?", "other")),
        st.integers(0, 6),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(prices, st.sampled_from(("gpu-1", "gpu-22", "cpu")))
def test_sections_say_of_every_hour_what_the_book_says(found: list[tuple[str, int, int]], node: str) -> None:
    known = [
        Price(str(number), pattern, number, "USD", hour * HOUR_US, at_us)
        for number, (pattern, hour, at_us) in enumerate(found)
    ]
    book = PriceBook(known)
    parameters, by_place = price_parameters(book, [node])
    sections = list(zip(parameters["since"], parameters["places"], strict=True))
    for hour in range(8):
        place = [place for since_s, place in sections if since_s <= hour * 3600][-1]
        assert (by_place[place - 1] if place else None) == book.price_for(node, hour * HOUR_US)
    assert list(node_chunks(["b", "a"], [book])) == [["a", "b"]]
