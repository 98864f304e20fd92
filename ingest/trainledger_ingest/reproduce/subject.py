"""What is to be repeated: what is recorded of a run, its code, and the blobs, from the tables or from a recipe."""

import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.code_snapshot import CodeSnapshot

from ..run_lookup import find_run
from ..session import Say, Session
from ..settings import IngestSettings
from .blob_places import known_blobs
from .notebook import NotebookCells, read_cells
from .plan import check_repeatable
from .recipe import is_recipe, read_recipe
from .restore import read_snapshot
from .run_facts import RunFacts, read_run_facts

__all__ = ["STDIN", "Subject", "open_subject"]

STDIN = "-"

Opened = Callable[[], AbstractContextManager[Session]]
"""Opens a session on all that was written before."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`cells`: those of a notebook. `lifeline`: where the recipe came from, if that stays open for as long as the
    repetition is wanted."""

    facts: RunFacts
    blobs: BlobSource
    snapshot: CodeSnapshot
    cells: NotebookCells | None = None
    lifeline: IO[bytes] | None = None


def open_subject(
    run: str, settings: IngestSettings, *, opened: Opened, say: Say, stack: ExitStack
) -> Subject:
    """Find `run`: `-` is a recipe on stdin. Blobs of a recipe are on disk until `stack` closes. Raises UsageError for
    a run whose code cannot be restored."""
    lifeline = sys.stdin.buffer if run == STDIN else None
    if lifeline is None and not is_recipe(Path(run)):
        facts, cells = _find(run, opened=opened, say=say)
        check_repeatable(facts)
        blobs: BlobSource = known_blobs(settings)
        snapshot = read_snapshot(blobs, str(facts.provenance["snapshot_sha256"]))
        return Subject(_with_places(facts, snapshot), blobs, snapshot, cells)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainledger-recipe-")))
    if lifeline is not None:
        facts, cells, blobs = read_recipe(lifeline, folder)
    else:
        with Path(run).open("rb") as file:
            facts, cells, blobs = read_recipe(file, folder)
    check_repeatable(facts)
    snapshot = read_snapshot(blobs, str(facts.provenance["snapshot_sha256"]))
    return Subject(_with_places(facts, snapshot), blobs, snapshot, cells, lifeline)


def _with_places(facts: RunFacts, snapshot: CodeSnapshot) -> RunFacts:
    """The same, with the folders outside of the code whose modules are stored."""
    places = [repository.place for repository in snapshot.repositories if repository.place is not None]
    return replace(facts, provenance={**facts.provenance, "outside_places": places})


def _find(run: str, *, opened: Opened, say: Say) -> tuple[RunFacts, NotebookCells | None]:
    with opened() as session:
        facts = read_run_facts(session, find_run(session, run, say=say))
        if facts.repeats is not None and not facts.run_id.startswith(run.lower()):
            # A repetition often bears the name of what it repeats, and is newer.
            say(f"{facts.run_id} is a repetition of {facts.repeats}, which is repeated again")
            facts = read_run_facts(session, facts.repeats)
        return facts, read_cells(session, facts.run_id)
