"""The tables of runs, writers, parameters, summaries, goals and provenance, computed from `run_events`.

Each row is replaced whole under a higher version, so a refresh may be repeated or cut off anywhere: the next
`stale` finds what is behind. One run is refreshed by one worker, because its events lie in one partition.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

import pyarrow as pa

from .reproduce.grade import facts_of, judge
from .run_evidence import RunEvent
from .run_state import RunPicture, SettingChange, judge_run
from .storage.store import Store

__all__ = ["RunTables"]

RUNS_AT_ONCE_MAX = 500

_ID = pa.binary(16)
_AT = pa.timestamp("us", tz="UTC")
_SETTING_CHANGES = pa.schema(
    [
        ("run_id", _ID),
        ("key", pa.string()),
        ("set_at", _AT),
        ("ordinal", pa.uint32()),
        ("version", pa.uint64()),
        ("value", pa.string()),
        ("value_number", pa.float64()),
        ("attempt", pa.uint16()),
        ("is_current", pa.bool_()),
    ]
)
_SCHEMAS = {
    "run_states": pa.schema(
        [
            ("run_id", _ID),
            ("version", pa.uint64()),
            ("project", pa.string()),
            ("experiment", pa.string()),
            ("name", pa.string()),
            ("team", pa.string()),
            ("user", pa.string()),
            ("run_group", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("parent_run", _ID),
            ("state", pa.string()),
            ("state_reason", pa.string()),
            ("attempts", pa.uint16()),
            ("ranks", pa.uint32()),
            ("nodes", pa.uint32()),
            ("started_at", _AT),
            ("ended_at", _AT),
            ("last_event_at", _AT),
            ("grade", pa.string()),
            ("grade_if_repeated", pa.string()),
        ]
    ),
    "writer_states": pa.schema(
        [
            ("run_id", _ID),
            ("writer_id", _ID),
            ("version", pa.uint64()),
            ("attempt", pa.uint16()),
            ("rank", pa.uint32()),
            ("local_rank", pa.uint32()),
            ("world_size", pa.uint32()),
            ("role", pa.string()),
            ("parent_writer", _ID),
            ("node_id", pa.string()),
            ("pid", pa.uint32()),
            ("owner", pa.string()),
            ("device_ids", pa.list_(pa.string())),
            ("started_at", _AT),
            ("last_event_at", _AT),
            ("state", pa.string()),
            ("exit_code", pa.int32()),
            ("signal", pa.int32()),
            ("gap_points", pa.uint64()),
            ("node_rank", pa.uint32()),
            ("launcher", pa.string()),
            ("joined", pa.string()),
            ("decides", pa.bool_()),
        ]
    ),
    "param_changes": _SETTING_CHANGES,
    "summary_changes": _SETTING_CHANGES,
    "metric_goals": pa.schema(
        [("run_id", _ID), ("key", pa.string()), ("version", pa.uint64()), ("goal", pa.string())]
    ),
    "provenance_facts": pa.schema(
        [
            ("run_id", _ID),
            ("attempt", pa.uint16()),
            ("version", pa.uint64()),
            ("vcs", pa.string()),
            ("repository", pa.string()),
            ("commit", pa.string()),
            ("branch", pa.string()),
            ("dirty", pa.bool_()),
            ("entry_point", pa.string()),
            ("argv", pa.list_(pa.string())),
            ("python", pa.string()),
            ("packages", pa.map_(pa.string(), pa.string())),
            ("os", pa.string()),
            ("reasons", pa.list_(pa.string())),
            ("snapshot_id", pa.string()),
            ("snapshot_sha256", pa.string()),
            ("patch_sha256", pa.string()),
            ("patch_bytes", pa.uint64()),
            ("left_out", pa.uint64()),
            ("left_out_files", pa.list_(pa.string())),
            ("code_root", pa.string()),
            ("cwd", pa.string()),
            ("launcher", pa.list_(pa.string())),
            ("variables", pa.map_(pa.string(), pa.string())),
            ("program", pa.string()),
            ("package_ids", pa.map_(pa.string(), pa.string())),
            ("package_sources", pa.map_(pa.string(), pa.string())),
            ("lock_sha256", pa.string()),
            ("lock_files", pa.map_(pa.string(), pa.string())),
            ("image_digest", pa.string()),
            ("image_source", pa.string()),
            ("driver", pa.string()),
            ("cuda", pa.string()),
            ("cudnn", pa.string()),
            ("nccl", pa.string()),
            ("system", pa.map_(pa.string(), pa.string())),
            ("libraries", pa.map_(pa.string(), pa.string())),
            ("randomness", pa.map_(pa.string(), pa.string())),
        ]
    ),
}


class RunTables:
    """Keeps the derived tables of runs in step with `run_events` of one generation."""

    def __init__(self, store: Store, generation: str) -> None:
        self._store = store
        self._generation = generation

    def stale(self) -> list[str]:
        """The runs whose events are newer than their row, e.g. after a crash between the two."""
        rows = self._store.rows(
            f"SELECT toString(e.run_id) AS run_id FROM "
            f"(SELECT run_id, max(offset) + 1 AS version "
            f"FROM {self._generation}.run_events GROUP BY run_id) AS e "
            f"LEFT ANY JOIN (SELECT run_id, version FROM {self._generation}.run_states FINAL) AS s "
            f"ON s.run_id = e.run_id WHERE s.version < e.version"
        )
        return [str(row["run_id"]) for row in rows]

    def refresh(self, run_ids: Collection[str]) -> dict[str, int]:
        """Compute these runs anew from all their events. A repeat is harmless.

        Returns the runs of which a process is of another attempt than the tables said before, with the earliest start
        of such a process, microseconds since 1970: what they held from then on belongs to another attempt."""
        wanted, moved = sorted(set(run_ids)), dict[str, int]()
        for begin in range(0, len(wanted), RUNS_AT_ONCE_MAX):
            pictures = [
                judge_run(run_id, events)
                for run_id, events in self._read_events(wanted[begin : begin + RUNS_AT_ONCE_MAX])
            ]
            if pictures:
                moved |= self._moved(pictures)
                self._write(pictures)
        return moved

    def _moved(self, pictures: Sequence[RunPicture]) -> dict[str, int]:
        # Most runs have one attempt, which is what is assumed of a process that is not known yet.
        again = [picture for picture in pictures if any(w.evidence.attempt > 1 for w in picture.writers)]
        if not again:
            return {}
        rows = self._store.rows(
            f"SELECT toString(writer_id) AS writer_id, attempt FROM {self._generation}.writer_states FINAL "
            "WHERE run_id IN {ids:Array(UUID)}",
            {"ids": [picture.run_id for picture in again]},
        )
        known = {str(row["writer_id"]): int(str(row["attempt"])) for row in rows}
        moved: dict[str, int] = {}
        for picture in again:
            found = [
                w.evidence
                for w in picture.writers
                if known.get(w.evidence.writer_id, 1) != w.evidence.attempt
            ]
            if found:
                moved[picture.run_id] = min(evidence.start_us or evidence.last_us for evidence in found)
        return moved

    def _read_events(self, run_ids: Sequence[str]) -> Iterable[tuple[str, list[RunEvent]]]:
        table = self._store.query(
            f"SELECT toString(e.run_id) AS run_id, offset, type, toString(writer_id) AS writer_id, node_id, "
            f"toUnixTimestamp64Micro(at) AS at_us, body FROM {self._generation}.run_events AS e "
            f"WHERE e.run_id IN {{ids:Array(UUID)}} ORDER BY e.run_id, offset, idx",
            {"ids": list(run_ids)},
        )
        for run_id, rows in groupby(table.to_pylist(), key=lambda row: str(row["run_id"])):
            yield run_id, [_event(row) for row in rows]

    def _write(self, pictures: Sequence[RunPicture]) -> None:
        rows = {
            "writer_states": [row for p in pictures for row in _writer_rows(p)],
            "param_changes": [row for p in pictures for row in _setting_rows(p, p.params)],
            "summary_changes": [row for p in pictures for row in _setting_rows(p, p.summary)],
            "metric_goals": [row for p in pictures for row in _goal_rows(p)],
            "provenance_facts": [row for p in pictures for row in _provenance_rows(p)],
            # Last: its version says that the others are done, so a crash before it is found by `stale`.
            "run_states": [_run_row(p) for p in pictures],
        }
        for name, values in rows.items():
            if values:
                table = pa.Table.from_pylist(values, schema=_SCHEMAS[name])
                self._store.insert(f"{self._generation}.{name}", table)


def _event(row: dict[str, Any]) -> RunEvent:
    return RunEvent(
        offset=int(row["offset"]),
        type=str(row["type"]),
        writer_id=str(row["writer_id"]),
        node_id=str(row["node_id"]),
        at_us=int(row["at_us"]),
        body=json.loads(row["body"]),
    )


def _raw(text: str | None) -> bytes | None:
    return UUID(text).bytes if text else None


def _run_row(picture: RunPicture) -> dict[str, Any]:
    run = picture.run
    grade, grade_if_repeated = _grades(picture)
    return {
        "run_id": _raw(picture.run_id),
        "version": picture.version,
        "project": run.project,
        "experiment": run.experiment,
        "name": run.name,
        "team": run.team,
        "user": run.user,
        "run_group": run.group,
        "tags": list(run.tags),
        "parent_run": _raw(run.parent_run),
        "state": run.state,
        "state_reason": run.reason,
        "attempts": run.attempts,
        "ranks": run.ranks,
        "nodes": run.nodes,
        "started_at": run.started_us,
        "ended_at": run.ended_us,
        "last_event_at": run.last_us,
        "grade": grade,
        "grade_if_repeated": grade_if_repeated,
    }


def _writer_rows(picture: RunPicture) -> Iterable[dict[str, Any]]:
    for writer in picture.writers:
        evidence = writer.evidence
        started = evidence.started.body if evidence.started else {}
        seen = evidence.seen.body if evidence.seen else {}
        yield {
            "run_id": _raw(picture.run_id),
            "writer_id": _raw(evidence.writer_id),
            "version": picture.version,
            "attempt": evidence.attempt,
            "rank": started.get("rank"),
            "local_rank": started.get("local_rank"),
            "world_size": started.get("world_size"),
            "role": evidence.role,
            "parent_writer": _raw(evidence.parent),
            "node_id": evidence.node_id,
            "pid": int(seen.get("pid") or started.get("pid") or 0),
            "owner": seen.get("owner") or started.get("user"),
            "device_ids": evidence.devices,
            "started_at": evidence.start_us,
            "last_event_at": evidence.last_us,
            "state": writer.state,
            "exit_code": writer.exit_code,
            "signal": writer.signal,
            "gap_points": evidence.gap_points,
            "node_rank": started.get("node_rank"),
            "launcher": started.get("launcher") or "single",
            "joined": evidence.joined_by,
            "decides": evidence.decides,
        }


def _setting_rows(picture: RunPicture, changes: Iterable[SettingChange]) -> Iterable[dict[str, Any]]:
    for change in changes:
        yield {
            "run_id": _raw(picture.run_id),
            "key": change.key,
            "set_at": change.set_at_us,
            "ordinal": change.ordinal,
            "version": picture.version,
            "value": change.value,
            "value_number": change.number,
            "attempt": change.attempt,
            "is_current": change.is_current,
        }


def _goal_rows(picture: RunPicture) -> Iterable[dict[str, Any]]:
    for goal in picture.goals:
        yield {
            "run_id": _raw(picture.run_id),
            "key": goal.key,
            "version": picture.version,
            "goal": goal.goal,
        }


def _grades(picture: RunPicture) -> tuple[str | None, str | None]:
    """The grade now, and the one that it has once a repetition had the same results; None before the capture."""
    if not picture.provenance:
        return None, None
    facts = facts_of(
        picture.provenance[-1].body,
        parameters=[change.key for change in picture.params if change.is_current],
        ranks=picture.run.ranks,
        inputs=picture.inputs,
    )
    return judge(facts).letter, judge(facts, is_repeated=True).letter


_PLAIN = (
    "vcs repository commit branch dirty entry_point python os snapshot_id snapshot_sha256 patch_sha256 patch_bytes "
    "left_out code_root cwd program lock_sha256 image_digest image_source driver cuda cudnn nccl"
).split()
_MAPS = "packages variables package_ids package_sources lock_files system libraries randomness".split()


def _provenance_rows(picture: RunPicture) -> Iterable[dict[str, Any]]:
    for facts in picture.provenance:
        body = facts.body
        yield {
            "run_id": _raw(picture.run_id),
            "attempt": facts.attempt,
            "version": picture.version,
            "argv": list(body.get("argv") or ()),
            "reasons": list(body.get("reasons") or ()),
            "left_out_files": [f"{file['path']}: {file['why']}" for file in body.get("left_out_files") or ()],
            "launcher": list(body.get("launcher") or ()),
            **{name: sorted((body.get(name) or {}).items()) for name in _MAPS},
            **{name: body.get(name) for name in _PLAIN},
        }
