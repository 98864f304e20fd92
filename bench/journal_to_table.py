"""Embedded, end to end: pending journals to rows in chDB by `trainledger sync`, with fsync and merges counted."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.journals import journal_bytes, write_journals
from bench.workspace import environment, temporary_folder, timed, trainledger

POINTS = 10_000_000
QUICK_POINTS = 1_000_000
# Half of the points come two a row, half twenty a row; from so many runs each.
RUNS_PER_SHAPE = 5
BARS = {"points_per_cpu_s": 450_000, "own_cpu_s_per_million": 0.4, "peak_rss_mb": 900}


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """One run of `sync` over journals that wait, and then the engine alone on the same Arrow blocks."""
    points = QUICK_POINTS if quick else POINTS
    with temporary_folder() as folder:
        env = environment(folder)
        start = timed(trainledger("sync", "--json"), env)  # makes the tables, finds nothing
        start = timed(trainledger("sync", "--json"), env)
        for values in (2, 20):
            write_journals(
                env, runs=RUNS_PER_SHAPE, rows=points // (2 * RUNS_PER_SHAPE * values), values=values
            )
        journal_mb = journal_bytes(folder / "journals") / 1e6
        sync = timed(trainledger("sync", "--json"), env)
        found = json.loads(sync.output)[0]["points"]
        if found != points:
            raise RuntimeError(f"{found} points are in the tables and {points} were logged")
        merges = ask_tables("settle", env, folder / "home")
        engine = ask_tables("engine", env, folder / "home")
    cpu_s = sync.cpu_s + merges["cpu_s"]
    own_s = cpu_s - engine["cpu_s"] - start.cpu_s
    rate, own = points / cpu_s, own_s / points * 1e6
    yield {
        "case": f"{points} points pending in {2 * RUNS_PER_SHAPE} journals, by `trainledger sync`",
        "journal_mb": round(journal_mb, 1),
        "points_per_cpu_s": round(rate),
        "points_per_wall_s": round(points / sync.wall_s),
        "cpu_s": round(cpu_s, 2),
        "wall_s": round(sync.wall_s, 2),
        "merges_after_sync_cpu_s": round(merges["cpu_s"], 2),
        "own_cpu_s_per_million": round(own, 3),
        "peak_rss_mb": round(sync.peak_mb, 1),
        "baselines": {
            "engine_alone_cpu_s": round(engine["cpu_s"], 2),
            "engine_alone_of_it_merges_cpu_s": round(engine["merge_cpu_s"], 2),
            "engine_alone_inserts": engine["inserts"],
            "empty_sync_cpu_s": round(start.cpu_s, 2),
            "empty_sync_wall_s": round(start.wall_s, 2),
            "decode_and_project_cpu_s": round(engine["project_cpu_s"], 2),
        },
        "note": "own part: all CPU of sync and of the merges it left, less the engine alone and a sync of nothing",
        "bars": BARS,
        "met": rate >= BARS["points_per_cpu_s"]
        and own <= BARS["own_cpu_s_per_million"]
        and sync.peak_mb < BARS["peak_rss_mb"],
    }


def ask_tables(name: str, env: Mapping[str, str], home: Path) -> dict[str, Any]:
    """The answer of one program of `bench.tables`."""
    done = timed([sys.executable, "-m", "bench.tables", name, str(home)], env)
    answer: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    return answer
