"""Checking out a working copy of Subversion as it was: revisions, depths and switched places included.

Nothing of `svn:externals` is fetched: those are working copies of their own in the snapshot, at their own revisions.
"""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trainledger_schemas.code_snapshot import RepositorySnapshot
from trainledger_schemas.errors import CorruptDataError, NotFoundError, TrainledgerError

__all__ = ["check_out"]

_DEPTHS = frozenset({"exclude", "empty", "files", "immediates", "infinity"})


def check_out(wanted: RepositorySnapshot, top: Path, environment: Mapping[str, str]) -> None:
    """Check out into `top`, a folder without files. Blocks for the network. Raises NotFoundError without svn,
    CorruptDataError for what is no address, TrainledgerError when svn refuses."""
    url, depths = _address(dict(wanted.remotes).get("svn", "")), dict(wanted.depths)
    revisions, switched = dict(wanted.revisions), dict(wanted.switched)

    def svn(command: str, *arguments: str) -> None:
        _run([command, "-q", "--non-interactive", "--ignore-externals", *arguments], environment)

    # The revision behind @ as well: the folder may be gone, or another, in the newest one.
    depth = depths.pop(".", "infinity")
    svn("checkout", "--depth", _depth(depth), f"{url}@{wanted.head}", str(top))
    # From the outside in: what is done to a folder holds for all in it.
    for path in sorted({*revisions, *switched, *depths}, key=lambda p: p.split("/")):
        place = _target(top / path)
        if path in switched:
            revision = revisions.get(path, str(wanted.head))
            svn("switch", "--ignore-ancestry", f"{_address(switched[path])}@{revision}", place)
        elif path in revisions:
            svn("update", "-r", revisions[path], place)
        if path in depths:
            svn(
                "update",
                "-r",
                _revision_at(path, wanted, revisions),
                "--set-depth",
                _depth(depths[path]),
                place,
            )
    for path, name, value in wanted.properties:
        _set_property(_target(top / path), name, value, environment)


def _set_property(place: str, name: str, value: str | None, environment: Mapping[str, str]) -> None:
    if value is None:
        _run(["propdel", "-q", "--", name, place], environment)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(value.encode("utf-8", "surrogateescape"))
        file.flush()
        # --force: line ends that do not fit to svn:eol-style are as they were.
        _run(["propset", "-q", "--force", "-F", file.name, "--", name, place], environment)


def _revision_at(path: str, wanted: RepositorySnapshot, revisions: Mapping[str, str]) -> str:
    parts = path.split("/")
    around = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((revisions[place] for place in around if place in revisions), str(wanted.head))


def _address(url: str) -> str:
    if "://" not in url:
        raise CorruptDataError(f"{url[:100]!r} is no address of Subversion")
    return url


def _depth(depth: str) -> str:
    if depth not in _DEPTHS:
        raise CorruptDataError(f"{depth[:100]!r} is no depth of a working copy")
    return depth


def _target(place: Path) -> str:
    # svn reads what stands behind an @ as a revision.
    return f"{place}@" if "@" in str(place) else str(place)


def _run(arguments: list[str], environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(["svn", *arguments], env=dict(environment), capture_output=True, check=False)
    except FileNotFoundError as error:
        raise NotFoundError("svn is not installed; restoring this code needs it") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[:300]
        raise TrainledgerError(f"svn {arguments[0]}: {said}")
