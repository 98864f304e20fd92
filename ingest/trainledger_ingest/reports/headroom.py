"""Memory of GPUs that runs held and never filled: which MIG instance or smaller GPU their measured peak fits.

Memory alone is compared: a smaller instance has fewer multiprocessors too, so `busy_pct` and `fits_compute` stand by.
`could_save` is the part of what the run paid for the device that the smallest fitting instance leaves to others.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ..cost.money import minor_text, nano_of
from ..cost.periods import period_condition
from ..session import Session

__all__ = ["COLUMNS", "make_headroom", "read_headroom", "saving_totals"]

COLUMNS = (
    "run_id name team node_id device_id model mig_profile mem_total_bytes mem_peak_bytes used_pct busy_pct observed_s "
    "unmeasured_s fits_profile fits_part fits_compute fits_gpu_gib cost could_save currency"
).split()


def read_headroom(
    session: Session, *, start: str | None, end: str | None, run_id: str | None
) -> list[dict[str, Any]]:
    """Rows of view `gpu_headroom` of runs that were on a GPU in [start, end) (UTC hours as text, None: open), with what
    they paid for the device in that time, the largest possible saving first. A row a currency, None without a price."""
    where, parameters = period_condition(start, end)
    condition, of_rows = ["1"], dict[str, object]()
    if start is not None:
        condition.append("h.last_at >= toDateTime({start:String}, 'UTC')")
        of_rows["start"] = start
    if end is not None:
        condition.append("h.first_at < toDateTime({end:String}, 'UTC')")
        of_rows["end"] = end
    if run_id is not None:
        condition.append("h.run_id = {run:UUID}")
        of_rows["run"] = run_id
        where += " AND run_id = {run:UUID}"
        parameters["run"] = run_id
    rows = session.query(
        "SELECT h.* EXCEPT (run_id, first_at, last_at), toString(h.run_id) AS run_id, r.name AS name, r.team AS team "
        f"FROM {session.views}.gpu_headroom AS h LEFT ANY JOIN {session.views}.runs AS r ON r.run_id = h.run_id "
        f"WHERE {' AND '.join(condition)}",
        of_rows,
    ).to_pylist()
    costs = session.query(
        "SELECT toString(run_id) AS run, node_id AS node, substring(resource, 8) AS device, currency AS money, "
        f"sum(cost) AS total FROM {session.views}.cost_lines WHERE {where} AND kind = 'run' "
        "AND startsWith(resource, 'device:') AND cost IS NOT NULL GROUP BY run, node, device, money",
        parameters,
    ).to_pylist()
    return make_headroom(rows, costs)


def make_headroom(
    rows: Iterable[Mapping[str, Any]], costs: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows with `cost`, `could_save` (text in minor units, None where not known) and `currency`."""
    paid: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
    for cost in costs:
        place = (cost["run"], cost["node"], cost["device"])
        paid.setdefault(place, []).append((cost["money"], nano_of(cost["total"])))
    found = []
    for row in rows:
        # What a MIG instance costs is part of the line of its device, which may be several instances.
        place = (row["run_id"], row["node_id"], row["device_id"])
        amounts: Sequence[tuple[str | None, int]] = sorted(paid.get(place, ())) or [(None, 0)]
        for currency, nano in amounts:
            part = row["fits_part"]
            saved = 0 if part is None or currency is None else int(nano * (1 - Fraction(part)))
            money = {"cost": None, "could_save": None, "currency": currency}
            if currency is not None:
                money["cost"] = minor_text(nano, currency)
                money["could_save"] = None if part is None else minor_text(saved, currency)
            found.append((saved, {name: (dict(row) | money)[name] for name in COLUMNS}))
    found.sort(key=lambda item: (-item[0], item[1]["run_id"], item[1]["node_id"], item[1]["device_id"]))
    return [row for _, row in found]


def saving_totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, Decimal]:
    """The savings of all rows by currency, as they are shown."""
    totals: dict[str, Decimal] = {}
    for row in rows:
        if row["could_save"] is not None:
            totals[row["currency"]] = totals.get(row["currency"], Decimal(0)) + Decimal(row["could_save"])
    return totals
