"""All inputs and outputs of all runs, with what was asked by alias or version resolved as view `run_io` resolves it.

The view costs the engine 110 ms of planning before it reads a row; whoever follows data from run to run reads the
facts once and resolves here. A test holds both against each other. Limit: all are held in memory, about 1 KB each.
"""

import re
from bisect import bisect_right
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from .session import Session

__all__ = ["IoRecords"]

_NUMBERED = re.compile(r"v[0-9]+")
_TOLD = ("run_id", "run", "project", "team", "user", "kind", "name", "digest", "manifest", "uri", "is_stored")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Changes = list[tuple[int, str | None]]


class IoRecords:
    """A record is a dict: run_id, run, project, team, user, direction, kind, name, version, digest, manifest, uri,
    is_stored, at."""

    def __init__(self, session: Session, generation: str) -> None:
        facts = session.query(
            "SELECT toString(i.run_id) AS run_id, r.name AS run, r.project AS project, r.team AS team, "
            "r.user AS user, i.is_out AS is_out, i.kind AS kind, i.name AS name, i.family AS family, "
            "i.told_version AS told_version, i.digest AS digest, i.manifest_sha256 AS manifest, i.uri AS uri, "
            "i.is_stored AS is_stored, i.status AS status, i.aliases AS aliases, toUnixTimestamp64Micro(i.at) AS at_us "
            f"FROM {generation}.io_facts AS i LEFT ANY JOIN (SELECT run_id, name, project, team, user "
            f"FROM {generation}.run_states FINAL) AS r ON r.run_id = i.run_id ORDER BY i.at, run_id, is_out"
        )
        # Times are integers: for another one pyarrow loads pandas where it is installed, 0.3 s. By column: as dicts,
        # 100,000 records take half a second more.
        self._facts = {name: facts[name].to_pylist() for name in facts.column_names}
        self._set_by_people = session.query(
            "SELECT JSONExtractString(body, 'model') AS model, JSONExtractString(body, 'alias') AS alias, "
            "JSONExtract(body, 'digest', 'Nullable(String)') AS digest, toUnixTimestamp64Micro(at) AS at_us "
            f"FROM {generation}.admin_events WHERE type = 'alias_set' ORDER BY at"
        ).to_pylist()
        self._indexes: dict[str, dict[Any, list[int]]] = {}
        self._versions: dict[tuple[str, str], dict[str, str]] = {}
        self._aliases = self._alias_changes()
        self._resolve()

    def manifests(self) -> set[str]:
        """The tops of all manifests."""
        return {top for top in self._facts["manifest"] if top is not None}

    def where(self, column: str, values: Collection[str]) -> list[dict[str, Any]]:
        """The records that have a digest and one of these values in a column, by time."""
        index = self._index(column)
        found = sorted(number for value in set(values) for number in index.get(value, ()))
        return [self._record(number) for number in found if self._facts["digest"][number] is not None]

    def aliases_of(self, digests: Collection[str]) -> list[str]:
        """`model:alias` of each alias that means one of these now."""
        return sorted(
            f"{model}:{alias}"
            for (model, alias), changes in self._aliases.items()
            if changes[-1][1] in digests
        )

    def _record(self, number: int) -> dict[str, Any]:
        facts = self._facts
        record = {name: facts[name][number] for name in _TOLD}
        told = facts["told_version"][number]
        by_alias = self._is_asked(number) and not _NUMBERED.fullmatch(told or "")
        counted = self._versions_of(facts["family"][number], record["name"]).get(record["digest"])
        direction = "out" if facts["is_out"][number] else "in"
        at = _EPOCH + timedelta(microseconds=facts["at_us"][number])
        version = counted if by_alias or told is None else told
        return record | {"version": version, "direction": direction, "at": at}

    def _index(self, column: str) -> dict[Any, list[int]]:
        if column not in self._indexes:
            index: dict[Any, list[int]] = {}
            for number, value in enumerate(self._facts[column]):
                index.setdefault(value, []).append(number)
            self._indexes[column] = index
        return self._indexes[column]

    def _complete(self, name: str) -> list[int]:
        """What has this name and is whole."""
        facts = self._facts
        return [
            number
            for number in self._index("name").get(name, ())
            if facts["status"][number] == "complete" and facts["digest"][number] is not None
        ]

    def _versions_of(self, family: str, name: str) -> dict[str, str]:
        """The versions of a name by digest, in the order of first sight. Only what was told counts, as in the view."""
        if (family, name) not in self._versions:
            first: dict[str, int] = {}
            for number in self._complete(name):
                if self._facts["family"][number] == family:
                    first.setdefault(self._facts["digest"][number], self._facts["at_us"][number])
            ordered = sorted(first, key=lambda digest: (first[digest], digest))
            self._versions[family, name] = {digest: f"v{n}" for n, digest in enumerate(ordered, 1)}
        return self._versions[family, name]

    def _alias_changes(self) -> dict[tuple[str, str], _Changes]:
        """The changes (time, digest) of each alias, by time; None took it away."""
        facts = self._facts
        changes: dict[tuple[str, str], _Changes] = {}
        for number, aliases in enumerate(facts["aliases"]):
            is_whole = facts["status"][number] == "complete" and facts["digest"][number] is not None
            for alias in aliases if is_whole and facts["is_out"][number] else ():
                change = (facts["at_us"][number], facts["digest"][number])
                changes.setdefault((facts["name"][number], alias), []).append(change)
        for row in self._set_by_people:
            changes.setdefault((row["model"], row["alias"]), []).append((row["at_us"], row["digest"]))
        for told in changes.values():
            told.sort(key=lambda change: change[0])
        return changes

    def _resolve(self) -> None:
        facts = self._facts
        meant = {
            number: self._meant(facts["name"][number], told, facts["at_us"][number])
            for number, told in enumerate(facts["told_version"])
            if told is not None and facts["digest"][number] is None and self._is_asked(number)
        }
        for number, digest in meant.items():
            facts["digest"][number] = digest

    def _is_asked(self, number: int) -> bool:
        facts = self._facts
        is_artifact = facts["family"][number] == "artifact" and not facts["is_out"][number]
        return is_artifact and facts["uri"][number] is None

    def _meant(self, name: str, told: str, at_us: int) -> str | None:
        facts = self._facts
        if _NUMBERED.fullmatch(told):
            versions = self._versions_of("artifact", name)
            return next((digest for digest, version in versions.items() if version == told), None)
        if told == "latest":
            written = [number for number in self._complete(name) if facts["is_out"][number]]
            first: dict[str, int] = {}
            for number in written:
                first.setdefault(facts["digest"][number], facts["at_us"][number])
            changes: _Changes = [(when, digest) for digest, when in first.items()]
        else:
            changes = self._aliases.get((name, told), [])
        before = bisect_right([when for when, _ in changes], at_us)
        return changes[before - 1][1] if before else None
