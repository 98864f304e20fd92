"""Faults of GPUs, each told once: what a driver reports, and what its counters and flags show of it.

The driver's own messages (Xid) are passed on. A counter of uncorrected memory errors that grew is so many new ones;
what it held when the agent began is from before, and nobody knows when. A flag (rows of memory that wait for a reset to
be replaced, or that could not be) is told when it is first seen, so once more after each start of the agent while it
lasts. A device that is lost is told when it is, and again only after it came back.
"""

from trainledger.node.gpu import GpuError, GpuReading
from trainledger.node.gpu_watch import GpuLook

__all__ = ["ErrorLog"]

COUNTER = "ecc_uncorrected"
FLAGS = ("row_remap_pending", "row_remap_failed")


class ErrorLog:
    """Remembers what was told of each device."""

    def __init__(self) -> None:
        self._counted: dict[str, int] = {}
        self._raised: set[tuple[str, str]] = set()

    def new_in(self, look: GpuLook) -> list[GpuError]:
        """The faults that a look shows for the first time."""
        found = list(look.errors)
        for device in look.devices or ():
            found += self._flag(device.device_id, "lost", device.problem == "lost")
        for reading in look.readings:
            found += self._of_reading(reading)
        return found

    def _of_reading(self, reading: GpuReading) -> list[GpuError]:
        found: list[GpuError] = []
        place, counters = reading.place_id, reading.counters
        if COUNTER in counters:
            new = counters[COUNTER] - self._counted.get(place, counters[COUNTER])
            self._counted[place] = counters[COUNTER]
            if new > 0:
                found.append(GpuError(place, COUNTER, count=new))
        for name in FLAGS:
            if name in counters:
                found += self._flag(place, name, counters[name] > 0)
        return found

    def _flag(self, place: str, name: str, is_raised: bool) -> list[GpuError]:
        if not is_raised:
            self._raised.discard((place, name))
            return []
        if (place, name) in self._raised:
            return []
        self._raised.add((place, name))
        return [GpuError(place, name)]
