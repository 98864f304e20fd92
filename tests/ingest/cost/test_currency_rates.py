"""Exchange rates as dated facts: which one counts, both ways round, and what is refused."""

from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainledger_ingest.cost.conversion import Conversion
from trainledger_ingest.cost.currency_rates import Rate, RateBook, day_us, rate_fields, read_rate_file
from trainledger_schemas.errors import UsageError

NANO = 10**9


def nov(day: int) -> date:
    return date(2026, 11, day)


def euro(nano: int | None, day: int, *, quoted_in: str = "USD") -> Rate:
    return Rate("EUR", quoted_in, nano, nov(day))


def test_a_rate_counts_from_its_day_until_the_next_of_the_two() -> None:
    first, second = euro(1_083_400_000, 2), euro(1_100_000_000, 5)
    book = RateBook([second, first])
    assert [book.at("USD", "EUR", nov(day)) for day in (1, 2, 4, 5, 30)] == [
        None, first, first, second, second,
    ]  # fmt: skip


def test_a_rate_said_the_other_way_round_is_of_the_same_two_and_the_one_set_last_counts() -> None:
    book = RateBook([euro(1_083_400_000, 2), Rate("USD", "EUR", 900_000_000, nov(2))])
    found = book.at("EUR", "USD", nov(2))
    assert found is not None
    assert (found.factor("USD"), found.factor("EUR")) == (Fraction(9, 10), Fraction(10, 9))


def test_an_end_leaves_no_rate_and_a_later_one_begins_anew() -> None:
    book = RateBook([euro(NANO, 2), euro(None, 4), euro(2 * NANO, 6)])
    assert [book.at("EUR", "USD", nov(day)) is None for day in (3, 4, 5, 6)] == [False, True, True, False]


def test_no_rate_is_made_by_way_of_a_third_currency() -> None:
    book = RateBook([euro(NANO, 1), euro(2 * NANO, 1, quoted_in="GBP")])
    assert book.at("USD", "GBP", nov(9)) is None


def test_what_stands_is_what_counts_today_or_will_count() -> None:
    old, replaced, now, later = euro(NANO, 1), euro(NANO, 3), euro(NANO, 3), euro(NANO, 9)
    ended = euro(None, 2, quoted_in="GBP")
    book = RateBook([old, replaced, now, later, ended])
    standing = [rate for rate in (old, replaced, now, later, ended) if book.is_standing(rate, nov(4))]
    assert [id(rate) for rate in standing] == [id(now), id(later)]


def test_half_a_cent_after_a_division_is_half_a_cent() -> None:
    """0.005417 USD / 1.0834 is 0.005 EUR: a quotient that was rounded before could be a cent less."""
    conversion = Conversion("EUR", RateBook([euro(1_083_400_000, 1)]))
    (row,) = conversion.convert([{"money": "USD", "total": 5_417_000, "day": nov(3)}]).rows
    scale = conversion.convert([{"money": "USD", "total": 1, "day": nov(3)}]).scale
    assert Fraction(row["total"], scale) == 5_000_000


def test_what_has_no_rate_stays_in_its_currency_and_is_named_by_day() -> None:
    conversion = Conversion("EUR", RateBook([euro(2 * NANO, 2)]))
    rows: list[dict[str, Any]] = [
        {"money": money, "total": 10, "day": nov(day)}
        for money, day in (("USD", 1), ("USD", 2), ("JPY", 2), ("EUR", 1))
    ]
    found = conversion.convert([*rows, {"money": None, "total": 0, "day": nov(2)}])
    assert [(row["money"], Fraction(row["total"], found.scale)) for row in found.rows[:4]] == [
        ("USD", Fraction(10)), ("EUR", Fraction(5)), ("JPY", Fraction(10)), ("EUR", Fraction(10)),
    ]  # fmt: skip
    assert found.rows[4]["money"] is None
    assert dict(found.missing) == {"USD": (nov(1),), "JPY": (nov(2),)}


amounts = st.tuples(st.sampled_from(["USD", "GBP", "EUR"]), st.integers(1, 9), st.integers(-(10**18), 10**18))
rates = st.tuples(
    st.sampled_from([("USD", "EUR"), ("EUR", "USD"), ("EUR", "GBP")]),
    st.integers(1, 9),
    st.none() | st.integers(1, 10**18),
)


@given(st.lists(rates, max_size=8), st.lists(amounts, max_size=12))
def test_a_sum_in_one_currency_is_the_exact_sum(said: list[Any], sums: list[Any]) -> None:
    book = RateBook(Rate(pair[0], pair[1], nano, nov(day)) for pair, day, nano in said)
    rows = [{"money": money, "total": nano, "day": nov(day)} for money, day, nano in sums]
    found = Conversion("EUR", book).convert(rows)
    expected = dict.fromkeys(("EUR", "USD", "GBP"), Fraction(0))
    for money, day, nano in sums:
        newest: tuple[int, int, Any] | None = None
        for place, (pair, since, rate) in enumerate(said):
            if {*pair} == {money, "EUR"} and since <= day and (newest is None or (since, place) > newest[:2]):
                newest = (since, place, (pair, rate))
        pair, rate = newest[2] if newest else (("", ""), None)
        if money == "EUR" or rate is None:
            expected[money] += nano
        else:
            expected["EUR"] += (
                Fraction(nano * rate, NANO) if pair[0] == money else Fraction(nano * NANO, rate)
            )
    for currency, total in expected.items():
        got = sum(row["total"] for row in found.rows if row["money"] == currency)
        assert Fraction(got, found.scale) == total


@pytest.mark.parametrize(
    ("currency", "quoted_in", "rate", "told"),
    [
        ("EUR", "EUR", "1", "between two currencies; EUR is one"),
        ("eur", "USD", "1", "'eur' is not a code"),
        ("EUR", "USD", "0", "not above 0"),
        ("EUR", "USD", "-1", "not above 0"),
        ("EUR", "USD", "nan", "not above 0"),
        ("EUR", "USD", "much", "'much' is not a rate"),
        ("IDR", "EUR", "0.00005512345", "said the other way round"),
    ],
    ids=["same", "code", "zero", "negative", "nan", "word", "decimals"],
)
def test_a_rate_that_makes_no_sense_is_refused(currency: str, quoted_in: str, rate: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        rate_fields(currency, quoted_in, rate, from_day=nov(1), extra={})


def test_a_file_of_rates_is_read_with_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(
        "day,currency,quoted_in,rate,source\n2026-11-02,EUR,USD,1.0834,ECB\n2026-11-03,EUR,USD,1.0851,\n"
    )
    first, second = read_rate_file(path)
    assert first == {
        "currency": "EUR", "quoted_in": "USD", "nano_rate": 1_083_400_000, "from_day_us": day_us(nov(2)),
        "note": None, "source": "ECB",
    }  # fmt: skip
    assert (second["nano_rate"], second["source"]) == (1_085_100_000, "file")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("day,currency,rate\n", "missing: quoted_in"),
        ("day,currency,quoted_in,rate,why\n", "unknown: 'why'"),
        ("day,currency,quoted_in,rate\n", "a header and no row"),
        ("day,currency,quoted_in,rate\n2.11.,EUR,USD,1\n", "line 2: day '2.11.'"),
        ("day,currency,quoted_in,rate\n2026-11-02,EUR,USD,\n", "line 2: '' is not a rate"),
        ("day,currency,quoted_in,rate\n2026-11-02,EUR,USD,1,0834\n", "line 2: 1 more than the header has"),
        (
            "day,currency,quoted_in,rate\n0001-01-01,EUR,USD,1\n",
            "line 2: '0001-01-01' is not between the years",
        ),
        (
            "day,currency,quoted_in,rate\n9999-12-31,EUR,USD,1\n",
            "line 2: '9999-12-31' is not between the years",
        ),
    ],
    ids=["missing", "unknown", "empty", "day", "rate", "comma", "early", "late"],
)
def test_a_wrong_file_of_rates_names_line_and_column(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_rate_file(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_rate_file(tmp_path / "none.csv")
