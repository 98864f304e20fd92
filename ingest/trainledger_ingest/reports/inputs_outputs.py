"""What a run read and wrote, and what became of it: the section of `show`."""

from typing import Any

from ..session import Session
from .section import Section, shortened

__all__ = ["inputs_outputs"]

ROWS_SHOWN_MAX = 100
_RELATED_SHOWN_MAX = 3
_DIGEST_CHARACTERS = 12
_TABLE = "table-v1:"


def inputs_outputs(session: Session, run_id: str) -> Section:
    """A row for each input and output, with the runs on the other side and the aliases of what was written."""
    rows = session.query(
        f"SELECT direction, kind, name, version, alias, role, digest, uri, bytes, files, status, reasons, system, "
        f"reference, rows, done_bytes, expected_bytes FROM {session.views}.run_io WHERE run_id = {{id:UUID}} "
        f"ORDER BY direction, at LIMIT {ROWS_SHOWN_MAX}",
        {"id": run_id},
    ).to_pylist()
    digests = sorted({row["digest"] for row in rows if row["digest"]})
    related = _related(session, run_id, digests) if digests else {}
    aliases = _aliases(session, digests) if digests else {}
    cells = tuple(
        (
            "reads" if row["direction"] == "in" else "writes",
            _name(row),
            _size(row),
            _short(row["digest"] or row["reference"] or "-"),
            shortened(
                "; ".join(
                    [*aliases.get((row["direction"], row["name"], row["digest"]), ())]
                    + related.get((row["direction"], row["digest"]), [])
                )
                or "-"
            ),
            shortened(_state(row)),
            shortened(row["uri"] or "-"),
        )
        for row in rows
    )
    names = ("", "what", "size", "digest", "lineage", "state", "where")
    return Section("inputs and outputs", names, cells, optional=("where", "state"))


def _related(session: Session, run_id: str, digests: list[str]) -> dict[tuple[str, str], list[str]]:
    """By direction and digest: who else wrote an input, and who reads an output."""
    runs = session.query(
        f"SELECT i.direction AS direction, i.digest AS digest, "
        "groupUniqArray(coalesce(r.name, toString(i.run_id))) AS runs "
        f"FROM {session.views}.run_io AS i LEFT ANY JOIN {session.views}.runs AS r ON r.run_id = i.run_id "
        "WHERE i.digest IN {digests:Array(String)} AND i.run_id != {id:UUID} GROUP BY direction, digest",
        {"digests": digests, "id": run_id},
    ).to_pylist()
    words: dict[tuple[str, str], list[str]] = {}
    for row in runs:
        side, verb = ("in", "written by") if row["direction"] == "out" else ("out", "read by")
        shown = sorted(row["runs"])
        more = f" and {len(shown) - _RELATED_SHOWN_MAX} more" if len(shown) > _RELATED_SHOWN_MAX else ""
        words.setdefault((side, row["digest"]), []).append(
            f"{verb} {', '.join(shown[:_RELATED_SHOWN_MAX])}{more}"
        )
    return words


def _aliases(session: Session, digests: list[str]) -> dict[tuple[str, str, str], list[str]]:
    """The aliases of outputs by direction, name and digest: the same bytes under another name have their own."""
    rows = session.query(
        f"SELECT model, digest, groupUniqArray(alias) AS aliases FROM {session.views}.model_aliases "
        "WHERE is_current AND digest IN {digests:Array(String)} GROUP BY model, digest",
        {"digests": digests},
    ).to_pylist()
    return {("out", row["model"], row["digest"]): [", ".join(sorted(row["aliases"]))] for row in rows}


def _short(digest: str) -> str:
    kind = _TABLE if digest.startswith(_TABLE) else ""
    return kind + digest.removeprefix(_TABLE).removeprefix("sha256:")[:_DIGEST_CHARACTERS]


def _name(row: dict[str, Any]) -> str:
    version = f":{row['version']}" if row["version"] else ""
    extra = [text for text in (row["role"], row["alias"] and f"as {row['alias']}") if text]
    return f"{row['kind']} {shortened(row['name'])}{shortened(version)}" + (
        f" ({', '.join(extra)})" if extra else ""
    )


def _state(row: dict[str, Any]) -> str:
    if row["status"] == "declared" and row["done_bytes"] is not None:
        done, expected = row["done_bytes"], row["expected_bytes"]
        what = "hashing" if row["direction"] == "in" else "storing"
        if not expected:
            return f"{what}, {_bytes(done)} so far"
        return f"{what} {min(100 * done // expected, 99)} % of {_bytes(expected)}"
    is_plain = row["status"] == "complete" or not row["reasons"]
    return str(row["status"]) if is_plain else "; ".join(row["reasons"][:2])


def _size(row: dict[str, Any]) -> str:
    if row["bytes"] is None:
        return "-"
    shown = _bytes(row["bytes"])
    if row["rows"] is not None:
        return f"{shown} in {row['rows']} rows"
    return shown if row["files"] in (None, 1) else f"{shown} in {row['files']} files"


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
