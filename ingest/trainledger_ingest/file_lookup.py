"""Where is this file? From the digest of one file to the datasets, runs, models and aliases that it is in or behind.

The index of manifests (`manifest_index`) answers; a manifest that it does not hold yet is looked into where its nodes
lie on this machine, and told where they do not. What a run wrote that read the file is followed on: the runs that
read that, or a folder that holds it, what they wrote, and so on.
"""

from dataclasses import dataclass, field
from typing import Any

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.errors import CorruptDataError, NotFoundError
from trainledger_schemas.tree_manifest import ReadNode, parse_node

from .io_records import IoRecords
from .manifest_climb import Places, climb, marked_tops, shown_generation
from .session import Session

__all__ = ["FileUses", "find_file", "paths_in"]

PATHS_MAX = 1000
STEPS_MAX = 100
_PREFIX = "sha256:"


@dataclass(slots=True)
class FileUses:
    """`rows`: one for each run and version that the file is in or behind, by time. `unseen`: versions whose manifest
    is neither in the tables nor here. `unhashed`: names of data that was not, or not wholly, read yet.
    `is_cut`: more places than paths are told."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    unhashed: list[str] = field(default_factory=list)
    is_cut: bool = False


def find_file(session: Session, sha256: str, *, blobs: BlobSource) -> FileUses:
    """All uses of a file with this SHA-256 (hexadecimal digits), with what came of them.

    A row has the run, its name and people, the version, `paths` in it (at most PATHS_MAX; "" is the file itself),
    `outputs` of the run, `aliases` of these and the version, and `through`: the artifacts that lead from the file to
    a run that did not read it itself, empty for one that did."""
    generation = shown_generation(session)
    records = IoRecords(session, generation)
    places = climb(session, generation, [sha256])
    uses = FileUses(is_cut=places.is_cut)
    looked_into = _look_into(session, generation, records, sha256, blobs=blobs, uses=uses)
    digests = [_PREFIX + sha256, *(_PREFIX + folder for folder in (*places.below, *looked_into))]
    for row in records.where("digest", digests):
        paths = _paths(row, sha256, places, looked_into)
        uses.rows.append(row | {"paths": paths, "through": []})
    _follow(session, generation, records, uses)
    _add_outputs(records, uses.rows)
    uses.unhashed = session.query(
        f"SELECT DISTINCT name FROM {generation}.io_facts WHERE status IN ('declared', 'partial') "
        "AND digest IS NULL AND uri IS NOT NULL ORDER BY name"
    )["name"].to_pylist()
    return uses


def paths_in(top: str, sha256: str, read: ReadNode, *, known: dict[str, list[bytes]]) -> list[bytes]:
    """The paths of files with this digest in a tree, at most PATHS_MAX; `known` by node is filled on the way."""
    if top in known:
        return known[top]
    data = read(top)
    found: list[bytes] = []
    # Most nodes hold neither the file nor folders: they are not taken apart.
    if sha256.encode() in data or b"\0d " in data or b"\nd " in data:
        for child in parse_node(data):
            if child.type == "d":
                inner = paths_in(child.sha256, sha256, read, known=known)
                found += [child.name + b"/" + path for path in inner]
            elif child.sha256 == sha256 and child.type != "l":
                found.append(child.name)
    known[top] = found[:PATHS_MAX]
    return known[top]


def _look_into(
    session: Session, generation: str, records: IoRecords, sha256: str, *, blobs: BlobSource, uses: FileUses
) -> dict[str, list[bytes]]:
    """The paths in manifests that the index does not hold, read from their nodes; notes those that cannot be."""
    tops = records.manifests()
    known: dict[str, list[bytes]] = {}
    unseen: list[str] = []
    for top in sorted(tops - marked_tops(session, generation, tops)):
        try:
            paths_in(top, sha256, blobs.read, known=known)
        except (NotFoundError, CorruptDataError):
            unseen.append(top)
    for row in records.where("manifest", unseen):
        uses.unseen.append(f"{row['name']}:{row['version'] or row['digest']}")
    uses.unseen = list(dict.fromkeys(uses.unseen))
    return {top: known[top] for top in tops & known.keys() if known[top]}


def _paths(
    row: dict[str, Any], sha256: str, places: Places, looked_into: dict[str, list[bytes]]
) -> list[str]:
    if row["digest"] == _PREFIX + sha256:
        paths = [b""]
    else:
        top = row["digest"].removeprefix(_PREFIX)
        paths = looked_into.get(top) or places.paths(top, paths_max=PATHS_MAX)
    return [path.decode("utf-8", "backslashreplace") for path in paths]


def _follow(session: Session, generation: str, records: IoRecords, uses: FileUses) -> None:
    """Add the runs that read what came of the file, step by step."""
    told = {(row["run_id"], row["digest"], row["direction"]) for row in uses.rows}
    readers = {row["run_id"]: list[str]() for row in uses.rows if row["direction"] == "in"}
    done: set[str] = set(readers)
    followed: set[str] = set()
    for _ in range(STEPS_MAX):
        written = {
            row["digest"]: [*readers[row["run_id"]], f"{row['name']}:{row['version'] or '?'}"]
            for row in records.where("run_id", list(readers))
            if row["direction"] == "out" and row["digest"] not in followed
        }
        if not written:
            return
        followed |= written.keys()
        readers = {}
        for row in _readers_of(session, generation, records, written):
            if (row["run_id"], row["digest"], row["direction"]) not in told:
                told.add((row["run_id"], row["digest"], row["direction"]))
                uses.rows.append(row)
            if row["run_id"] not in done:
                done.add(row["run_id"])
                readers[row["run_id"]] = row["through"]


def _readers_of(
    session: Session, generation: str, records: IoRecords, written: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """The inputs that are, or hold, one of these outputs."""
    places = climb(session, generation, [digest.removeprefix(_PREFIX) for digest in written])
    through = dict(written)
    for folder in places.below:
        inner = places.first_below(folder)
        through.setdefault(_PREFIX + folder, written[_PREFIX + inner])
    return [
        row | {"paths": [], "through": through[row["digest"]]}
        for row in records.where("digest", list(through))
        if row["direction"] == "in"
    ]


def _add_outputs(records: IoRecords, rows: list[dict[str, Any]]) -> None:
    outputs: dict[str, list[dict[str, Any]]] = {}
    for output in records.where("run_id", {row["run_id"] for row in rows}):
        if output["direction"] == "out":
            outputs.setdefault(output["run_id"], []).append(output)
    for row in rows:
        written = outputs.get(row["run_id"], [])
        row["outputs"] = [f"{output['name']}:{output['version'] or '?'}" for output in written]
        row["aliases"] = records.aliases_of({output["digest"] for output in written} | {row["digest"]})
