"""What a run says of its data and models: `use_dataset`, `log_artifact`, `use_artifact`.

Each call appends a claim at once: what was meant is on record whatever happens next. Reading, hashing and storing is
done by a detached process (`trainledger.data`), which appends a second claim in a journal of its own. Guarantees:
nothing here raises into training; trouble is one line on stderr. A call costs the training some milliseconds, and
`log_artifact` what `held_files` needs to keep the bytes as they are. Limit: CALLS_MAX calls that start a process.
"""

import os
from typing import TYPE_CHECKING, Any

from trainledger_schemas.clock import wall_ns
from trainledger_schemas.ids import id_text, random_id

from .capture import start_beside
from .interruption import is_from_handler
from .notices import Notices
from .redaction import redact

if TYPE_CHECKING:
    from .journal import JournalWriter
    from .placement import Placement
    from .settings import Settings

__all__ = ["DeclaredData"]

CALLS_MAX = 1000
_TEXT_CHARACTERS_MAX = 2000
_ALIASES_MAX = 20
_PATTERNS_MAX = 100
_VERSION_NAMES = frozenset({"versionid", "generation", "version", "revision", "snapshot"})
_KINDS = ("dataset", "model", "file")
_DATASET_ARGUMENTS = ("data", "name", "version", "role", "include", "exclude")
_ARTIFACT_ARGUMENTS = ("path", "name", "kind", "aliases")


class DeclaredData:
    """The calls of a run; mixed into `Run`, whose journal they write to."""

    _notices: Notices
    _place: "Placement"
    _settings: "Settings"
    _data_calls = 0
    _held: list[str]

    def use_dataset(
        self,
        data: Any,
        name: str | None = None,
        version: str | None = None,
        *,
        role: str | None = None,
        include: Any = (),
        exclude: Any = (),
        **unknown: Any,
    ) -> None:
        """Say that the run reads a dataset: a file, a folder, an address such as s3://bucket/key, or a table.

        name: what people call it (default: the last part of the path). version: what people call this state of it;
        without one the ledger counts v1, v2 ... by content. role: what for, e.g. train or eval. include, exclude:
        patterns such as "*.jpg" or "raw/*" of the files of a folder that count, and do not. Returns at once; the
        digest of a file or folder comes when it has been read in the background. The values of a table of pandas,
        polars or pyarrow are read at once, up to 256 MiB (some tenths of a second). Never raises.
        """
        self._notices.unknown_arguments("use_dataset", unknown, _DATASET_ARGUMENTS)
        told = {"kind": "dataset", "name": name, "version": version, "role": role}
        if self._is_nothing(data, "use_dataset"):
            return
        self._declare("dataset_used", data, told, (), {"include": include, "exclude": exclude})

    def log_artifact(
        self, path: Any, name: str | None = None, kind: str = "model", *, aliases: Any = (), **unknown: Any
    ) -> None:
        """Keep a file or folder that the run has written: whole, under the digest of its bytes.

        name: what people call it (default: the last part of the path); the same bytes under a name are the same
        version, others the next: v1, v2 ... kind: model, dataset or file. aliases: names, e.g. ("best",), that mean
        this version from now on. The path may be written again, to a new file, as soon as this returns. Never raises.
        """
        self._notices.unknown_arguments("log_artifact", unknown, _ARTIFACT_ARGUMENTS)
        if not self._is_nothing(path, "log_artifact"):
            self._declare("artifact_logged", path, {"kind": kind, "name": name}, aliases)

    def use_artifact(
        self, reference: str, *, kind: str = "model", role: str | None = None, **unknown: Any
    ) -> str | None:
        """Say that the run starts from an artifact: "resnet:production", "resnet:v3", or "resnet" for its newest.

        Returns the path to read it from, which must not be written to; None where no `trainledger up` of this user
        can be asked (for at most 5 s) or the bytes are on another machine: the ledger then looks up what was meant,
        and `trainledger admin data get` writes it to a folder. Never raises.
        """
        self._notices.unknown_arguments("use_artifact", unknown, ("reference", "kind", "role"))
        name, _, version = reference.partition(":") if isinstance(reference, str) else ("", "", "")
        if not name:
            self._notices.once(
                "use_artifact of nothing",
                'use_artifact names no artifact: nothing is recorded; give "name:version"',
            )
            return None
        told: dict[str, Any] = {"kind": kind, "name": name, "version": version or "latest", "role": role}
        path = self._look_up(told)
        self._declare("dataset_used", None, told, ())
        return path

    def _is_nothing(self, data: Any, call: str) -> bool:
        if data is not None and not (isinstance(data, str | bytes) and not data):
            return False
        self._notices.once(
            f"{call} of nothing", f"{call} was given nothing: nothing is recorded; give a path"
        )
        return True

    def _look_up(self, told: dict[str, Any]) -> str | None:
        try:
            # Not at the top: a training that starts from nothing need not load it.
            from trainledger_schemas.blobs import BLOBS_FOLDER, FolderBlobs

            from .artifact_use import find_artifact, open_artifact

            journal = self._open_journal()
            if journal is None:
                return None
            found = find_artifact(self._settings.home / "api.sock", f"{told['name']}:{told['version']}")
            if found is None:
                self._notices.once(
                    f"artifact {told['name']}",
                    f"use_artifact of {told['name']}:{told['version']}: recorded by name, since no `trainledger up` "
                    "knows it here",
                )
                return None
            told |= {"digest": found.digest, "status": "complete", "manifest_sha256": found.manifest_sha256}
            path = open_artifact(found, FolderBlobs(journal.folder.parent / BLOBS_FOLDER))
            return None if path is None else str(path)
        except Exception as error:  # as in `_declare`
            if is_from_handler(error):
                raise
            self._notices.once("use_artifact", f"use_artifact cannot open it: {type(error).__name__}")
            return None

    def _declare(
        self, event: str, data: Any, told: dict[str, Any], aliases: Any, filters: dict[str, Any] | None = None
    ) -> None:
        try:
            self._declare_now(event, data, told, aliases, filters or {})
        except Exception as error:  # whatever was passed and however the disk is: the training goes on
            if is_from_handler(error):
                raise
            why = str(error) if isinstance(error, OSError) else type(error).__name__
            self._notices.once(f"data {why}", f"{_call_of(event, told)} is not recorded: {why}")

    def _declare_now(
        self, event: str, data: Any, told: dict[str, Any], aliases: Any, filters: dict[str, Any]
    ) -> None:
        journal = self._open_journal()
        if journal is None:
            return
        where, is_path = (None, False) if data is None else _place_of(data)
        kind = told["kind"] if told["kind"] in _KINDS else "file"
        claim: dict[str, Any] = {
            "type": event,
            "at_us": wall_ns() // 1000,
            ("use_id" if event == "dataset_used" else "artifact_id"): id_text(random_id()),
            "stage": 0,
            **{key: None if value is None else _text(value) for key, value in told.items()},
            "kind": kind,
            "name": self._name_of(told["name"] or _last_part(where or type(data).__name__)),
            "uri": None if where is None else _text(redact(where if is_path else _address(where))),
            "status": told.get("status", "declared"),
            "reasons": [],
            **{name: _patterns(patterns) for name, patterns in filters.items()},
        }
        if event == "artifact_logged":
            claim |= {"is_stored": False, "aliases": self._aliases_of(aliases)}
        if is_path and not os.path.exists(where or ""):
            claim |= {"status": "failed", "reasons": ["there is no such file or folder"]}
            self._notices.once(f"no {where}", f"{_call_of(event, told)}: there is no {claim['uri']}")
        elif is_path and where is not None:
            # Not at the top: most trainings name no data.
            from .readable_files import why_not_kept, why_not_read

            why = why_not_read(where)
            if why is None and event == "artifact_logged":
                why = why_not_kept(where, journal.folder.parent)
            if why is not None:
                claim |= {"status": "unmeasured", "reasons": [why]}
                self._notices.once(f"not read {where}", f"{_call_of(event, told)}: {why}")
            elif where.startswith(("/dev/", "/proc/")):
                where = os.path.realpath(where)  # /dev/stdin is another file in another process
        elif where is None and data is not None:
            claim |= _described(data)
        self._claim(claim)
        if where is not None and claim["status"] == "declared":
            self._measure(journal, claim, where, is_path=is_path)

    def _name_of(self, name: Any) -> str:
        from trainledger_schemas.version_names import plain_name

        told = _text(name)
        if (plain := plain_name(told)) != told:
            self._notices.once(
                f"name {told}",
                f"the name {told!r} has a colon, which begins a version: recorded as {plain!r}",
            )
        return plain

    def _aliases_of(self, aliases: Any) -> list[str]:
        from trainledger_schemas.version_names import is_alias

        told = [aliases] if isinstance(aliases, str) else list(aliases or ())
        for alias in told:
            if not is_alias(alias):
                shown = redact(_text(repr(alias))[:100])
                self._notices.once(
                    f"alias {shown}",
                    f"alias {shown} is left out: it must be a text without : and /, and no version or latest",
                )
        return [_text(alias) for alias in told if is_alias(alias)][:_ALIASES_MAX]

    def _is_storing(self) -> bool:
        """Whether an artifact of this process is not stored yet."""
        return any(os.path.isdir(folder) for folder in self._held)

    def _measure(self, journal: "JournalWriter", claim: dict[str, Any], where: str, *, is_path: bool) -> None:
        if self._data_calls >= CALLS_MAX:
            self._notices.once(
                "data calls", f"more than {CALLS_MAX} datasets and artifacts: the rest by name alone"
            )
            return
        self._data_calls += 1
        uid_folder = journal.folder.parent
        held = None
        if claim["type"] == "artifact_logged":
            # Not at the top: most trainings log no artifact at their start.
            from .held_files import hold_files

            held = hold_files(where, os.path.join(uid_folder, "blobs", "held"))
            if held is not None:
                self._held.append(held["folder"])
        started = start_beside(
            "trainledger.data",
            {
                "run_id": self.id,
                "parent_journal": id_text(journal.journal_id),
                "uid_folder": str(uid_folder),
                "append_by_write": self._place.append_by_write,
                "claim": claim,
                "where": None if is_path else _readable(_address(where)),
                "path": os.fsencode(where).hex() if is_path else None,
                "held": held,
            },
        )
        if not started:
            self._notices.once(
                "data process", "no process could be started: datasets and artifacts by name alone"
            )

    # What the run has of these, for type checkers alone.
    if TYPE_CHECKING:
        id: str

        def _open_journal(self) -> "JournalWriter | None": ...
        def _claim(self, claim: dict[str, Any]) -> None: ...


def _described(data: Any) -> dict[str, Any]:
    """What can be said of an object in memory."""
    # Not at the top: most trainings read files.
    from .table_digest import describe_table, is_table

    if not is_table(data):
        return {"status": "unmeasured", "reasons": [f"no digest of objects of type {type(data).__name__}"]}
    try:
        facts = describe_table(data)
    except Exception as error:  # whatever a library makes of its own table: that it was used is on record
        if is_from_handler(error):
            raise
        return {"status": "unmeasured", "reasons": [f"no digest of this table: {type(error).__name__}"]}
    return {
        "status": "unmeasured" if facts.digest is None else "complete",
        "digest": facts.digest,
        "rows": facts.rows,
        "columns": [_text(column) for column in facts.columns],
        "size_bytes": facts.size_bytes,
        "reasons": [] if facts.reason is None else [facts.reason],
    }


def _patterns(told: Any) -> list[str]:
    given = [told] if isinstance(told, str | os.PathLike) else list(told or ())
    return [_text(os.fspath(pattern)) for pattern in given[:_PATTERNS_MAX]]


def _place_of(data: Any) -> tuple[str | None, bool]:
    """Where data is: an absolute path (True) or an address (False); None for an object in memory."""
    if not isinstance(data, str | bytes | os.PathLike):
        return None, False
    text = os.fsdecode(data).removeprefix("file://")
    if "://" in text[:40]:
        return text, False
    return os.path.abspath(os.path.expanduser(text)), True


def _address(where: str) -> str:
    """An address without user, password and whatever else a query may sign it with."""
    scheme, _, rest = where.partition("://")
    rest, mark, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    kept = [part for part in query.split("&") if part.partition("=")[0].lower() in _VERSION_NAMES]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" + (mark + "&".join(kept) if kept else "")


def _last_part(where: str) -> str:
    return where.split("?", 1)[0].rstrip("/").rpartition("/")[2] or "unnamed"


def _text(value: Any) -> str:
    return _readable(str(value))[:_TEXT_CHARACTERS_MAX]


def _readable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _call_of(event: str, told: dict[str, Any]) -> str:
    call = "log_artifact" if event == "artifact_logged" else "use_dataset"
    return f"{call} of {told['name']}" if isinstance(told["name"], str) else call
