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
from .run_columns import KEYS, SCHEMAS
from .run_evidence import RunEvent
from .run_homes import EVENTS_A_DECISION, Decisions, Family, Moved, divide, gone_rows
from .run_state import RunPicture, SettingChange, judge_run
from .storage.migrate import show_moved
from .storage.store import Store

__all__ = ["RunTables"]

RUNS_AT_ONCE_MAX = 500


class RunTables:
    """Keeps the derived tables of runs in step with `run_events` of one generation."""

    def __init__(self, store: Store, generation: str) -> None:
        self._store = store
        self._generation = generation

    def stale(self) -> list[str]:
        """The runs whose events or decisions are newer than their row, e.g. after a crash between the two."""
        rows = self._store.rows(
            f"SELECT toString(e.run_id) AS run_id FROM "
            f"(SELECT run_id, max(offset) + 1 AS told_end "
            f"FROM {self._generation}.run_events GROUP BY run_id) AS e "
            f"LEFT ANY JOIN (SELECT run_id, if(told_end = 0, version, told_end) AS told_end "
            f"FROM {self._generation}.run_states FINAL) AS s "
            f"ON s.run_id = e.run_id WHERE s.told_end < e.told_end"
        )
        return sorted({str(row["run_id"]) for row in rows} | self._undecided())

    def _undecided(self) -> set[str]:
        """The runs that a decision names which their row does not know."""
        named = self._decisions().named_since()
        if not named:
            return set()
        rows = self._store.query(
            f"SELECT toString(r.run_id) AS run_id, intDiv(version, {EVENTS_A_DECISION}) AS known "
            f"FROM {self._generation}.run_states AS r FINAL WHERE r.run_id IN {{ids:Array(UUID)}}",
            {"ids": sorted(named)},
        ).to_pylist()
        known = {str(row["run_id"]): int(row["known"]) for row in rows}
        return {run_id for run_id, ordinal in named.items() if known.get(run_id, 0) < ordinal}

    def refresh(self, run_ids: Collection[str]) -> Moved:
        """Compute these runs anew from all their events. A repeat is harmless.

        Returns which processes are of another attempt or run than the tables said before: what they held is too."""
        decisions, moved = self._decisions(), Moved()
        families = {decisions.related(run_id) for run_id in run_ids}
        plain = sorted(min(family) for family in families if not decisions.newest(family))
        for begin in range(0, len(plain), RUNS_AT_ONCE_MAX):
            told = self._read_events(plain[begin : begin + RUNS_AT_ONCE_MAX])
            pictures = [judge_run(run_id, events) for run_id, events in told.items()]
            if pictures:
                moved.add(self._other_attempts(pictures))
                self._write(pictures)
        for family in sorted(families, key=min):
            if decisions.newest(family):
                moved.add(self._refresh_family(family, decisions))
        return moved

    def _other_attempts(self, pictures: Sequence[RunPicture]) -> Moved:
        # Most runs have one attempt, which is what is assumed of a process that is not known yet.
        again = [picture for picture in pictures if any(w.evidence.attempt > 1 for w in picture.writers)]
        if not again:
            return Moved()
        rows = self._store.rows(
            f"SELECT toString(writer_id) AS writer_id, attempt FROM {self._generation}.writer_states FINAL "
            "WHERE run_id IN {ids:Array(UUID)} AND NOT gone",
            {"ids": [picture.run_id for picture in again]},
        )
        known = {str(row["writer_id"]): int(str(row["attempt"])) for row in rows}
        moved = Moved()
        for picture in again:
            found = [
                w.evidence
                for w in picture.writers
                if known.get(w.evidence.writer_id, 1) != w.evidence.attempt
            ]
            if found:
                start_us = min(evidence.start_us or evidence.last_us for evidence in found)
                moved.add(Moved(since_us={picture.run_id: start_us}))
        return moved

    def _refresh_family(self, run_ids: frozenset[str], decisions: Decisions) -> Moved:
        """Runs that exchanged processes are computed together; what is of a run no more is marked as gone."""
        family = divide(self._read_events(sorted(run_ids)), run_ids, decisions=decisions)
        pictures = [
            judge_run(run_id, events, version=family.version) for run_id, events in family.events.items()
        ]
        moved = self._write_homes(family)
        moved.add(self._other_attempts(pictures))
        self._write(pictures, family)
        return moved

    def _write_homes(self, family: Family) -> Moved:
        rows = self._store.query(
            "SELECT toString(h.writer_id) AS writer_id, toString(h.run_id) AS run_id "
            f"FROM {self._generation}.writer_homes AS h FINAL WHERE h.writer_id IN {{ids:Array(UUID)}}",
            {"ids": sorted(family.homes)},
        ).to_pylist()
        known = {str(row["writer_id"]): str(row["run_id"]) for row in rows}
        before = {writer: known.get(writer, told) for writer, told in family.told.items()}
        changed = {writer: before[writer] for writer, home in family.homes.items() if before[writer] != home}
        newest = self._store.rows(f"SELECT max(version) AS newest FROM {self._generation}.writer_homes")
        moved = family.moved(changed, settled=int(str(newest[0]["newest"])))
        homes = [
            {
                "writer_id": _raw(writer),
                "told_run_id": _raw(family.told[writer]),
                "run_id": _raw(home),
                "version": family.version,
            }
            for writer, home in sorted(family.homes.items())
            if moved.is_decided or writer in changed
        ]
        if moved.is_decided:
            show_moved(self._store, self._generation)
        if homes:
            self._insert("writer_homes", homes)
        return moved

    def _decisions(self) -> Decisions:
        rows = self._store.rows(
            f"SELECT body FROM {self._generation}.admin_events WHERE type = 'writers_moved' ORDER BY offset, idx"
        )
        return Decisions(json.loads(str(row["body"])) for row in rows)

    def _read_events(self, run_ids: Sequence[str]) -> dict[str, list[RunEvent]]:
        table = self._store.query(
            f"SELECT toString(e.run_id) AS run_id, offset, type, toString(writer_id) AS writer_id, node_id, "
            f"toUnixTimestamp64Micro(at) AS at_us, body FROM {self._generation}.run_events AS e "
            f"WHERE e.run_id IN {{ids:Array(UUID)}} ORDER BY e.run_id, offset, idx",
            {"ids": list(run_ids)},
        )
        return {
            run_id: [_event(row) for row in rows]
            for run_id, rows in groupby(table.to_pylist(), key=lambda row: str(row["run_id"]))
        }

    def _write(self, pictures: Sequence[RunPicture], family: Family | None = None) -> None:
        rows = {
            "writer_states": [row for p in pictures for row in _writer_rows(p)],
            "param_changes": [row for p in pictures for row in _setting_rows(p, p.params)],
            "summary_changes": [row for p in pictures for row in _setting_rows(p, p.summary)],
            "metric_goals": [row for p in pictures for row in _goal_rows(p)],
            "provenance_facts": [row for p in pictures for row in _provenance_rows(p)],
            # Last: its version says that the others are done, so a crash before it is found by `stale`.
            "run_states": [_run_row(p) for p in pictures],
        }
        if family is not None:
            for name, keys in KEYS.items():
                rows[name] += gone_rows(rows[name], keys, family)
            for row in rows["run_states"]:
                row["told_end"] = family.told_ends.get(str(UUID(bytes=row["run_id"])), 0)
        for name, values in rows.items():
            if values:
                self._insert(name, values)

    def _insert(self, name: str, values: list[dict[str, Any]]) -> None:
        self._store.insert(f"{self._generation}.{name}", pa.Table.from_pylist(values, schema=SCHEMAS[name]))


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
        "told_end": picture.version,
        "gone": False,
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
            "gone": False,
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
            "gone": False,
        }


def _goal_rows(picture: RunPicture) -> Iterable[dict[str, Any]]:
    for goal in picture.goals:
        yield {
            "run_id": _raw(picture.run_id),
            "key": goal.key,
            "version": picture.version,
            "goal": goal.goal,
            "gone": False,
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
