"""Finding the version that a person means by model:alias, model:v3, model:latest or a digest."""

import re
from typing import NamedTuple

from trainledger_schemas.errors import NotFoundError

from .session import Session

__all__ = ["NoSuchVersionError", "Version", "find_version", "run_of_artifact"]

_NUMBERED = re.compile(r"v[0-9]+")


class NoSuchVersionError(NotFoundError):
    """There is an artifact of this name, but no such version or alias of it."""


# An input that the run named by a place, or a table; not what it asked for by the name of an artifact.
_TOLD_BY_ITSELF = "(uri IS NOT NULL OR startsWith(assumeNotNull(digest), 'table-v1:'))"


class Version(NamedTuple):
    """A version of an artifact: `digest` with its sha256:, the run that wrote it first, the manifest of a folder."""

    name: str
    version: str | None
    digest: str
    run_id: str
    manifest_sha256: str | None = None


def find_version(session: Session, reference: str, *, also_inputs: bool = False) -> Version:
    """The version that `reference` names now; `also_inputs`: of a dataset too, `run_id` is then a run that used it.

    latest, and no version, is the highest version number; a version wins over an alias of the same name. Raises
    NotFoundError with what there is, NoSuchVersionError where the name is known."""
    name, colon, asked = reference.partition(":")
    asked = asked or "latest"
    by_digest = colon != "" and name == "sha256"
    rows = session.query(
        f"SELECT name, version, digest, toString(run_id) AS run_id, manifest_sha256 FROM {session.views}.run_io "
        f"WHERE {_TOLD_BY_ITSELF if also_inputs else 'direction = {out:String}'} AND digest IS NOT NULL AND "
        f"{'digest = {digest:String}' if by_digest else 'name = {name:String}'} ORDER BY at, digest",
        {"name": name, "digest": reference, "out": "out"},
    ).to_pylist()
    found = [Version(**row) for row in rows]
    if not found:
        if not also_inputs and (places := _dataset_places(session, name)):
            raise NotFoundError(
                f"{name!r} is a dataset: of datasets the digests are on record, not the bytes; it was read from "
                f"{', '.join(places)}"
            )
        raise NotFoundError(
            f"no {'dataset or ' if also_inputs else ''}artifact is called {name!r}; view run_io lists all: "
            'trainledger sql "SELECT direction, name, version FROM run_io"'
        )
    if by_digest:
        return found[0]
    if asked == "latest":
        # Versions are counted in the order of first sight: the highest is the one that was seen first last.
        counted = [version.digest for version in found if version.version is not None]
        return _first_of(found, list(dict.fromkeys(counted or [version.digest for version in found]))[-1])
    for version in found:
        if version.version == asked:
            return _first_of(found, version.digest)
    aliases = session.query(
        f"SELECT alias, digest FROM {session.views}.model_aliases WHERE model = {{name:String}} AND is_current "
        "ORDER BY alias",
        {"name": name},
    ).to_pylist()
    # As in view run_io: what looks like a version never means an alias.
    for row in aliases if not _NUMBERED.fullmatch(asked) else ():
        if row["alias"] == asked:
            return _first_of(found, row["digest"])
    versions = ", ".join(dict.fromkeys(version.version or version.digest for version in found))
    named = f" and the aliases {', '.join(row['alias'] for row in aliases)}" if aliases else ""
    raise NoSuchVersionError(f"{name!r} has no version or alias {asked!r}; it has {versions}{named}")


def run_of_artifact(session: Session, reference: str) -> str | None:
    """The run that wrote what `reference` names, or None where nothing has the name.

    Raises NoSuchVersionError where something has."""
    try:
        return find_version(session, reference).run_id
    except NoSuchVersionError:
        raise
    except NotFoundError:
        return None


def _dataset_places(session: Session, name: str) -> list[str]:
    """Some places that a dataset was read from; empty where no dataset has the name."""
    return [
        str(place)
        for place in session.query(
            f"SELECT DISTINCT coalesce(uri, 'memory') AS place FROM {session.views}.run_io "
            "WHERE name = {name:String} AND direction = 'in' AND kind = 'dataset' ORDER BY place LIMIT 3",
            {"name": name},
        )["place"].to_pylist()
    ]


def _first_of(found: list[Version], digest: str) -> Version:
    for version in found:
        if version.digest == digest:
            return version
    raise NotFoundError(f"no run is known that wrote {digest}")
