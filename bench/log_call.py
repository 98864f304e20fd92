"""What a call of log() costs: hot loop, local disk, against an empty call and the fastest peer in the same run."""

import importlib.util
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.workspace import environment, temporary_folder, timed


@dataclass(frozen=True, slots=True)
class Sizes:
    """Calls of a run, and how many runs; the peer is so much slower that fewer calls must do."""

    calls: int = 200_000
    runs: int = 5
    spaced_calls: int = 10_000
    peer_calls: int = 20_000
    peer_runs: int = 3


QUICK = Sizes(calls=20_000, runs=1, spaced_calls=1_000, peer_calls=2_000, peer_runs=1)


def run_subject(name: str, calls: int, values: int, pause_us: float = 0) -> dict[str, float]:
    """One process; its folder is on the disk that holds the working tree, not on tmpfs."""
    with temporary_folder() as folder:
        env = environment(folder, TRACKIO_DIR=str(folder / "trackio"))
        command = [sys.executable, "-m", "bench.subjects", name, str(calls), str(values), str(pause_us)]
        answer: dict[str, float] = json.loads(timed(command, env).output.strip().splitlines()[-1])
    return answer


def medians(samples: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the runs."""
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """The bars of two and of twenty values, and the call as users meet it."""
    sizes = QUICK if quick else Sizes()
    for values in (2, 20):
        yield hot_loop(values, sizes)
    yield spaced_calls(sizes)
    if importlib.util.find_spec("trackio") is None:
        raise RuntimeError('the peer is missing: pip install -c constraints.txt -e ".[bench]"')
    yield against_peer(sizes)


def hot_loop(values: int, sizes: Sizes) -> dict[str, Any]:
    """Runs of ours and of the empty call in turn."""
    empty, ours = [], []
    for _ in range(sizes.runs):
        empty.append(run_subject("empty", sizes.calls, values))
        ours.append(run_subject("trainledger", sizes.calls, values))
    base, call = medians(empty), medians(ours)
    net_us = (call["p50"] - base["p50"]) / 1000
    line: dict[str, Any] = {
        "case": f"hot loop, {values} values",
        "empty_p50_us": base["p50"] / 1000,
        **{f"{q}_us": call[q] / 1000 for q in ("p50", "p90", "p99", "p999")},
        "p50_net_us": round(net_us, 3),
        "cpu_us_per_call": round((call["cpu_s"] - base["cpu_s"]) / sizes.calls * 1e6, 3),
        "calls_per_s": round(sizes.calls / call["wall_s"]),
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


def spaced_calls(sizes: Sizes) -> dict[str, Any]:
    """One call each 200 us, as between training steps: caches are cold, so it costs more."""
    empty = medians([run_subject("empty", sizes.spaced_calls, 2, 200) for _ in range(sizes.peer_runs)])
    ours = medians([run_subject("trainledger", sizes.spaced_calls, 2, 200) for _ in range(sizes.peer_runs)])
    return {
        "case": "one call each 200 us, 2 values",
        "empty_p50_us": empty["p50"] / 1000,
        **{f"{q}_us": ours[q] / 1000 for q in ("p50", "p99", "p999")},
    }


def against_peer(sizes: Sizes) -> dict[str, Any]:
    """Durable calls a second and CPU a call, ours and trackio's in turn."""
    ours, peer = [], []
    for _ in range(sizes.peer_runs):
        ours.append(run_subject("trainledger", sizes.calls, 2))
        peer.append(run_subject("trackio", sizes.peer_calls, 2))
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
        "note": "trackio's calls only queue: its time ends when finish() has written them",
        "bars": {"calls_ratio": 20, "cpu_ratio": 0.05},
        "met": ratio >= 20 and share <= 0.05,
    }
