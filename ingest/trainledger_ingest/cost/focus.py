"""Rows of a FOCUS cost and usage file (FinOps Open Cost and Usage Specification 1.4, or 1.2): pure.

Each row is what one holder owes for one node in one hour. We issue the invoice, so BilledCost is EffectiveCost: the
exact share of the bill, unrounded; their sum is the sum of the node bills. ListCost and ContractedCost are unit price x
quantity exactly, as the specification asks, with the quantity in hours rounded to nine decimals, so they may differ
from EffectiveCost in the ninth decimal. In another currency than that of the price, EffectiveCost is cost x rate (a
quotient rounded half up at the eighteenth decimal) and the unit price is rounded to nine decimals; the columns
PricingCurrency... have what it was before. A difference to a closed month is a row of ChargeClass Correction in the
month that books it, with the hour it is about as its charge period.

https://focus.finops.org/focus-specification/v1-4/
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

from trainledger_schemas.errors import UsageError

from .money import round_half_up

__all__ = ["VERSIONS", "focus_columns", "focus_row", "value_text"]

VERSIONS = ("1.4", "1.2")
ISSUER = "trainledger"
SERVICE = "Training nodes"
# Unit price (15 digits) x quantity (19 digits) exactly.
_EXACT = Context(prec=60)
_NANO_HOUR = Decimal("1E-9")
_HOUR = timedelta(hours=1)
# As many decimals as a Parquet file has; a unit price fewer, so that price x quantity has no more either.
_COST_DIGITS = 18
_RATE_DIGITS = 9

# Column -> kind: s text, d decimal, t date-time, j JSON object.
_COMMON: Mapping[str, str] = {
    "BilledCost": "d",
    "BillingAccountId": "s",
    "BillingAccountName": "s",
    "BillingAccountType": "s",
    "BillingCurrency": "s",
    "BillingPeriodEnd": "t",
    "BillingPeriodStart": "t",
    "ChargeCategory": "s",
    "ChargeClass": "s",
    "ChargeDescription": "s",
    "ChargeFrequency": "s",
    "ChargePeriodEnd": "t",
    "ChargePeriodStart": "t",
    "ConsumedQuantity": "d",
    "ConsumedUnit": "s",
    "ContractedCost": "d",
    "ContractedUnitPrice": "d",
    "EffectiveCost": "d",
    "InvoiceId": "s",
    "InvoiceIssuerName": "s",
    "ListCost": "d",
    "ListUnitPrice": "d",
    "PricingCategory": "s",
    "PricingCurrency": "s",
    "PricingCurrencyContractedUnitPrice": "d",
    "PricingCurrencyEffectiveCost": "d",
    "PricingCurrencyListUnitPrice": "d",
    "PricingQuantity": "d",
    "PricingUnit": "s",
    "ResourceId": "s",
    "ResourceName": "s",
    "ResourceType": "s",
    "ServiceCategory": "s",
    "ServiceName": "s",
    "ServiceSubcategory": "s",
    "SkuId": "s",
    "SkuMeter": "s",
    "SkuPriceDetails": "j",
    "SkuPriceId": "s",
    "SubAccountId": "s",
    "SubAccountName": "s",
    "SubAccountType": "s",
    "Tags": "j",
}
_OF_VERSION: Mapping[str, Mapping[str, str]] = {
    "1.4": {"HostProviderName": "s", "ServiceProviderName": "s"},
    # Without the discount's column the official validator of 1.2 takes every row for one that may have no quantity.
    "1.2": {"CommitmentDiscountStatus": "s", "ProviderName": "s", "PublisherName": "s"},
}
_ISSUED_BY = ("HostProviderName", "ServiceProviderName", "ProviderName", "PublisherName")
_OWN: Mapping[str, str] = {
    "x_Account": "s",
    "x_Experiment": "s",
    "x_Kind": "s",
    "x_PayerEvidence": "s",
    "x_Project": "s",
    "x_RunId": "s",
    "x_User": "s",
}


def focus_columns(version: str) -> dict[str, str]:
    """The columns of a version and their kinds: the specification's by name, then our own. Raises UsageError."""
    if version not in VERSIONS:
        raise UsageError(f"FOCUS {version} is not written here; there are {' and '.join(VERSIONS)}")
    return dict(sorted({**_COMMON, **_OF_VERSION[version]}.items())) | dict(_OWN)


def focus_row(line: Mapping[str, Any], *, version: str) -> dict[str, Any]:
    """One row, None where a column does not apply.

    `line`: usage_hour, node_id, kind, run_id, owner, account, team, project, experiment, currency, cost (Decimal), and
    of a correction `booked_in` (the first moment of that month) and cause, of other lines per_hour, price_id,
    pattern, held_hours and payer_evidence. `billed_in` and `factor` where it is charged in another currency."""
    begin: datetime = line["usage_hour"]
    correction = line.get("booked_in") is not None
    month = (line["booked_in"] if correction else begin).replace(day=1, hour=0)
    row: dict[str, Any] = dict.fromkeys(focus_columns(version))
    row |= {
        "BilledCost": _billed(line["cost"], line, _COST_DIGITS),
        "EffectiveCost": _billed(line["cost"], line, _COST_DIGITS),
        "BillingAccountId": ISSUER,
        "BillingAccountName": ISSUER,
        "BillingAccountType": "Installation",
        "BillingCurrency": line.get("billed_in") or line["currency"],
        "PricingCurrency": line["currency"],
        "PricingCurrencyEffectiveCost": line["cost"],
        "BillingPeriodStart": month,
        "BillingPeriodEnd": (month + timedelta(days=32)).replace(day=1),
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": begin,
        "ChargePeriodEnd": begin + _HOUR,
        "InvoiceId": f"{ISSUER}-{month:%Y-%m}",
        "InvoiceIssuerName": ISSUER,
        "ResourceId": line["node_id"],
        "ResourceName": line["node_id"],
        "ResourceType": "Node",
        "ServiceCategory": "Compute",
        "ServiceSubcategory": "Other (Compute)",
        "ServiceName": SERVICE,
        "SubAccountId": line["team"],
        "SubAccountName": line["team"],
        "SubAccountType": None if line["team"] is None else "Team",
        "Tags": _tags(line),
        "x_Account": line["account"],
        "x_Experiment": line["experiment"],
        "x_Kind": line["kind"],
        "x_PayerEvidence": line.get("payer_evidence"),
        "x_Project": line["project"],
        "x_RunId": line["run_id"],
        "x_User": line["owner"],
    }
    row |= {name: ISSUER for name in _OF_VERSION[version] if name in _ISSUED_BY}
    return row | (_correction(line) if correction else _usage(line))


def value_text(value: Any) -> str:
    """A value as a FOCUS CSV file has it: null empty, numbers plain with a decimal point, times ...T..:..:..Z."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        text = f"{value.normalize(_EXACT):f}"
        return text if "." in text else f"{text}.0"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return str(value)


def _billed(amount: Decimal, line: Mapping[str, Any], digits: int) -> Decimal:
    """An amount in the currency that the line is billed in."""
    factor: Fraction | None = line.get("factor")
    if factor is None or factor == 1:
        return amount
    exact = Fraction(amount) * factor
    return Decimal(round_half_up(exact.numerator * 10**digits, exact.denominator)).scaleb(-digits, _EXACT)


def _usage(line: Mapping[str, Any]) -> dict[str, Any]:
    quantity = Decimal(line["held_hours"]).quantize(_NANO_HOUR, ROUND_HALF_UP)
    unit = _billed(line["per_hour"], line, _RATE_DIGITS)
    product = _EXACT.multiply(unit, quantity)
    return {
        "ChargeDescription": f"{_HOLDER[line['kind']]} on {line['node_id']}",
        "ConsumedQuantity": quantity,
        "ConsumedUnit": "Hours",
        "PricingQuantity": quantity,
        "PricingUnit": "Hours",
        "PricingCategory": "Standard",
        "ListUnitPrice": unit,
        "ContractedUnitPrice": unit,
        "PricingCurrencyListUnitPrice": line["per_hour"],
        "PricingCurrencyContractedUnitPrice": line["per_hour"],
        "ListCost": product,
        "ContractedCost": product,
        "SkuId": line["pattern"],
        "SkuMeter": "Node time",
        "SkuPriceId": line["price_id"],
    }


def _correction(line: Mapping[str, Any]) -> dict[str, Any]:
    cost = _billed(line["cost"], line, _COST_DIGITS)
    return {
        "ChargeClass": "Correction",
        "ChargeDescription": f"{_HOLDER[line['kind']]} on {line['node_id']}: {line['cause']} learned after closing",
        "ListCost": cost,
        "ContractedCost": cost,
    }


_HOLDER = {
    "run": "Run",
    "untracked": "Processes without a run",
    "idle": "Idle time",
    "system": "System processes",
    "unknown": "Unobserved time",
}


def _tags(line: Mapping[str, Any]) -> str:
    tags = {
        "account": line["account"],
        "experiment": line["experiment"],
        "kind": line["kind"],
        "project": line["project"],
        "run_id": line["run_id"],
        "user": line["owner"],
    }
    return json.dumps({name: value for name, value in tags.items() if value is not None}, ensure_ascii=False)
