"""Measures the node: each second a sample, each 10 s a `hardware` and a `process_usage` event; `devices` on change,
and `hardware_error` when a GPU has one.

Guarantees: usage windows of a boot never overlap, whatever the wall clock does, and follow one another without
a hole while the sampler lives; a window is as long as the time that really passed, so a clock that is set
forward does not stretch one. `flush` ends the open window early: what it returns holds everything up to that
moment. The sampler only measures; what it returns is for the caller to spool.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trainledger.node.gpu import GpuDevice, GpuError, GpuProcess
from trainledger.node.gpu_account import GpuAccount
from trainledger.node.gpu_errors import ErrorLog
from trainledger.node.gpu_events import add_device_usage, device_rows, error_fields
from trainledger.node.gpu_occupancy import Occupant
from trainledger.node.gpu_watch import GpuWatch
from trainledger.node.host import HostReader, HostSampler, StatWindow
from trainledger.node.job_book import JobBook
from trainledger.node.job_claims import Claim, HostSize, job_claims
from trainledger.node.node_settings import SamplingSettings
from trainledger.node.process_table import ProcessTable
from trainledger.node.processes import Holder, ProcessSampler, WriterProcess
from trainledger_schemas.clock import Clock

__all__ = ["Fields", "Holdings", "NodeEvent", "NodeSampler"]

Fields = Mapping[str, object]
NodeEvent = tuple[str, Fields]

SECOND_NS = 1_000_000_000
# What the two clocks may differ by in a window without a step: NTP slews 500 ppm, reading them takes microseconds.
SLEW_US_MAX = 50_000


class Holdings(NamedTuple):
    """Who is on which GPU, and who holds what by a reservation."""

    occupants: list[Occupant]
    claims: list[Claim]


class NodeSampler:
    """Samples host and processes; `tick` as often as the loop turns, `flush` when an answer is wanted."""

    def __init__(
        self,
        clock: Clock,
        settings: SamplingSettings,
        *,
        reader: HostReader | None = None,
        processes: ProcessSampler | None = None,
        gpus: Sequence[GpuWatch] = (),
        jobs: JobBook | None = None,
    ) -> None:
        """`jobs`: those of the machine's schedulers, None: none are looked for."""
        self._clock = clock
        self._settings = settings
        self.reader = reader or HostReader()
        self._host = HostSampler(self.reader)
        self._processes = processes or ProcessSampler(ProcessTable(), jobs=jobs)
        self._stats = StatWindow()
        self._gpus = gpus
        self._account = GpuAccount(self._gpu_holder, vendors=[watch.vendor.name for watch in gpus])
        self._errors = ErrorLog()
        self._told_devices: tuple[GpuDevice, ...] | None = None
        for watch in gpus:
            watch.start()
        now_ns = clock.monotonic_ns()
        self._window_end_us = clock.wall_ns() // 1000
        self._sampled_ns = now_ns
        self._window_ns = now_ns
        self._busy_us = self._host.sample(now_ns, self._stats).busy_us
        self._window_busy_us = self._busy_us
        self._scanned_ns = now_ns
        self._scan_cost_ns = 0

    def tick(self, now_ns: int, writers: Sequence[WriterProcess]) -> list[NodeEvent]:
        """Take a sample if one is due; the events of a window that is full. `now_ns`: monotonic."""
        if now_ns - self._sampled_ns < self._settings.sample_interval_s * SECOND_NS:
            return []
        if now_ns - self._window_ns >= self._settings.window_s * SECOND_NS:
            events = self.flush(now_ns, writers)
            if events:
                return events
        self._sample(now_ns)
        is_due = now_ns >= self._next_scan_ns()
        if self._processes.has_changed(writers) or ((writers or self._account.has_strangers()) and is_due):
            self._scan(now_ns, writers)
        elif writers:
            self._processes.look_at_runs()
        return self.new_devices()

    def new_devices(self) -> list[NodeEvent]:
        """A `devices` event when the list of GPUs became known or changed since it was told; after it, their errors."""
        errors: list[GpuError] = []
        for watch in self._gpus:
            for look in watch.take():
                self._account.add(look, self._stats)
                errors += self._errors.new_in(look)
        at_us = self._clock.wall_ns() // 1000
        events: list[NodeEvent] = [("hardware_error", error_fields(error, at_us)) for error in errors]
        devices = self._account.devices
        if not self._gpus or devices is None or devices == self._told_devices:
            return events
        self._told_devices = devices
        rows = [row for device in devices for row in device_rows(device)]
        return [("devices", {"at_us": at_us, "devices": rows}), *events]

    @property
    def devices(self) -> tuple[GpuDevice, ...] | None:
        """The GPUs of the node; None before a driver answered."""
        return self._account.devices

    def holdings(self) -> Holdings:
        """Who is on which GPU now, and what jobs hold."""
        occupants = self._account.occupants(self._clock.monotonic_ns())
        reservations = self._processes.reservations()
        if not reservations:
            return Holdings(occupants, [])
        host = HostSize(self.reader.cores, self.reader.memory_total_bytes())
        runs = self._processes.runs_by_job()
        return Holdings(occupants, job_claims(reservations, runs, occupants, host))

    def flush(
        self, now_ns: int, writers: Sequence[WriterProcess], *, is_last: bool = False
    ) -> list[NodeEvent]:
        """End the window now and return its events; none when no time has passed since the last one.

        `is_last`: it is the last one, so also with what waits for the next list of a GPU's processes."""
        elapsed_us = (now_ns - self._window_ns) // 1000
        # The wall time of `now_ns`, which lies back as far as the caller had other things to do.
        end_us = (self._clock.wall_ns() - (self._clock.monotonic_ns() - now_ns)) // 1000
        start_us = self._window_end_us
        if end_us - elapsed_us > start_us + SLEW_US_MAX:
            start_us = (
                end_us - elapsed_us
            )  # the clock was set forward: nobody watched the time it jumped over
        if elapsed_us <= 0 or start_us >= end_us:
            return []  # or the wall clock was set back: the window stays open until it is past its begin again
        self._sample(now_ns)
        self._scan(now_ns, writers)
        devices = self.new_devices()
        busy_us = self._busy_us - self._window_busy_us
        self._window_busy_us = self._busy_us
        self._window_ns = now_ns
        self._window_end_us = end_us
        window = {"start_us": start_us, "end_us": end_us}
        usage = self._processes.take(max(0, busy_us))
        whole, of_runs = self._account.take(is_last=is_last)
        add_device_usage(usage, of_runs)
        fields = {**window, "cores": self.reader.cores, "usage": usage, "devices": whole}
        return [
            *devices,
            ("hardware", {**window, "stats": self._stats.take()}),
            ("process_usage", fields),
        ]

    @property
    def window_end_us(self) -> int:
        """The wall time in microseconds up to which the node is measured."""
        return self._window_end_us

    @property
    def has_lost_gpu_library(self) -> bool:
        """Whether a vendor's library that was open could not be opened again."""
        return any(watch.is_lost for watch in self._gpus)

    def close(self) -> None:
        """Close the files of the host, and stop looking at GPUs and jobs."""
        self.reader.close()
        self._processes.close()
        for watch in self._gpus:
            watch.close()

    def _gpu_holder(self, process: GpuProcess) -> Holder | None:
        return self._processes.holder_on_device(process.pid, computes=process.is_compute)

    def _sample(self, now_ns: int) -> None:
        self._sampled_ns = now_ns
        self._busy_us = self._host.sample(now_ns, self._stats).busy_us

    def _scan(self, now_ns: int, writers: Sequence[WriterProcess]) -> None:
        begin_ns = self._clock.monotonic_ns()
        self._processes.look(writers, self._account.devices or ())
        self._scan_cost_ns = self._clock.monotonic_ns() - begin_ns
        self._scanned_ns = now_ns

    def _next_scan_ns(self) -> int:
        rest_ns = max(
            self._settings.scan_interval_s * SECOND_NS, self._scan_cost_ns / self._settings.scan_share_max
        )
        return self._scanned_ns + round(min(rest_ns, self._settings.window_s * SECOND_NS))
