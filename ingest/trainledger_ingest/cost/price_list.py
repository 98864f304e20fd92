"""The price book as the views have it: every price and end that was set, and what of a price a new one keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..session import Session
from .policy import WHOLE_PPM
from .presence import PresenceMode
from .prices import Entry, Price, PriceBook, PriceEnd

__all__ = ["Listed", "read_listed", "terms_of", "terms_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = (
    "toString(price_id) AS id, node, {rate}, from_hour, {terms}, set_by, toUnixTimestamp64Micro(set_at) AS set_at_us, "
    "set_at, note, ordinal"
)
_PRICE = {
    "rate": "toNullable(per_hour) AS per_hour, toNullable(currency) AS currency",
    "terms": "toNullable(presence) AS presence, owned_from, owned_to, host_share, weights, source",
}
_END = {
    "rate": "NULL AS per_hour, NULL AS currency",
    "terms": "NULL AS presence, NULL AS owned_from, NULL AS owned_to, NULL AS host_share, "
    "CAST(map() AS Map(String, Int64)) AS weights, NULL AS source",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """`rows` in the order in which they were set, `per_hour` None for an end; the book that they make; the source of
    each price by its id."""

    rows: tuple[dict[str, Any], ...]
    book: PriceBook
    sources: Mapping[str, str | None]


def read_listed(session: Session) -> Listed:
    """The whole price book."""
    rows = session.query(
        f"SELECT * FROM (SELECT {_COLUMNS.format(**_PRICE)} FROM {session.views}.prices UNION ALL "
        f"SELECT {_COLUMNS.format(**_END)} FROM {session.views}.price_ends) ORDER BY ordinal"
    ).to_pylist()
    for row in rows:
        row["weights"] = dict(row["weights"])
    sources = {row["id"]: row["source"] for row in rows}
    return Listed(tuple(rows), PriceBook(_entry(row) for row in rows), sources)


def terms_of(price: Price | None) -> dict[str, Any]:
    """What else than its rate a price says, as fields of a new one; empty for a price that says nothing else."""
    if price is None:
        return {}
    rule, policy = price.policy.presence, price.policy
    terms: dict[str, Any] = {}
    if rule.mode is not PresenceMode.OBSERVED:
        dates = {"owned_from_us": rule.owned_from_us, "owned_to_us": rule.owned_to_us}
        terms |= {"presence": str(rule.mode), **dates}
    if policy.host_share_ppm is not None:
        terms["host_share_ppm"] = policy.host_share_ppm
    if policy.device_weights:
        terms["device_weights"] = dict(policy.device_weights)
    return terms


def terms_text(terms: Mapping[str, Any]) -> str:
    """Terms as a person reads them."""
    parts = []
    if "presence" in terms:
        dates = [
            f" {word} {_EPOCH + timedelta(microseconds=terms[key]):%Y-%m-%d %H:%M} UTC"
            for word, key in (("from", "owned_from_us"), ("to", "owned_to_us"))
            if terms.get(key) is not None
        ]
        parts.append(f"presence {terms['presence']}{''.join(dates)}")
    if "host_share_ppm" in terms:
        parts.append(f"host share {terms['host_share_ppm'] / WHOLE_PPM:g}")
    if "device_weights" in terms:
        parts.append(
            "weights " + ", ".join(f"{model} {n}" for model, n in sorted(terms["device_weights"].items()))
        )
    return "; ".join(parts)


def _entry(row: Mapping[str, Any]) -> Entry:
    from_us = _micros(row["from_hour"])
    if row["per_hour"] is None:
        return PriceEnd(row["id"], row["node"], from_us, row["set_at_us"])
    dates = {f"{name}_us": _micros(row[name]) for name in ("owned_from", "owned_to") if row[name] is not None}
    share = row["host_share"]
    return Price.from_fields(
        {
            "price_id": row["id"],
            "pattern": row["node"],
            "nano_per_hour": int(row["per_hour"].scaleb(9)),
            "currency": row["currency"],
            "from_hour_us": from_us,
            "at_us": row["set_at_us"],
            "presence": row["presence"],
            "host_share_ppm": None if share is None else round(share * WHOLE_PPM),
            "device_weights": row["weights"],
        }
        | dates
    )


def _micros(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
