"""What AWS charges, read from its answers: the on-demand price of one machine, and spot prices by the UTC hour. Pure.

On demand: `pricing.get_products` with `filters` must leave one SKU with one hourly price; anything else is an error
that lists what was found, because to take the first of several would be to guess. Prices are read from text, never as
floats. The answer is today's price, and AWS keeps no history of them: each is stored with its SKU and since when it is
in effect.

Spot: `describe_spot_price_history` gives changes, the last one before the asked-for beginning included. The price of an
hour is the mean over its time, computed with integers and rounded half up once, to 10^-9.

https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-query-api-procedures.html
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from trainledger_schemas.errors import NotFoundError, UsageError

from .money import currency_code, round_half_up
from .node_events import HOUR_US
from .prices import nano_rate

__all__ = [
    "ON_DEMAND",
    "SPOT",
    "Machine",
    "OnDemandPrice",
    "SpotChange",
    "hourly_means",
    "read_on_demand",
    "spot_currency",
]

# The sources of prices, as events have them.
ON_DEMAND = "aws-on-demand"
SPOT = "aws-spot"
CANDIDATES_NAMED_MAX = 8
_TELLING = (
    "usagetype",
    "operation",
    "operatingSystem",
    "preInstalledSw",
    "licenseModel",
    "tenancy",
    "capacitystatus",
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is rented: a type in a region; `operating_system` and `tenancy` as the price list names them."""

    instance_type: str
    region: str
    operating_system: str = "Linux"
    tenancy: str = "Shared"

    def filters(self) -> list[dict[str, str]]:
        """The filters of `get_products` that leave one SKU of this machine, by the hour and used."""
        wanted = {
            "instanceType": self.instance_type,
            "regionCode": self.region,
            "operatingSystem": self.operating_system,
            "tenancy": self.tenancy,
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
            "marketoption": "OnDemand",
        }
        return [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]

    def __str__(self) -> str:
        return f"{self.instance_type} ({self.operating_system}, {self.tenancy}) in {self.region}"


@dataclass(frozen=True, slots=True)
class OnDemandPrice:
    """The price of a machine for an hour, 10^-9 of the currency; `effective_at` as AWS writes it."""

    sku: str
    nano_per_hour: int
    currency: str
    effective_at: str


def read_on_demand(price_list: Iterable[str], machine: Machine) -> OnDemandPrice:
    """The one price in the `PriceList` of all pages of an answer.

    Raises NotFoundError where there is none, UsageError where there are several or it is not by the hour."""
    products = [json.loads(text) for text in price_list]
    if not products:
        raise NotFoundError(
            f"AWS has no on-demand price of {machine}; check the type, the region (as us-east-1) and the operating "
            "system"
        )
    if len(products) > 1:
        listed = "; ".join(_candidate(product) for product in products[:CANDIDATES_NAMED_MAX])
        more = (
            f" and {len(products) - CANDIDATES_NAMED_MAX} more"
            if len(products) > CANDIDATES_NAMED_MAX
            else ""
        )
        raise UsageError(
            f"AWS has {len(products)} on-demand prices of {machine}, not one: {listed}{more}. "
            "Set the right one with `trainledger price set`"
        )
    (product,) = products
    sku = str(product.get("product", {}).get("sku", ""))
    terms = list(product.get("terms", {}).get("OnDemand", {}).values())
    dimensions = [item for term in terms for item in term.get("priceDimensions", {}).values()]
    if len(terms) != 1 or len(dimensions) != 1 or dimensions[0].get("unit") != "Hrs":
        units = ", ".join(str(item.get("unit")) for item in dimensions) or "none"
        raise UsageError(
            f"SKU {sku} of {machine} has {len(terms)} on-demand terms with prices by {units}, not one by the hour; "
            "set its price with `trainledger price set`"
        )
    amounts: Mapping[str, Any] = dimensions[0].get("pricePerUnit", {})
    if len(amounts) != 1:
        raise UsageError(f"SKU {sku} of {machine} has prices in {len(amounts)} currencies, not one")
    ((currency, amount),) = amounts.items()
    nano = nano_rate(str(amount))
    if nano == 0:
        raise UsageError(
            f"SKU {sku} of {machine} has the price 0: it is not what is charged for the machine alone"
        )
    return OnDemandPrice(sku, nano, currency_code(currency), str(terms[0].get("effectiveDate", "")))


class SpotChange(NamedTuple):
    """From `at_us` on a machine costs this, 10^-9 an hour."""

    at_us: int
    nano_per_hour: int

    @classmethod
    def of_row(cls, at: datetime, price: str) -> "SpotChange":
        """From `Timestamp` and `SpotPrice` of the history."""
        moment = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return cls(int(moment.timestamp()) * 1_000_000 + moment.microsecond, nano_rate(price))


def hourly_means(changes: Iterable[SpotChange], start_us: int, end_us: int) -> dict[int, int]:
    """Start of each whole UTC hour in [start, end) -> mean price weighted by time, 10^-9 an hour.

    An hour that begins before the first change is left out: nothing says what it cost."""
    ordered = sorted(set(changes))
    found: dict[int, int] = {}
    for hour_us in range(start_us - start_us % HOUR_US, end_us - HOUR_US + 1, HOUR_US):
        if hour_us >= start_us and ordered and ordered[0].at_us <= hour_us:
            found[hour_us] = _mean(ordered, hour_us)
    return found


def spot_currency(region: str) -> str:
    """The history names no currency: it is USD, but CNY in China."""
    return "CNY" if region.startswith("cn-") else "USD"


def _mean(ordered: Sequence[SpotChange], hour_us: int) -> int:
    weighted, since_us, nano = 0, hour_us, 0
    for change in ordered:
        if change.at_us >= hour_us + HOUR_US:
            break
        if change.at_us > since_us:
            weighted += nano * (change.at_us - since_us)
            since_us = change.at_us
        nano = change.nano_per_hour
    weighted += nano * (hour_us + HOUR_US - since_us)
    return round_half_up(weighted, HOUR_US)


def _candidate(product: Mapping[str, Any]) -> str:
    attributes = product.get("product", {}).get("attributes", {})
    told = ", ".join(f"{name} {attributes[name]}" for name in _TELLING if name in attributes)
    return f"{product.get('product', {}).get('sku', '?')} ({told})"
