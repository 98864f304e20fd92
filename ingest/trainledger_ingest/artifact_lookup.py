"""Finding the version that a person means by model:alias, model:v3, model:latest or a digest."""

from typing import NamedTuple

from trainledger_schemas.errors import NotFoundError

from .session import Session

__all__ = ["Version", "find_version", "run_of_artifact"]


class Version(NamedTuple):
    """A version of an artifact: `digest` with its sha256:, the run that wrote it first, the manifest of a folder."""

    name: str
    version: str | None
    digest: str
    run_id: str
    manifest_sha256: str | None = None


def find_version(session: Session, reference: str, *, also_inputs: bool = False) -> Version:
    """The version that `reference` names now; `also_inputs`: of a dataset too, `run_id` is then a run that used it.

    Raises NotFoundError with what there is."""
    name, colon, asked = reference.partition(":")
    asked = asked or "latest"
    by_digest = colon != "" and name == "sha256"
    rows = session.query(
        f"SELECT name, version, digest, toString(run_id) AS run_id, manifest_sha256 FROM {session.views}.run_io "
        f"WHERE {'uri IS NOT NULL' if also_inputs else 'direction = {out:String}'} AND digest IS NOT NULL AND "
        f"{'digest = {digest:String}' if by_digest else 'name = {name:String}'} ORDER BY at",
        {"name": name, "digest": reference, "out": "out"},
    ).to_pylist()
    found = [Version(**row) for row in rows]
    if not found:
        raise NotFoundError(
            f"no {'dataset or ' if also_inputs else ''}artifact is called {name!r}; view run_io lists all: "
            'trainledger sql "SELECT direction, name, version FROM run_io"'
        )
    if by_digest:
        return found[0]
    if asked == "latest":
        return _first_of(found, found[-1].digest)
    meant = session.query(
        f"SELECT digest FROM {session.views}.model_aliases WHERE model = {{name:String}} AND alias = {{alias:String}} "
        "AND is_current",
        {"name": name, "alias": asked},
    )["digest"].to_pylist()
    for digest in meant or [version.digest for version in found if version.version == asked]:
        return _first_of(found, digest)
    versions = ", ".join(dict.fromkeys(version.version or version.digest for version in found))
    raise NotFoundError(f"{name!r} has no version or alias {asked!r}; it has {versions}")


def run_of_artifact(session: Session, reference: str) -> str | None:
    """The run that wrote what `reference` names, or None where it names nothing."""
    try:
        return find_version(session, reference).run_id
    except NotFoundError:
        return None


def _first_of(found: list[Version], digest: str) -> Version:
    for version in found:
        if version.digest == digest:
            return version
    raise NotFoundError(f"no run is known that wrote {digest}")
