"""What the agent of a node with eight GPUs tells in an hour, of seeded chance: as it spools it, and as cost reads it.

A node event each 30 s, a usage window each 10 s with every holder's CPU time and every GPU's use, an allocation each
five minutes and on change. Runs hold GPUs by being there, by claims (of whole GPUs, replicas or slices), or not at all;
one stream in eight has a time that nobody watched. Runs are numbered within the node.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

from trainledger_ingest.cost.node_events import HOUR_US
from trainledger_ingest.cost.node_facts import WriterPlaces, read_node_events
from trainledger_ingest.cost.node_stream import NodeStream

__all__ = ["Told", "node_stream", "told_in_hour"]

GPUS = tuple(f"GPU-{number:08x}-1b3c-4d5e-8f90-a1b2c3d4e5f6" for number in range(8))
CORES = 96
SECOND_US = 1_000_000
WINDOW_US = 10 * SECOND_US
BOOT = "00000000-0000-4000-8000-0000000000b0"

# Type, wall time in microseconds, fields as the spool takes them but for ids, which are text.
Told = tuple[str, int, dict[str, Any]]


def node_stream(seed: int, hour_us: int) -> NodeStream:
    """The events of an hour as cost reads them from the tables; run ids are numbers as text."""
    rows = (
        {
            "type": kind,
            "at_us": at_us,
            "boot_id": BOOT,
            "producer_id": "agent",
            "seq": number,
            "offset": number,
            "body": json.dumps(fields | {"wall_us": at_us, "boot_us": at_us - hour_us + 86_400 * SECOND_US}),
        }
        for number, (kind, at_us, fields) in enumerate(told_in_hour(seed, hour_us))
    )
    return NodeStream("bench", read_node_events(rows, writers=WriterPlaces()).events)


def told_in_hour(seed: int, hour_us: int) -> Iterator[Told]:
    """All events of one hour, in order of time."""
    chance = random.Random(seed)
    crew = chance.randint(1, 4)
    silent_us = chance.randrange(HOUR_US) if seed % 8 == 0 else 2 * HOUR_US
    devices = [
        {"device_id": gpu, "model": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 << 30, "mig_profile": None}
        for gpu in GPUS
    ]
    yield "devices", hour_us, {"at_us": hour_us, "devices": devices}
    holders = _holders(chance, crew)
    jitter_us = 0
    for start_us in range(hour_us, hour_us + HOUR_US, WINDOW_US):
        passed_us = start_us - hour_us
        if silent_us <= passed_us < silent_us + 240 * SECOND_US:
            continue
        if passed_us % (300 * SECOND_US) == 0 or chance.random() < 0.005:
            if chance.random() < 0.3:
                holders = _holders(chance, crew)
            yield "allocation", start_us, {"at_us": start_us, "key_frame": True, "holders": holders}
        if passed_us % (30 * SECOND_US) == 0:
            yield "node_present", start_us, _present(start_us)
        begin_us, jitter_us = start_us + jitter_us, chance.randrange(3_000)
        end_us = start_us + WINDOW_US + jitter_us
        yield "process_usage", end_us, _usage(chance, begin_us, end_us, crew)
    yield "node_present", hour_us + HOUR_US, _present(hour_us + HOUR_US)


def _present(at_us: int) -> dict[str, Any]:
    return {
        "at_us": at_us, "host": "bench", "cores": CORES, "memory_bytes": 1 << 40, "agent_version": "bench",
        "leaving": False, "busy_us": None, "writers": [],
    }  # fmt: skip


def _holder(number: int) -> dict[str, Any]:
    """A run, or for -1 the processes of a person, for -2 of the system."""
    if number >= 0:
        return {"kind": "run", "run_id": str(number), "writer_id": None, "owner": "ann"}
    kind, owner = ("untracked", "bob") if number == -1 else ("system", None)
    return {"kind": kind, "run_id": None, "writer_id": None, "owner": owner}


def _holders(chance: random.Random, crew: int) -> list[dict[str, Any]]:
    """Who is on which GPU: most are one run's, some are free, shared, sliced or claimed in replicas."""
    found: list[dict[str, Any]] = []
    for place, gpu in enumerate(GPUS):
        run, form = _holder(place * crew // len(GPUS)), chance.random()
        whole = {"resource": f"device:{gpu}", "evidence": "process", "numerator": 0, "denominator": 0}
        if form < 0.1:
            continue
        if form < 0.2:
            found += [whole | run, whole | _holder(-1)]
        elif form < 0.3:
            found += [
                whole | _holder(n) | {"numerator": 1, "denominator": 4, "evidence": "replica"}
                for n in range(crew)
            ]
        elif form < 0.35:
            parts = ((0, 4), (1, 3))
            found += [
                whole
                | _holder(n % crew)
                | {"part_id": f"MIG-{n}", "part_numerator": size, "part_denominator": 8}
                for n, size in parts
            ]
        elif form < 0.7:
            found.append(whole | run | {"numerator": 1, "denominator": 1, "evidence": "claim"})
        else:
            found.append(whole | run)
    return found


def _usage(chance: random.Random, start_us: int, end_us: int, crew: int) -> dict[str, Any]:
    length_us = end_us - start_us
    rates = {number: chance.uniform(0.5, 80 / crew) for number in range(crew)} | {
        -1: chance.random(),
        -2: 0.3,
    }
    usage = [
        _holder(number) | {"cpu_us": round(rate * length_us), "memory_peak_bytes": 1 << 30, "devices": []}
        for number, rate in rates.items()
    ]
    devices = [
        {
            "device_id": gpu,
            "part_id": "",
            "observed_us": length_us,
            "busy_us": round(length_us * chance.random()),
        }
        for gpu in GPUS
    ]
    return {"start_us": start_us, "end_us": end_us, "cores": CORES, "usage": usage, "devices": devices}
