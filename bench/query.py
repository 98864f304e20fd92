"""How long people wait for an answer: all curves' last, min and max, and a month's cost by team."""

import json
from collections.abc import Iterator
from typing import Any

from bench.journal_to_table import ask_tables
from bench.journals import write_journals
from bench.workspace import environment, temporary_folder, timed, trainledger

RUNS, KEYS, STEPS = 1_000, 100, 100
NODES, HOURS = 200, 720
BAR_MS = 300


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Runs are written by the SDK and read in by `trainledger sync`; node-hours go in as the worker writes them."""
    runs, nodes, hours = (60, 20, 72) if quick else (RUNS, NODES, HOURS)
    with temporary_folder() as folder:
        env, home = environment(folder), folder / "home"
        points = write_journals(env, runs=runs, rows=STEPS, values=KEYS)
        sync = timed(trainledger("sync", "--json"), env)
        (folder / "hours.json").write_text(json.dumps({"nodes": nodes, "hours": hours}), encoding="ascii")
        ask_tables("hours", env, home)
        ask_tables("settle", env, home)
        answers = ask_tables("ask", env, home)
    made = f"{points} points of {runs} runs x {KEYS} keys: SDK, then `trainledger sync` ({sync.wall_s:.0f} s)"
    yield line(
        "last, min and max of every key of every run (view metric_summary)", answers["last_min_max"], made
    )
    made = (
        f"{nodes} nodes x {hours} hours, five lines each, of these {runs} runs in 20 teams: rows of dealt node-hours"
        " through CostTables, not dealt from events (millions for a month)"
    )
    yield line("cost by team over the month (what `trainledger cost` asks)", answers["cost_by_team"], made)
    yield line("cost by team over the month (view cost_daily)", answers["cost_daily_by_team"], made)


def line(case: str, answer: dict[str, Any], data: str) -> dict[str, Any]:
    """One question; cold is the first time in a new process, warm the median of the times after it."""
    return {
        "case": case,
        "data": data,
        **answer,
        "bars": {"warm_ms": BAR_MS, "cold_ms": BAR_MS},
        "met": answer["warm_ms"] < BAR_MS and answer["cold_ms"] < BAR_MS,
    }
