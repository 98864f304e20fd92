"""Money is dealt in whole units: none is lost, none is made, and no line moves by more than a cent."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainledger_ingest.cost.money import (
    cents,
    currency_code,
    exact_text,
    format_minor,
    largest_remainder,
    minor_digits,
    nano_to_text,
    round_half_up,
    rounded_minor,
)
from trainledger_schemas.errors import InvariantError, UsageError

CENT_NANO = 10_000_000


def test_three_equal_runs_on_ten_get_one_cent_more_for_the_first() -> None:
    assert largest_remainder(1000, [1, 1, 1], ["a", "b", "c"]) == [334, 333, 333]
    assert largest_remainder(1000, [1, 1, 1], ["c", "b", "a"]) == [333, 333, 334]
    nano = largest_remainder(10 * 10**9, [1, 1, 1], ["a", "b", "c"])
    assert [format_minor(part, 2) for part in cents(nano)] == ["3.34", "3.33", "3.33"]


def test_a_negative_total_is_the_mirror_of_the_positive_one() -> None:
    assert largest_remainder(-1000, [1, 1, 1], ["a", "b", "c"]) == [-334, -333, -333]


@given(st.integers(-(10**24), 10**24), st.lists(st.integers(0, 10**18), min_size=1, max_size=30))
def test_what_is_dealt_sums_to_the_total_and_stays_within_one_unit_of_exact(
    total: int, weights: list[int]
) -> None:
    if not sum(weights):
        weights = [*weights, 1]
    parts = largest_remainder(total, weights, range(len(weights)))
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1
        assert weight or part == 0


@given(st.lists(st.integers(-(10**15), 10**15), max_size=40), st.sampled_from((0, 2, 3)))
def test_a_column_of_lines_sums_to_its_rounded_total(lines: list[int], digits: int) -> None:
    unit = 10 ** (9 - digits)
    rounded = cents(lines, digits=digits)
    assert sum(rounded) == int((Decimal(sum(lines)) / unit).quantize(Decimal(1), ROUND_HALF_UP))
    assert all(abs(part * unit - nano) < unit for part, nano in zip(rounded, lines, strict=True))


def test_whole_cents_stay_and_corrections_of_both_signs_sum() -> None:
    assert cents([5 * CENT_NANO, -3 * CENT_NANO]) == [5, -3]
    assert cents([-CENT_NANO // 3, CENT_NANO // 3, -CENT_NANO // 2]) == [0, 0, -1]


def test_ties_between_cents_go_by_key_and_not_by_position() -> None:
    half = CENT_NANO // 2
    assert cents([half, half], ["b", "a"]) == [0, 1]


def test_a_million_lines_sum_without_drift() -> None:
    bill = 123_456_789 * 10**9 + 1
    weights = [1_000_003 * number % 999_983 + 1 for number in range(1_000_000)]
    parts = largest_remainder(bill, weights, range(len(weights)))
    assert sum(parts) == bill
    assert sum(cents(parts)) == round_half_up(bill, CENT_NANO) == 12_345_678_900


def test_halves_are_rounded_away_from_zero() -> None:
    assert [round_half_up(number, 10) for number in (4, 5, 14, 15, -4, -5, -15)] == [0, 1, 1, 2, 0, -1, -2]
    with pytest.raises(InvariantError, match="positive denominator"):
        round_half_up(1, 0)


@pytest.mark.parametrize(
    ("currency", "text"),
    [("JPY", "1235"), ("USD", "1234.57"), ("KWD", "1234.568")],
    ids=["none", "two", "three"],
)
def test_a_currency_is_shown_with_its_own_decimals(currency: str, text: str) -> None:
    nano = 1_234_567_500_000 + 500_000
    assert format_minor(rounded_minor(nano, currency), minor_digits(currency)) == text


def test_amounts_print_with_all_decimals_and_a_plain_minus() -> None:
    assert format_minor(-5, 2) == "-0.05"
    assert nano_to_text(10_466_666_667) == "10.466666667"


@pytest.mark.parametrize(
    ("nano", "currency", "text"),
    [
        (1_000_000, "EUR", "0.001"),
        (25_000 * 10**9, "USD", "25000.00"),
        (500_000_000, "USD", "0.50"),
        (100 * 10**9, "JPY", "100"),
        (500_000_000, "JPY", "0.5"),
        (1, "KWD", "0.000000001"),
    ],
)
def test_a_limit_is_shown_with_all_its_decimals(nano: int, currency: str, text: str) -> None:
    assert exact_text(nano, currency) == text


def test_nothing_is_dealt_without_someone_to_take_it() -> None:
    assert largest_remainder(0, [], []) == []
    with pytest.raises(InvariantError, match="no weight"):
        largest_remainder(5, [0, 0], ["a", "b"])
    with pytest.raises(InvariantError, match="negative weight"):
        largest_remainder(5, [2, -1], ["a", "b"])
    with pytest.raises(InvariantError, match="1 keys"):
        largest_remainder(5, [2, 1], ["a"])


@pytest.mark.parametrize("text", ["usd", "US", "EURO", "12X", "ÄÖÜ"])
def test_a_currency_that_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="three capital letters"):
        currency_code(text)
