"""Builds the fake `libnvidia-ml.so.1` and writes the scenarios that it answers from."""

import ctypes
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml") / "fake_nvml.c"
SONAME = "libnvidia-ml.so.1"
SCENARIO = "FAKE_NVML_SCENARIO"


def build(folder: Path, *, without: Iterable[str] = ()) -> Path:
    """Compile the library into `folder`; `without`: symbols that it does not have. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "symbols.map"
    # Exact names win over the pattern.
    local = "".join(f" {name};" for name in ("none", *without))
    script.write_text(f"{{ global: nvml*; local:{local} }};\n")
    library = folder / SONAME
    subprocess.run(
        ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}"]
        + [f"-Wl,--version-script={script}", "-o", str(library), str(SOURCE), "-lpthread"],
        check=True,
    )
    return library


class Scenario:
    """What the fake answers; each method adds lines, `write` puts them into force at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, *lines: str) -> "Scenario":
        """Lines as in fake_nvml.c."""
        self.lines += lines
        return self

    def gpu(self, number: int, *, memory_mib: int = 81_559, model: str = "NVIDIA H100 80GB HBM3") -> str:
        """A device that answers everything, idle; returns its UUID."""
        uuid = f"GPU-{number:08x}-0000-0000-0000-000000000000"
        self.add(f"gpu {number} {uuid} {memory_mib} 500 {model}")
        known = {"power_mw": 70_000, "limit_mw": 700_000, "energy_mj": 1_000_000, "temperature": 30}
        known |= {"sm_mhz": 1980, "mem_mhz": 2619, "pcie_gen": 5, "pcie_lanes": 16}
        self.set(number, **known)
        return uuid

    def set(self, number: int, **values: int) -> "Scenario":
        """Values of a device; the last one counts."""
        return self.add(*(f"set {number} {name} {value}" for name, value in values.items()))

    def process(self, number: int, pid: int, memory_mib: int = 1000) -> "Scenario":
        """A compute process on a device; memory -1: the driver does not tell."""
        return self.add(f"proc {number} {pid} {memory_mib}")

    def use(self, number: int, pid: int, at_us: int, sm_pct: int) -> "Scenario":
        """A sample of how much of the device a process used."""
        return self.add(f"use {number} {pid} {at_us} {sm_pct} 0")

    def without(self, *beginnings: str) -> "Scenario":
        """Take back the lines that begin so."""
        self.lines = [line for line in self.lines if not line.startswith(beginnings)]
        return self

    def write(self) -> "Scenario":
        """Put the lines into force for every process that has the library loaded."""
        new = self.path.with_suffix(".new")
        new.write_text("\n".join(self.lines) + "\n")
        new.replace(self.path)
        return self


def load_into_pynvml(library: Path, scenario: Scenario) -> None:
    """Make the pynvml of this process use the library, whatever it used before."""
    import pynvml

    os.environ[SCENARIO] = str(scenario.path)
    pynvml.nvmlLib = ctypes.CDLL(str(library))
    pynvml._nvmlGetFunctionPointer_cache.clear()
