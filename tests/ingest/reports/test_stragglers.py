"""What ranks cost while they waited for the slowest: by hand from the logged points, in Fractions."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_store import fresh_store
from support.random_cluster import BEGIN_US, MINUTE_US, S
from trainledger_ingest.reports.stragglers import read_stragglers

STEPS = 12
NODES = ("node-1", "node-1", "node-2", "node-1")


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def fill(tables: FilledTables, run: int, times: list[list[int]]) -> None:
    """A run whose rank r logs step n at times[r][n] (microseconds from the beginning)."""
    for rank, logged in enumerate(times):
        writer = run * 10 + rank
        tables.started(
            run,
            writer,
            BEGIN_US,
            node=NODES[rank],
            rank=rank,
            world_size=len(times),
            joined="environment",
            team="red",
        )
        tables.logged(run, writer, *((BEGIN_US + at_us, step, 1.0) for step, at_us in enumerate(logged)))


def live(tables: FilledTables, times: dict[int, list[list[int]]]) -> None:
    """The nodes are there for two minutes, with the ranks of all runs on them."""
    for node in set(NODES):
        here = [
            (run, run * 10 + rank)
            for run, ranks in times.items()
            for rank in range(len(ranks))
            if NODES[rank] == node
        ]
        tables.alive(BEGIN_US, BEGIN_US + 2 * MINUTE_US, node=node)
        tables.usage(BEGIN_US, BEGIN_US + 2 * MINUTE_US, *here, node=node, cores=0.25)


def expected(times: list[list[int]], costs: dict[str, Decimal]) -> dict[int, tuple[int, str, int, int]]:
    """Rank -> (straggler, evidence, millionths waited, 10^-9 of money waited), by the rules of docs/waste.md."""
    ranks = range(len(times))
    step_s = [median([Fraction(b - a, S) for a, b in zip(t, t[1:], strict=False)]) for t in times]
    late_s = [
        median([Fraction(times[r][n] - min(t[n] for t in times), S) for n in range(STEPS)]) for r in ranks
    ]
    last = [
        Fraction(sum(times[r][n] == max(t[n] for t in times) for n in range(STEPS)), STEPS) for r in ranks
    ]
    slower = [100 * (step / median(step_s) - 1) for step in step_s]
    worst = max(ranks, key=lambda r: (slower[r], -r))
    if slower[worst] >= 5:
        evidence, waits = "slower steps", {r: max(Fraction(0), 1 - step_s[r] / step_s[worst]) for r in ranks}
    else:
        worst = max(ranks, key=lambda r: (last[r], -r))
        mates = [late_s[r] for r in ranks if NODES[r] == NODES[worst] and r != worst]
        lag = (late_s[worst] - (median(mates) if mates else 0)) / step_s[worst]
        if last[worst] < Fraction(1, 2) or not Fraction(5, 100) <= lag < 1:
            return {}
        evidence, waits = "late", dict.fromkeys(ranks, lag)
    found = {}
    for r in ranks:
        if r != worst:
            ppm = int(waits[r] * 10**6 + Fraction(1, 2))
            mates_here = sum(NODES[q] == NODES[r] for q in ranks)
            found[r] = (worst, evidence, ppm, int(costs[NODES[r]].scaleb(9)) * ppm // (mates_here * 10**6))
    return found


def series(chance: Random, kind: str) -> list[list[int]]:
    """Times of three or four ranks: equal, one that is slower, or one that is late in each step."""
    ranks = 4 if kind == "in turn" else chance.choice((3, 4))
    odd = chance.randrange(ranks)
    found = []
    for rank in range(ranks):
        pace, offset = 2 * S, 0
        if rank == odd and kind == "slower":
            pace = 2 * S + chance.randrange(S // 5, S)
        if rank == odd and kind == "late":
            offset = chance.randrange(S // 4, S)
        if rank and kind == "in turn":
            # Each but the first is late, and the last in a third of the steps: nobody in half of them.
            ranks_late = ranks - 1
            late = [S // 2 + (S // 10 if step % ranks_late == rank - 1 else 0) for step in range(STEPS)]
            found.append([step * pace + late[step] for step in range(STEPS)])
            continue
        found.append([offset + step * pace + chance.randrange(S // 100) for step in range(STEPS)])
    return found


@pytest.mark.parametrize("kind", ["equal", "in turn", "slower", "late"])
def test_waiting_and_its_price_are_those_of_the_slow_calculation(tables: FilledTables, kind: str) -> None:
    times = {run: series(Random(f"{kind} {run}"), kind) for run in (1, 2, 3)}
    for run, logged in times.items():
        fill(tables, run, logged)
    live(tables, times)
    tables.price(1, BEGIN_US, nano=36_000_000_000)
    tables.take_in()
    stored: dict[int, dict[int, tuple[int, str, int, int]]] = {run: {} for run in times}
    for row in tables.rows("straggler_costs"):
        run = next(run for run in times if id_of(run) == str(row["run_id"]))
        assert row["currency"] == "USD" and row["node_id"] == NODES[row["rank"]]
        stored[run][row["rank"]] = (
            row["straggler"], row["evidence"], round(row["wait_pct"] * 10_000), int(row["cost_waited"].scaleb(9)),
        )  # fmt: skip
    for run, logged in times.items():
        paid = {
            str(row["node_id"]): row["cost"]
            for row in tables.rows(
                "cost_lines",
                columns="node_id, sum(cost) AS cost",
                rest=f"WHERE run_id = '{id_of(run)}' GROUP BY node_id",
            )
        }
        wanted = expected(logged, paid)
        assert bool(wanted) == (kind in ("slower", "late"))
        assert stored[run] == wanted
    report = read_stragglers(tables.session, start=None, end=None)
    assert len(report) == (3 if kind in ("slower", "late") else 0)
    for shown in report:
        run = next(run for run in times if id_of(run) == shown["run_id"])
        nano = sum(item[3] for item in stored[run].values())
        assert abs(Decimal(shown["cost_waited"]) - Decimal(nano).scaleb(-9)) <= Decimal("0.005")
        assert shown["ranks_waiting"] == len(stored[run])


def test_without_a_price_the_waiting_is_told_and_its_cost_is_unknown(tables: FilledTables) -> None:
    logged = series(Random("late 1"), "late")
    fill(tables, 1, logged)
    live(tables, {1: logged})
    tables.take_in()
    rows: list[dict[str, Any]] = tables.rows("straggler_costs")
    assert rows and all(row["cost_waited"] is None and row["wait_pct"] > 0 for row in rows)
    (shown,) = read_stragglers(tables.session, start=None, end=None)
    assert (shown["cost_waited"], shown["currency"]) == (None, None)
