"""What differs between runs: parameters, results, inputs and outputs, code, environment, usage and cost."""

import math
from collections.abc import Sequence
from typing import Any

from ..session import Session

__all__ = ["compare_runs", "sort_rows"]

_NO_NUMBER = "CAST(NULL AS Nullable(Float64))"
_RUNS = "run_id IN {ids:Array(UUID)}"
_NEWEST = f"(SELECT * FROM {{views}}.provenance WHERE {_RUNS} ORDER BY attempt DESC LIMIT 1 BY run_id)"


def _texts(what: str, *names: str, of: str) -> str:
    """Columns of a view as rows of texts; `name = expression` gives one another name."""
    entries = []
    for name in names:
        key, _, expression = name.partition(" = ")
        entries.append(f"('{key}', ifNull(toString({expression or key}), '-'))")
    return (
        f"SELECT '{what}' AS what, entry.1 AS key, toString(run_id) AS id, entry.2 AS text, {_NO_NUMBER} AS number "
        f"FROM (SELECT run_id, arrayJoin([{', '.join(entries)}]) AS entry FROM {of})"
    )


def _map(what: str, column: str) -> str:
    return (
        f"SELECT '{what}', entry.1, toString(run_id), entry.2, {_NO_NUMBER} FROM (SELECT run_id, "
        f"arrayJoin(CAST({column} AS Array(Tuple(String, String)))) AS entry FROM {_NEWEST})"
    )


def _numbers(what: str, *expressions: str, of: str, group: str = "") -> str:
    """Numbers of a view as rows; each `name = expression`."""
    entries = [
        f"('{name}', CAST({expression} AS Nullable(Float64)))"
        for name, _, expression in (text.partition(" = ") for text in expressions)
    ]
    return (
        f"SELECT '{what}', entry.1, toString(run_id), '', entry.2 FROM "
        f"(SELECT run_id, arrayJoin([{', '.join(entries)}]) AS entry FROM {of}{group}) WHERE entry.2 IS NOT NULL"
    )


# One row for each (what, key, run), as text or number.
_QUERY = " UNION ALL ".join(
    (
        _texts("run", "state", "project", "experiment", "team", "attempts", "ranks", "nodes", "grade",
               of=f"{{views}}.runs WHERE {_RUNS}"),
        f"SELECT 'parameter', key, toString(run_id), value, value_number FROM {{views}}.params "
        f"WHERE {_RUNS} AND is_current",
        f"SELECT 'summary', key, toString(run_id), value, value_number FROM {{views}}.summary "
        f"WHERE {_RUNS} AND is_current",
        "SELECT 'result', concat(key, ' (last)'), toString(run_id), '', toNullable(last) "
        f"FROM {{views}}.metric_summary WHERE {_RUNS}",
        "SELECT 'result', concat(key, ' (', assumeNotNull(goal), ')'), toString(run_id), '', best "
        f"FROM {{views}}.metric_summary WHERE {_RUNS} AND goal IS NOT NULL AND best IS NOT NULL",
        f"""SELECT direction = 'in' ? 'input' : 'output', name, toString(run_id),
  arrayStringConcat(arraySort(groupUniqArray(concat(coalesce(version, '-'), ' ',
    substring(coalesce(digest, reference, uri, '-'), 1, 23)))), ', '), {_NO_NUMBER}
FROM {{views}}.run_io WHERE {_RUNS} GROUP BY direction, name, run_id""",
        _texts("code", "repository", "commit", "branch", "dirty", "snapshot = substring(snapshot_id, 1, 12)",
               "command = arrayStringConcat(argv, ' ')", of=_NEWEST),
        _texts("environment", "python", "os", "driver", "cuda", "cudnn", "nccl", "image = image_digest",
               "lock file = lock_sha256", of=_NEWEST),
        _map("package", "packages"),
        _map("variable", "variables"),
        _map("system", "system"),
        _map("library", "libraries"),
        _map("randomness", "randomness"),
        _numbers("usage", "cpu_seconds = sum(cpu_seconds)", "mem_peak_bytes = max(mem_peak_bytes)",
                 "gpu_busy_s = sumOrNull(gpu_busy_s)", "gpu_mem_peak_bytes = max(gpu_mem_peak_bytes)",
                 "energy_j = sumOrNull(energy_j)", of=f"{{views}}.run_usage WHERE {_RUNS}", group=" GROUP BY run_id"),
        _numbers("usage", "duration_s = duration_s", "gpu_hours = gpu_hours", of=f"{{views}}.runs WHERE {_RUNS}"),
        "SELECT 'cost', 'cost', toString(run_id), coalesce(concat(toString(cost), ' ', currency), '-'), "
        f"CAST(cost AS Nullable(Float64)) FROM {{views}}.runs WHERE {_RUNS}",
    )
)  # fmt: skip

_ORDER = (
    "run parameter summary result input output code file environment package variable system library randomness "
    "usage cost"
).split()
# Of these the distance to the first run is told.
_MEASURED = frozenset({"result", "summary", "usage", "cost"})


def compare_runs(session: Session, run_ids: Sequence[str], *, all_rows: bool = False) -> list[dict[str, Any]]:
    """Rows {"what", "key", "values": {run id: value or None}, "difference_pct": {run id: percent or None}}.

    Only where the runs differ, unless `all_rows`. The difference is that to the first run, in percent of it; None
    where there is none to tell."""
    # Not by format(): the parameters of the engine have braces too.
    query = _QUERY.replace("{views}", session.views)
    found: dict[tuple[str, str], dict[str, tuple[Any, float | None]]] = {}
    for row in session.query(query, {"ids": list(run_ids)}).to_pylist():
        number = row["number"]
        value = number if number is not None and row["what"] != "cost" else row["text"]
        found.setdefault((row["what"], row["key"]), {})[row["id"]] = (value, number)
    rows = []
    for (what, key), told in found.items():
        values = {run_id: told.get(run_id, (None, None))[0] for run_id in run_ids}
        if all_rows or len({repr(value) for value in values.values()}) > 1:
            numbers = [told.get(run_id, (None, None))[1] for run_id in run_ids]
            measured = numbers if what in _MEASURED else [None] * len(numbers)
            differences = {
                run_id: _percent(measured[0], n) for run_id, n in zip(run_ids, measured, strict=True)
            }
            rows.append({"what": what, "key": key, "values": values, "difference_pct": differences})
    return sort_rows(rows)


def sort_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of the sections."""
    place = {what: place for place, what in enumerate(_ORDER)}
    return sorted(rows, key=lambda row: (place[row["what"]], row["key"]))


def _percent(first: float | None, other: float | None) -> float | None:
    if first is None or other is None or first == other or first == 0:
        return None
    percent = 100 * (other - first) / abs(first)
    return percent if math.isfinite(percent) else None
