"""One run at a glance."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ..reproduce.run_facts import RunFacts, read_run_facts
from ..session import Session
from .best_results import models_section
from .inputs_outputs import inputs_outputs
from .last_lines import last_lines
from .listing import SELECTED_COLUMNS, money_text
from .metric_results import results_section
from .missing_cost import why_no_cost
from .notebook import notebook_cells
from .ranks import moved_facts, ranks_facts, summed, writers_section
from .section import CELL_CHARACTERS_MAX, Section, shortened, shortened_parts
from .silence import silence_facts
from .time_left import time_left
from .times import duration_text
from .weak_joins import join_facts

__all__ = ["Picture", "Section", "describe_run"]

SETTINGS_SHOWN_MAX = 100
# Facts that are never cut: sentences whose end matters.
_WHOLE = ("state", "stands still", "ranks stand still")


@dataclass(frozen=True, slots=True)
class Picture:
    """What `show` prints: `row` is the row of view runs, the rest is for people."""

    row: dict[str, Any]
    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


def describe_run(session: Session, run_id: str) -> Picture:
    """Collect everything to show of a run that exists."""
    row = _rows(
        session,
        f"SELECT {SELECTED_COLUMNS} FROM {session.views}.runs AS r WHERE r.run_id = {{id:UUID}}",
        run_id,
    )[0]
    facts = read_run_facts(session, run_id)
    sections = [
        last_lines(session, run_id, state=row["state"]),
        results_section(session, row),
        models_section(session, run_id),
        _settings(session, run_id, view="summary", title="summary"),
        _settings(session, run_id, view="params", title="parameters"),
        writers_section(session, run_id),
        _usage(session, run_id),
        _gpus(session, run_id),
        _code(session, run_id, facts),
        notebook_cells(session, run_id),
        inputs_outputs(session, run_id),
        _grade(facts),
    ]
    # A traceback stays whole: nothing stands beside its lines.
    shown = (_traceback(row["state_reason"]), *map(shortened_parts, sections))
    return Picture(
        row, shortened(row["name"] or run_id), _facts(session, row), tuple(s for s in shown if s.rows)
    )


def _facts(session: Session, row: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    facts = [
        ("run", row["run_id"]),
        ("state", f"{row['state']} ({_reason(row['state_reason'])})"),
        ("project", row["project"]),
        ("experiment", row["experiment"] or "-"),
        ("team", row["team"] or "-"),
        ("user", row["user"] or "-"),
        ("started", _moment(row["started_at"])),
        ("ended", _moment(row["ended_at"])),
        ("duration", duration_text(row["duration_s"])),
        *([("time left", time_left(session, row["run_id"]))] if row["state"] == "running" else []),
        ("attempts, ranks, nodes", f"{row['attempts']}, {row['ranks']}, {row['nodes']}"),
        *ranks_facts(session, row),
        *join_facts(session, row["run_id"]),
        *silence_facts(session, row),
        *moved_facts(session, row["run_id"]),
        (
            "cost",
            money_text(row["cost"], row["currency"])
            if row["cost"] is not None
            else why_no_cost(session, row),
        ),
        ("group", row["run_group"] or "-"),
        ("tags", ", ".join(row["tags"]) or "-"),
    ]
    return tuple(
        (what, value if what in _WHOLE else shortened(value, CELL_CHARACTERS_MAX)) for what, value in facts
    )


def _reason(text: str) -> str:
    """Of a traceback what was raised; the rest has its own section."""
    lines = text.splitlines()
    frames = [place for place, line in enumerate(lines) if line.startswith("  ")]
    if not frames:
        return text
    raised = " ".join(lines[frames[-1] + 1 :]) or lines[-1].strip()
    return lines[0].partition("Traceback")[0] + raised


def _traceback(text: str) -> Section:
    rest = text[text.find("Traceback") :] if "\n  " in text else ""
    return Section(
        "failure", ("traceback, most recent call last",), tuple((line,) for line in rest.splitlines()[1:])
    )


def _settings(session: Session, run_id: str, *, view: str, title: str) -> Section:
    rows = _rows(
        session,
        f"SELECT key, value, count() OVER () AS keys FROM {session.views}.{view} "
        f"WHERE run_id = {{id:UUID}} AND is_current ORDER BY key LIMIT {SETTINGS_SHOWN_MAX}",
        run_id,
    )
    if rows and rows[0]["keys"] > len(rows):
        title = f"{title} ({len(rows)} of {rows[0]['keys']}; view {view} has all)"
    return Section(
        title,
        ("key", "value"),
        tuple((shortened(row["key"]), shortened(str(row["value"]), CELL_CHARACTERS_MAX)) for row in rows),
    )


def _usage(session: Session, run_id: str) -> Section:
    rows = _rows(
        session,
        "SELECT attempt, rank, cpu_seconds, mem_peak_bytes, observed_s "
        f"FROM {session.views}.run_usage WHERE run_id = {{id:UUID}} ORDER BY attempt, rank",
        run_id,
    )
    cells = tuple(
        (
            str(row["attempt"]),
            row["ranks"],
            f"{row['cpu_seconds']:.2f} s",
            f"{row['mem_peak_bytes'] / 2**20:.0f} MiB",
            duration_text(row["observed_s"]),
        )
        for row in summed(rows)
    )
    return Section("usage", ("attempt", "rank", "CPU", "memory peak", "observed"), cells)


def _gpus(session: Session, run_id: str) -> Section:
    rows = _rows(
        session,
        "SELECT attempt, rank, gpu_busy_s, gpu_observed_s, gpu_mem_peak_bytes, energy_j, gpu_quality "
        f"FROM {session.views}.run_usage WHERE run_id = {{id:UUID}} AND gpu_observed_s IS NOT NULL "
        "ORDER BY attempt, rank",
        run_id,
    )
    cells = tuple(
        (
            str(row["attempt"]),
            row["ranks"],
            _share(row["gpu_busy_s"], row["gpu_observed_s"]),
            duration_text(row["gpu_observed_s"]),
            "-" if row["gpu_mem_peak_bytes"] is None else f"{row['gpu_mem_peak_bytes'] / 2**20:.0f} MiB",
            "-" if row["energy_j"] is None else f"{row['energy_j'] / 3.6e6:.3f} kWh",
            row["gpu_quality"],
        )
        for row in summed(rows)
    )
    names = ("attempt", "rank", "busy", "observed", "memory peak", "energy", "known by")
    return Section("GPUs", names, cells, optional=("known by",))


def _share(part: float | None, whole: float) -> str:
    return "-" if part is None or whole <= 0 else f"{100 * part / whole:.0f} %"


def _code(session: Session, run_id: str, facts: RunFacts) -> Section:
    rows = _rows(
        session,
        "SELECT attempt, repository, commit, branch, dirty, snapshot_id, left_out, entry_point, "
        "arrayStringConcat(argv, ' ') AS command, python, os, lock_sha256, image_digest, "
        "image_source, driver, cuda, cudnn, nccl, "
        "system['cpu.model'] AS processor "
        f"FROM {session.views}.provenance WHERE run_id = {{id:UUID}} "
        "ORDER BY attempt DESC LIMIT 1",
        run_id,
    )
    if not rows:
        return Section("code and environment", ("what", "value"), ())
    row, judged = rows[0], facts.judged
    # As the grade counts: what a package of the stored code or trainledger itself is, is known too.
    known = judged.packages - len(judged.by_version)
    cells = (
        ("repository", _text(row["repository"])),
        ("commit", _commit(row)),
        ("stored", _stored(row)),
        ("command", row["command"]),
        ("python", f"{_text(row['python'])}, {judged.packages} packages, {known} known by content"),
        ("lock file", _text(row["lock_sha256"])),
        ("image", "-" if row["image_digest"] is None else f"{row['image_digest']} ({row['image_source']})"),
        ("system", f"{_text(row['os'])}; {row['processor'] or 'processor not known'}"),
        (
            "GPU stack",
            ", ".join(f"{n} {row[n]}" for n in ("driver", "cuda", "cudnn", "nccl") if row[n]) or "-",
        ),
    )
    return Section("code and environment", ("what", "value"), cells)


def _grade(facts: RunFacts) -> Section:
    judgement = facts.judgement
    if not facts.provenance:
        return Section("reproducibility", ("what", "grade", "why"), ())
    rows = [("grade", judgement.letter, f"decided by {judgement.worst.column}")]
    rows += [(opinion.column, opinion.letter, opinion.reason) for opinion in judgement.opinions]
    return Section("reproducibility", ("what", "grade", "why"), tuple(rows))


def _stored(row: dict[str, Any]) -> str:
    if row["snapshot_id"] is None:
        return "no"
    left_out = f", {row['left_out']} files left out" if row["left_out"] else ""
    return f"{row['snapshot_id'][:12]}{left_out}; `trainledger reproduce` restores it"


def _commit(row: dict[str, Any]) -> str:
    if row["commit"] is None:
        return "-"
    branch = f" on {row['branch']}" if row["branch"] else ""
    state = {None: "", True: ", with local changes", False: ", clean"}[row["dirty"]]
    return f"{row['commit']}{branch}{state}"


def _rows(session: Session, sql: str, run_id: str) -> list[dict[str, Any]]:
    table: pa.Table = session.query(sql, {"id": run_id})
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _moment(value: datetime | None) -> str:
    return "-" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
