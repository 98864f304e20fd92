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

Optional in both: presence = "observed" | "boot" | "owned" (with owned_from, and owned_to if it ended), host_share
(0 to 1), weights (a table of device model to whole number), note. Unknown keys are errors that name the nearest key.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from trainledger_schemas.errors import UsageError

from ..reports.times import within_years
from .policy import WHOLE_PPM
from .prices import NANO, RATE_MAX, nano_rate, price_fields, whole_hour

__all__ = ["owned_rate_nano", "read_price_book"]

HOURS_A_YEAR = 8760
NUMBER_MAX, YEARS_MIN = Decimal(10**30), Decimal("1e-9")
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
        book = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the price book is not valid TOML: {error}") from error
    unknown = set(book) - {"price"}
    if unknown or not isinstance(book.get("price"), list):
        raise UsageError("a price book holds [[price]] entries and nothing else")
    return [_named_entry(number, entry, new_id) for number, entry in enumerate(book["price"], 1)]


def owned_rate_nano(numbers: Mapping[str, Decimal]) -> int:
    """(capex - residual) / (years x 8760) + yearly fixed / 8760 + average kW x PUE x price per kWh, 10^-9 an hour.

    Calendar hours, because idle time is reported apart: dividing by busy hours would count it twice."""
    if numbers["years"] < YEARS_MIN:
        raise UsageError("years must be above 0")
    if numbers["residual"] > numbers["capex"]:
        raise UsageError("residual, what the machine is worth in the end, is not above capex")
    if numbers["pue"] < 1:
        raise UsageError("pue, all power over that of the machines, is 1 or more")
    rate = (
        (numbers["capex"] - numbers["residual"]) / (numbers["years"] * HOURS_A_YEAR)
        + numbers["yearly_fixed"] / HOURS_A_YEAR
        + numbers["average_kw"] * numbers["pue"] * numbers["per_kwh"]
    )
    return int((rate * NANO).to_integral_value(ROUND_HALF_UP))


def _named_entry(number: int, entry: Mapping[str, Any], new_id: Callable[[], str]) -> dict[str, Any]:
    """The entry's fields; what is wrong with a rate, a currency or an hour is told with the entry too."""
    try:
        return _entry(number, entry, new_id)
    except UsageError as error:
        where = f"entry {number} of the price book"
        if str(error).startswith(where):
            raise
        raise UsageError(f"{where}: {error}") from error


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
    nano, currency = _rate(entry, where)
    return price_fields(
        new_id(),
        pattern=str(entry["node"]),
        nano_per_hour=nano,
        currency=currency,
        from_hour_us=whole_hour(_moment_us(entry, "from", where), str(entry["from"])),
        extra=_presence(entry, where) | _pools(entry, where),
    )


def _rate(entry: Mapping[str, Any], where: str) -> tuple[int, str]:
    """The rate and its currency, from exactly one of the three forms."""
    forms = [key for key in ("usd_per_hour", "per_hour", "capex") if key in entry]
    if len(forms) != 1 or (forms != ["capex"] and _OWNED_KEYS & entry.keys()):
        raise UsageError(
            f"{where}: give one of usd_per_hour, per_hour with currency, or capex and years with what belongs to them"
        )
    currency = str(entry.get("currency", "USD"))
    if forms == ["capex"]:
        nano = owned_rate_nano(_owned_numbers(entry, where))
        if not 0 <= nano <= RATE_MAX * NANO:
            raise UsageError(f"{where}: these costs make a rate that is not between 0 and {RATE_MAX} an hour")
        return nano, currency
    if forms == ["usd_per_hour"] and currency != "USD":
        raise UsageError(f"{where}: usd_per_hour is in USD; for {currency} write per_hour")
    return nano_rate(str(entry[forms[0]])), currency


def _presence(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    presence = entry.get("presence", "observed")
    if presence not in ("observed", "boot", "owned"):
        raise UsageError(f"{where}: presence is observed, boot or owned")
    dates = {f"{key}_us": _moment_us(entry, key, where) for key in ("owned_from", "owned_to") if key in entry}
    if (presence == "owned") != ("owned_from_us" in dates) or (presence != "owned" and dates):
        raise UsageError(f"{where}: presence owned needs owned_from, and the dates count for it alone")
    if dates.get("owned_to_us", float("inf")) <= dates.get("owned_from_us", float("-inf")):
        raise UsageError(f"{where}: owned_to is not behind owned_from")
    return {"presence": presence, **dates}


def _pools(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """How the price is split. Checked here: once stored, a price is read for ever."""
    extra: dict[str, Any] = {}
    if "host_share" in entry:
        ppm = _number(entry["host_share"], "host_share", where) * WHOLE_PPM
        if not 0 <= ppm <= WHOLE_PPM or ppm != ppm.to_integral_value():
            raise UsageError(f"{where}: host_share is between 0 and 1 with at most 6 decimals")
        extra["host_share_ppm"] = int(ppm)
    if "weights" in entry:
        weights = entry["weights"]
        if not isinstance(weights, Mapping) or any(type(w) is not int or w < 1 for w in weights.values()):
            raise UsageError(f"{where}: weights is a table of device model to whole number from 1")
        extra["device_weights"] = {str(model): weight for model, weight in weights.items()}
    if "note" in entry:
        extra["note"] = str(entry["note"])
    return extra


def _owned_numbers(entry: Mapping[str, Any], where: str) -> dict[str, Decimal]:
    defaults = {"residual": "0", "yearly_fixed": "0", "average_kw": "0", "pue": "1", "per_kwh": "0"}
    return {key: _number(entry.get(key, defaults.get(key, "")), key, where) for key in sorted(_OWNED_KEYS)}


def _number(value: Any, key: str, where: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise UsageError(f"{where}: {key} is {str(value)!r}; give a number") from None
    if not number.is_finite() or not 0 <= number <= NUMBER_MAX:
        raise UsageError(f"{where}: {key} is {value}; give a number from 0 up to {NUMBER_MAX:.0e}")
    return number


def _moment_us(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry[key]
    if isinstance(value, datetime):
        moment = value
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise UsageError(f"{where}: {value!r} is not a time such as 2026-11-01T00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if key != "owned_to":  # an end may be as far away as one likes
        within_years(moment, str(value))
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
