"""A node in the last hour on which there is something of everything to tell: see `write_troubles`."""

from typing import Any

from support.filled_tables import FilledTables
from support.ingest_events import fixed_id

__all__ = ["WORDS", "write_error", "write_troubles"]

MINUTE = 60_000_000
# What each message begins with or has, by rule.
WORDS = {
    "budget": "team red has used 100 % of its hard budget",
    "hardware error": "Xid 79 on node node-1, H100 GPU-a",
    "stalled run": "lives and has made no step for 2",
    "idle GPU": "H100 GPU-b of node node-1, free, is not used for",
}


def write_troubles(tables: FilledTables, now_us: int) -> None:
    """Events of a priced node with two GPUs up to `now_us`: a run of team red on one of them that stands still since 20
    minutes, an error of its GPU, the other GPU idle, and the budget of the team used up. Not taken in yet."""
    start = now_us - 50 * MINUTE
    devices = [
        {"device_id": gpu, "model": "H100", "memory_bytes": 1, "mig_profile": None}
        for gpu in ("GPU-a", "GPU-b")
    ]
    tables.event("devices", start, at_us=start, devices=devices)
    tables.price(1, start, nano=30 * 10**9)
    tables.started(1, 11, start, team="red", project="iris", name="two\nlines")
    ids: dict[str, Any] = {"run_id": fixed_id(1), "writer_id": fixed_id(11)}
    tables.event("writer_devices", start, at_us=start, device_ids=["GPU-a"], named_ids=[], **ids)
    holder = ids | {
        "resource": "device:GPU-a", "kind": "run", "owner": "ann", "numerator": 1, "denominator": 1,
        "evidence": "processes", "part_id": "", "part_numerator": 0, "part_denominator": 0,
    }  # fmt: skip
    for minute in range(0, 51, 5):
        at_us = start + minute * MINUTE
        tables.event("allocation", at_us, at_us=at_us, key_frame=True, holders=[holder])
    for minute in range(50):
        begin = start + minute * MINUTE
        stats = [
            {"device": gpu, "name": "gpu_util_pct", "samples": 10}
            | dict.fromkeys(("minimum", "mean", "maximum", "last"), used)
            for gpu, used in (("GPU-a", 90.0), ("GPU-b", 0.0))
        ]
        tables.event("hardware", begin + MINUTE, start_us=begin, end_us=begin + MINUTE, stats=stats)
    tables.logged(1, 11, *((start + minute * MINUTE, 10 * minute, 0.5) for minute in range(0, 31, 5)))
    write_error(tables, now_us - 5 * MINUTE, 79)
    tables.event(
        "budget_set", start, at_us=start, scope="team", name="red", currency="USD", hard=True, nano_a_month="1000",
        from_month="2026-01", set_by="t", note=None,
    )  # fmt: skip
    tables.alive(start, now_us)
    tables.usage(start, now_us, (1, 11))


def write_error(tables: FilledTables, at_us: int, code: int) -> None:
    """An Xid of the GPU that the run is on."""
    tables.event("hardware_error", at_us, at_us=at_us, device_id="GPU-a", error="xid", code=code, count=1)
