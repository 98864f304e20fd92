"""Errors of GPUs, from the event to the message."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from support.webhook import Webhook
from trainledger_ingest.alert_channels import alert_channels
from trainledger_ingest.alert_watch import RuleAlerts
from trainledger_ingest.hardware_alerts import HardwareErrors
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.errors import RetryableError

S = 1_000_000
HOUR_US = 3600 * S
# Hours ago, and nothing was heard since: what a node that was cut off sends now.
T0_US = (time.time_ns() // 1000 // HOUR_US - 5) * HOUR_US


def text_of(at_us: int) -> str:
    """A moment as messages have it."""
    return f"{datetime.fromtimestamp(at_us / S, UTC):%Y-%m-%d %H:%M:%S} UTC"


class Watched:
    """A node with GPUs `a` and `b`, run 1 on `a`; the alerts are made anew at each check, as after a restart."""

    def __init__(self, folder: Path, url: str) -> None:
        self.tables = FilledTables(fresh_store(), folder)
        self.channels = alert_channels({"TRAINLEDGER_ALERT_WEBHOOK": url})
        self.now_us = T0_US
        self.on_device(1, "GPU-a")
        self.tables.present(T0_US - HOUR_US, T0_US)

    def on_device(self, run: int, device: str) -> None:
        self.tables.started(run, 10 + run, T0_US - HOUR_US)
        self.tables.event(
            "writer_devices", T0_US - HOUR_US, at_us=T0_US - HOUR_US, run_id=fixed_id(run),
            writer_id=fixed_id(10 + run), device_ids=[device], named_ids=[],
        )  # fmt: skip

    def error(self, at_us: int, error: str, code: int | None = None, *, device: str = "GPU-a") -> None:
        self.tables.event(
            "hardware_error", self.now_us, at_us=at_us, device_id=device, error=error, code=code, count=1
        )

    def check(self) -> list[str]:
        self.tables.take_in()
        alerts = RuleAlerts(
            HardwareErrors(self.tables.session.query, self.tables.session.views), self.tables.session.query,
            self.tables.session.views, append=self.append, channels=self.channels,
            clock=ManualClock(wall_ns=self.now_us * 1000),
        )  # fmt: skip
        return [alert.text for alert in alerts.check()]

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.tables.event(kind, self.now_us, at_us=self.now_us, set_by="t", **fields)
        self.tables.take_in()


def test_each_error_is_told_once_with_the_run_on_the_device_across_restarts_and_failures(
    tmp_path: Path,
) -> None:
    with Webhook() as hook:
        watched = Watched(tmp_path, hook.url)
        assert watched.check() == []
        # Of eight days ago: history, which nobody is told when alerts are first set.
        watched.error(T0_US - 8 * 24 * HOUR_US, "xid", 31)
        watched.error(T0_US - 60 * S, "xid", 79)
        watched.error(T0_US - 30 * S, "xid", 79)
        watched.error(T0_US - 20 * S, "ecc_uncorrected", device="GPU-b")
        hook.is_broken = True
        with pytest.raises(RetryableError):
            watched.check()
        hook.is_broken = False
        xid, ecc = watched.check()
        assert xid == (
            f"Xid 79, 2 times on node node-1, device GPU-a, at {text_of(T0_US - 30 * S)}; "
            f"runs on it: {id_of(1)}"
        )
        assert ecc == (
            f"uncorrectable memory error on node node-1, device GPU-b, at {text_of(T0_US - 20 * S)}; "
            "no run is known on it"
        )
        assert watched.check() == [] and len(hook.posted) == 2
        assert hook.posted[0]["run_ids"] == [id_of(1)] and hook.posted[0]["code"] == 79
        # The same again at once waits, so that a device which fails all the time is no flood.
        watched.error(T0_US + S, "xid", 79)
        assert watched.check() == []
        # What a node could send only now is told.
        watched.now_us += HOUR_US
        watched.error(T0_US - 5 * 24 * HOUR_US, "lost", device="GPU-b")
        lost, again = watched.check()
        assert lost.startswith(
            f"GPU lost on node node-1, device GPU-b, at {text_of(T0_US - 5 * 24 * HOUR_US)}"
        )
        assert again.startswith("Xid 79 on node node-1") and watched.check() == []


def test_of_runs_those_are_named_that_nothing_ended_or_that_may_have_died_of_it_also_in_parts_of_a_device(
    tmp_path: Path,
) -> None:
    with Webhook() as hook:
        watched = Watched(tmp_path, hook.url)
        for run, device in ((2, "GPU-a"), (3, "GPU-a"), (4, "MIG-c"), (5, "MIG-d")):
            watched.on_device(run, device)
        watched.tables.exited(2, 12, T0_US - 120 * S)
        watched.tables.exited(3, 13, T0_US - 80 * S)
        listed = [
            {
                "device_id": name, "model": "H100", "memory_bytes": 1, "mig_profile": None, "parent_id": parent,
                "part_numerator": 1, "part_denominator": 1, "pci_bus_id": None, "driver": None, "problem": None,
            }
            for name, parent in (("GPU-a", None), ("GPU-c", None), ("MIG-c", "GPU-c"), ("MIG-d", "GPU-d"))
        ]  # fmt: skip
        watched.tables.event("devices", T0_US - HOUR_US, at_us=T0_US - HOUR_US, devices=listed)
        watched.error(T0_US - 30 * S, "xid", 79)
        watched.error(T0_US - 30 * S, "lost", device="GPU-c")
        assert [text.rpartition("; ")[2] for text in sorted(watched.check())] == [
            f"runs on it: {id_of(4)}", f"runs on it: {id_of(1)}, {id_of(3)}",
        ]  # fmt: skip
