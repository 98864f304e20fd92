"""The steps of `reproduce` before the command is run: code, inputs, environment; each says what it did."""

import glob
import os
from pathlib import Path

from trainledger_schemas.errors import TrainledgerError, UsageError

from ..reproduce.data_places import Guard, place_data
from ..reproduce.environment import UV, VENV, build_environment, use_environment
from ..reproduce.inputs import PathMapping, check_inputs, map_path
from ..reproduce.plan import Intent
from ..reproduce.restore import restore_code
from ..reproduce.subject import Subject
from .output import stderr_line
from .reproduce_options import Choice

__all__ = ["Prepared", "guard_over", "prepare"]

INCLUDE = "TRAINLEDGER_INCLUDE"


class Prepared:
    """What was made ready: `deviations` from the run, and a guard over the data of the original."""

    def __init__(self) -> None:
        self.deviations: list[str] = []
        self.guarded: list[str] = []


def prepare(subject: Subject, intent: Intent, choice: Choice) -> Prepared:
    """Restore, verify, build. Raises TrainledgerError for what differs, unless differences are accepted."""
    prepared, folder = Prepared(), Path(intent.folder)
    _restore(subject, intent, choice, prepared)
    _place(subject, folder, choice, prepared)
    _verify(subject, folder, choice, prepared)
    for written in subject.facts.outputs:
        if os.path.isabs(str(written.get("uri") or "")):
            prepared.guarded.append(str(written["uri"]))
    if choice.environment in (VENV, UV):
        built = build_environment(
            choice.environment,
            subject.facts.provenance,
            folder,
            blobs=subject.blobs,
            environ=os.environ,
            accept=choice.accepts_differences,
        )
        for line in [*built.steps, *(f"differs: {deviation}" for deviation in built.deviations)]:
            stderr_line(line)
        use_environment(intent.command, built.folder, os.environ)
    return prepared


def guard_over(prepared: Prepared) -> Guard:
    """The data and outputs of the original that are within reach of the repetition."""
    return Guard.over(prepared.guarded)


def _restore(subject: Subject, intent: Intent, choice: Choice, prepared: Prepared) -> None:
    restored = restore_code(
        subject.snapshot, Path(intent.folder), blobs=subject.blobs, environment=os.environ
    )
    for step in restored.steps:
        stderr_line(f"restored {step}")
    stderr_line(f"{restored.folder}: {restored.files} restored files, each compared with the snapshot")
    for problem in restored.problems:
        stderr_line(f"not as it was: {problem}")
    if restored.ignored:
        # The capture of the repetition sees the command and not what it loads.
        include = [intent.command.variables.get(INCLUDE) or "", *map(glob.escape, restored.ignored)]
        intent.command.variables[INCLUDE] = ",".join(pattern for pattern in include if pattern)
    prepared.deviations += [f"code: {problem}" for problem in restored.problems]
    if restored.problems and not choice.accepts_differences:
        raise TrainledgerError(
            f"{len(restored.problems)} files are not as they were; mend them in {restored.folder} and run by hand, "
            "or run with --accept-differences"
        )


def _place(subject: Subject, folder: Path, choice: Choice, prepared: Prepared) -> None:
    """Bring what lay in the folder of the code, and is not code, into the new one."""
    root = Path(subject.snapshot.root)
    wanted: list[tuple[Path, Path]] = []
    for path in choice.links:
        source, target = root / path, folder / path
        if Path(path).is_absolute() or ".." in Path(path).parts or not source.exists() or target.exists():
            raise UsageError(f"--link {path}: give a path that is in {root} and not in the restored code")
        wanted.append((source, target))
    for old, new in choice.data:
        inside = map_path(old, [(str(root), str(folder))])
        if inside is not None and inside != str(folder):
            wanted.append((Path(new), Path(inside)))
        else:
            prepared.guarded.append(new)
    for source, target in wanted:
        # What lies in the restored code may be a link that leads elsewhere.
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"{target.parent} is not in {folder}: a link leads out of it; nothing is written there"
            )
        done, guarded = place_data(source, target)
        stderr_line(done)
        prepared.guarded += [guarded] if guarded is not None else []


def _verify(subject: Subject, folder: Path, choice: Choice, prepared: Prepared) -> None:
    code: PathMapping = (subject.snapshot.root, str(folder))
    checked = check_inputs(subject.facts.inputs, mappings=choice.data, code=code, blobs=subject.blobs)
    bad = [given for given in checked if given.problem is not None]
    for given in checked:
        if given.problem is None:
            said = "is what the run read" if given.is_checked else "cannot be checked here"
            stderr_line(f"input {given.name}: {given.place} {said}")
        else:
            stderr_line(f"input {given.name}: {given.problem}")
        for difference in given.differences:
            stderr_line(f"  {difference}")
        if os.path.isabs(given.place) and not given.place.startswith(f"{folder}/"):
            prepared.guarded.append(given.place)
    prepared.deviations += [f"input {given.name}: {given.problem}" for given in bad]
    if bad and not choice.accepts_differences:
        raise TrainledgerError(
            f"input {bad[0].name} is not what the run read: {bad[0].problem}; say where it is now with --data OLD=NEW, "
            "or run with --accept-differences"
        )
