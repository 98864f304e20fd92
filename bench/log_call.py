"""What a call of log() costs: hot loop, local disk, against an empty call and the fastest peer in the same run."""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CALLS = 200_000
RUNS = 5
PEER_CALLS = 20_000


def run_subject(name: str, calls: int, values: int, pause_us: float = 0) -> dict[str, float]:
    """One process; its folder is on the disk that holds the working tree, not on tmpfs."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        environment = dict(os.environ) | {
            "TRAINLEDGER_DIR": f"{folder}/journals",
            "TRAINLEDGER_HOME": f"{folder}/home",
            "TRACKIO_DIR": f"{folder}/trackio",
            "TRAINLEDGER_CAPTURE": "off",
        }
        done = subprocess.run(
            [sys.executable, "-m", "bench.subjects", name, str(calls), str(values), str(pause_us)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def medians(samples: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the runs."""
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def measure() -> Iterator[dict[str, Any]]:
    """The bars of two and of twenty values, and the call as users meet it."""
    for values in (2, 20):
        yield hot_loop(values)
    yield spaced_calls()
    if importlib.util.find_spec("trackio") is None:
        raise SystemExit('the peer is missing: pip install -e ".[bench]"')
    yield against_peer()


def hot_loop(values: int) -> dict[str, Any]:
    """Runs of ours and of the empty call in turn."""
    empty, ours = [], []
    for _ in range(RUNS):
        empty.append(run_subject("empty", CALLS, values))
        ours.append(run_subject("trainledger", CALLS, values))
    base, call = medians(empty), medians(ours)
    net_us = (call["p50"] - base["p50"]) / 1000
    line: dict[str, Any] = {
        "case": f"hot loop, {values} values",
        "empty_p50_us": base["p50"] / 1000,
        **{f"{q}_us": call[q] / 1000 for q in ("p50", "p90", "p99", "p999")},
        "p50_net_us": round(net_us, 3),
        "cpu_us_per_call": round((call["cpu_s"] - base["cpu_s"]) / CALLS * 1e6, 3),
        "calls_per_s": round(CALLS / call["wall_s"]),
    }
    if values == 2:
        line["bars"] = {"p50_net_us": 1.5, "p99_us": 7, "p999_us": 30, "calls_per_s": 300_000}
        line["met"] = (
            net_us <= 1.5
            and call["p99"] <= 7000
            and call["p999"] <= 30_000
            and line["calls_per_s"] >= 300_000
        )
    else:
        line["bars"] = {"p50_us": 3.2}
        line["met"] = call["p50"] <= 3200
    return line


def spaced_calls() -> dict[str, Any]:
    """One call each 200 us, as between training steps: caches are cold, so it costs more."""
    empty = medians([run_subject("empty", 10_000, 2, 200) for _ in range(3)])
    ours = medians([run_subject("trainledger", 10_000, 2, 200) for _ in range(3)])
    return {
        "case": "one call each 200 us, 2 values",
        "empty_p50_us": empty["p50"] / 1000,
        **{f"{q}_us": ours[q] / 1000 for q in ("p50", "p99", "p999")},
    }


def against_peer() -> dict[str, Any]:
    """Durable calls a second and CPU a call, ours and trackio's in turn."""
    ours, peer = [], []
    for _ in range(3):
        ours.append(run_subject("trainledger", CALLS, 2))
        peer.append(run_subject("trackio", PEER_CALLS, 2))
    us, them = medians(ours), medians(peer)
    calls = {"trainledger": us["calls"] / us["wall_s"], "trackio": them["calls"] / them["wall_s"]}
    cpu = {"trainledger": us["cpu_s"] / us["calls"] * 1e6, "trackio": them["cpu_s"] / them["calls"] * 1e6}
    ratio, share = calls["trainledger"] / calls["trackio"], cpu["trainledger"] / cpu["trackio"]
    return {
        "case": "against trackio, 2 values",
        "calls_per_s": {k: round(v) for k, v in calls.items()},
        "cpu_us_per_call": {k: round(v, 2) for k, v in cpu.items()},
        "calls_ratio": round(ratio, 1),
        "cpu_ratio": round(share, 4),
        "note": "trackio's calls only queue: its points are not on disk when the call returns",
        "bars": {"calls_ratio": 20, "cpu_ratio": 0.05},
        "met": ratio >= 20 and share <= 0.05,
    }
