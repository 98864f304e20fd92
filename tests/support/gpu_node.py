"""A node with the GPUs of the fake library, measured as the agent does it; its time is moved by hand."""

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from support.amd import AmdMachine
from support.burners import WriterStandIn, start_ticks_of
from support.gpus import Machine
from trainledger.node.allocation import AllocationLog
from trainledger.node.gpu_vendors import Vendor
from trainledger.node.gpu_watch import GpuWatch
from trainledger.node.job_book import JobBook
from trainledger.node.node_settings import SamplingSettings
from trainledger.node.nvml_reader import open_reader
from trainledger.node.process_table import ProcessTable
from trainledger.node.processes import ProcessSampler
from trainledger.node.sampler import NodeSampler
from trainledger_schemas.avro_codec import decode_event, encode_event

__all__ = ["ENVELOPE", "Node", "Stepped", "writer"]

ENVELOPE = {
    "producer_id": bytes(16), "seq": 0, "node_id": "n", "wall_us": 0, "boot_id": bytes(16), "boot_us": 0,
    "source": None,
}  # fmt: skip


class Stepped(GpuWatch):
    """A watch whose rounds the test turns itself, once a second of its clock; `skipped`: devices that do not answer."""

    skipped: AbstractSet[str] = frozenset()

    def start(self) -> None:
        pass

    def _ready(self) -> list[Any]:
        return [device for device_id, device in self._devices.items() if device_id not in self.skipped]


class Node:
    """A sampler on a machine of the fake library, turned as the agent does."""

    def __init__(
        self,
        machine: Machine,
        *,
        jobs: JobBook | None = None,
        amd: AmdMachine | None = None,
        settings: SamplingSettings | None = None,
    ) -> None:
        self.machine = machine
        self.clock = machine.clock
        settings = settings or SamplingSettings()
        machine.reader()  # puts the library and the scenario in place
        library = str(machine.library)
        vendor = Vendor("nvidia", lambda: True, lambda clock: open_reader(clock, library=library))
        self.watch = Stepped(self.clock, settings, vendor=vendor)
        self.watches = [self.watch]
        if amd is not None:
            amd.clock = self.clock
            self.watches.append(Stepped(self.clock, settings, vendor=amd.vendor()))
        # Not the machine's jobs: those of tests that run beside this one are on it.
        processes = ProcessSampler(ProcessTable(), jobs=jobs)
        self.sampler = NodeSampler(self.clock, settings, processes=processes, gpus=self.watches)
        self.allocation = AllocationLog(clock=self.clock, key_frame_s=300)
        self.events: list[tuple[str, Any]] = []

    def flush(self, writers: Sequence[WriterStandIn] = ()) -> None:
        """End the window, as when the agent leaves."""
        self.events += self.sampler.flush(self.clock.monotonic_ns(), writers, is_last=True)

    def turn(self, seconds: int, writers: Sequence[WriterStandIn] = ()) -> None:
        """Let seconds pass, each with a look at the GPUs and a round of the agent."""
        for _ in range(seconds):
            self.clock.advance(1)
            for watch in self.watches:
                watch.turn()
            self.events += self.sampler.tick(self.clock.monotonic_ns(), writers)
            said = self.allocation.observe(writers, *self.sampler.holdings())
            if said is not None:
                self.events.append(("allocation", said))

    def last(self, name: str) -> Any:
        """The newest event of a type, through its bytes."""
        fields = next(fields for kind, fields in reversed(self.events) if kind == name)
        return decode_event(encode_event(name, {"envelope": ENVELOPE, **fields})).record

    def count(self, name: str) -> int:
        """How many events of a type there were."""
        return sum(1 for kind, _ in self.events if kind == name)


def writer(pid: int, number: int = 1) -> WriterStandIn:
    return WriterStandIn(
        bytes([number]) * 16, bytes([number + 100]) * 16, pid, os.getuid(), start_ticks_of(pid)
    )
