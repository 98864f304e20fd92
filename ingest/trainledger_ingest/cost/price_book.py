"""The price book as a TOML file.

    [[price]]
    node = "gpu-*"                 # pattern of node names
    from = "2026-11-01T00:00Z"     # whole UTC hour
    usd_per_hour = "12.4364"       # or: per_hour = "11.40" with currency = "EUR", or the next form

    [[price]]                      # owned machines: rate from what they cost
    node = "own-*"
    from = "2026-01-01T00:00Z"
    currency = "EUR"
    capex = "300000"
    residual = "0"
    years = "4"
    yearly_fixed = "18000"         # upkeep
    average_kw = "7.0"
    pue = "1.3"
    per_kwh = "0.20"

Optional in both: presence = "observed" | "boot" | "owned", owned_from, owned_to, host_share (0 to 1), weights
(a table of device model to whole number), note. Unknown keys are errors that name the nearest key.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from trainledger_schemas.errors import UsageError

from .prices import NANO, nano_rate, price_fields, whole_hour

__all__ = ["owned_rate_nano", "read_price_book"]

HOURS_A_YEAR = 8760
_RATE_KEYS = {"usd_per_hour", "per_hour"}
_OWNED_KEYS = {"capex", "residual", "years", "yearly_fixed", "average_kw", "pue", "per_kwh"}
_OTHER_KEYS = {
    "node",
    "from",
    "currency",
    "presence",
    "owned_from",
    "owned_to",
    "host_share",
    "weights",
    "note",
}
_KEYS = _RATE_KEYS | _OWNED_KEYS | _OTHER_KEYS


def read_price_book(text: str, *, new_id: Callable[[], str]) -> list[dict[str, Any]]:
    """The fields of one `price_set` event an entry; raises UsageError that names the entry and the key."""
    try:
        book = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the price book is not valid TOML: {error}") from error
    unknown = set(book) - {"price"}
    if unknown or not isinstance(book.get("price"), list):
        raise UsageError("a price book holds [[price]] entries and nothing else")
    return [_entry(number, entry, new_id) for number, entry in enumerate(book["price"], 1)]


def owned_rate_nano(numbers: Mapping[str, Decimal]) -> int:
    """(capex - residual) / (years x 8760) + yearly fixed / 8760 + average kW x PUE x price per kWh, 10^-9 an hour.

    Calendar hours, because idle time is reported apart: dividing by busy hours would count it twice."""
    if numbers["years"] <= 0:
        raise UsageError("years must be above 0")
    rate = (
        (numbers["capex"] - numbers["residual"]) / (numbers["years"] * HOURS_A_YEAR)
        + numbers["yearly_fixed"] / HOURS_A_YEAR
        + numbers["average_kw"] * numbers["pue"] * numbers["per_kwh"]
    )
    return int((rate * NANO).to_integral_value(ROUND_HALF_UP))


def _entry(number: int, entry: Mapping[str, Any], new_id: Callable[[], str]) -> dict[str, Any]:
    where = f"entry {number} of the price book"
    for key in entry:
        if key not in _KEYS:
            nearest = difflib.get_close_matches(key, sorted(_KEYS), 1)
            raise UsageError(
                f"{where}: unknown key {key!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else "")
            )
    for key in ("node", "from"):
        if key not in entry:
            raise UsageError(f"{where}: {key!r} is missing")
    currency = str(entry.get("currency", "USD"))
    if "usd_per_hour" in entry:
        nano, currency = nano_rate(str(entry["usd_per_hour"])), "USD"
    elif "per_hour" in entry:
        nano = nano_rate(str(entry["per_hour"]))
    elif "capex" in entry:
        nano = owned_rate_nano(_owned_numbers(entry, where))
    else:
        raise UsageError(f"{where}: give usd_per_hour, per_hour with currency, or capex and years")
    extra: dict[str, Any] = {}
    if "presence" in entry:
        if entry["presence"] not in ("observed", "boot", "owned"):
            raise UsageError(f"{where}: presence is observed, boot or owned")
        extra["presence"] = entry["presence"]
    for key, name in (("owned_from", "owned_from_us"), ("owned_to", "owned_to_us")):
        if key in entry:
            extra[name] = _moment_us(entry[key], where)
    if "host_share" in entry:
        extra["host_share_ppm"] = int(Decimal(str(entry["host_share"])) * 1_000_000)
    if "weights" in entry:
        extra["device_weights"] = {str(model): int(weight) for model, weight in entry["weights"].items()}
    if "note" in entry:
        extra["note"] = str(entry["note"])
    return price_fields(
        new_id(),
        pattern=str(entry["node"]),
        nano_per_hour=nano,
        currency=currency,
        from_hour_us=whole_hour(_moment_us(entry["from"], where), str(entry["from"])),
        extra=extra,
    )


def _owned_numbers(entry: Mapping[str, Any], where: str) -> dict[str, Decimal]:
    defaults = {"residual": "0", "yearly_fixed": "0", "average_kw": "0", "pue": "1", "per_kwh": "0"}
    numbers = {}
    for key in _OWNED_KEYS:
        text = str(entry.get(key, defaults.get(key, "")))
        try:
            numbers[key] = Decimal(text)
        except InvalidOperation:
            raise UsageError(f"{where}: {key} is {text!r}; give a number") from None
    return numbers


def _moment_us(value: Any, where: str) -> int:
    if isinstance(value, datetime):
        moment = value
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise UsageError(f"{where}: {value!r} is not a time such as 2026-11-01T00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
