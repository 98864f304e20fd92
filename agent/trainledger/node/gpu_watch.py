"""Looks at the GPUs on a thread of its own, so that a driver that hangs stalls nobody.

Each second a sample, each two seconds (or rarer, where the driver takes long) who is on the devices, each ten
seconds which devices there are. What a round brings waits in a queue until the agent's round takes it: `take`
never waits. A driver that stops answering brings no more looks, and what is not looked at is not known.

On a node without NVIDIA's library there is no thread and no import; it is looked for again each five minutes.
"""

import ctypes
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from trainledger.node.gpu import GpuDevice, GpuError, GpuProcesses, GpuReader, GpuReading
from trainledger.node.node_settings import SamplingSettings
from trainledger.node.nvml import LIBRARY, NvmlGoneError
from trainledger.node.nvml_reader import open_reader
from trainledger_schemas.clock import Clock
from trainledger_schemas.structured_log import say

__all__ = ["GpuLook", "GpuWatch", "Opener"]

SECOND_NS = 1_000_000_000
RETRY_S = 300
LOOKS_MAX = 120
CLOSE_WAIT_S = 1.0

Opener = Callable[[Clock], GpuReader | str]


@dataclass(frozen=True, slots=True)
class GpuLook:
    """What one round brought, at a monotonic time; None: not asked in this round."""

    at_ns: int
    devices: tuple[GpuDevice, ...] | None = None
    readings: tuple[GpuReading, ...] = ()
    processes: tuple[GpuProcesses, ...] | None = None
    errors: tuple[GpuError, ...] = ()


class GpuWatch:
    """The thread and its queue; `start`, then `take` as often as wanted, at the end `close`."""

    def __init__(
        self,
        clock: Clock,
        settings: SamplingSettings,
        *,
        opener: Opener = open_reader,
        library: str = LIBRARY,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._open = opener
        self._library = library
        self._reader: GpuReader | None = None
        self._was_open = False
        self._looks: deque[GpuLook] = deque(maxlen=LOOKS_MAX)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._retry_ns = 0
        self._listed_ns: int | None = None
        self._processes_ns: int | None = None
        self._processes_rest_ns = 0

    def start(self) -> None:
        """Begin to look, if there is a library to look with; returns at once."""
        self._retry_ns = self._clock.monotonic_ns() + RETRY_S * SECOND_NS
        try:
            ctypes.CDLL(self._library)
        except OSError:
            self._looks.append(GpuLook(self._clock.monotonic_ns(), devices=()))
            return
        self._thread = threading.Thread(target=self._run, name="gpus", daemon=True)
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
        """One round of the thread; the seconds until the next is due. Blocks as long as the driver does."""
        if self._reader is None:
            opened = self._open(self._clock)
            if isinstance(opened, str):
                say(logging.WARNING, "GPUs are not measured; trying again in 5 minutes", {"why": opened})
                if not self._was_open:  # GPUs that were there are unknown now, not gone
                    self._looks.append(GpuLook(self._clock.monotonic_ns(), devices=()))
                return RETRY_S
            self._reader, self._was_open = opened, True
            self._listed_ns = self._processes_ns = None
        try:
            self._looks.append(self._look(self._reader))
        except NvmlGoneError as error:
            say(logging.WARNING, "the GPU library was closed; opening it anew", {"why": str(error)})
            self._reader = None
        return self._settings.sample_interval_s

    def close(self) -> None:
        """Stop looking. A driver that hangs is left alone: its thread does not keep the process alive."""
        self._stop.set()
        self._retry_ns = 0
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)
            if self._thread.is_alive():
                return
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            begin_ns = self._clock.monotonic_ns()
            try:
                interval_s = self.turn()
            except Exception as error:
                # The edge of a thread that must outlive whatever a driver does: say it, and look again later.
                say(logging.ERROR, "a look at the GPUs failed", {"why": repr(error)}, error=error)
                interval_s = RETRY_S
            wait_s = max(0.0, interval_s - (self._clock.monotonic_ns() - begin_ns) / SECOND_NS)

    def _look(self, reader: GpuReader) -> GpuLook:
        now_ns = self._clock.monotonic_ns()
        devices = processes = None
        if self._listed_ns is None or now_ns - self._listed_ns >= self._settings.window_s * SECOND_NS:
            devices = tuple(reader.devices())
            self._listed_ns = now_ns
        readings = tuple(reader.sample())
        at_ns = self._clock.monotonic_ns()
        if self._processes_ns is None or at_ns - self._processes_ns >= self._processes_rest_ns:
            processes = tuple(reader.processes())
            self._processes_ns = at_ns
            # Lists of processes hold the driver's lock, and with it whoever starts work on the GPU.
            took_ns = self._clock.monotonic_ns() - at_ns
            rest_ns = max(self._settings.scan_interval_s * SECOND_NS, took_ns / self._settings.scan_share_max)
            # A little less than the interval: a round that comes a millisecond early must not wait for the next.
            self._processes_rest_ns = round(0.95 * min(rest_ns, self._settings.window_s * SECOND_NS))
        return GpuLook(at_ns, devices, readings, processes, tuple(reader.errors()))
