"""Differences to the cent lead from the posted statement to the posted newest bill; causes add up to the whole."""

from hypothesis import given
from hypothesis import strategies as st

from trainledger_ingest.cost.adjustments import EventRef, Owed, explain_difference
from trainledger_ingest.cost.money import round_half_up
from trainledger_ingest.cost.posting import posted_bookings, posted_differences

NANO = st.integers(-(10**13), 10**13)
REF = EventRef("price_set trainledger.admin/0/1", 1, "fin")


@given(NANO, st.lists(NANO, min_size=1, max_size=8), st.sampled_from((0, 2, 3)))
def test_posted_differences_sum_to_the_difference_of_the_posted_bills(
    before: int, deltas: list[int], digits: int
) -> None:
    unit = 10 ** (9 - digits)
    posted = posted_differences(before, deltas, digits=digits)
    newest = round_half_up(before + sum(deltas), unit)
    assert round_half_up(before, unit) + sum(posted) == newest
    # Each stays next to its exact amount: one unit of its own rounding and one of the two bills'.
    assert all(abs(part * unit - delta) < 2 * unit for part, delta in zip(posted, deltas, strict=True))


@given(NANO, st.lists(st.lists(NANO, min_size=1, max_size=4), min_size=2, max_size=4))
def test_what_a_month_booked_is_posted_the_same_whatever_is_learned_later(
    before: int, bookings: list[list[int]]
) -> None:
    posted = posted_bookings(before, bookings, digits=2)
    assert posted_bookings(before, bookings[:-1], digits=2) == posted[:-1]
    newest = round_half_up(before + sum(map(sum, bookings)), 10**7)
    assert round_half_up(before, 10**7) + sum(map(sum, posted)) == newest


def test_the_example_of_the_documentation() -> None:
    # 10.466667 is corrected to 10.166667: price 8, 4, 2, 1 and 15 cents, with their fractions.
    deltas = [-78_500_000, -40_833_333, -20_416_667, -6_875_000, -153_375_000]
    assert sum(deltas) == -300_000_000
    posted = posted_differences(10_466_666_667, deltas, digits=2)
    assert posted == [-8, -4, -2, -1, -15] and sum(posted) == -30
    # A statement of 0.005 is posted as 0.01; what takes it all back takes back the cent.
    assert posted_differences(5_000_000, [-5_000_000], digits=2) == [-1]
    assert posted_differences(4_000_000, [1_000_000], digits=2) == [1]


owed = st.builds(
    Owed,
    kind=st.just("run"),
    run_id=st.sampled_from(("a", "b", "c")),
    owner=st.just("ann"),
    currency=st.sampled_from(("USD", "EUR", None)),
)
bills = st.dictionaries(owed, st.integers(0, 10**12), max_size=5).map(
    lambda bill: {key: nano if key.currency else 0 for key, nano in bill.items()}
)


@given(bills, st.lists(bills, min_size=1, max_size=4))
def test_causes_add_up_to_the_whole_difference_of_each_holder(
    booked: dict[Owed, int], chain: list[dict[Owed, int]]
) -> None:
    causes = ("late", "presence", "policy", "price")
    found = explain_difference(
        booked, [(cause, bill, REF) for cause, bill in zip(causes, chain, strict=False)]
    )
    for key in {*booked, *chain[-1]}:
        if key.currency is not None:
            moved = sum(item.delta_nano for item in found if item.owed == key)
            assert booked.get(key, 0) + moved == chain[-1].get(key, 0)
    assert all(item.delta_nano and item.owed.currency for item in found)
