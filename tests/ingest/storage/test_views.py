"""The public views: their columns, types and comments are promised; their values come from real events."""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_schemas.clock import SystemClock

S = 1_000_000
TEXT, MAYBE_TEXT = "String", "Nullable(String)"
AT, HOUR, DAY = "DateTime64(6, 'UTC')", "DateTime('UTC')", "Date"
MAYBE_FACTOR = "Nullable(Decimal(18, 6))"
NO_MONEY = {"pue", "grid_g_per_kwh", "kgco2e"}
MAYBE_NUMBER, MAYBE_MONEY = "Nullable(Float64)", "Nullable(Decimal(38, 9))"

VIEWS: dict[str, dict[str, str]] = {
    "runs": {
        "run_id": "UUID", "project": TEXT, "experiment": MAYBE_TEXT, "name": MAYBE_TEXT, "team": MAYBE_TEXT,
        "user": MAYBE_TEXT, "state": TEXT, "state_reason": TEXT, "attempts": "UInt16", "ranks": "UInt32",
        "nodes": "UInt32", "started_at": f"Nullable({AT})", "ended_at": f"Nullable({AT})", "last_seen_at": AT,
        "duration_s": MAYBE_NUMBER, "eta_s": MAYBE_NUMBER, "gpu_hours": MAYBE_NUMBER, "cost": MAYBE_MONEY,
        "currency": MAYBE_TEXT, "payer_evidence": MAYBE_TEXT, "grade": MAYBE_TEXT, "tags": "Array(String)",
        "run_group": MAYBE_TEXT,
    },
    "run_writers": {
        "run_id": "UUID", "attempt": "UInt16", "writer_id": "UUID", "rank": "Nullable(UInt32)",
        "local_rank": "Nullable(UInt32)", "world_size": "Nullable(UInt32)", "node_id": TEXT, "pid": "UInt32",
        "device_ids": "Array(String)", "started_at": f"Nullable({AT})", "last_seen_at": AT, "state": TEXT,
        "exit_code": "Nullable(Int32)", "signal": "Nullable(Int32)", "gap_points": "UInt64",
        "node_rank": "Nullable(UInt32)", "launcher": TEXT, "joined": TEXT, "decides": "Bool",
        "role": TEXT, "parent_writer": "Nullable(UUID)",
    },
    "writer_moves": {
        "change_id": "UUID", "from_run_id": "UUID", "to_run_id": "UUID", "writer_ids": "Array(UUID)", "at": AT,
        "set_by": TEXT, "note": MAYBE_TEXT, "undone_at": f"Nullable({AT})", "undone_by": MAYBE_TEXT,
    },
    "params": {
        "run_id": "UUID", "key": TEXT, "value": TEXT, "value_number": MAYBE_NUMBER, "attempt": "UInt16", "set_at": AT,
        "is_current": "Bool",
    },
    "blob_places": {
        "run_id": "UUID", "sha256": "String", "place": "String", "blobs": "UInt64", "new_bytes": "UInt64",
        "missing": "UInt64", "stored_at": "DateTime64(6, 'UTC')", "reasons": "Array(String)",
    },
    "blob_references": {
        "run_id": "UUID", "sha256": "String", "kind": "String", "what": "String", "name": "String",
        "at": "DateTime64(6, 'UTC')",
    },
    "summary": {
        "run_id": "UUID", "key": TEXT, "value": TEXT, "value_number": MAYBE_NUMBER, "attempt": "UInt16", "set_at": AT,
        "is_current": "Bool",
    },
    "metrics": {
        "run_id": "UUID", "attempt": "UInt16", "rank": "Nullable(UInt32)", "key": TEXT, "step": "Int64", "at": AT,
        "value": "Float64",
    },
    "text_points": {
        "run_id": "UUID", "attempt": "UInt16", "rank": "Nullable(UInt32)", "key": TEXT, "step": "Int64", "at": AT,
        "text": TEXT,
    },
    "metric_summary": {
        "run_id": "UUID", "key": TEXT, "points": "UInt64", "nan_points": "UInt64", "first_step": "Int64",
        "last_step": "Int64", "last": "Float64", "min": MAYBE_NUMBER, "max": MAYBE_NUMBER, "best": MAYBE_NUMBER,
        "best_step": "Nullable(Int64)", "goal": MAYBE_TEXT,
    },
    "provenance": {
        "run_id": "UUID", "attempt": "UInt16", "vcs": MAYBE_TEXT, "repository": MAYBE_TEXT, "commit": MAYBE_TEXT,
        "branch": MAYBE_TEXT, "dirty": "Nullable(Bool)", "snapshot_id": MAYBE_TEXT, "patch_sha256": MAYBE_TEXT,
        "patch_bytes": "Nullable(UInt64)", "left_out": "Nullable(UInt64)", "entry_point": MAYBE_TEXT,
        "argv": "Array(String)", "python": MAYBE_TEXT, "packages": "Map(String, String)", "lock_sha256": MAYBE_TEXT,
        "image_digest": MAYBE_TEXT, "image_source": MAYBE_TEXT, "os": MAYBE_TEXT, "driver": MAYBE_TEXT,
        "cuda": MAYBE_TEXT, "nccl": MAYBE_TEXT, "snapshot_sha256": MAYBE_TEXT, "left_out_files": "Array(String)",
        "code_root": MAYBE_TEXT, "cwd": MAYBE_TEXT, "launcher": "Array(String)", "variables": "Map(String, String)",
        "program": MAYBE_TEXT, "reasons": "Array(String)", "package_ids": "Map(String, String)",
        "package_sources": "Map(String, String)", "lock_files": "Map(String, String)", "cudnn": MAYBE_TEXT,
        "system": "Map(String, String)", "libraries": "Map(String, String)", "randomness": "Map(String, String)",
    },
    "reproductions": {
        "run_id": "UUID", "repetition": "UUID", "outcome": TEXT, "metrics": "UInt64", "points": "UInt64",
        "first_difference": MAYBE_TEXT, "rtol": "Float64", "atol": "Float64", "hardware": TEXT, "at": AT,
        "set_by": TEXT, "proves": "Bool", "deviations": "Array(String)", "artifacts": "UInt64", "evidence": MAYBE_TEXT,
    },
    "logs": {
        "run_id": "UUID", "attempt": "UInt16", "rank": "Nullable(UInt32)", "stream": TEXT, "line_no": "UInt64",
        "at": AT, "text": TEXT, "writer_id": "UUID",
    },
    "host_minutes": {
        "node_id": TEXT, "minute": HOUR, "cpu_pct": MAYBE_NUMBER, "mem_used_bytes": MAYBE_NUMBER,
        "mem_total_bytes": MAYBE_NUMBER, "disk_read_bytes": MAYBE_NUMBER, "disk_write_bytes": MAYBE_NUMBER,
        "net_rx_bytes": MAYBE_NUMBER, "net_tx_bytes": MAYBE_NUMBER, "observed_s": "Float64",
    },
    "run_usage": {
        "run_id": "UUID", "attempt": "UInt16", "rank": "Nullable(UInt32)", "cpu_seconds": "Float64",
        "mem_peak_bytes": "UInt64", "gpu_busy_s": MAYBE_NUMBER, "gpu_mem_peak_bytes": "Nullable(UInt64)",
        "energy_j": MAYBE_NUMBER, "observed_s": "Float64", "gpu_observed_s": MAYBE_NUMBER, "gpu_quality": MAYBE_TEXT,
    },
    "run_progress": {
        "run_id": "UUID", "step": "Int64", "at": AT, "steps_per_s": MAYBE_NUMBER, "total_steps": MAYBE_NUMBER,
        "total_from": MAYBE_TEXT, "eta_s": MAYBE_NUMBER,
    },
    "silent_runs": {
        "run_id": "UUID", "step": "Int64", "moved_at": AT, "seen_at": AT, "silent_s": "Float64",
        "median_step_s": MAYBE_NUMBER,
    },
    "silent_ranks": {
        "run_id": "UUID", "attempt": "UInt16", "rank": "UInt32", "node_id": TEXT, "state": TEXT, "step": "Nullable(Int64)",
        "moved_at": f"Nullable({AT})", "started_at": f"Nullable({AT})", "seen_at": AT, "silent_s": MAYBE_NUMBER,
        "median_step_s": MAYBE_NUMBER,
    },
    "rank_steps": {
        "run_id": "UUID", "attempt": "UInt16", "key": TEXT, "rank": "UInt32", "node_id": TEXT, "ranks": "UInt64",
        "steps": "UInt64", "step_s": MAYBE_NUMBER, "slower_pct": MAYBE_NUMBER, "late_s": MAYBE_NUMBER,
        "last_share": MAYBE_NUMBER,
    },
    "gpu_minutes": {
        "node_id": TEXT, "device_id": TEXT, "model": MAYBE_TEXT, "mig_profile": MAYBE_TEXT, "minute": HOUR,
        "run_ids": "Array(UUID)", "util_pct": MAYBE_NUMBER, "mem_used_bytes": MAYBE_NUMBER,
        "mem_total_bytes": MAYBE_NUMBER, "power_w": MAYBE_NUMBER, "energy_j": MAYBE_NUMBER,
        "throttled_s": MAYBE_NUMBER, "observed_s": "Float64",
    },
    "cost_lines": {
        "usage_hour": HOUR, "node_id": TEXT, "kind": TEXT, "run_id": "Nullable(UUID)", "attempt": "Nullable(UInt16)",
        "owner": MAYBE_TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT, "experiment": MAYBE_TEXT, "resource": TEXT,
        "held_hours": "Float64", "used_hours": MAYBE_NUMBER, "share": "Float64", "cost": MAYBE_MONEY,
        "currency": MAYBE_TEXT, "price_id": "Nullable(UUID)", "evidence": TEXT, "revision": "UInt64",
        "device_hours": MAYBE_NUMBER, "declared_team": MAYBE_TEXT, "payer_evidence": MAYBE_TEXT,
        "unknown_hours": "Float64", "unused_hours": "Float64", "cost_used": MAYBE_MONEY,
        "cost_unused": MAYBE_MONEY, "cost_unknown": MAYBE_MONEY, "account": MAYBE_TEXT,
        "line": "UInt32", "held_share": "UInt64",
    },
    "cost_waste": {
        "usage_hour": HOUR, "node_id": TEXT, "kind": TEXT, "run_id": "Nullable(UUID)", "attempt": "Nullable(UInt16)",
        "owner": MAYBE_TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT, "experiment": MAYBE_TEXT, "resource": TEXT,
        "outcome": MAYBE_TEXT, "use": TEXT, "why": TEXT, "is_waste": "Nullable(Bool)", "held_hours": "Float64",
        "device_hours": MAYBE_NUMBER, "cost": MAYBE_MONEY, "currency": MAYBE_TEXT, "account": MAYBE_TEXT,
    },
    "gpus": {
        "node_id": TEXT, "device_id": TEXT, "model": MAYBE_TEXT, "mig_profile": MAYBE_TEXT, "state": TEXT,
        "holders": "Array(String)", "run_ids": "Array(UUID)", "is_claimed": "Bool", "held_since": f"Nullable({AT})",
        "util_pct": MAYBE_NUMBER, "observed_s": "Float64", "idle_s": MAYBE_NUMBER, "mem_used_bytes": MAYBE_NUMBER,
        "mem_total_bytes": MAYBE_NUMBER, "as_of": AT, "is_live": "Bool",
    },
    "gpu_hours": {
        "usage_hour": HOUR, "node_id": TEXT, "device_id": TEXT, "kind": TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT,
        "held_hours": "Float64", "used_hours": MAYBE_NUMBER, "unused_hours": MAYBE_NUMBER, "unknown_hours": "Float64",
    },
    "currency_rates": {
        "currency": TEXT, "quoted_in": TEXT, "rate": MAYBE_MONEY, "from_day": "Date", "source": MAYBE_TEXT,
        "set_at": AT, "set_by": TEXT, "note": MAYBE_TEXT, "ordinal": "UInt64",
    },
    "energy_factors": {
        "node": TEXT, "from_hour": HOUR, "pue": MAYBE_FACTOR, "grid_g_per_kwh": MAYBE_FACTOR, "year": "Nullable(Int32)",
        "source": MAYBE_TEXT, "set_at": AT, "set_by": TEXT, "note": MAYBE_TEXT,
    },
    "energy": {
        "usage_hour": HOUR, "node_id": TEXT, "device_id": TEXT, "run_id": "Nullable(UUID)", "team": MAYBE_TEXT,
        "project": MAYBE_TEXT, "user": MAYBE_TEXT, "energy_mj": "Nullable(UInt64)", "estimated_mj": "UInt64",
        "observed_s": "Float64", "unknown_s": "Float64", "pue": MAYBE_FACTOR, "grid_g_per_kwh": MAYBE_FACTOR,
        "factor_year": "Nullable(Int32)", "factor_source": MAYBE_TEXT, "kgco2e": "Nullable(Decimal(38, 12))",
    },
    "gpu_headroom": {
        "run_id": "UUID", "node_id": TEXT, "device_id": TEXT, "model": MAYBE_TEXT, "mig_profile": MAYBE_TEXT,
        "mem_total_bytes": "Nullable(UInt64)", "mem_peak_bytes": "Nullable(UInt64)", "used_pct": MAYBE_NUMBER,
        "busy_pct": MAYBE_NUMBER, "observed_s": "Float64", "unmeasured_s": "Float64", "fits_profile": MAYBE_TEXT,
        "fits_part": MAYBE_NUMBER, "fits_compute": MAYBE_NUMBER, "fits_gpu_gib": "Nullable(UInt16)", "first_at": AT,
        "last_at": AT,
    },
    "straggler_costs": {
        "run_id": "UUID", "attempt": "UInt16", "key": TEXT, "rank": "UInt32", "node_id": TEXT, "straggler": "UInt32",
        "straggler_node": TEXT, "evidence": TEXT, "wait_pct": "Float64", "cost": MAYBE_MONEY, "cost_waited": MAYBE_MONEY,
        "currency": MAYBE_TEXT,
    },
    "metric_costs": {
        "run_id": "UUID", "key": TEXT, "goal": TEXT, "is_set": "Bool", "step": "Int64", "at": AT, "value": "Float64",
        "gain": MAYBE_NUMBER, "cost_so_far": MAYBE_MONEY, "cost_since": MAYBE_MONEY, "cost_per_unit": MAYBE_NUMBER,
        "currency": MAYBE_TEXT,
    },
    "input_waits": {
        "run_id": "UUID", "node_id": TEXT, "gpus": "UInt64", "is_starved": "Nullable(Bool)", "evidence": "Array(String)",
        "busy_pct": "Float64", "observed_s": "Float64", "low_s": "Float64", "cpu_s": "Float64", "read_s": "Float64",
        "swing_s": "Float64", "starved_s": "Float64", "unseen_s": "Float64", "low_cores": MAYBE_NUMBER,
        "low_read_bytes": MAYBE_NUMBER, "cost_waited": MAYBE_MONEY, "currency": MAYBE_TEXT,
    },
    "cost_days": {
        "day": DAY, "node_id": TEXT, "kind": TEXT, "run_id": "Nullable(UUID)", "attempt": "Nullable(UInt16)",
        "owner": MAYBE_TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT, "experiment": MAYBE_TEXT,
        "account": MAYBE_TEXT, "outcome": MAYBE_TEXT, "held_hours": "Float64", "used_hours": "Float64",
        "unused_hours": "Float64", "unknown_hours": "Float64", "device_hours": MAYBE_NUMBER,
        "device_used_hours": "Float64", "device_unknown_hours": "Float64", "empty_lines": "UInt64",
        "cost": MAYBE_MONEY, "currency": MAYBE_TEXT, "cost_used": MAYBE_MONEY, "cost_unused": MAYBE_MONEY,
        "cost_unknown": MAYBE_MONEY, "told_owner": MAYBE_TEXT, "owners_from": HOUR,
    },
    "cost_waste_days": {
        "day": DAY, "node_id": TEXT, "kind": TEXT, "run_id": "Nullable(UUID)", "attempt": "Nullable(UInt16)",
        "owner": MAYBE_TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT, "experiment": MAYBE_TEXT,
        "outcome": MAYBE_TEXT, "use": TEXT, "why": TEXT, "is_waste": "Nullable(Bool)", "held_hours": "Float64",
        "cost": MAYBE_MONEY, "currency": MAYBE_TEXT, "account": MAYBE_TEXT,
    },
    "node_hour_holders": {
        "usage_hour": HOUR, "node_id": TEXT, "presence_us": "UInt64", "currency": MAYBE_TEXT,
        "kinds": "Array(String)", "run_ids": "Array(Nullable(UUID))", "attempts": "Array(UInt16)",
        "owners": "Array(Nullable(String))", "accounts": "Array(Nullable(String))",
        "held_shares": "Array(UInt64)", "costs_nano": "Array(UInt64)", "line_shares": "Array(UInt64)",
        "line_places": "Array(UInt16)",
    },
    "cost_daily": {
        "day": DAY, "team": MAYBE_TEXT, "project": MAYBE_TEXT, "experiment": MAYBE_TEXT, "user": MAYBE_TEXT,
        "kind": TEXT, "runs": "UInt64", "gpu_hours_held": "Float64", "gpu_hours_used": MAYBE_NUMBER,
        "cost": MAYBE_MONEY, "cost_failed": MAYBE_MONEY, "cost_held_unused": MAYBE_MONEY, "currency": MAYBE_TEXT,
        "unpriced_hours": "Float64",
    },
    "node_bills": {
        "day": DAY, "node_id": TEXT, "present_s": "Float64", "observed_s": "Float64", "bill": MAYBE_MONEY,
        "run": MAYBE_MONEY, "untracked": MAYBE_MONEY, "idle": MAYBE_MONEY, "system": MAYBE_MONEY,
        "unknown": MAYBE_MONEY, "difference": MAYBE_MONEY, "currency": MAYBE_TEXT,
    },
    "node_hour_bills": {
        "usage_hour": HOUR, "node_id": TEXT, "present_s": "Float64", "observed_s": "Float64", "bill": MAYBE_MONEY,
        "currency": MAYBE_TEXT, "price_id": "Nullable(UUID)",
    },
    "nodes": {
        "node_id": TEXT, "host": TEXT, "first_seen_at": AT, "last_seen_at": AT, "has_left": "Bool", "cores": "UInt32",
        "memory_bytes": "UInt64", "agent_version": TEXT, "provider": MAYBE_TEXT, "instance_id": MAYBE_TEXT,
        "instance_type": MAYBE_TEXT, "life_cycle": MAYBE_TEXT, "region": MAYBE_TEXT, "zone": MAYBE_TEXT,
        "zone_id": MAYBE_TEXT, "notice": MAYBE_TEXT,
    },
    "node_instances": {
        "day": DAY, "node_id": TEXT, "provider": TEXT, "instance_id": TEXT, "instance_type": TEXT, "life_cycle": TEXT,
        "region": TEXT, "zone": TEXT, "zone_id": TEXT, "first_seen_at": AT, "last_seen_at": AT, "booted_at": AT,
    },
    "prices": {
        "price_id": "UUID", "node": TEXT, "per_hour": "Decimal(38, 9)", "currency": TEXT, "from_hour": HOUR,
        "presence": TEXT, "set_at": AT, "set_by": TEXT, "owned_from": f"Nullable({AT})",
        "owned_to": f"Nullable({AT})", "host_share": MAYBE_NUMBER, "weights": "Map(String, Int64)",
        "source": MAYBE_TEXT, "note": MAYBE_TEXT, "ordinal": "UInt64",
    },
    "price_ends": {
        "price_id": "UUID", "node": TEXT, "from_hour": HOUR, "set_at": AT, "set_by": TEXT, "note": MAYBE_TEXT,
        "ordinal": "UInt64",
    },
    "run_io": {
        "run_id": "UUID", "direction": TEXT, "kind": TEXT, "name": TEXT, "version": MAYBE_TEXT, "role": MAYBE_TEXT,
        "digest": MAYBE_TEXT, "uri": MAYBE_TEXT, "bytes": "Nullable(UInt64)", "files": "Nullable(UInt64)", "at": AT,
        "alias": MAYBE_TEXT, "status": TEXT, "is_stored": "Bool", "new_bytes": "Nullable(UInt64)",
        "manifest_sha256": MAYBE_TEXT, "system": MAYBE_TEXT, "reference": MAYBE_TEXT, "is_fixed": "Nullable(Bool)",
        "reasons": "Array(String)", "rows": "Nullable(UInt64)", "columns": "Array(String)",
        "include": "Array(String)", "exclude": "Array(String)", "done_bytes": "Nullable(UInt64)",
        "expected_bytes": "Nullable(UInt64)",
    },
    "notebook_cells": {
        "run_id": "UUID", "attempt": "UInt16", "rank": "Nullable(UInt32)", "ordinal": "UInt32", "phase": TEXT,
        "execution_count": "Nullable(UInt32)", "cell_id": MAYBE_TEXT, "source": TEXT, "is_whole": "Bool",
        "status": TEXT, "error": MAYBE_TEXT, "at": AT, "duration_s": MAYBE_NUMBER,
    },
    "model_aliases": {
        "model": TEXT, "alias": TEXT, "version": MAYBE_TEXT, "digest": MAYBE_TEXT, "run_id": "Nullable(UUID)",
        "set_at": AT, "set_by": MAYBE_TEXT, "is_current": "Bool",
    },
    "owners": {
        "subject": TEXT, "name": TEXT, "teams": "Array(String)", "from_hour": HOUR, "set_at": AT, "set_by": TEXT,
        "note": MAYBE_TEXT, "event_ref": TEXT,
    },
    "cost_outcomes": {
        "usage_hour": HOUR, "kind": TEXT, "outcome": MAYBE_TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT,
        "experiment": MAYBE_TEXT, "runs": "UInt64", "held_hours": "Float64", "cost": MAYBE_MONEY,
        "currency": MAYBE_TEXT,
    },
    "budgets": {
        "scope": TEXT, "name": TEXT, "a_month": MAYBE_MONEY, "currency": TEXT, "hard": "Bool", "from_month": TEXT,
        "set_at": AT, "set_by": TEXT, "note": MAYBE_TEXT, "event_ref": TEXT,
    },
    "hardware_minutes": {
        "node_id": TEXT, "device_id": TEXT, "name": TEXT, "minute": HOUR, "mean": "Float64", "minimum": "Float64",
        "maximum": "Float64", "last": "Float64", "samples": "UInt64", "quality": TEXT,
    },
    "hardware_errors": {
        "at": AT, "node_id": TEXT, "device_id": TEXT, "model": MAYBE_TEXT, "error": TEXT, "code": "Nullable(Int64)",
        "errors": "UInt64", "event_ref": TEXT, "part_ids": "Array(String)",
    },
    "alerts": {"alert": TEXT, "channel": TEXT, "sent_at": AT},
    "cost_periods": {
        "period": TEXT, "statement_id": "UUID", "closed_at": AT, "closed_by": TEXT,
        "totals": "Map(String, Decimal(38, 9))", "adjusted": "Map(String, Decimal(38, 9))",
        "unpriced_hours": "Float64", "lines": "UInt64", "adjustments": "UInt64", "digest": TEXT, "note": MAYBE_TEXT,
        "ordinal": "UInt64",
    },
    "statement_lines": {
        "period": TEXT, "usage_hour": HOUR, "node_id": TEXT, "kind": TEXT, "run_id": "Nullable(UUID)",
        "attempt": "Nullable(UInt16)", "owner": MAYBE_TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT,
        "experiment": MAYBE_TEXT, "resource": TEXT, "held_hours": "Float64", "used_hours": MAYBE_NUMBER,
        "share": "Float64", "cost": MAYBE_MONEY, "currency": MAYBE_TEXT, "price_id": "Nullable(UUID)",
        "evidence": TEXT, "revision": "UInt64", "device_hours": MAYBE_NUMBER, "declared_team": MAYBE_TEXT,
        "payer_evidence": MAYBE_TEXT, "statement_id": "UUID", "account": MAYBE_TEXT,
    },
    "statement_bills": {
        "period": TEXT, "usage_hour": HOUR, "node_id": TEXT, "present_s": "Float64", "bill": MAYBE_MONEY,
        "currency": MAYBE_TEXT, "statement_id": "UUID",
    },
    "cost_adjustments": {
        "period": TEXT, "usage_hour": HOUR, "node_id": TEXT, "team": MAYBE_TEXT, "project": MAYBE_TEXT,
        "run_id": "Nullable(UUID)", "old_cost": MAYBE_MONEY, "new_cost": MAYBE_MONEY, "delta": "Decimal(38, 9)",
        "currency": TEXT, "cause": TEXT, "event_ref": TEXT, "booked_at": AT, "booked_by": TEXT, "booked_in": TEXT,
        "is_booked": "Bool", "kind": TEXT, "owner": MAYBE_TEXT, "experiment": MAYBE_TEXT, "account": MAYBE_TEXT,
    },
    "reservations": {
        "reservation_id": TEXT, "node_id": TEXT, "source": TEXT, "cluster": TEXT, "job": TEXT, "owner": MAYBE_TEXT,
        "account": MAYBE_TEXT, "start_at": AT, "end_at": AT, "is_over": "Bool", "state": TEXT, "restarts": "UInt32",
        "partition": MAYBE_TEXT, "qos": MAYBE_TEXT, "cpu_milli": "UInt64", "device_milli": "UInt64",
        "memory_bytes": "Nullable(UInt64)", "node_cores": "Nullable(UInt32)", "node_devices": "Nullable(UInt32)",
        "read_at": AT, "set_by": TEXT,
    },
    "watched_nodes": {
        "node_id": TEXT, "host": TEXT, "cores": "UInt32", "devices": "UInt32", "last_seen_at": AT,
    },
    "dead_letters": {
        "topic": TEXT, "partition": "UInt16", "offset": "UInt64", "at": AT, "reason": TEXT, "message": TEXT,
    },
}  # fmt: skip
UNITS = {
    "_s": "seconds",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_hours": "hours",
    "_pct": "percent",
    "_j": "joules",
    "_w": "watts",
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """One run of two attempts on a node, with every kind of evidence, and another that failed."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("views"))
    begin = START_US - START_US % HOUR_US
    config = [{"key": "lr", "value": "0.1", "number": 0.1}]
    tables.started(1, 11, begin, team="red", project="vision", config=config, tags=["x"])
    tables.exited(1, 11, begin + 60 * S, "killed", cause="exception", signal=15)
    tables.started(
        1, 12, begin + 120 * S, joined="resume", team="red", project="vision", rank=0, world_size=1
    )
    tables.exited(1, 12, begin + 600 * S)
    tables.points(1, 11, loss=[4.0, 2.0, 3.0], odd=[math.nan, math.inf, math.nan])
    tables.points(1, 12, loss=[8.0, 5.0])
    tables.log_lines(1, 12, (begin + 121 * S, "hello"))
    tables.started(2, 21, begin, team="blue", project="vision")
    tables.exited(2, 21, begin + 300 * S, "failed", cause="exception")
    tables.alive(begin, begin + 1800 * S)
    for second in range(0, 600, 60):
        tables.usage(begin + second * S, begin + (second + 60) * S, (1, 12), (2, 21))
    for second, cpu in ((0, 10.0), (10, 30.0)):
        stats = [
            {
                "device": "host",
                "name": name,
                "minimum": mean,
                "mean": mean,
                "maximum": mean,
                "last": mean,
                "samples": 10,
            }
            for name, mean in (("cpu_pct", cpu), ("net_rx_bytes", 7.0), ("mem_total_bytes", 2.0**33))
        ]
        tables.event(
            "hardware", begin + (second + 10) * S, start_us=begin + second * S, end_us=begin + (second + 10) * S,
            stats=stats,
        )  # fmt: skip
    tables.price(1, START_US, nano=36_000_000_000)
    tables.take_in()
    yield tables


def described(tables: FilledTables, view: str) -> list[dict[str, Any]]:
    return tables.store.rows(
        "SELECT name, type, comment FROM system.columns WHERE database = {d:String} AND table = {v:String} "
        "ORDER BY position",
        {"d": tables.schema.views_database, "v": view},
    )


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_its_promised_columns_in_order_with_their_types(tables: FilledTables, view: str) -> None:
    found = {str(row["name"]): str(row["type"]) for row in described(tables, view)}
    assert list(found.items()) == list(VIEWS[view].items())


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_says_what_it_means_and_in_which_unit(tables: FilledTables, view: str) -> None:
    for row in described(tables, view):
        name, kind, comment = str(row["name"]), str(row["type"]), str(row["comment"])
        assert len(comment) >= 3, f"{view}.{name} has no comment"
        for ending, unit in UNITS.items():
            assert not name.endswith(ending) or unit in comment, f"{view}.{name}: {comment!r} names no {unit}"
        if "DateTime" in kind or kind == "Date":
            assert "UTC" in comment, f"{view}.{name}: {comment!r} does not say UTC"
        if "Decimal" in kind and name not in NO_MONEY:
            assert "money" in comment, f"{view}.{name}: {comment!r} does not say that it is money"


def test_no_view_is_missing_here(tables: FilledTables) -> None:
    rows = tables.store.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} AND engine = 'View'",
        {"d": tables.schema.views_database},
    )
    assert {str(row["name"]) for row in rows} == set(VIEWS)


def test_a_summary_takes_the_last_point_from_the_highest_attempt(tables: FilledTables) -> None:
    rows = {row["key"]: row for row in tables.rows("metric_summary")}
    loss, odd = rows["loss"], rows["odd"]
    assert (loss["points"], loss["last"], loss["last_step"], loss["min"], loss["max"]) == (
        5,
        5.0,
        1,
        2.0,
        8.0,
    )
    assert (odd["points"], odd["nan_points"], odd["min"], odd["max"]) == (3, 2, None, None)
    assert (loss["goal"], loss["best"]) == (None, None)


def test_attempts_and_ranks_are_joined_to_points_and_lines(tables: FilledTables) -> None:
    points = tables.rows(
        "metrics", columns="attempt, rank, value", rest="WHERE key = 'loss' ORDER BY attempt, step"
    )
    assert [(p["attempt"], p["rank"], p["value"]) for p in points] == [
        (1, None, 4.0), (1, None, 2.0), (1, None, 3.0), (2, 0, 8.0), (2, 0, 5.0),
    ]  # fmt: skip
    assert [(r["attempt"], r["rank"], r["text"]) for r in tables.rows("logs")] == [(2, 0, "hello")]
    states = tables.rows(
        "run_writers", columns="attempt, state, signal", rest=f"WHERE run_id = '{id_of(1)}' ORDER BY attempt"
    )
    assert [(r["attempt"], r["state"], r["signal"]) for r in states] == [
        (1, "killed", 15),
        (2, "finished", None),
    ]


def test_host_minutes_are_means_weighted_by_samples_and_sums_of_bytes(tables: FilledTables) -> None:
    (minute,) = tables.rows("host_minutes")
    assert (minute["cpu_pct"], minute["net_rx_bytes"], minute["observed_s"]) == (20.0, 140.0, 20.0)
    assert minute["mem_used_bytes"] is None and minute["disk_read_bytes"] is None
    assert minute["mem_total_bytes"] == 2.0**33


def test_the_usage_of_a_run_is_that_of_its_processes(tables: FilledTables) -> None:
    (usage,) = tables.rows("run_usage", rest=f"WHERE run_id = '{id_of(1)}'")
    # Ten minutes were measured, and it began after two of them.
    assert (usage["attempt"], usage["cpu_seconds"], usage["observed_s"]) == (2, 600.0, 480.0)
    assert usage["gpu_busy_s"] is None
    (usage,) = tables.rows("run_usage", rest=f"WHERE run_id = '{id_of(2)}'")
    assert usage["observed_s"] == 300.0, "it ended in the middle of them"


def test_bills_by_hour_and_day_and_the_lines_are_one_sum(tables: FilledTables) -> None:
    (bill,) = tables.rows("node_bills")
    assert bill["bill"] == Decimal("18.000000000") and bill["difference"] == 0 and bill["present_s"] == 1800.0
    assert sum(bill[kind] for kind in ("run", "untracked", "idle", "system", "unknown")) == bill["bill"]
    assert sum(row["bill"] for row in tables.rows("node_hour_bills")) == bill["bill"]
    assert sum(row["cost"] for row in tables.rows("cost_lines")) == bill["bill"]
    daily = tables.rows("cost_daily")
    assert sum(row["cost"] for row in daily) == bill["bill"]
    failed = {row["team"]: row["cost_failed"] for row in daily if row["kind"] == "run"}
    assert failed["red"] is None and failed["blue"] > 0
    run = next(row for row in tables.rows("runs") if str(row["run_id"]) == id_of(1))
    lines = [row["cost"] for row in tables.rows("cost_lines", rest=f"WHERE run_id = '{id_of(1)}'")]
    assert (run["cost"], run["currency"], run["attempts"], run["state"]) == (sum(lines), "USD", 2, "finished")


def lost_run(tables: FilledTables, run: int, *, silent_s: float) -> dict[str, Any]:
    """The run, started long ago on a node of its own that was last heard of `silent_s` ago."""
    now_us = SystemClock().wall_ns() // 1000
    node = f"node-of-{run}"
    tables.started(run, run + 100, now_us - 3600 * S, node=node)
    tables.present(now_us - round(silent_s * S), node=node, writers=[(run, run + 100)])
    tables.take_in()
    (row,) = tables.rows("runs", rest=f"WHERE run_id = '{id_of(run)}'")
    return row


def writer_state(tables: FilledTables, run: int) -> str:
    (row,) = tables.rows("run_writers", columns="state", rest=f"WHERE run_id = '{id_of(run)}'")
    return str(row["state"])


@pytest.mark.parametrize(
    ("run", "silent_s", "state"), [(31, 60, "running"), (32, 120, "lost"), (33, 8000, "lost")]
)
def test_a_run_is_lost_when_its_node_is_silent_for_90_seconds(
    tables: FilledTables, run: int, silent_s: float, state: str
) -> None:
    row = lost_run(tables, run, silent_s=silent_s)
    assert (row["state"], writer_state(tables, run)) == (state, state)
    assert row["ended_at"] is None
    assert ("90 s" in row["state_reason"]) == (state == "lost")


def test_a_lost_run_heals_when_its_node_is_heard_of_again(tables: FilledTables) -> None:
    assert lost_run(tables, 41, silent_s=500)["state"] == "lost"
    tables.present(SystemClock().wall_ns() // 1000, node="node-of-41")
    tables.take_in()
    (row,) = tables.rows("runs", rest=f"WHERE run_id = '{id_of(41)}'")
    assert (row["state"], writer_state(tables, 41)) == ("running", "running")
    # And what then ends it is believed, however silent the node is.
    assert lost_run(tables, 42, silent_s=500)["state"] == "lost"
    tables.event(
        "writer_gone", SystemClock().wall_ns() // 1000 - 400 * S, node="node-of-42", run_id=fixed_id(42),
        writer_id=fixed_id(142), at_us=SystemClock().wall_ns() // 1000 - 400 * S, evidence="lock_free", exit_seen=False,
    )  # fmt: skip
    tables.take_in()
    (row,) = tables.rows("runs", rest=f"WHERE run_id = '{id_of(42)}'")
    assert (row["state"], writer_state(tables, 42)) == ("crashed", "crashed")


def test_another_node_that_is_alive_does_not_hide_the_silence(tables: FilledTables) -> None:
    tables.present(SystemClock().wall_ns() // 1000, node="a-neighbour")
    assert lost_run(tables, 43, silent_s=200)["state"] == "lost"


def test_one_silent_node_of_several_is_named_and_the_run_goes_on(tables: FilledTables) -> None:
    now_us = SystemClock().wall_ns() // 1000
    for rank, node in enumerate(("loud", "silent", "silent")):
        tables.started(
            51,
            151 + rank,
            now_us - 3600 * S,
            node=node,
            rank=rank,
            world_size=3,
            joined="environment",
            join="weak",
        )
    tables.present(now_us, node="loud")
    tables.present(now_us - 100 * S, node="silent")
    tables.take_in()
    runs, writers = f"WHERE run_id = '{id_of(51)}'", f"WHERE run_id = '{id_of(51)}' ORDER BY rank"
    (row,) = tables.rows("runs", rest=runs)
    assert (row["state"], row["ranks"], row["nodes"]) == ("running", 3, 2)
    assert row["state_reason"] == "no word for 90 s from rank 1 on node silent, rank 2 on node silent"
    assert [(w["state"], w["joined"]) for w in tables.rows("run_writers", rest=writers)] == [
        ("running", "weak"), ("lost", "weak"), ("lost", "weak")
    ]  # fmt: skip
    # What is left is on the silent node.
    tables.exited(51, 151, now_us)
    tables.take_in()
    assert tables.rows("runs", rest=runs)[0]["state"] == "lost"
    tables.present(SystemClock().wall_ns() // 1000, node="silent")
    tables.take_in()
    (row,) = tables.rows("runs", rest=runs)
    assert row["state"] == "running" and "90 s" not in row["state_reason"]
