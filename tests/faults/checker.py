"""What a campaign left in the tables against what its training processes know: `python -m faults.checker FOLDER`.

A process of its own that shares nothing with the product: it reads the progress files of the training processes
below FOLDER and asks `trainledger sql` as a user would, with the environment it is started with. Prints one JSON
object and, on stderr, a line for each contradiction; exit status 1 if there is one.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from faults.trainers import Known, read_known
from faults.workload import LINE_EVERY
from support.installation import BIN

__all__ = ["PRICE_PER_HOUR"]

# A thousandth a second, so that every bill can be computed in the head.
PRICE_PER_HOUR = "3.6"
PRICE_PER_S = Decimal("0.001")
TIMEOUT_S = 300

POINTS = """
    SELECT r.name AS name, m.key AS key, count() AS points, uniqExact(m.step) AS steps, min(m.step) AS first,
           max(m.step) AS last,
           countIf(m.value != multiIf(startsWith(m.key, 'k'), m.step / 2 + toUInt8(substring(m.key, 2)),
                                      startsWith(m.key, 'n'), -m.step, m.step)) AS wrong
    FROM metrics AS m JOIN runs AS r ON r.run_id = m.run_id GROUP BY name, key
"""
RUNS = "SELECT name, state, attempts, ranks, state_reason FROM runs"
WRITERS = (
    "SELECT count() AS writers, sum(gap_points) AS gap_points, uniqExact(writer_id) AS ids FROM run_writers"
)
LINES = """
    SELECT r.name AS name, count() AS lines, uniqExact(l.line_no) AS numbers, max(l.line_no) AS last,
           countIf(l.text != concat('line ', toString(l.line_no))) AS wrong
    FROM logs AS l JOIN runs AS r ON r.run_id = l.run_id WHERE l.stream = 'stdout' GROUP BY name
"""
BILLS = """
    SELECT sum(present_s) AS present_s, sum(bill) AS bill, sum(run + untracked + idle + system + unknown) AS dealt,
           sum(difference) AS difference, count() AS days FROM node_bills
"""
DEAD = "SELECT count() AS dead FROM dead_letters"


def main(folder: Path) -> int:
    """Compare; see the module."""
    known = read_known(folder)
    problems = list(check_points(known)) + list(check_runs(known)) + list(check_lines(known))
    problems += check_totals()
    returned = sum(sum(trainer.returned) for trainer in known)
    summary = {
        "trainers": len(known),
        "killed": sum(trainer.killed for trainer in known),
        "returned_calls": returned,
        "contradictions": len(problems),
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    for problem in problems[:50]:
        sys.stderr.write(problem + "\n")
    return 1 if problems else 0


def check_points(known: list[Known]) -> Iterator[str]:
    """Every returned call once and right; at most one more a thread, which was in the file when the kill came."""
    stored = {(row["name"], row["key"]): row for row in ask(POINTS)}
    for trainer in known:
        for thread, returned in enumerate(trainer.returned):
            allowed = {returned, returned + 1} if trainer.killed else {returned}
            calls = int(stored.get((trainer.plan.name, f"k{thread}"), {"points": 0})["points"])
            if calls not in allowed:
                yield f"{trainer.plan.name} thread {thread}: {returned} calls returned, {calls} are stored"
            for key, points in ((f"k{thread}", calls), (f"n{thread}", calls), (f"e{thread}", calls // 7)):
                yield from check_key(
                    trainer.plan.name, key, points, stored.pop((trainer.plan.name, key), None)
                )
    for name, key in stored:
        yield f"{name} {key}: stored, but nobody logged it"


def check_key(name: str, key: str, points: int, row: dict[str, Any] | None) -> Iterator[str]:
    """One series: as many points as calls, each step once, no value wrong."""
    if row is None:
        if points:
            yield f"{name} {key}: {points} points are missing"
        return
    stride = 7 if key.startswith("e") else 1
    found = tuple(int(row[column]) for column in ("points", "steps", "first", "last", "wrong"))
    if found != (points, points, stride, points * stride, 0):
        yield f"{name} {key}: (points, steps, first, last, wrong) is {found}, expected {points} points"


def check_runs(known: list[Known]) -> Iterator[str]:
    """One run a training process, in the state that its death was."""
    runs = {row["name"]: row for row in ask(RUNS)}
    for trainer in known:
        run = runs.pop(trainer.plan.name, None)
        if run is None:
            if trainer.begun:
                yield f"{trainer.plan.name}: init returned, but there is no run"
            continue
        death = "killed" if trainer.plan.is_wrapped else "crashed"
        # A kill can come while the process ends by itself: then either is true.
        allowed = {death} if trainer.killed else {"finished"}
        if trainer.killed and trainer.ended:
            allowed = {death, "finished"}
        if run["state"] not in allowed:
            yield f"{trainer.plan.name}: state {run['state']} ({run['state_reason']}), expected {sorted(allowed)}"
        if int(run["attempts"]) != 1:
            yield f"{trainer.plan.name}: {run['attempts']} attempts"
    for name in runs:
        yield f"run {name}: nobody started it"


def check_lines(known: list[Known]) -> Iterator[str]:
    """What a wrapped process printed: each line once, in order, up to the last that it was sure of."""
    logs = {row["name"]: row for row in ask(LINES)}
    for trainer in known:
        if not trainer.plan.is_wrapped:
            continue
        row = logs.pop(trainer.plan.name, {"lines": 0, "numbers": 0, "last": 0, "wrong": 0})
        lines, numbers, last, wrong = (int(row[name]) for name in ("lines", "numbers", "last", "wrong"))
        most = trainer.returned[0] // LINE_EVERY + 1 if trainer.killed else trainer.lines
        if not (lines == numbers == last and trainer.lines <= lines <= most and wrong == 0):
            yield (
                f"{trainer.plan.name}: printed {trainer.lines} lines, stored {lines} "
                f"({numbers} numbers up to {last}, {wrong} wrong)"
            )
    for name in logs:
        yield f"run {name}: lines that nobody printed"


def check_totals() -> Iterator[str]:
    """Nothing dropped, nothing dead, and the bill is presence times price, dealt to the last nano."""
    writers, dead = ask(WRITERS)[0], ask(DEAD)[0]
    if int(writers["gap_points"] or 0):
        yield f"{writers['gap_points']} points were dropped"
    if int(writers["writers"]) != int(writers["ids"]):
        yield f"{writers['writers']} writers have {writers['ids']} ids"
    if int(dead["dead"]):
        yield f"{dead['dead']} dead letters"
    bill = ask(BILLS)[0]
    if int(bill["days"]) and bill["bill"] is not None:
        owed = Decimal(str(bill["present_s"])) * PRICE_PER_S
        amounts = [Decimal(bill[column]) for column in ("bill", "dealt")]
        # present_s is printed in microseconds: a bill may differ by what one microsecond costs, a node and day.
        allowed = PRICE_PER_S * Decimal("0.000001") * int(bill["days"])
        if abs(amounts[0] - owed) > allowed or amounts[0] != amounts[1] or Decimal(bill["difference"]):
            yield f"the bill {amounts[0]} is not {owed}, or not what was dealt, {amounts[1]}"


def ask(query: str) -> list[dict[str, Any]]:
    """The rows of a query through the command a user has."""
    done = subprocess.run(
        [str(BIN / "trainledger"), "sql", " ".join(query.split()), "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        raise SystemExit(f"the query failed with status {done.returncode}: {done.stderr[-2000:]}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
