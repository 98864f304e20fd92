"""Where is this file? From the digest of one file to the datasets, runs, models and aliases that it is in.

Looks through the manifests that lie on this machine, each node once however many versions share it; versions whose
manifests are elsewhere are told. Limit: it reads all nodes, about a second for ten million files.
"""

from dataclasses import dataclass, field
from typing import Any

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.tree_manifest import ReadNode, parse_node

from .session import Session

__all__ = ["FileUses", "find_file", "paths_in"]

PATHS_MAX = 1000


@dataclass(slots=True)
class FileUses:
    """`rows`: one for each run and version that the file is in. `unseen`: versions whose manifest is not here."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def find_file(session: Session, sha256: str, *, blobs: BlobSource) -> FileUses:
    """All uses of a file with this SHA-256 (hexadecimal digits), by time, with what came of them."""
    known: dict[str, list[bytes]] = {}
    uses = FileUses()
    entries = session.query(
        "SELECT toString(i.run_id) AS run_id, r.name AS run, i.direction AS direction, i.kind AS kind, "
        "i.name AS name, i.version AS version, i.digest AS digest, i.manifest_sha256 AS manifest, "
        "i.uri AS uri, i.at AS at "
        f"FROM {session.views}.run_io AS i LEFT ANY JOIN {session.views}.runs AS r ON r.run_id = i.run_id "
        "WHERE i.digest IS NOT NULL ORDER BY i.at"
    ).to_pylist()
    for entry in entries:
        manifest = entry.pop("manifest")
        if manifest is None:
            paths = [b""] if entry["digest"] == f"sha256:{sha256}" else []
        elif not blobs.has(manifest):
            uses.unseen.append(f"{entry['name']}:{entry['version'] or entry['digest']}")
            continue
        else:
            paths = paths_in(manifest, sha256, blobs.read, known=known)
        if paths:
            shown = [path.decode("utf-8", "backslashreplace") for path in paths]
            uses.rows.append(entry | {"paths": shown, "outputs": [], "aliases": []})
    _add_outputs(session, uses.rows)
    uses.unseen = list(dict.fromkeys(uses.unseen))
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


def _add_outputs(session: Session, rows: list[dict[str, Any]]) -> None:
    readers = sorted({row["run_id"] for row in rows})
    if not readers:
        return
    outputs = session.query(
        f"SELECT toString(run_id) AS id, name, version, digest FROM {session.views}.run_io "
        "WHERE direction = 'out' AND run_id IN {runs:Array(UUID)} ORDER BY at",
        {"runs": readers},
    ).to_pylist()
    aliases = session.query(
        f"SELECT concat(model, ':', alias) AS alias, digest FROM {session.views}.model_aliases WHERE is_current "
        "ORDER BY alias"
    ).to_pylist()
    for row in rows:
        written = [output for output in outputs if output["id"] == row["run_id"]]
        digests = {output["digest"] for output in written} | {row["digest"]}
        row["outputs"] = [f"{output['name']}:{output['version'] or '?'}" for output in written]
        row["aliases"] = [alias["alias"] for alias in aliases if alias["digest"] in digests]
