"""Running a repetition: under the wrapper, as a run of its own that is tagged with the one it repeats."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainledger_schemas.clock import Clock

from ..session import Session
from .command import Command
from .results import Outcome, Tolerance, compare_results, read_series
from .run_facts import REPEATS_TAG, RunFacts, read_run_facts

__all__ = ["Comparison", "compare_runs", "compare_when_captured", "hardware", "run_again"]

CAPTURE_WAIT_S = 30.0
POLL_S = 1.0
_WRAPPER = "import sys; from trainledger.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results, and what else differs: `deviations` name code and packages that are not those of the original."""

    outcome: Outcome
    deviations: tuple[str, ...]


def run_again(
    facts: RunFacts, command: Command, *, run_id: str, environ: Mapping[str, str], quiet_stdout: bool
) -> int:
    """Run the command as run `run_id` and return its exit status; blocks. `quiet_stdout`: its output to stderr."""
    environment = {name: value for name, value in environ.items() if not name.startswith("TRAINLEDGER_RUN")}
    for name, value in command.variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    told = {
        "RUN_ID": run_id,
        "PROJECT": facts.project,
        "EXPERIMENT": facts.experiment,
        "TEAM": facts.team,
        "NAME": f"repeats {facts.name or facts.run_id[:8]}",
        "TAGS": f"{REPEATS_TAG}{facts.run_id}",
    }
    for name in ("PARENT", "WRAPPED", "CAPTURE", *told):
        environment.pop(f"TRAINLEDGER_{name}", None)
    environment |= {f"TRAINLEDGER_{name}": value for name, value in told.items() if value}
    Path(command.cwd).mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    # -P: a file of the restored code must not stand in for a module of ours.
    done = subprocess.run(
        [sys.executable, "-P", "-c", _WRAPPER, "run", "--", *command.argv],
        cwd=command.cwd,
        env=environment,
        stdout=sys.stderr if quiet_stdout else None,
        check=False,
    )
    return done.returncode


def compare_when_captured(
    open_session: Callable[[], AbstractContextManager[Session]],
    repetition: str,
    compare: Callable[[Session, Mapping[str, Any]], None],
    *,
    clock: Clock,
) -> None:
    """Call `compare` with the repetition's provenance once its capture is in the tables; after CAPTURE_WAIT_S with
    an empty one."""
    deadline_ns = clock.monotonic_ns() + round(CAPTURE_WAIT_S * 1e9)
    while True:
        with open_session() as session:
            again = read_run_facts(session, repetition)
            if again.provenance or clock.monotonic_ns() > deadline_ns:
                compare(session, again.provenance)
                return
        clock.sleep(POLL_S)


def compare_runs(
    session: Session,
    facts: RunFacts,
    repetition: str,
    provenance: Mapping[str, Any],
    *,
    tolerance: Tolerance,
    ignored: tuple[str, ...],
) -> Comparison:
    """Compare the results, and the code and packages, of a run and its repetition."""
    outcome = compare_results(
        read_series(session, facts.run_id),
        read_series(session, repetition),
        tolerance=tolerance,
        ignored=ignored,
    )
    return Comparison(outcome, tuple(_deviations(facts.provenance, provenance)))


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


def _deviations(original: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    if not again:
        yield "the code and packages of the repetition were not captured in time"
        return
    if original.get("snapshot_id") != again.get("snapshot_id"):
        yield f"code: {original.get('snapshot_id')} then, {again.get('snapshot_id')} now"
    if original.get("python") != again.get("python"):
        yield f"python: {original.get('python')} then, {again.get('python')} now"
    then, now = original.get("packages") or {}, again.get("packages") or {}
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"package {name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
    contents_then, contents_now = original.get("package_ids") or {}, again.get("package_ids") or {}
    for name in sorted(contents_then.keys() & contents_now.keys()):
        if contents_then[name] != contents_now[name] and then.get(name) == now.get(name):
            yield f"package {name}: another build of {now.get(name)}"
    for name in ("driver", "cuda", "cudnn", "nccl"):
        if original.get(name) != again.get(name):
            yield f"{name}: {original.get(name) or 'none'} then, {again.get(name) or 'none'} now"
