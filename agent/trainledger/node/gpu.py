"""What is known of the node's GPUs: devices and their slices, measurements, processes. Values and one protocol.

A physical GPU is a device; a MIG instance is a part of one. Both are named by UUID: indexes change between
boots. Whatever a driver does not tell is missing here (None, or no entry): unknown is never zero.

Names of measurements (`GpuReading`), unit last. Gauges hold at the moment: `gpu_util_pct` (share of the last
sample period with a kernel running: one busy multiprocessor makes 100), `mem_util_pct` (share of time memory
was read or written, not how full it is), `mem_used_bytes` (without what the driver reserves, where it tells),
`mem_total_bytes`, `power_w`, `power_limit_w`, `temperature_c`, `mem_temperature_c`, `sm_clock_mhz`,
`mem_clock_mhz`, `pcie_link_gen`, `pcie_link_lanes` (as negotiated now), and where the hardware counts them (Hopper and
later), as means since they were read before, `sm_active_pct`, `sm_occupancy_pct`, `tensor_active_pct`,
`tensor_half_active_pct`, `fp{64,32,16}_active_pct`, `dram_active_pct` and `{pcie,nvlink}_{tx,rx}_bytes_per_s`.
Counters grow, may begin again at any time, and are not in every reading: `energy_mj`,
`throttled_{power,thermal,other}_ns`, `nvlink_{tx,rx}_bytes`, `ecc_corrected`, `ecc_uncorrected`, `remapped_rows`,
`pcie_replays`, `xid_errors`; `row_remap_pending` and `row_remap_failed` are 1 while that is so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from trainledger_schemas.errors import TrainledgerError

__all__ = [
    "DEVICE_PREFIX",
    "GpuDevice",
    "GpuError",
    "GpuGoneError",
    "GpuPart",
    "GpuProcess",
    "GpuProcesses",
    "GpuReader",
    "GpuReading",
    "Quality",
    "resource_of",
]

DEVICE_PREFIX = "device:"


class Quality(StrEnum):
    """How a number of a holder is known."""

    EXCLUSIVE = "exclusive"  # the holder was alone: the device's own number
    SHARED_MEASURED = "shared-measured"  # the driver measured each process
    ESTIMATED = "estimated"  # a part of the device's number, by equal shares or from another quantity
    UNKNOWN = "unknown"  # not known: there is no number


@dataclass(frozen=True, slots=True)
class GpuPart:
    """A MIG instance: `size` of the device's `of` memory slices, which is what others can no longer have.

    `instance`: the number of its GPU instance, `start` its first memory slice, `compute_instance` its number in the
    GPU instance; None where the driver does not tell."""

    part_id: str
    profile: str
    memory_bytes: int | None
    size: int
    of: int
    instance: int | None = None
    start: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A physical GPU. `problem` says why it is no longer measured (`lost`); `parts` are its MIG instances.

    `minor`: N of its device file /dev/nvidiaN, None if the driver does not tell."""

    device_id: str
    model: str
    memory_bytes: int | None
    pci_bus_id: str | None = None
    driver: str | None = None
    is_mig: bool = False
    parts: tuple[GpuPart, ...] = ()
    problem: str | None = None
    minor: int | None = None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One look at a device (or a MIG instance); names as in the module's first lines. Empty: nothing known."""

    place_id: str
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    # Names whose value was not measured itself but worked out from others.
    estimated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process with a context on a device or part; `busy_pct`: its share of the device's time since before.

    `is_compute` False: it only draws, as a display server does. `is_gone`: it ended since the list before, and is here
    for what it used until then.
    """

    pid: int
    part_id: str = ""
    memory_bytes: int | None = None
    busy_pct: float | None = None
    is_compute: bool = True
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class GpuProcesses:
    """Who is on a device. `processes` None: the driver did not tell, which is not the same as nobody."""

    device_id: str
    processes: tuple[GpuProcess, ...] | None


@dataclass(frozen=True, slots=True)
class GpuError:
    """`count` faults of one kind of a device; `code` is the number of an Xid."""

    device_id: str
    error: str
    code: int | None = None
    count: int = 1


class GpuGoneError(TrainledgerError):
    """The library says that it is not initialised: all handles are dead; open it anew."""


class GpuReader(Protocol):
    """The GPUs of one vendor on this node. Calls block as long as the driver does: for threads that may wait.

    `devices` and `errors` belong to one thread, `sample` and `processes` of a device to one thread too, another or the
    same; devices may be read at the same time. A device that is not in the last list gives nothing. Raises
    GpuGoneError when the library must be opened anew, and nothing else."""

    def devices(self) -> Sequence[GpuDevice]:
        """All GPUs with their MIG layout now; lost ones stay in the list with their problem."""

    def sample(self, device_id: str) -> Sequence[GpuReading]:
        """One reading of the device and of each MIG instance."""

    def processes(self, device_id: str) -> GpuProcesses:
        """Who is on the device, with the use since the call before."""

    def errors(self) -> Sequence[GpuError]:
        """What the driver reported by itself since the call before."""

    def close(self) -> None:
        """Let go of the library."""


def resource_of(device_id: str) -> str:
    """The name of a device as a resource in `allocation` events."""
    return DEVICE_PREFIX + device_id
