"""What a reading of a GPU is among the statistics of a window: gauges as they are, counters by what they grew."""

from collections.abc import Mapping

from trainledger.node.gpu import GpuReading
from trainledger.node.gpu_occupancy import Place
from trainledger.node.host import StatWindow

__all__ = ["add_gauges", "add_growth", "add_span", "busy_part"]

THROTTLED = ("throttled_power", "throttled_thermal", "throttled_other")
THROTTLE_BITS = 0x4 | 0x80 | 0x20 | 0x40 | 0x8 | 0x10
TOTALS = (
    "ecc_corrected", "ecc_uncorrected", "remapped_rows", "row_remap_pending", "row_remap_failed", "pcie_replays",
    "xid_errors",
)  # fmt: skip
LINKS = ("nvlink_tx_bytes", "nvlink_rx_bytes", "pcie_tx_bytes", "pcie_rx_bytes")


def busy_part(place: Place, gauges: Mapping[str, float]) -> float | None:
    """Which part of the time a place was busy. Of a MIG instance there is only how busy its multiprocessors were."""
    percent = gauges.get("gpu_util_pct")
    if percent is None and place.part_id:
        percent = gauges.get("sm_active_pct")
    return None if percent is None else min(1.0, percent / 100)


def add_gauges(stats: StatWindow, reading: GpuReading) -> None:
    """Each gauge, but for the reasons of throttling (see `add_span`)."""
    place_id, estimated = reading.place_id, reading.estimated
    for name, value in reading.gauges.items():
        if name != "throttle_reasons":
            stats.add(place_id, name, value, is_estimated=name in estimated)


def add_span(stats: StatWindow, reading: GpuReading, dt_s: float) -> None:
    """The time that a reading stands for, and whether the clocks were lowered in it, where only the moment is told."""
    stats.add(reading.place_id, "observed_s", dt_s)
    reasons = reading.gauges.get("throttle_reasons")
    if reasons is not None:
        throttled_s = dt_s if int(reasons) & THROTTLE_BITS else 0.0
        stats.add(reading.place_id, "throttled_s", throttled_s, is_estimated=True)


def add_growth(stats: StatWindow, reading: GpuReading, grown: Mapping[str, tuple[int, float]]) -> None:
    """What counters grew by, as (growth, seconds): time of throttling, rates of links; and errors, how many in all."""
    parts = {name: grown[f"{name}_ns"] for name in THROTTLED if f"{name}_ns" in grown}
    for name, (throttled_ns, _) in parts.items():
        stats.add(reading.place_id, f"{name}_s", throttled_ns / 1e9)
    if parts:
        # Reasons may hold at once: the sum of their times can be more than the time that passed.
        over_s = max(seconds for _, seconds in parts.values())
        total_s = sum(throttled_ns for throttled_ns, _ in parts.values()) / 1e9
        stats.add(reading.place_id, "throttled_s", min(over_s, total_s))
    for name in LINKS:
        growth, over_s = grown.get(name, (0, 0.0))
        if over_s > 0 and f"{name}_per_s" not in reading.gauges:
            stats.add(reading.place_id, f"{name}_per_s", growth / over_s)
    for name in TOTALS:
        if name in reading.counters:
            stats.add(reading.place_id, name, reading.counters[name])
