"""Options of a repetition that would be of no effect, or fail after minutes: refused before anything is done."""

import fnmatch
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainledger_schemas.code_snapshot import OUTSIDE
from trainledger_schemas.errors import UsageError

from .data_places import map_command
from .inputs import PathMapping, map_path

__all__ = ["check_data", "check_folder", "check_tolerances", "places_beside"]

NAMES_TOLD_MAX = 10


def check_folder(folder: Path) -> None:
    """Raise UsageError where code cannot be restored into `folder`: only a new or an empty one will do."""
    for beside in places_beside(folder):
        if os.path.lexists(beside):
            raise UsageError(f"--into {folder}: there is {beside}, of another repetition; give another name")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError(f"--into {folder}: that is not a folder; give the name of a new one")
    if any(folder.iterdir()):
        raise UsageError(f"--into {folder}: it is not empty; give the name of a new folder")


def places_beside(folder: Path) -> list[Path]:
    """What a repetition may put beside the folder of its code: in it, it would be code that the run did not have."""
    return [folder.with_name(f"{folder.name}{end}") for end in (".environment", OUTSIDE, "-cells.py")]


def check_data(
    mappings: Sequence[PathMapping],
    *,
    inputs: Sequence[Mapping[str, Any]],
    argv: Sequence[str],
    code: str,
) -> None:
    """Raise UsageError for an old path that neither an input, nor the command, nor the folder of the code has."""
    places = [str(given["uri"]) for given in inputs if os.path.isabs(str(given.get("uri") or ""))]
    for old, new in mappings:
        here = [(old, new)]
        is_named = any(map_path(place, here) is not None for place in places)
        if is_named or map_path(old, [(code, "/")]) is not None or map_command(argv, here) != list(argv):
            continue
        raise UsageError(
            f"--data {old}={new}: the run has no input below {old}, and its command names nothing there; its inputs: "
            f"{_some(places)}"
        )


def check_tolerances(patterns: Sequence[str], metrics: Collection[str]) -> None:
    """Raise UsageError for a pattern that fits no metric of the run."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(key, pattern) for key in metrics):
            raise UsageError(
                f"--tolerance {pattern}: the run has no such metric; it has {_some(sorted(metrics))}"
            )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_TOLD_MAX} more" if len(names) > NAMES_TOLD_MAX else ""
    return f"{', '.join(names[:NAMES_TOLD_MAX])}{more}" if names else "none"
