"""Running a repetition: under the wrapper, as a run of its own that is tagged with the one it repeats."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import NotFoundError

from ..session import Session
from .command import Command
from .installed import NOT_COMPARED
from .results import Outcome, Tolerance, compare_outputs, compare_results, read_series
from .run_facts import REPEATS_TAG, VARIES_TAG, RunFacts, read_run_facts

__all__ = [
    "Comparison",
    "compare_runs",
    "hardware",
    "repetition_variables",
    "run_again",
    "run_command",
    "when_in_tables",
]

TABLES_WAIT_S = 30.0
POLL_S = 1.0
_WRAPPER = "import sys; from trainledger.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results, and what else differs: `deviations` name code, packages and ranks that are not those of the original.
    `is_same_code`: whether the repetition was captured and has the code of the original."""

    outcome: Outcome
    deviations: tuple[str, ...]
    is_same_code: bool = True


def run_again(
    command: Command,
    *,
    told: Mapping[str, str],
    environ: Mapping[str, str],
    quiet_stdout: bool,
    lifeline: IO[bytes] | None = None,
) -> int:
    """Run the command as a run of its own and return its exit status; blocks. `told`: see `repetition_variables`.

    `quiet_stdout`: its output to stderr. `lifeline`: when it ends, whoever started this is gone, and the command is
    ended with SIGTERM."""
    environment = {name: value for name, value in environ.items() if not name.startswith("TRAINLEDGER_RUN")}
    for name, value in command.variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    for name in ("PARENT", "WRAPPED", "CAPTURE", "PROJECT", "EXPERIMENT", "TEAM", "NAME", "GROUP", "TAGS"):
        environment.pop(f"TRAINLEDGER_{name}", None)
    environment |= told
    Path(command.cwd).mkdir(parents=True, exist_ok=True)
    # -P: a file of the restored code must not stand in for a module of ours.
    wrapped = [sys.executable, "-P", "-c", _WRAPPER, "run", "--", *command.argv]
    return run_command(
        wrapped, cwd=command.cwd, environ=environment, quiet_stdout=quiet_stdout, lifeline=lifeline
    )


def run_command(
    argv: Sequence[str],
    *,
    cwd: str,
    environ: Mapping[str, str],
    quiet_stdout: bool,
    lifeline: IO[bytes] | None = None,
) -> int:
    """Run a command line and return its exit status; see `run_again`."""
    sys.stdout.flush()
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(environ),
        stdin=None if lifeline is None else subprocess.DEVNULL,
        stdout=sys.stderr if quiet_stdout else None,
    )
    if lifeline is not None:
        threading.Thread(target=_end_with, args=(lifeline, process), daemon=True).start()
    try:
        return process.wait()
    except BaseException:
        # The terminal's Ctrl-C has reached the wrapper too, which ends what it started.
        process.wait()
        raise


def repetition_variables(facts: RunFacts, run_id: str, *, is_true: bool) -> dict[str, str]:
    """What makes a training the run `run_id`, which repeats another; `is_true`: with all that was the run's."""
    told = {
        "RUN_ID": run_id,
        "PROJECT": facts.project,
        "EXPERIMENT": facts.experiment,
        "TEAM": facts.team,
        "NAME": f"{'repeats' if is_true else 'varies'} {facts.name or facts.run_id[:8]}",
        "TAGS": f"{REPEATS_TAG if is_true else VARIES_TAG}{facts.run_id}",
    }
    return {f"TRAINLEDGER_{name}": value for name, value in told.items() if value}


def when_in_tables(
    open_session: Callable[[], AbstractContextManager[Session]],
    original: RunFacts,
    repetition: str,
    *,
    ranks: int,
    clock: Clock,
) -> RunFacts | None:
    """The facts of a repetition once the tables have all of it: its end, its capture, `ranks` ranks, and no new points.

    Where that takes longer than TABLES_WAIT_S what there is counts; None for a run that they do not know."""
    deadline_ns = clock.monotonic_ns() + round(TABLES_WAIT_S * 1e9)
    known: int | None = None
    while True:
        with open_session() as session:
            try:
                again = read_run_facts(session, repetition)
            except NotFoundError:
                again = None
            points, wanted = _points(session, repetition), _points(session, original.run_id)
        if again is not None and _is_whole(original, again, ranks) and (points >= wanted or points == known):
            return again
        if clock.monotonic_ns() > deadline_ns:
            return again
        known = points
        clock.sleep(POLL_S)


def compare_runs(
    session: Session,
    facts: RunFacts,
    again: RunFacts,
    *,
    tolerance: Tolerance,
    ignored: tuple[str, ...],
) -> Comparison:
    """Compare the results, and the code, packages and ranks, of a run and its repetition."""
    outcome = compare_results(
        read_series(session, facts.run_id),
        read_series(session, again.run_id),
        tolerance=tolerance,
        ignored=ignored,
    )
    compare_outputs(outcome, facts.outputs, again.outputs)
    code = facts.provenance.get("snapshot_id"), again.provenance.get("snapshot_id")
    ranks = [f"ranks: {facts.ranks} then, {again.ranks} now"] if facts.ranks != again.ranks else []
    differing = (*ranks, *_deviations(facts.provenance, again.provenance))
    return Comparison(outcome, differing, code[0] is not None and code[0] == code[1])


def hardware() -> str:
    """What this is, for people: processor, cores and system."""
    system = os.uname()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), system.machine
    )
    return f"{model}, {os.cpu_count()} cores, {system.sysname} {system.release}"


def _end_with(lifeline: IO[bytes], process: "subprocess.Popen[bytes]") -> None:
    # Not through its buffer, whose lock a thread may not hold when the interpreter ends.
    while os.read(lifeline.fileno(), 1 << 16):
        continue
    if process.poll() is None:
        process.terminate()


def _is_whole(original: RunFacts, again: RunFacts, ranks: int) -> bool:
    measured = [sum(o.get("digest") is not None for o in facts.outputs) for facts in (original, again)]
    # What was declared is measured by a process beside the training.
    is_measured = measured[1] >= measured[0] or all(o.get("status") != "declared" for o in again.outputs)
    return bool(again.provenance) and again.state != "running" and again.ranks >= ranks and is_measured


def _points(session: Session, run_id: str) -> int:
    table = session.query(
        f"SELECT sum(points) AS points FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}}",
        {"id": run_id},
    )
    return int(table["points"][0].as_py() or 0)


def _deviations(original: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    if not again:
        yield "the code and packages of the repetition were not captured in time"
        return
    if original.get("snapshot_id") != again.get("snapshot_id"):
        yield f"code: {original.get('snapshot_id')} then, {again.get('snapshot_id')} now"
    if original.get("python") != again.get("python"):
        yield f"python: {original.get('python')} then, {again.get('python')} now"
    then, now = original.get("packages") or {}, again.get("packages") or {}
    for name in sorted({*then, *now} - NOT_COMPARED):
        if then.get(name) != now.get(name):
            yield f"package {name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
    contents_then, contents_now = original.get("package_ids") or {}, again.get("package_ids") or {}
    for name in sorted(contents_then.keys() & contents_now.keys()):
        if contents_then[name] != contents_now[name] and then.get(name) == now.get(name):
            yield f"package {name}: another build of {now.get(name)}"
    for name in ("driver", "cuda", "cudnn", "nccl"):
        if original.get(name) != again.get(name):
            yield f"{name}: {original.get(name) or 'none'} then, {again.get(name) or 'none'} now"
