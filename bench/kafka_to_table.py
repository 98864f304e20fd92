"""Cluster path on one machine: a real broker's topics into chDB by `trainledger ingest --once`, merges counted."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.journal_to_table import ask_tables
from bench.journals import write_journals
from bench.workspace import environment, running, temporary_folder, timed, trainledger

POINTS = 10_000_000
QUICK_POINTS = 400_000
RUNS_PER_SHAPE = 4
BAR_POINTS_PER_CPU_S = 400_000
BROKER = Path(__file__).resolve().parents[1] / "deploy" / "kafka" / "run.py"


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Journals are published by the agent first; only the ingest process and its merges are counted."""
    points = QUICK_POINTS if quick else POINTS
    with temporary_folder() as folder:
        port = free_port()
        start = [sys.executable, str(BROKER), "--folder", str(folder / "kafka"), "--port", str(port)]
        with running(start, environment(folder), ready="ready"):
            env = environment(folder, TRAINLEDGER_KAFKA=f"127.0.0.1:{port}")
            timed(trainledger("admin", "topics"), env)
            for values in (2, 20):
                rows = points // (2 * RUNS_PER_SHAPE * values)
                write_journals(env, runs=RUNS_PER_SHAPE, rows=rows, values=values)
            publish = timed(trainledger("agent", "--once", "--home", str(folder / "agent")), env)
            tables = folder / "tables"
            ingest = timed(trainledger("ingest", "--once", "--home", str(tables)), env)
        merges = ask_tables("settle", env, tables)
        found = ask_tables("count", env, tables)
    if found["points"] != points:
        raise RuntimeError(f"{found['points']} points are in the tables and {points} were logged")
    cpu_s = ingest.cpu_s + merges["cpu_s"]
    yield {
        "case": f"{points} points in Kafka, by `trainledger ingest --once` into chDB",
        "points_per_cpu_s": round(points / cpu_s),
        "points_per_wall_s": round(points / ingest.wall_s),
        "cpu_s": round(cpu_s, 2),
        "wall_s": round(ingest.wall_s, 2),
        "merges_after_ingest_cpu_s": round(merges["cpu_s"], 2),
        "points_per_batch": round(points / found["batches"]),
        "partitions": found["partitions"],
        "peak_rss_mb": round(ingest.peak_mb, 1),
        "agent_publish": {
            "points_per_cpu_s": round(points / publish.cpu_s),
            "cpu_s": round(publish.cpu_s, 2),
            "wall_s": round(publish.wall_s, 2),
        },
        "note": "the start of the process (imports, engine, joining the group) is counted",
        "bars": {"points_per_cpu_s": BAR_POINTS_PER_CPU_S},
        "met": points / cpu_s >= BAR_POINTS_PER_CPU_S,
    }


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
