"""A slow second opinion on GPUs: who holds each at the end of a random cluster, how busy it was, and hours over time."""

from dataclasses import dataclass
from typing import Any

from support.random_cluster import HOURS, MINUTE_US, RandomCluster, S
from trainledger_schemas.ids import id_text

DAY_US = 86_400 * S


@dataclass(frozen=True)
class SlowGpu:
    """As a row of view `gpus`; times in microseconds since 1970, idle time in seconds."""

    state: str
    holders: tuple[str, ...]
    is_claimed: bool
    held_since: int | None
    util_pct: float | None
    observed_s: float
    idle_s: float | None


def slow_gpu(cluster: RandomCluster, node: str, gpu: str) -> SlowGpu:
    """The GPU at the end of the cluster's time."""
    end_us = cluster.begin_us + HOURS * 60 * MINUTE_US
    told = [(at_us, _holders(holders, gpu)) for where, at_us, holders in cluster.allocations if where == node]
    now = told[-1][1]
    since = None
    for holder in now:
        at_us = told[-1][0]
        for earlier_us, earlier in reversed(told):
            if holder not in earlier:
                break
            at_us = earlier_us
        since = at_us if since is None else min(since, at_us)
    mine = [item[2:] for item in cluster.samples if item[:2] == (node, gpu)]
    late = [item for item in mine if item[1] + MINUTE_US > end_us - 10 * MINUTE_US]
    use = [item for item in late if item[0] == "gpu_util_pct"]
    weight = sum(samples for _, _, _, samples in use)
    util = sum(mean * samples for _, _, mean, samples in use) / weight if weight else None
    all_use = [item for item in mine if item[0] == "gpu_util_pct" and item[1] >= end_us - DAY_US]
    idle = None
    if use:
        busy = [start_us + MINUTE_US for _, start_us, mean, _ in all_use if mean > 0]
        begin = max(busy) if busy else min(start_us for _, start_us, _, _ in all_use)
        idle = (max(start_us + MINUTE_US for _, start_us, _, _ in all_use) - begin) / S
    state = "free" if not now else "held" if util is None else "in use" if util else "held unused"
    return SlowGpu(
        state,
        tuple(sorted({name for name, _ in now})),
        any(is_claim for _, is_claim in now),
        since,
        util,
        float(sum(mean * samples for name, _, mean, samples in late if name == "observed_s")),
        idle,
    )


def _holders(holders: list[dict[str, Any]], gpu: str) -> set[tuple[str, bool]]:
    return {
        (
            id_text(item["run_id"]) if item["run_id"] else f"user:{item['owner']}",
            item["denominator"] > 0,
        )
        for item in holders
        if item["resource"] == f"device:{gpu}"
    }
