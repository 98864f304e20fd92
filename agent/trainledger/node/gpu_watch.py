"""Looks at the GPUs on threads of their own, so that a driver that hangs stalls nobody.

One thread asks each ten seconds which devices there are, and each second what the driver reports; and one thread a
device asks each second how busy it is, and each two seconds (or rarer, where that takes long) who is on it. So a device
that hangs or is slow is late alone: what is not looked at is not known, and the others go on. What they bring waits in
a queue until the agent's round takes it: `take` never waits.

On a node without the vendor's library there is no thread and no import; it is looked for again each five minutes.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass

from trainledger.node.gpu import GpuDevice, GpuError, GpuGoneError, GpuProcesses, GpuReader, GpuReading
from trainledger.node.gpu_vendors import NVIDIA, VENDORS, Vendor
from trainledger.node.node_settings import SamplingSettings
from trainledger_schemas.clock import Clock
from trainledger_schemas.structured_log import say

__all__ = ["GpuLook", "GpuWatch", "watch_all"]

SECOND_NS = 1_000_000_000
RETRY_S = 300
# Looks that nobody took: two minutes of a node with eight devices.
LOOKS_MAX = 1024
CLOSE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class GpuLook:
    """What one round brought, at a monotonic time; None: not asked in this round.

    `devices` are all of one vendor, `vendor`; readings and processes are of one device and its parts."""

    at_ns: int
    devices: tuple[GpuDevice, ...] | None = None
    readings: tuple[GpuReading, ...] = ()
    processes: tuple[GpuProcesses, ...] | None = None
    errors: tuple[GpuError, ...] = ()
    vendor: str = NVIDIA.name


class _Device:
    # One device's own rounds.

    def __init__(self, device_id: str, clock: Clock, settings: SamplingSettings, *, vendor: str) -> None:
        self._device_id = device_id
        self._clock = clock
        self._settings = settings
        self._vendor = vendor
        self._processes_ns: int | None = None
        self._rest_ns = 0
        self.share_max = settings.scan_share_max
        self.is_over = False

    def look(self, reader: GpuReader) -> GpuLook:
        """Blocks as long as the driver does."""
        readings = tuple(reader.sample(self._device_id))
        at_ns = self._clock.monotonic_ns()
        processes = None
        if self._processes_ns is None or at_ns - self._processes_ns >= self._rest_ns:
            processes = (reader.processes(self._device_id),)
            self._processes_ns = at_ns
            # Lists of processes hold the driver's lock, and with it whoever starts work on the GPU.
            took_ns = self._clock.monotonic_ns() - at_ns
            rest_ns = max(self._settings.scan_interval_s * SECOND_NS, took_ns / self.share_max)
            # A little less than the interval: a round that comes a millisecond early must not wait for the next.
            self._rest_ns = round(0.95 * min(rest_ns, self._settings.window_s * SECOND_NS))
        return GpuLook(at_ns, None, readings, processes, vendor=self._vendor)


class GpuWatch:
    """The threads of one vendor and their queue; `start`, then `take` as often as wanted, at the end `close`."""

    def __init__(self, clock: Clock, settings: SamplingSettings, *, vendor: Vendor = NVIDIA) -> None:
        self.vendor = vendor
        self._clock = clock
        self._settings = settings
        self._reader: GpuReader | None = None
        self._was_open = False
        # Whether the library was open, and could not be opened again when that was tried last.
        self.is_lost = False
        self._looks: deque[GpuLook] = deque(maxlen=LOOKS_MAX)
        self._devices: dict[str, _Device] = {}
        self._thread: threading.Thread | None = None
        self._device_threads: dict[str, threading.Thread] = {}
        self._stop = threading.Event()
        self._retry_ns = 0
        self._listed_ns: int | None = None

    def start(self) -> None:
        """Begin to look, if there is a library to look with; returns at once."""
        self._retry_ns = self._clock.monotonic_ns() + RETRY_S * SECOND_NS
        if not self.vendor.is_there():
            self._tell_none()
            return
        self._thread = threading.Thread(target=self._run, name=f"gpus {self.vendor.name}", daemon=True)
        self._thread.start()

    def take(self) -> list[GpuLook]:
        """The looks since the last call, oldest first; never waits."""
        if self._thread is None and self._retry_ns and self._clock.monotonic_ns() >= self._retry_ns:
            self.start()
        looks: list[GpuLook] = []
        while self._looks:
            looks.append(self._looks.popleft())
        return looks

    def turn(self) -> float:
        """A round of the list and then of each device, one after the other; the seconds until the next is due."""
        wait_s = self._turn_list()
        try:
            for device in self._ready():
                if self._reader is not None:
                    self._looks.append(device.look(self._reader))
        except GpuGoneError as error:
            self._let_go(error)
        return wait_s

    def close(self) -> None:
        """Stop looking. A driver that hangs is left alone: its threads do not keep the process alive."""
        self._stop.set()
        self._retry_ns = 0
        threads = [item for item in (self._thread, *self._device_threads.values()) if item is not None]
        end_ns = self._clock.monotonic_ns() + round(CLOSE_WAIT_S * SECOND_NS)
        for thread in threads:
            thread.join(max(0.0, (end_ns - self._clock.monotonic_ns()) / SECOND_NS))
        if any(thread.is_alive() for thread in threads):
            return
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _ready(self) -> list["_Device"]:
        return list(self._devices.values())

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            begin_ns = self._clock.monotonic_ns()
            try:
                interval_s = self._turn_list()
                self._start_devices()
            except Exception as error:
                # The edge of a thread that must outlive whatever a driver does: say it, and look again later.
                say(logging.ERROR, "a look at the GPUs failed", {"why": repr(error)}, error=error)
                interval_s = RETRY_S
            wait_s = self._rest_s(begin_ns, interval_s)

    def _run_device(self, device_id: str, device: _Device) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s) and not device.is_over:
            begin_ns, interval_s = self._clock.monotonic_ns(), self._settings.sample_interval_s
            reader = self._reader
            if reader is None:
                return
            try:
                look = device.look(reader)
                self._keep(look, device)
            except GpuGoneError as error:
                self._let_go(error)
                return
            except Exception as error:
                # As above: the edge of a thread.
                about: dict[str, object] = {"device": device_id, "why": repr(error)}
                say(logging.ERROR, "a look at a GPU failed", about, error=error)
                interval_s = RETRY_S
            wait_s = self._rest_s(begin_ns, interval_s)

    def _keep(self, look: GpuLook, device: "_Device") -> None:
        if not device.is_over:  # else it was away for long, and belongs to a library that was closed
            self._looks.append(look)

    def _rest_s(self, begin_ns: int, interval_s: float) -> float:
        return max(0.0, interval_s - (self._clock.monotonic_ns() - begin_ns) / SECOND_NS)

    def _turn_list(self) -> float:
        """Open the library if it is not, and ask which devices there are; the seconds until the next call is due."""
        if self._reader is None:
            opened = self.vendor.open(self._clock)
            if isinstance(opened, str):
                say(logging.WARNING, "GPUs are not measured; trying again in 5 minutes", {"why": opened})
                self.is_lost = self._was_open
                if not self._was_open:  # GPUs that were there are unknown now, not gone
                    self._tell_none()
                return RETRY_S
            self._reader, self._was_open, self.is_lost = opened, True, False
            self._listed_ns = None
        try:
            self._list(self._reader)
        except GpuGoneError as error:
            self._let_go(error)
        return self._settings.sample_interval_s

    def _list(self, reader: GpuReader) -> None:
        now_ns = self._clock.monotonic_ns()
        devices = None
        if self._listed_ns is None or now_ns - self._listed_ns >= self._settings.window_s * SECOND_NS:
            devices = tuple(reader.devices())
            self._listed_ns = now_ns
            self._note(devices)
        errors = tuple(reader.errors())
        if devices is not None or errors:
            self._looks.append(GpuLook(now_ns, devices, errors=errors, vendor=self.vendor.name))

    def _note(self, devices: tuple[GpuDevice, ...]) -> None:
        well = [item.device_id for item in devices if item.problem is None]
        for gone in self._devices.keys() - set(well):
            self._devices.pop(gone).is_over = True
        for device_id in well:
            if device_id not in self._devices:
                made = _Device(device_id, self._clock, self._settings, vendor=self.vendor.name)
                self._devices[device_id] = made
            # The share of a core is for the lists of all devices together.
            self._devices[device_id].share_max = self._settings.scan_share_max / len(well)

    def _start_devices(self) -> None:
        for device_id, device in self._devices.items():
            running = self._device_threads.get(device_id)
            if running is not None and running.is_alive():
                continue  # also one that hangs since a library before: a second one would only hang beside it
            name = f"gpu {device_id}"
            thread = threading.Thread(
                target=self._run_device, args=(device_id, device), name=name, daemon=True
            )
            self._device_threads[device_id] = thread
            thread.start()

    def _let_go(self, error: GpuGoneError) -> None:
        say(logging.WARNING, "the GPU library was closed; opening it anew", {"why": str(error)})
        self._reader = None
        for device in self._devices.values():
            device.is_over = True
        self._devices = {}

    def _tell_none(self) -> None:
        self._looks.append(GpuLook(self._clock.monotonic_ns(), devices=(), vendor=self.vendor.name))


def watch_all(clock: Clock, settings: SamplingSettings) -> list[GpuWatch]:
    """A watch of each vendor that the agent knows."""
    return [GpuWatch(clock, settings, vendor=vendor) for vendor in VENDORS]
