"""AMD GPUs for tests: a fake `libamd_smi.so`, compiled once a session, behind the real Python package amdsmi."""

import ctypes
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from trainledger.node.amdsmi import LIBRARY
from trainledger.node.amdsmi_reader import AmdReader, open_reader
from trainledger.node.gpu_vendors import Vendor
from trainledger_schemas.clock import Clock, ManualClock

SOURCE = Path(__file__).with_name("fake_amdsmi") / "fake_amdsmi.c"
SCENARIO = "FAKE_AMDSMI_SCENARIO"
MIB = 1 << 20


def wanted_functions() -> set[str]:
    """What the installed package asks of the library when it is imported."""
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None and spec.origin is not None, "pip install amdsmi"
    text = Path(spec.origin).with_name("amdsmi_wrapper.py").read_text(encoding="utf-8")
    return set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", text))


def build_amd(folder: Path, *, without: Iterable[str] = ()) -> Path:
    """Compile the library into `folder`; `without`: functions that it does not have. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    made = set(re.findall(r"^int (\w+)\(", SOURCE.read_text(encoding="utf-8"), flags=re.M))
    stubs = folder / "stubs.c"
    names = sorted(wanted_functions() - made - set(without))
    stubs.write_text("".join(f"int {name}(void) {{ return 2; }}\n" for name in names))
    library = folder / LIBRARY
    subprocess.run(
        ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}"]
        + ["-o", str(library), str(SOURCE), str(stubs), "-lpthread"],
        check=True,
    )
    return library


class AmdMachine:
    """A machine with the AMD GPUs of a scenario: lines as in fake_amdsmi.c."""

    def __init__(self, place: Path) -> None:
        self.library = build_amd(place)
        self.path = place / "scenario.txt"
        self.lines: list[str] = []
        self.clock = ManualClock()

    def empty(self) -> None:
        """Take all GPUs out, and set the clock back."""
        self.lines.clear()
        self.write()
        self.clock = ManualClock()

    def gpu(self, number: int, *, bus: int | None = None, function: int = 0) -> str:
        """A processor that answers everything, idle; returns its UUID."""
        uuid = f"{number:02x}ff74a1-0000-1000-80fb-0123456789ab"
        bus = number + 1 if bus is None else bus
        self.lines.append(f"gpu {number} {uuid} {bus} {function} 196592 AMD Instinct MI300X")
        self.set(number, power_w=150, cap_uw=750_000_000, hotspot=45, gfx_mhz=132, mem_mhz=900)
        return uuid

    def set(self, number: int, **values: int) -> "AmdMachine":
        """Values of a processor; the last one counts."""
        self.lines += [f"set {number} {name} {value}" for name, value in values.items()]
        return self

    def add(self, *lines: str) -> "AmdMachine":
        """Lines as in fake_amdsmi.c."""
        self.lines += lines
        return self

    def without(self, *beginnings: str) -> "AmdMachine":
        """Take back the lines that begin so."""
        self.lines = [line for line in self.lines if not line.startswith(beginnings)]
        return self

    def write(self) -> "AmdMachine":
        """Put the lines into force for every process that has the library loaded."""
        new = self.path.with_suffix(".new")
        new.write_text("\n".join(self.lines) + "\n")
        new.replace(self.path)
        return self

    def reader(self, clock: Clock | None = None) -> AmdReader:
        """The agent's reader on the scenario as it is written now."""
        self.write()
        os.environ[SCENARIO] = str(self.path)
        ctypes.CDLL(str(self.library))  # whoever asks for the library by its name has this one
        reader = open_reader(clock or self.clock)
        assert isinstance(reader, AmdReader), reader
        return reader

    def vendor(self) -> Vendor:
        """How the agent finds this machine's GPUs."""
        return Vendor("amd", self.library.exists, self.reader)
