"""GPUs for tests: the fake library, compiled once a session, behind the real pynvml."""

from pathlib import Path

from support.fake_nvml_library import Scenario, build, load_into_pynvml
from trainledger.node.gpu import GpuProcesses, GpuReading
from trainledger.node.gpu_vendors import Vendor
from trainledger.node.nvml_reader import NvmlReader, open_reader
from trainledger_schemas.clock import Clock, ManualClock


class Machine:
    """A machine with the GPUs of a scenario."""

    def __init__(self, place: Path, *, without: tuple[str, ...] = ()) -> None:
        self.library = build(place, without=without)
        self.scenario = Scenario(place / "scenario.txt")
        self.clock = ManualClock()

    def empty(self) -> None:
        """Take all GPUs out, and set the clock back."""
        self.scenario.lines.clear()
        self.scenario.write()
        self.clock = ManualClock()

    def reader(self, clock: Clock | None = None) -> NvmlReader:
        """The agent's reader on the scenario as it is written now."""
        self.scenario.write()
        load_into_pynvml(self.library, self.scenario)
        reader = open_reader(clock or self.clock, library=str(self.library))
        assert isinstance(reader, NvmlReader), reader
        return reader

    def vendor(self) -> Vendor:
        """How the agent finds this machine's GPUs."""
        return Vendor("nvidia", self.library.exists, self.reader)


def sample_all(reader: NvmlReader) -> list[GpuReading]:
    """One look at each device of the reader's last list, in its order."""
    return [reading for device_id in list(reader._handles) for reading in reader.sample(device_id)]


def list_all(reader: NvmlReader) -> list[GpuProcesses]:
    """The processes of each device of the reader's last list."""
    return [reader.processes(device_id) for device_id in list(reader._handles)]
