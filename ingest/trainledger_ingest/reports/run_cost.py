"""What one run has cost so far, as `run.cost()` of the SDK asks it."""

from typing import Any

from ..storage.store import Store
from ..tables_place import VIEWS

__all__ = ["cost_so_far"]


def cost_so_far(store: Store, run_id: str) -> dict[str, Any]:
    """Cost as text, and currency; None while any part is unpriced or nobody watched it."""
    rows = store.rows(f"SELECT cost, currency FROM {VIEWS}.runs WHERE run_id = {{id:UUID}}", {"id": run_id})
    row = rows[0] if rows else {"cost": None, "currency": None}
    return {"cost": None if row["cost"] is None else str(row["cost"]), "currency": row["currency"]}
