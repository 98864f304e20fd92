"""What is known of GPUs as fields of events: `devices`, `allocation`, `process_usage`."""

from collections.abc import Iterable, Mapping, Sequence

from trainledger.node.gpu import GpuDevice, GpuError, resource_of
from trainledger.node.gpu_occupancy import Occupant
from trainledger.node.processes import Holder, owner_name

__all__ = ["add_device_usage", "device_rows", "error_fields", "occupant_rows"]


def device_rows(device: GpuDevice) -> list[dict[str, object]]:
    """Rows of a `devices` event: the device, then its MIG instances."""
    shared: dict[str, object] = {
        "model": device.model,
        "pci_bus_id": device.pci_bus_id,
        "driver": device.driver,
    }
    own = shared | {
        "device_id": device.device_id,
        "memory_bytes": device.memory_bytes or 0,
        "mig_profile": None,
        "parent_id": None,
        "part_numerator": 1,
        "part_denominator": 1,
        "problem": device.problem,
    }
    parts = [
        shared
        | {
            "device_id": part.part_id,
            "memory_bytes": part.memory_bytes or 0,
            "mig_profile": part.profile,
            "parent_id": device.device_id,
            "part_numerator": part.size,
            "part_denominator": part.of,
            "problem": device.problem,
        }
        for part in device.parts
    ]
    return [own, *parts]


def error_fields(error: GpuError, at_us: int) -> dict[str, object]:
    """Fields of a `hardware_error` event."""
    return {
        "at_us": at_us,
        "device_id": error.device_id,
        "error": error.error,
        "code": error.code,
        "count": error.count,
    }


def occupant_rows(occupants: Iterable[Occupant]) -> list[dict[str, object]]:
    """Holders of an `allocation` event: presence without a claim."""
    rows: list[dict[str, object]] = []
    for item in occupants:
        holder = item.holder or Holder("unknown")
        rows.append(
            {
                "resource": resource_of(item.place.device_id),
                "kind": holder.kind,
                "run_id": holder.run_id,
                "writer_id": holder.writer_id,
                "owner": None if holder.uid is None else owner_name(holder.uid),
                "numerator": 0,
                "denominator": 0,
                "evidence": item.evidence,
                "part_id": item.place.part_id,
                "part_numerator": item.part_numerator,
                "part_denominator": item.part_denominator,
                "account": holder.account,
            }
        )
    return rows


def add_device_usage(
    usage: list[dict[str, object]], of_runs: Mapping[Holder, Sequence[Mapping[str, object]]]
) -> None:
    """Add what runs used of devices to the rows of a `process_usage` event, and rows for runs that have none."""
    rows = {item["writer_id"]: item for item in usage if item["kind"] == "run"}
    for item in usage:
        item["devices"] = []
    for holder, devices in of_runs.items():
        row = rows.get(holder.writer_id)
        if row is None:
            row = {
                "kind": holder.kind,
                "run_id": holder.run_id,
                "writer_id": holder.writer_id,
                "owner": None if holder.uid is None else owner_name(holder.uid),
                "cpu_us": 0,
                "memory_peak_bytes": 0,
                "account": holder.account,
            }
            usage.append(row)
        row["devices"] = list(devices)
