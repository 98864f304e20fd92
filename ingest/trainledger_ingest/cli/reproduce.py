"""`reproduce`: repeat a run, or show how it would be repeated."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from trainledger_schemas.blobs import SeveralBlobs
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.code_snapshot import CodeSnapshot
from trainledger_schemas.errors import TrainledgerError, UsageError
from trainledger_schemas.ids import id_text, random_id

from ..reproduce.blob_places import known_blobs
from ..reproduce.command import Command, build_command
from ..reproduce.notebook import NotebookCells, read_cells, write_cells
from ..reproduce.plan import check_repeatable, plan_steps
from ..reproduce.repetition import Comparison, compare_runs, compare_when_captured, hardware, run_again
from ..reproduce.restore import Restored, read_snapshot, restore_code
from ..reproduce.results import SAME, Tolerance
from ..reproduce.run_facts import RunFacts, read_run_facts
from ..run_lookup import find_run
from ..session import Session
from .opening import read_settings, session
from .options import Json
from .output import print_json, print_table, stderr_line

__all__ = ["register"]

FOLDERS_MAX = 1000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reproduce", help="Repeat a run in a new folder and compare the results.")(reproduce)


def reproduce(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id, the unique beginning of one, or name.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- CMD ...", help="Run this instead of the recorded command."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done.")] = False,
    into: Annotated[Path | None, typer.Option(help="The new folder; default below the home folder.")] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(help="Link this path of the original folder, e.g. ignored data, into the new one."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before stored code is run.")] = False,
    accept_differences: Annotated[
        bool, typer.Option(help="Run although some files could not be restored.")
    ] = False,
    rtol: Annotated[float, typer.Option(min=0.0, help="Relative tolerance of results.")] = 1e-5,
    atol: Annotated[float, typer.Option(min=0.0, help="Absolute tolerance of results.")] = 0.0,
    tolerance: Annotated[
        list[str] | None, typer.Option(metavar="METRIC=RTOL", help="Another relative tolerance for metrics.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Metrics that are not compared.")] = None,
    as_json: Json = False,
) -> None:
    """Plan, restore, run, compare."""
    limits = Tolerance(rtol, atol, tuple(_tolerance(text) for text in tolerance or ()))
    choice = _Choice(into, tuple(link or ()), tuple(ignore or ()), limits, accept_differences, as_json)
    planned = _plan(run, command or [], choice)
    if plan or not as_json:
        _print_plan(planned, as_json=as_json)
    if not plan:
        _ask(planned.command, yes=yes)
        _carry_out(planned, choice)


@dataclass(frozen=True, slots=True)
class _Choice:
    into: Path | None
    links: tuple[str, ...]
    ignored: tuple[str, ...]
    limits: Tolerance
    accepts_differences: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Planned:
    facts: RunFacts
    blobs: SeveralBlobs
    snapshot: CodeSnapshot
    folder: Path
    command: Command
    cells: NotebookCells | None

    @property
    def cells_script(self) -> Path:
        """Beside the folder: in it, it would be code that the run did not have."""
        return _cells_script(self.folder)


def _cells_script(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-cells.py")


def _plan(run: str, given: list[str], choice: _Choice) -> _Planned:
    settings = read_settings()
    with session() as opened:
        facts = read_run_facts(opened, find_run(opened, run, say=stderr_line))
        if facts.repeats is not None and not facts.run_id.startswith(run.lower()):
            # A repetition often bears the name of what it repeats, and is newer.
            stderr_line(f"{facts.run_id} is a repetition of {facts.repeats}, which is repeated again")
            facts = read_run_facts(opened, facts.repeats)
        cells = None if given else read_cells(opened, facts.run_id)
    check_repeatable(facts)
    blobs = known_blobs(settings)
    snapshot = read_snapshot(blobs, str(facts.provenance["snapshot_sha256"]))
    folder = (choice.into or _new_folder(settings.home / "reproduced", facts)).absolute()
    if cells is not None:
        facts = replace(facts, provenance=cells.provenance(facts.provenance, _cells_script(folder)))
    command = build_command(facts.provenance, str(folder), given=given, environ=os.environ)
    if cells is not None:
        command.variables |= cells.variables(facts.provenance)
        command.notes.append(f"the {len(cells.rows)} cells run in their order in one IPython session")
    return _Planned(facts, blobs, snapshot, folder, command, cells)


def _print_plan(planned: _Planned, *, as_json: bool) -> None:
    facts = planned.facts
    steps = plan_steps(facts, planned.snapshot, planned.command, str(planned.folder))
    if as_json:
        print_json({"step": s.step.strip(), "what": s.what, "is_exact": s.is_exact} for s in steps)
    else:
        print_table(("step", "what"), [(s.step, s.what) for s in steps], title=f"plan for {facts.run_id}")


def _carry_out(planned: _Planned, choice: _Choice) -> None:
    facts, repetition = planned.facts, id_text(random_id())
    restored = restore_code(planned.snapshot, planned.folder, blobs=planned.blobs, environment=os.environ)
    _link(choice.links, planned.snapshot, planned.folder)
    if planned.cells is not None:
        write_cells(planned.cells, planned.cells_script)
    _report_restored(restored, accept=choice.accepts_differences)
    status = run_again(
        facts, planned.command, run_id=repetition, environ=os.environ, quiet_stdout=choice.as_json
    )
    found: list[tuple[str, Comparison]] = []

    def compare(opened: Session, provenance: Mapping[str, Any]) -> None:
        compared = compare_runs(
            opened, facts, repetition, provenance, tolerance=choice.limits, ignored=choice.ignored
        )
        verdict = "failed" if status and facts.state == "finished" else compared.outcome.verdict
        _record(opened, facts, repetition, verdict, compared, choice.limits)
        found.append((verdict, compared))

    compare_when_captured(session, repetition, compare, clock=SystemClock())
    ((verdict, compared),) = found
    _print_comparison(facts, repetition, verdict, compared, as_json=choice.as_json)
    if verdict not in SAME:
        raise TrainledgerError(
            f"the repetition {repetition} of {facts.run_id}: {verdict}"
            + (f"; {compared.outcome.first_difference}" if compared.outcome.first_difference else "")
            + (f"; the command ended with {status}" if status else "")
        )


def _tolerance(text: str) -> tuple[str, float]:
    key, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not equals or not key or not number >= 0:
        raise UsageError(f"--tolerance {text!r}: write METRIC=RTOL, e.g. eval/loss=1e-3")
    return key, number


def _new_folder(parent: Path, facts: RunFacts) -> Path:
    for number in range(1, FOLDERS_MAX):
        folder = parent / (facts.run_id[:8] if number == 1 else f"{facts.run_id[:8]}-{number}")
        if not folder.exists():
            return folder
    raise UsageError(
        f"{parent} holds too many repetitions of this run; remove some, or give a folder with --into"
    )


def _ask(command: Command, *, yes: bool) -> None:
    if yes:
        return
    if not os.isatty(0):
        raise UsageError(
            "this runs stored code: say --yes to do it without being asked, or --plan to look first"
        )
    typer.confirm(f"Run `{shlex.join(command.argv)}` in {command.cwd}?", abort=True)


def _link(paths: tuple[str, ...], snapshot: CodeSnapshot, folder: Path) -> None:
    for path in paths:
        source, target = Path(snapshot.root) / path, folder / path
        if Path(path).is_absolute() or ".." in Path(path).parts or not source.exists() or target.exists():
            raise UsageError(
                f"--link {path}: give a path that is in {snapshot.root} and not in the restored code"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def _report_restored(restored: Restored, *, accept: bool) -> None:
    for step in restored.steps:
        stderr_line(f"restored {step}")
    stderr_line(f"{restored.folder}: {restored.files} restored files, each compared with the snapshot")
    for problem in restored.problems:
        stderr_line(f"not as it was: {problem}")
    if restored.problems and not accept:
        raise TrainledgerError(
            f"{len(restored.problems)} files are not as they were; mend them in {restored.folder} and run by hand, "
            "or run with --accept-differences"
        )


def _record(
    opened: Session, facts: RunFacts, repetition: str, verdict: str, compared: Comparison, limits: Tolerance
) -> None:
    outcome = compared.outcome
    fields: dict[str, Any] = {
        "run_id": facts.run_id,
        "repetition": repetition,
        "outcome": verdict,
        "metrics": outcome.metrics,
        "points": outcome.points,
        "first_difference": outcome.first_difference,
        "rtol": limits.rtol,
        "atol": limits.atol,
        "hardware": hardware(),
    }
    try:
        opened.append_admin("reproduction_result", fields)
    except TrainledgerError as error:
        stderr_line(f"the result of the comparison is not recorded: {error}")


def _print_comparison(
    facts: RunFacts, repetition: str, verdict: str, compared: Comparison, *, as_json: bool
) -> None:
    outcome = compared.outcome
    if as_json:
        row = {
            "run_id": facts.run_id,
            "repetition": repetition,
            "outcome": verdict,
            "metrics": outcome.metrics,
            "points": outcome.points,
            "first_difference": outcome.first_difference,
            "not_compared": outcome.not_compared,
            "deviations": list(compared.deviations),
        }
        print_json([row])
        return
    title = f"{verdict}: run {repetition} against {facts.run_id}"
    rows = [(key, str(points), word, far) for key, points, word, far in outcome.rows]
    print_table(("metric", "points", "results", "largest relative difference"), rows, title=title)
    for key in outcome.not_compared:
        stderr_line(f"not compared: {key}")
    for deviation in compared.deviations:
        stderr_line(f"differs: {deviation}")
