"""What the kernel says of a shortage (pressure) and the processor of its energy (RAPL): as means and sums of a sample.

Pressure is the share of time in which some task waited for CPU, memory or disks, and in which all did: `cpu_some_pct`,
`memory_some_pct`, `memory_full_pct`, `io_some_pct`, `io_full_pct`, of the machine or, in a container of its own, of
the container. Energy is that of all tenants of the machine: `cpu_energy_j` of its processors, `dram_energy_j` of its
memory, where the kernel has the counters (seldom in virtual machines) and lets us read them (root). They turn over.
"""

from collections.abc import Iterator
from pathlib import Path

from trainledger.node.host_files import OpenFile

__all__ = ["HostPressure"]

PRESSURES = ("cpu", "memory", "io")
WORDS = (b"some", b"full")
ZONES = {"package": "cpu_energy_j", "dram": "dram_energy_j"}


class _Zone:
    # A counter of microjoules that begins again at its range.

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.range_uj = int(_text(folder / "max_energy_range_uj") or 0)
        self.file = OpenFile(folder / "energy_uj")

    def read(self) -> int | None:
        text = self.file.read(64).strip()
        return int(text) if text.isdigit() else None


class HostPressure:
    """Reads the files, and remembers what they said before."""

    def __init__(self, proc: Path, sys: Path, *, group: Path | None = None) -> None:
        """`group`: the folder of the control group of the agent's own container."""
        places = {
            name: proc / "pressure" / name if group is None else group / f"{name}.pressure"
            for name in PRESSURES
        }
        self._files = {name: OpenFile(path) for name, path in places.items()}
        self._zones = [] if group is not None else list(_zones(sys / "class" / "powercap"))
        self._before: dict[str, int] = {}
        self._before_ns: int | None = None

    def sample(self, now_ns: int) -> dict[str, float]:
        """What passed since the call before, by name; empty at the first call."""
        now = dict(self._waited_us())
        energy = [(zone, value) for zone in self._zones if (value := zone.read()) is not None]
        before, self._before = self._before, now | {f"zone {i}": value for i, (_, value) in enumerate(energy)}
        before_ns, self._before_ns = self._before_ns, now_ns
        if before_ns is None or now_ns <= before_ns:
            return {}
        elapsed_us = (now_ns - before_ns) / 1000
        found = {
            name: min(100.0, 100.0 * (value - before[name]) / elapsed_us)
            for name, value in now.items()
            if before.get(name, value + 1) <= value
        }
        for index, (zone, value) in enumerate(energy):
            old = before.get(f"zone {index}")
            if old is not None:
                grown = value - old if value >= old else value + zone.range_uj - old
                found[zone.name] = found.get(zone.name, 0.0) + max(0, grown) / 1e6
        return found

    def close(self) -> None:
        """Close the files."""
        for file in (*self._files.values(), *(zone.file for zone in self._zones)):
            file.close()

    def _waited_us(self) -> Iterator[tuple[str, int]]:
        for name, file in self._files.items():
            for line in file.read(512).splitlines():
                word, _, rest = line.partition(b" ")
                total = rest.rpartition(b"total=")[2]
                # Of the CPU the machine as a whole is never `full`.
                if word in WORDS and total.isdigit() and not (name == "cpu" and word == b"full"):
                    yield f"{name}_{word.decode()}_pct", int(total)


def _zones(folder: Path) -> Iterator[_Zone]:
    """Processors and their memory; cores and graphics are parts of a processor."""
    for zone in sorted(folder.glob("intel-rapl:*")):
        kind = _text(zone / "name").partition("-")[0]
        if kind in ZONES:
            made = _Zone(zone, ZONES[kind])
            if made.read() is not None:
                yield made
            else:
                made.file.close()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
