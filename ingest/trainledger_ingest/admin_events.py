"""Events of the administrator: from plain fields, as commands and the API carry them, to the Avro record.

Of topic admin, except for what a scheduler says of a node, which belongs to that node's own events.
Ids travel as UUID text in JSON and become 16 bytes here. Times and who did it are filled in where they are
missing.
"""

import getpass
from collections.abc import Mapping
from typing import Any

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_bytes

__all__ = ["ADMIN_KEY", "ADMIN_TYPES", "admin_key", "admin_record"]

ADMIN_TYPES = frozenset(
    {"price_set", "dead_skipped", "reproduction_result", "alias_set"}
    | {"period_closed", "owner_set", "budget_set", "alert_sent", "prices_set", "price_ended"}
    | {"energy_factor_set", "currency_rates_set"}
    | {"reservation", "writers_moved"}
)
ADMIN_KEY = b"admin"
_ID_FIELDS = frozenset(
    {"price_id", "run_id", "repetition", "statement_id", "change_id", "from_run_id", "to_run_id", "undoes"}
)
_ID_LISTS = frozenset({"writer_ids"})


def admin_record(event_type: str, fields: Mapping[str, Any], *, clock: Clock) -> dict[str, Any]:
    """The record of an event of topic admin, without its envelope; raises UsageError for an unknown type."""
    if event_type not in ADMIN_TYPES:
        raise UsageError(f"no event {event_type!r}; there are {', '.join(sorted(ADMIN_TYPES))}")
    stamp = "read_us" if event_type == "reservation" else "at_us"
    record: dict[str, Any] = {stamp: clock.wall_ns() // 1000, "set_by": user_name()}
    return record | _with_ids(fields)


def _with_ids(fields: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        name: id_bytes(value) if name in _ID_FIELDS and isinstance(value, str) else value
        for name, value in fields.items()
    }
    known |= {name: [id_bytes(item) for item in fields[name]] for name in _ID_LISTS & fields.keys()}
    if isinstance(fields.get("prices"), list):
        known["prices"] = [_with_ids(price) for price in fields["prices"]]
    return known


def admin_key(record: Mapping[str, Any]) -> bytes:
    """The key under which the event goes into the log: events of a node stay in its order."""
    return str(record["node"]).encode() if "node" in record else ADMIN_KEY


def user_name() -> str:
    """Who runs this command; the user's number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
