"""What differs between runs."""

from collections.abc import Sequence
from typing import Any

from ..session import Session

__all__ = ["compare_runs"]

# One row for each (what, key, run), as text and JSON-able.
_QUERY = """
SELECT 'parameter' AS what, key, toString(run_id) AS id, value AS text, value_number AS number
FROM {views}.params WHERE run_id IN {{ids:Array(UUID)}} AND is_current
UNION ALL SELECT 'summary', key, toString(run_id), value, value_number
FROM {views}.summary WHERE run_id IN {{ids:Array(UUID)}} AND is_current
UNION ALL SELECT 'result', concat(key, if(goal IS NULL, ' (last)', concat(' (', goal, ')'))), toString(run_id),
  '', toNullable(if(goal IS NULL, last, best)) FROM {views}.metric_summary WHERE run_id IN {{ids:Array(UUID)}}
UNION ALL SELECT 'code', entry.1, toString(run_id), entry.2, CAST(NULL AS Nullable(Float64)) FROM (
  SELECT run_id, arrayJoin([('repository', coalesce(repository, '-')), ('commit', coalesce(commit, '-')),
    ('branch', coalesce(branch, '-')), ('dirty', coalesce(toString(dirty), '-')),
    ('command', arrayStringConcat(argv, ' ')), ('python', coalesce(python, '-'))]) AS entry
  FROM {views}.provenance WHERE run_id IN {{ids:Array(UUID)}} ORDER BY attempt DESC LIMIT 6 BY run_id)
UNION ALL SELECT direction = 'in' ? 'input' : 'output', name, toString(run_id),
  arrayStringConcat(arraySort(groupUniqArray(concat(coalesce(version, '-'), ' ',
    substring(coalesce(digest, reference, uri, '-'), 1, 23)))), ', '),
  CAST(NULL AS Nullable(Float64))
FROM {views}.run_io WHERE run_id IN {{ids:Array(UUID)}} GROUP BY direction, name, run_id
UNION ALL SELECT 'package', entry.1, toString(run_id), entry.2, CAST(NULL AS Nullable(Float64)) FROM (
  SELECT run_id, arrayJoin(CAST(packages AS Array(Tuple(String, String)))) AS entry
  FROM (SELECT run_id, packages FROM {views}.provenance WHERE run_id IN {{ids:Array(UUID)}}
    ORDER BY attempt DESC LIMIT 1 BY run_id))
UNION ALL SELECT 'run', entry.1, toString(run_id), entry.2, CAST(NULL AS Nullable(Float64)) FROM (
  SELECT run_id, arrayJoin([('state', state), ('project', project), ('experiment', coalesce(experiment, '-')),
    ('team', coalesce(team, '-')), ('cost', coalesce(concat(toString(cost), ' ', currency), '-'))]) AS entry
  FROM {views}.runs WHERE run_id IN {{ids:Array(UUID)}})
UNION ALL SELECT 'run', 'duration_s', toString(run_id), '', duration_s
FROM {views}.runs WHERE run_id IN {{ids:Array(UUID)}}
"""


_ORDER = ("parameter", "summary", "result", "input", "output", "code", "package", "run")


def compare_runs(session: Session, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Rows {"what", "key", "values": {run id: value or None}}, only where the runs differ."""
    table = session.query(_QUERY.format(views=session.views), {"ids": list(run_ids)})
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table.to_pylist():
        value = row["number"] if row["number"] is not None else row["text"]
        found.setdefault((row["what"], row["key"]), {})[row["id"]] = value
    order = {what: place for place, what in enumerate(_ORDER)}
    rows = []
    for (what, key), values in sorted(found.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        filled = {run_id: values.get(run_id) for run_id in run_ids}
        if len({repr(value) for value in filled.values()}) > 1:
            rows.append({"what": what, "key": key, "values": filled})
    return rows
