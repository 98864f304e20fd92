"""What an agent would have left in a home's spool in a month long over: two hours of a node, half used by a run.

The node of the home itself, under another boot, so that commands of today go on behind it.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from support.ingest_events import fixed_id
from trainledger.node.daemon import spool_folder
from trainledger.node.identity import load_identity
from trainledger.node.spool import Spool, SpoolSettings
from trainledger_schemas.clock import ManualClock

PAST_MONTH = "2026-03"
RUN = fixed_id(1)
BEGIN_US = int(datetime(2026, 3, 20, 10, tzinfo=UTC).timestamp()) * 1_000_000
HOURS = 2
STEP_US = 30_000_000


def write_past_month(home: Path, *, team: str | None = "red", user: str = "ann", run: bytes = RUN) -> None:
    """Events of HOURS hours from BEGIN_US on: present throughout, one run on 2 of 4 cores."""
    folder = spool_folder(home)
    identity = replace(load_identity(folder), boot_id=b"past-boot-of-old")
    clock = ManualClock(wall_ns=BEGIN_US * 1000)
    spool = Spool.open(folder, identity=identity, clock=clock, settings=SpoolSettings())
    try:
        spool.append("run_started", _started(team, user, run, identity.host), key=run)
        for at_us in range(BEGIN_US, BEGIN_US + HOURS * 3600 * 1_000_000 + 1, STEP_US):
            clock.advance((at_us * 1000 - clock.wall_ns()) / 1e9)
            key = identity.node_id.encode()
            if at_us > BEGIN_US:
                usage = {
                    "kind": "run", "run_id": run, "writer_id": run, "owner": user, "cpu_us": 2 * STEP_US,
                    "memory_peak_bytes": 1, "devices": [],
                }  # fmt: skip
                window = {
                    "start_us": at_us - STEP_US,
                    "end_us": at_us,
                    "cores": 4,
                    "usage": [usage],
                    "devices": [],
                }
                spool.append("process_usage", window, key=key)
            present = {
                "at_us": at_us, "host": identity.host, "cores": 4, "memory_bytes": 1 << 33, "agent_version": "past",
                "leaving": False, "busy_us": None, "writers": [],
            }  # fmt: skip
            spool.append("node_present", present, key=key)
        spool.sync()
    finally:
        spool.close()


def _started(team: str | None, user: str, run: bytes, host: str) -> dict[str, object]:
    return {
        "run_id": run, "writer_id": run, "at_us": BEGIN_US, "parent_writer": None, "role": "sdk", "joined": "new",
        "project": "past", "experiment": None, "team": team, "name": "long-ago", "group": None, "tags": [],
        "parent_run": None, "user": user, "uid": 1000, "host": host, "pid": 1, "start_ticks": 1, "pid_namespace": 1,
        "rank": None, "local_rank": None, "world_size": None, "launcher": "python", "restart_hint": None,
        "argv": ["train.py"], "config": [],
    }  # fmt: skip
