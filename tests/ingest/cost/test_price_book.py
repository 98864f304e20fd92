"""A price book is checked whole before anything is set: what is stored once is read for ever."""

from itertools import count
from typing import Any

import pytest

from trainledger_ingest.cost.price_book import read_price_book
from trainledger_ingest.cost.prices import Price
from trainledger_schemas.errors import UsageError

HEAD = '[[price]]\nnode = "gpu-*"\nfrom = "2026-11-01T00:00Z"\n'
FROM_US = 1_793_491_200_000_000


def read(*lines: str, head: str = HEAD) -> list[dict[str, Any]]:
    numbers = count(1)
    return read_price_book(head + "\n".join(lines), new_id=lambda: f"id-{next(numbers)}")


def test_the_rate_of_an_owned_machine_comes_from_its_costs_over_calendar_hours() -> None:
    (fields,) = read(
        'currency = "EUR"', 'capex = "300000"', 'years = "4"', 'yearly_fixed = "18000"',
        'average_kw = "7.0"', 'pue = "1.3"', 'per_kwh = "0.20"',
    )  # fmt: skip
    assert (fields["nano_per_hour"], fields["currency"]) == (12_436_438_356, "EUR")
    assert round(fields["nano_per_hour"] / 1e9, 4) == 12.4364


@pytest.mark.parametrize("number", ['"0.1"', "0.1", "1e-1"])
def test_decimals_are_exact_in_quotes_and_without(number: str) -> None:
    (fields,) = read(f"usd_per_hour = {number}")
    assert (fields["nano_per_hour"], fields["currency"]) == (100_000_000, "USD")
    assert (fields["price_id"], fields["pattern"], fields["from_hour_us"]) == ("id-1", "gpu-*", FROM_US)


def test_every_entry_that_is_accepted_can_be_read_back() -> None:
    entries = read(
        'usd_per_hour = "2"', 'presence = "owned"', "owned_from = 2026-01-01T00:00:00Z", "host_share = 0.25",
        'weights = { "H100" = 3 }', 'note = "contract 7"', HEAD, 'per_hour = "1"', 'currency = "JPY"',
    )  # fmt: skip
    first, second = (Price.from_fields(fields | {"at_us": 1}) for fields in entries)
    assert first.policy.presence.owned_from_us == 1_767_225_600_000_000
    assert (first.policy.host_share_ppm, first.policy.device_weights) == (250_000, (("H100", 3),))
    assert (second.price_id, second.currency, second.policy.host_share_ppm) == ("id-2", "JPY", None)


@pytest.mark.parametrize("start", ["2026-11-01", '"2026-11-01T02:00+02:00"', "2026-11-01T00:00:00Z"])
def test_a_beginning_may_be_written_in_any_way_that_is_a_whole_hour(start: str) -> None:
    (fields,) = read('usd_per_hour = "1"', head=f'[[price]]\nnode = "n"\nfrom = {start}\n')
    assert fields["from_hour_us"] == FROM_US


REFUSED = {
    "misspelt": (['usd_per_hur = "1"'], "did you mean 'usd_per_hour'"),
    "no rate": ([], "give one of"),
    "two rates": (['usd_per_hour = "1"', 'per_hour = "2"'], "give one of"),
    "rate and costs": (['per_hour = "1"', 'pue = "1.2"'], "give one of"),
    "usd in euro": (['usd_per_hour = "1"', 'currency = "EUR"'], "for EUR write per_hour"),
    "no currency code": (['per_hour = "1"', 'currency = "euro"'], "three capital letters"),
    "negative": (['usd_per_hour = "-1"'], "is not between"),
    "host share above 1": (
        ['usd_per_hour = "1"', 'host_share = "2"'],
        "host_share is between 0 and 1",
    ),
    "host share in words": (['usd_per_hour = "1"', 'host_share = "half"'], "give a number"),
    "host share nan": (['usd_per_hour = "1"', "host_share = nan"], "give a number"),
    "weight of nothing": (['usd_per_hour = "1"', "weights = { H100 = 0 }"], "whole number from 1"),
    "broken weight": (['usd_per_hour = "1"', "weights = { H100 = 1.5 }"], "whole number from 1"),
    "true weight": (['usd_per_hour = "1"', "weights = { H100 = true }"], "whole number from 1"),
    "no weights": (['usd_per_hour = "1"', "weights = 5"], "whole number from 1"),
    "presence": (['usd_per_hour = "1"', 'presence = "always"'], "observed, boot or owned"),
    "owned without date": (['usd_per_hour = "1"', 'presence = "owned"'], "needs owned_from"),
    "date without owned": (['usd_per_hour = "1"', "owned_from = 2026-01-01"], "count for it alone"),
    "owned backwards": (
        ['usd_per_hour = "1"', 'presence = "owned"', "owned_from = 2026-02-01", "owned_to = 2026-01-01"],
        "not behind",
    ),
    "worth more later": (['capex = "1"', 'residual = "2"', 'years = "4"'], "residual, .* is not above capex"),
    "less power than it takes": (['capex = "1"', 'pue = "0.3"', 'years = "4"'], "pue, .* is 1 or more"),
    "no number of money": (['capex = "1e400000000"', 'years = "4"'], "a number from 0 up to"),
    "no number of years": (['capex = "1e29"', 'years = "1e-999990"'], "years must be above 0"),
    "owned for ever": (
        ['usd_per_hour = "1"', 'presence = "owned"', "owned_from = 1950-01-01"],
        "between the years",
    ),
    "too dear": (['capex = "1e30"', 'years = "4"'], "not between"),
    "no years": (['capex = "1"'], "years is ''"),
    "zero years": (['capex = "1"', 'years = "0"'], "years must be above 0"),
}


@pytest.mark.parametrize(("lines", "message"), REFUSED.values(), ids=REFUSED)
def test_an_entry_that_cannot_be_used_is_refused_with_what_to_mend(lines: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=f"^entry 1 of the price book: .*{message}"):
        read(*lines)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('[[price]]\nnode = "n"\nfrom = "2026-11-01T00:30Z"\n', "whole UTC hour"),
        ('[[price]]\nnode = "n"\nfrom = "2026-11-01T00:00+05:30"\n', "whole UTC hour"),
        ('[[price]]\nnode = "n"\nfrom = "soon"\n', "not a time"),
        ('[[price]]\nnode = "n"\nfrom = "2300-01-01T00:00Z"\n', "is not between the years"),
        ('[[price]]\nnode = "n"\n', "'from' is missing"),
        ('[[price]]\nfrom = "2026-11-01T00:00Z"\n', "'node' is missing"),
        ("[prices]\n", "and nothing else"),
        ("[[price]\n", "not valid TOML"),
    ],
    ids=["half hour", "half zone", "no time", "no such year", "no from", "no node", "no entries", "no toml"],
)
def test_a_book_without_a_usable_place_or_time_is_refused(head: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read('usd_per_hour = "1"', head=head)
