"""How busy the multiprocessors, the tensor units and the memory really were, counted by the hardware.

Hopper and later count between two samples of the driver, at least 0.1 s apart. It is the only utilisation that
NVML gives of a MIG instance. A device that does not count is asked once in ten minutes.
"""

import math
from typing import Any

from trainledger.node.nvml import Nvml

__all__ = ["METRICS", "GpmMeter"]

MIB = 1 << 20
# Number of NVML: name, and what one unit of NVML is in ours. Of a MIG instance there is no link of its own.
METRICS = {
    2: ("sm_active_pct", 1),
    3: ("sm_occupancy_pct", 1),
    5: ("tensor_active_pct", 1),
    7: ("tensor_half_active_pct", 1),
    10: ("dram_active_pct", 1),
    11: ("fp64_active_pct", 1),
    12: ("fp32_active_pct", 1),
    13: ("fp16_active_pct", 1),
    20: ("pcie_tx_bytes_per_s", MIB),
    21: ("pcie_rx_bytes_per_s", MIB),
    61: ("nvlink_tx_bytes_per_s", MIB),
    60: ("nvlink_rx_bytes_per_s", MIB),
}
METRICS_GET_VERSION = 1


class GpmMeter:
    """Keeps the sample before of one place; two driver samples are used in turn."""

    def __init__(self) -> None:
        self._samples: list[Any] = []
        self._has_before = False
        self.counts = False

    def read(
        self, nvml: Nvml, place: str, handle: Any, *, gpu_instance: int | None = None
    ) -> dict[str, float]:
        """Means since the call before by name; empty at the first call and where nothing is counted."""
        support = nvml.ask(place, "nvmlGpmQueryDeviceSupport", handle)
        self.counts = support is not None and bool(support.isSupportedDevice)
        if not self.counts:
            return {}
        while len(self._samples) < 2:
            sample = nvml.ask(place, "nvmlGpmSampleAlloc")
            if sample is None:
                return {}
            self._samples.append(sample)
        before, now = self._samples
        if gpu_instance is None:
            taken = nvml.ask(place, "nvmlGpmSampleGet", handle, now)
        else:
            taken = nvml.ask(place, "nvmlGpmMigSampleGet", handle, gpu_instance, now)
        had_before, self._has_before = self._has_before, taken is not None
        if taken is None:
            return {}
        self._samples = [now, before]
        return _metrics(nvml, place, before, now) if had_before else {}

    def close(self, nvml: Nvml) -> None:
        """Give the driver its samples back."""
        for sample in self._samples:
            nvml.ask("", "nvmlGpmSampleFree", sample)
        self._samples, self._has_before = [], False


def _metrics(nvml: Nvml, place: str, before: Any, now: Any) -> dict[str, float]:
    request_type = getattr(nvml.module, "c_nvmlGpmMetricsGet_t", None)
    if request_type is None:  # an older nvidia-ml-py
        return {}
    request = request_type()
    request.version = METRICS_GET_VERSION
    request.numMetrics = len(METRICS)
    request.sample1, request.sample2 = before, now
    for index, metric in enumerate(METRICS):
        request.metrics[index].metricId = metric
    answer = nvml.ask(place, "nvmlGpmMetricsGet", request)
    if answer is None:
        return {}
    found = [answer.metrics[index] for index in range(len(METRICS))]
    known = [(METRICS[item.metricId], float(item.value)) for item in found if item.nvmlReturn == 0]
    # What the hardware cannot count comes as a success with no number.
    return {name: value * unit for (name, unit), value in known if math.isfinite(value) and value >= 0}
