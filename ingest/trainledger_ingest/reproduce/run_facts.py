"""What is recorded of a run, as far as repeating it needs it: rows of the views as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trainledger_schemas.errors import NotFoundError

from ..session import Session
from .grade import Facts, Judgement, facts_of, judge
from .launch_shape import LaunchShape, read_shape

__all__ = ["REPEATS_TAG", "VARIES_TAG", "RunFacts", "read_run_facts"]

REPEATS_TAG = "reproduces:"
# Made from a run with another command, other ranks, files or inputs: no repetition of it.
VARIES_TAG = "varies:"
_PROVENANCE = (
    "vcs, repository, commit, branch, dirty, snapshot_id, snapshot_sha256, left_out, left_out_files, code_root, cwd, "
    "entry_point, argv, program, launcher, variables, python, packages, os, reasons, package_ids, package_sources, "
    "lock_sha256, lock_files, image_digest, image_source, driver, cuda, cudnn, nccl, system, libraries, randomness"
)
_MAPS = frozenset(
    "packages variables package_ids package_sources lock_files system libraries randomness".split()
)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """`provenance` is the row of the newest attempt, empty when nothing was captured."""

    run_id: str
    name: str | None
    project: str
    experiment: str | None
    team: str | None
    state: str
    ranks: int
    nodes: int
    provenance: Mapping[str, Any]
    parameters: tuple[str, ...]
    is_repeated: bool
    tags: tuple[str, ...] = ()
    inputs: tuple[Mapping[str, Any], ...] = ()
    cells: int = 0
    outputs: tuple[Mapping[str, Any], ...] = ()
    duration_s: float | None = None

    @property
    def repeats(self) -> str | None:
        """The run that this one was made from by `reproduce`, if it was."""
        return next((t.partition(":")[2] for t in self.tags if t.startswith((REPEATS_TAG, VARIES_TAG))), None)

    @property
    def is_true_repetition(self) -> bool:
        """Whether it was started with the run's own command, ranks, code and inputs."""
        return any(tag.startswith(REPEATS_TAG) for tag in self.tags)

    @property
    def output_bytes(self) -> int:
        """Bytes of what it wrote and declared."""
        return sum(int(written.get("bytes") or 0) for written in self.outputs)

    @property
    def shape(self) -> LaunchShape:
        """How its processes were started."""
        return read_shape(self.provenance, ranks=self.ranks, nodes=self.nodes)

    @property
    def judged(self) -> Facts:
        """What the grade looks at."""
        return facts_of(
            self.provenance,
            parameters=self.parameters,
            ranks=self.ranks,
            inputs=self.inputs,
            cells=self.cells,
        )

    @property
    def judgement(self) -> Judgement:
        """The grade and its reasons."""
        return judge(self.judged, is_repeated=self.is_repeated)


def read_run_facts(session: Session, run_id: str) -> RunFacts:
    """Read the facts of a run; raises NotFoundError."""
    views = session.views
    runs = _rows(
        session,
        "SELECT toString(run_id) AS id, tags, name, project, experiment, team, state, ranks, nodes, duration_s, "
        f"run_id IN (SELECT run_id FROM {views}.reproductions "
        "WHERE proves AND outcome IN ('identical', 'within tolerance')) AS is_repeated, "
        f"(SELECT count() FROM {views}.notebook_cells WHERE run_id = {{id:UUID}}) AS cells "
        f"FROM {views}.runs WHERE run_id = {{id:UUID}}",
        run_id,
    )
    if not runs:
        raise NotFoundError(f"there is no run {run_id}; `trainledger ls` lists the runs")
    provenance = _rows(
        session,
        f"SELECT {_PROVENANCE} FROM {views}.provenance WHERE run_id = {{id:UUID}} ORDER BY attempt DESC LIMIT 1",
        run_id,
    )
    parameters = _rows(
        session,
        f"SELECT key FROM {views}.params WHERE run_id = {{id:UUID}} AND is_current ORDER BY key",
        run_id,
    )
    declared = _rows(
        session,
        "SELECT direction, name, kind, status, digest, is_fixed, uri, manifest_sha256, files, bytes, is_stored "
        f"FROM {views}.run_io WHERE run_id = {{id:UUID}} ORDER BY at",
        run_id,
    )
    row = runs[0]
    return RunFacts(
        run_id=str(row["id"]),
        **{name: row[name] for name in ("name", "project", "experiment", "team", "state")},
        ranks=int(row["ranks"]),
        nodes=int(row["nodes"]),
        provenance=provenance[0] if provenance else {},
        parameters=tuple(entry["key"] for entry in parameters),
        is_repeated=bool(row["is_repeated"]),
        tags=tuple(row["tags"]),
        inputs=tuple(entry for entry in declared if entry["direction"] == "in"),
        cells=int(row["cells"] or 0),
        outputs=tuple(entry for entry in declared if entry["direction"] == "out"),
        duration_s=row["duration_s"],
    )


def _rows(session: Session, sql: str, run_id: str) -> list[dict[str, Any]]:
    table: pa.Table = session.query(sql, {"id": run_id})
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name in _MAPS.intersection(row):
            row[name] = dict(row[name])
    return rows
