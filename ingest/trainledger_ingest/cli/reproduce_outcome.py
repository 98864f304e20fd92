"""How a repetition came out: as an event, and for whoever reads it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainledger_schemas.errors import TrainledgerError

from ..reproduce.equivalence import EQUIVALENT, Equivalence, judge_groups
from ..reproduce.repetition import Comparison, hardware
from ..reproduce.results import Tolerance
from ..reproduce.run_facts import RunFacts
from ..session import Session
from .output import print_json, print_table, stderr_line

__all__ = ["Told", "print_outcomes", "record_outcome"]

EVIDENCE_CHARS_MAX = 4000


@dataclass(frozen=True, slots=True)
class Told:
    """`proves`: code, command and ranks were those of the run. `deviations`: all that is known to differ."""

    facts: RunFacts
    repetition: str
    verdict: str
    compared: Comparison
    proves: bool
    deviations: tuple[str, ...]
    status: int = 0
    evidence: str | None = None

    def with_spread(self, spread: Sequence[Equivalence]) -> "Told":
        """The same, with what chance does to the results: a difference that is shown to be none is "equivalent"."""
        verdict = judge_groups(spread)
        is_shown = self.verdict == "different" and verdict == EQUIVALENT
        text = f"{verdict}: {'; '.join(row.text() for row in spread)}"[:EVIDENCE_CHARS_MAX]
        return replace(self, verdict=EQUIVALENT if is_shown else self.verdict, evidence=text)


def record_outcome(opened: Session, told: Told, limits: Tolerance) -> None:
    """Append the event; where it cannot be, one line says so."""
    outcome = told.compared.outcome
    fields: dict[str, Any] = {
        "run_id": told.facts.run_id,
        "repetition": told.repetition,
        "outcome": told.verdict,
        "metrics": outcome.metrics,
        "points": outcome.points,
        "first_difference": outcome.first_difference,
        "rtol": limits.rtol,
        "atol": limits.atol,
        "hardware": hardware(),
        "proves": told.proves,
        "deviations": list(told.deviations),
        "artifacts": outcome.artifacts,
        "evidence": told.evidence,
    }
    try:
        opened.append_admin("reproduction_result", fields)
    except TrainledgerError as error:
        stderr_line(f"the result of the comparison is not recorded: {error}")


def print_outcomes(told: Sequence[Told], *, as_json: bool) -> None:
    """A row a metric and output, and what was not the same; or one JSON object for each repetition."""
    if as_json:
        print_json([_row(one) for one in told])
        return
    for one in told:
        _print(one)


def _row(told: Told) -> dict[str, Any]:
    outcome = told.compared.outcome
    return {
        "run_id": told.facts.run_id,
        "repetition": told.repetition,
        "outcome": told.verdict,
        "metrics": outcome.metrics,
        "points": outcome.points,
        "artifacts": outcome.artifacts,
        "first_difference": outcome.first_difference,
        "not_compared": outcome.not_compared,
        "deviations": list(told.deviations),
        "proves": told.proves,
        "evidence": told.evidence,
    }


def _print(told: Told) -> None:
    outcome = told.compared.outcome
    title = f"{told.verdict}: run {told.repetition} against {told.facts.run_id}"
    rows = [(key, str(points), word, far) for key, points, word, far in outcome.rows]
    print_table(("metric", "points", "results", "largest relative difference"), rows, title=title)
    if outcome.first_difference is not None:
        stderr_line(f"first difference: {outcome.first_difference}")
    for key in outcome.not_compared:
        stderr_line(f"not compared: {key}")
    for deviation in told.deviations:
        stderr_line(f"differs: {deviation}")
    if told.evidence is not None:
        stderr_line(f"over all runs: {told.evidence}")
    if not told.proves:
        stderr_line(
            "this does not count for the grade: code, command, inputs or ranks were not those of the run"
        )
