"""Finding the run that a person means: a whole id, the unique beginning of one, a name, or what it wrote."""

import re
from collections.abc import Callable

from trainledger_schemas.errors import NotFoundError, UsageError

from .artifact_lookup import run_of_artifact
from .run_moves import merged_into
from .session import Session

__all__ = ["find_run"]

_ID_PART = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{0,35}")
CANDIDATES_SHOWN_MAX = 5


def find_run(session: Session, reference: str, *, say: Callable[[str], None]) -> str:
    """The id of the run that `reference` names.

    A name wins over the beginning of an id; model:alias or model:v3 is the run that wrote it, as is the name of a
    model alone for its newest version. A name that several
    runs bear means the newest, told through `say`. Raises NotFoundError, or UsageError for the beginning of several
    ids.
    """
    named = session.query(
        f"SELECT toString(run_id) AS id FROM {session.views}.runs WHERE name = {{name:String}} "
        "ORDER BY started_at DESC, run_id",
        {"name": reference},
    )["id"].to_pylist()
    if len(named) > 1:
        say(f"{len(named)} runs are named {reference!r}; this is the newest, {named[0]}")
    if named:
        return str(named[0])
    if ":" in reference and (writer := run_of_artifact(session, reference)) is not None:
        say(f"{reference} was written by run {writer}")
        return writer
    matching: list[str] = []
    if _ID_PART.fullmatch(reference):
        matching = session.query(
            f"SELECT toString(run_id) AS id FROM {session.views}.runs "
            "WHERE startsWith(toString(run_id), {part:String}) ORDER BY started_at DESC, run_id "
            f"LIMIT {CANDIDATES_SHOWN_MAX + 1}",
            {"part": reference.lower()},
        )["id"].to_pylist()
        if not matching and (merged := merged_into(session, reference)) is not None:
            say(f"run {merged[0]} was merged into run {merged[1]}")
            matching = [merged[1]]
    if len(matching) > 1:
        shown = ", ".join(matching[:CANDIDATES_SHOWN_MAX])
        more = " and more" if len(matching) > CANDIDATES_SHOWN_MAX else ""
        raise UsageError(f"several runs begin with {reference!r}: {shown}{more}; give more of the id")
    if not matching and ":" not in reference and (writer := run_of_artifact(session, reference)) is not None:
        say(f"the newest version of {reference} was written by run {writer}")
        return writer
    if not matching:
        raise NotFoundError(f"no run has the id or name {reference!r}; `trainledger ls` lists the runs")
    return str(matching[0])
