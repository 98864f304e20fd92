"""Records what a real NVIDIA GPU answers, and checks the agent's GPU reader on it.

    python tests/support/record_nvml.py FOLDER [SPEED]

SPEED above 1 shortens the phases (to try the script itself).

Needs torch, nvidia-ml-py and the checkout; no network, and changes no setting of the GPU. Writes `recording.json`
(every call with its code, result and time taken; a timeline of phases with known load; what the agent's reader
made of it) and `checks.txt`. Takes about two minutes. Exit code 1 when a check fails.
"""

import ctypes
import json
import os
import platform
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
for folder in ("agent", "schemas"):
    sys.path.insert(0, str(ROOT / folder))

import pynvml as nv  # noqa: E402 (the checkout's folders come first)

from trainledger.node.allocation import AllocationLog  # noqa: E402 (as above)
from trainledger.node.gpu_watch import GpuWatch  # noqa: E402 (as above)
from trainledger.node.node_settings import SamplingSettings  # noqa: E402 (as above)
from trainledger.node.nvml_gpm import METRICS, GpmMeter  # noqa: E402 (as above)
from trainledger.node.nvml_reader import NvmlReader, open_reader  # noqa: E402 (as above)
from trainledger.node.nvml_readings import FIELDS  # noqa: E402 (as above)
from trainledger.node.sampler import NodeSampler  # noqa: E402 (as above)
from trainledger_schemas.clock import SystemClock  # noqa: E402 (as above)

BURNER = Path(__file__).with_name("burn_gpu.py")
FAST_S = 0.1


def plain(value: Any, depth: int = 0) -> Any:
    """Any answer of pynvml as JSON."""
    if depth > 6:
        return repr(value)[:200]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, ctypes.Union):
        return {name: plain(getattr(value, name)) for name, *_ in value._fields_}
    if isinstance(value, ctypes.Structure):
        return {name: plain(getattr(value, name), depth + 1) for name, *_ in value._fields_}
    if isinstance(value, ctypes.Array):
        return [plain(item, depth + 1) for item in list(value)[:64]]
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value[:256]]
    if hasattr(value, "__dict__"):
        return {name: plain(item, depth + 1) for name, item in vars(value).items()}
    return repr(value)[:200]


class Calls:
    """Calls pynvml and writes down how it went."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def __call__(self, name: str, *args: Any, keep: bool = True, label: str | None = None) -> Any:
        row: dict[str, Any] = {
            "call": name,
            "args": label or [plain(a) for a in args if isinstance(a, (int, str))],
        }
        row["at_us"] = time.time_ns() // 1000
        result = None
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        try:
            function = getattr(nv, name)
            result = function(*args)
            row["code"] = 0
        except nv.NVMLError as error:
            row["code"], row["error"] = int(error.value), str(error)
        except Exception as error:  # the recording must go on whatever a function of pynvml does
            row["code"], row["error"] = -1, repr(error)
        row["us"] = round((time.perf_counter_ns() - wall) / 1000, 1)
        row["cpu_us"] = round((time.thread_time_ns() - cpu) / 1000, 1)
        row["result"] = plain(result)
        if keep:
            self.rows.append(row)
        return result

    def take(self) -> list[dict[str, Any]]:
        rows, self.rows = self.rows, []
        return rows


def about_machine() -> dict[str, Any]:
    def output(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout[:60_000]
        except (OSError, subprocess.SubprocessError) as error:
            return repr(error)

    def read(path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")[:4000]
        except OSError as error:
            return repr(error)

    return {
        "uname": list(platform.uname()),
        "python": sys.version,
        "nvidia_ml_py": getattr(nv, "__version__", None),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "pid_namespace": os.stat("/proc/self/ns/pid").st_ino,
        "status": read("/proc/self/status"),
        "cgroup": read("/proc/self/cgroup"),
        "driver_file": read("/proc/driver/nvidia/version"),
        "devices": sorted(str(p) for p in Path("/dev").glob("nvidia*")),
        "smi": output("nvidia-smi", "-q"),
        "smi_list": output("nvidia-smi", "-L"),
        "maps": [line.split()[-1] for line in read("/proc/self/maps").splitlines() if "nvidia" in line][:10],
    }


def static_calls(call: Calls, handle: Any) -> None:
    """Each call once, supported or not."""
    for name in (
        "SystemGetDriverVersion",
        "SystemGetNVMLVersion",
        "SystemGetCudaDriverVersion_v2",
        "DeviceGetCount",
    ):
        call(f"nvml{name}")
    for name in (
        "UUID Name Serial PciInfo MinorNumber Index Brand Architecture CudaComputeCapability BoardId ComputeMode "
        "PersistenceMode MemoryInfo BAR1MemoryInfo UtilizationRates PowerUsage EnforcedPowerLimit "
        "PowerManagementLimit TotalEnergyConsumption CurrentClocksEventReasons CurrentClocksThrottleReasons "
        "SupportedClocksEventReasons EccMode RemappedRows ComputeRunningProcesses GraphicsRunningProcesses "
        "MPSComputeRunningProcesses ComputeRunningProcesses_v2 EncoderUtilization DecoderUtilization MigMode "
        "MaxMigDeviceCount GpuInstanceId ComputeInstanceId Attributes AccountingMode AccountingPids "
        "AccountingBufferSize NumGpuCores MemoryBusWidth PerformanceState FanSpeed CurrPcieLinkGeneration "
        "CurrPcieLinkWidth PcieReplayCounter GpuFabricInfo NumaNodeId VirtualizationMode"
    ).split():
        call(f"nvmlDeviceGet{name}", handle)
    call("nvmlDeviceGetMemoryInfo", handle, nv.nvmlMemory_v2)
    call("nvmlDeviceGetTemperature", handle, 0)
    call("nvmlDeviceGetTemperatureV", handle, 0)
    for clock in range(4):
        call("nvmlDeviceGetClockInfo", handle, clock)
        call("nvmlDeviceGetMaxClockInfo", handle, clock)
    for kind in (0, 1):
        for counter in (0, 1):
            call("nvmlDeviceGetTotalEccErrors", handle, kind, counter)
            call("nvmlDeviceGetMemoryErrorCounter", handle, kind, counter, 2)
    for counter in (0, 1):
        call("nvmlDeviceGetPcieThroughput", handle, counter)
    for policy in range(4):
        call("nvmlDeviceGetViolationStatus", handle, policy)
    for sampling in range(8):
        call("nvmlDeviceGetSamples", handle, sampling, 0)
    for profile in range(12):
        call("nvmlDeviceGetGpuInstanceProfileInfo", handle, profile)
    call("nvmlDeviceGetProcessUtilization", handle, 0)
    call("nvmlDeviceGetProcessesUtilizationInfo", handle, 0)
    call("nvmlDeviceGetMigDeviceHandleByIndex", handle, 0)
    call("nvmlDeviceGetNvLinkState", handle, 0)
    call("nvmlGpmQueryDeviceSupport", handle)
    call("nvmlGpmQueryIfStreamingEnabled", handle)
    every_field = [*range(1, 300)]
    for start in range(0, len(every_field), 60):
        fields = every_field[start : start + 60]
        call("nvmlDeviceGetFieldValues", handle, fields, label=f"{fields[0]}..{fields[-1]}")
    call(
        "nvmlDeviceGetFieldValues",
        handle,
        [(f, 0xFFFFFFFF) for f in (138, 139, 140, 141, 202, 204)],
        label="links",
    )
    call("nvmlDeviceGetFieldValues", handle, [(186, 1), (185, 1), (83, 1)], label="module scope")


def event_calls(call: Calls, handle: Any) -> None:
    """Xid events: what registering and an empty wait of 0 ms cost."""
    call("nvmlDeviceGetSupportedEventTypes", handle)
    events = call("nvmlEventSetCreate")
    if events is None:
        return
    call("nvmlDeviceRegisterEvents", handle, 8, events)
    for _ in range(3):
        call("nvmlEventSetWait", events, 0)
    call("nvmlEventSetWait_v2", events, 0)
    call("nvmlEventSetFree", events)


def costs(handle: Any, device_fields: list[Any]) -> dict[str, Any]:
    """Mean time of a call, microseconds: waited and of CPU."""
    wanted: dict[str, tuple[Any, ...]] = {
        "nvmlDeviceGetUtilizationRates": (handle,),
        "nvmlDeviceGetMemoryInfo": (handle, nv.nvmlMemory_v2),
        "nvmlDeviceGetPowerUsage": (handle,),
        "nvmlDeviceGetEnforcedPowerLimit": (handle,),
        "nvmlDeviceGetTotalEnergyConsumption": (handle,),
        "nvmlDeviceGetTemperatureV": (handle, 0),
        "nvmlDeviceGetClockInfo": (handle, 1),
        "nvmlDeviceGetCurrentClocksEventReasons": (handle,),
        "nvmlDeviceGetComputeRunningProcesses": (handle,),
        "nvmlDeviceGetGraphicsRunningProcesses": (handle,),
        "nvmlDeviceGetMPSComputeRunningProcesses": (handle,),
        "nvmlDeviceGetProcessUtilization": (handle, 0),
        "nvmlDeviceGetSamples": (handle, 1, 0),
        "nvmlDeviceGetFieldValues": (handle, device_fields),
        "nvmlDeviceGetTotalEccErrors": (handle, 1, 1),
        "nvmlDeviceGetRemappedRows": (handle,),
        "nvmlDeviceGetMigMode": (handle,),
        "nvmlDeviceGetCount": (),
        "nvmlDeviceGetHandleByIndex": (0,),
        "nvmlDeviceGetUUID": (handle,),
        "nvmlDeviceGetPcieThroughput": (handle, 0),
    }
    found: dict[str, Any] = {}
    for name, args in wanted.items():
        walls, cpus, code = [], [], 0
        for _ in range(30):
            cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
            try:
                getattr(nv, name)(*args)
            except nv.NVMLError as error:
                code = int(error.value)
            walls.append((time.perf_counter_ns() - wall) / 1000)
            cpus.append((time.thread_time_ns() - cpu) / 1000)
        walls.sort()
        found[name] = {
            "code": code,
            "us_median": round(walls[len(walls) // 2], 1),
            "us_max": round(walls[-1], 1),
            "cpu_us_mean": round(sum(cpus) / len(cpus), 1),
        }
    for field in device_fields:
        wall = time.perf_counter_ns()
        for _ in range(10):
            try:
                nv.nvmlDeviceGetFieldValues(handle, [field])
            except nv.NVMLError:
                pass
        found[f"field {field}"] = {"us_mean": round((time.perf_counter_ns() - wall) / 10_000, 1)}
    return found


class Burner:
    """A process of burn_gpu.py."""

    def __init__(self, name: str, memory_mib: int, size: int) -> None:
        self.name = name
        self.said: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(BURNER), str(memory_mib), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            try:
                self.said.append(json.loads(line))
            except ValueError:
                self.said.append({"text": line[:500]})

    def tell(self, line: str) -> None:
        if self.process.stdin is not None and self.process.poll() is None:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def wait_ready(self, timeout_s: float = 90) -> None:
        begin = time.monotonic()
        while not any(item.get("ready") for item in self.said):
            if self.process.poll() is not None or time.monotonic() - begin > timeout_s:
                raise RuntimeError(f"burner {self.name} did not start: {self.said[-3:]}")
            time.sleep(0.05)

    def end(self) -> None:
        self.tell("quit")
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Writer:
    """A burner as a run; A is run 1, B run 2."""

    run_id: bytes
    writer_id: bytes
    pid: int
    uid: int
    start_ticks: int


def writers_of(burners: dict[str, Burner]) -> list[Writer]:
    """Runs for the burners that live."""
    found = []
    for number, burner in enumerate(burners.values(), 1):
        try:
            stat = Path(f"/proc/{burner.process.pid}/stat").read_text()
        except OSError:
            continue
        ticks = int(stat.rpartition(")")[2].split()[19])
        found.append(
            Writer(bytes([number]) * 16, bytes([number]) * 16, burner.process.pid, os.getuid(), ticks)
        )
    return found


class Timeline:
    """Raw answers ten times a second and the agent's reader once a second, on two threads, by phase."""

    def __init__(self, handle: Any, reader: NvmlReader, *, speed: float = 1) -> None:
        self._speed = speed
        self.phases: list[dict[str, Any]] = []
        self.fast: list[dict[str, Any]] = []
        self.rounds: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.events: list[Any] = []
        self.burners: dict[str, Burner] = {}
        self._handle, self._reader = handle, reader
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(f,)) for f in (self._fast, self._agent, self._node)
        ]

    def __enter__(self) -> "Timeline":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def phase(self, name: str, seconds: float) -> None:
        begin = time.time_ns() // 1000
        time.sleep(seconds / self._speed)
        self.phases.append({"name": name, "start_us": begin, "end_us": time.time_ns() // 1000})

    def _guard(self, function: Any) -> None:
        try:
            function()
        except Exception:  # shown in the recording; the other thread goes on
            self.errors.append(traceback.format_exc())

    def _fast(self) -> None:
        calls = Calls()
        handle, newest_use, newest_sample, looks = self._handle, 0, 0, 0
        while not self._stop.wait(FAST_S):
            looks += 1
            calls("nvmlDeviceGetUtilizationRates", handle)
            calls("nvmlDeviceGetPowerUsage", handle)
            calls("nvmlDeviceGetTotalEnergyConsumption", handle)
            calls(
                "nvmlDeviceGetFieldValues", handle, [186, 185, 74, 269, 270, 271, 76, 197, 198], label="some"
            )
            if looks % 5 == 0:
                samples = calls("nvmlDeviceGetSamples", handle, 1, newest_sample)
                if samples:
                    newest_sample = max([newest_sample, *(int(s.timeStamp) for s in samples[1])])
                use = calls(
                    "nvmlDeviceGetProcessUtilization", handle, newest_use, label=f"since {newest_use}"
                )
                if use:
                    newest_use = max([newest_use, *(int(s.timeStamp) for s in use)])
                calls("nvmlDeviceGetComputeRunningProcesses", handle)
                calls("nvmlDeviceGetMemoryInfo", handle, nv.nvmlMemory_v2)
                calls("nvmlDeviceGetMemoryInfo", handle)
                calls("nvmlDeviceGetCurrentClocksEventReasons", handle)
            for row in calls.take():
                row.pop("args") if row["args"] == [] else None
                self.fast.append(row)

    def _agent(self) -> None:
        while not self._stop.wait(1):
            row: dict[str, Any] = {"at_us": time.time_ns() // 1000}
            for name in ("devices", "sample", "processes"):
                cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
                result = getattr(self._reader, name)()
                row[f"{name}_us"] = round((time.perf_counter_ns() - wall) / 1000, 1)
                row[f"{name}_cpu_us"] = round((time.thread_time_ns() - cpu) / 1000, 1)
                row[name] = [describe(item) for item in result]
            self.rounds.append(row)

    def _node(self) -> None:
        """The agent's own sampler with its thread, as in production, on a second session of the library."""
        clock, settings = SystemClock(), SamplingSettings()
        sampler = NodeSampler(clock, settings, gpus=[GpuWatch(clock, settings)])
        allocation = AllocationLog(clock=clock, key_frame_s=300)
        while not self._stop.wait(0.2):
            writers = writers_of(self.burners)
            events = list(sampler.tick(clock.monotonic_ns(), writers))
            said = allocation.observe(writers, *sampler.holdings())
            events += [("allocation", said)] if said is not None else []
            self.events += [(time.time_ns() // 1000, name, dict(fields)) for name, fields in events]
        self.events += [
            (time.time_ns() // 1000, name, dict(fields))
            for name, fields in sampler.flush(clock.monotonic_ns(), [])
        ]
        sampler.close()


def describe(item: Any) -> Any:
    """A value of the agent's reader as JSON."""
    if isinstance(item, (tuple, list, frozenset)):
        return [describe(part) for part in item]
    if isinstance(item, dict):
        return {key: describe(value) for key, value in item.items()}
    if hasattr(item, "__slots__"):
        return {name: describe(getattr(item, name)) for name in type(item).__dataclass_fields__}
    return item


def gpm_rows(reader: NvmlReader, handle: Any) -> list[dict[str, Any]]:
    """A few GPM readings by the agent's own meter, and how long each took."""
    nvml = reader._nvml
    meter, rows = GpmMeter(), []
    for _ in range(6):
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        values = meter.read(nvml, "gpm", handle)
        took = time.perf_counter_ns() - wall
        rows.append({"us": took / 1000, "cpu_us": (time.thread_time_ns() - cpu) / 1000, "values": values})
        time.sleep(0.25)
    meter.close(nvml)
    return rows


def jsonable(value: Any) -> Any:
    """Ids of runs as text."""
    return value.hex() if isinstance(value, bytes) else repr(value)


def between(rows: list[dict[str, Any]], phase: dict[str, Any], settle_s: float = 2.5) -> list[dict[str, Any]]:
    return [row for row in rows if phase["start_us"] + settle_s * 1e6 <= row["at_us"] <= phase["end_us"]]


class Checks:
    """What must be true of the agent's reader on a real GPU."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed = 0

    def __call__(self, name: str, holds: bool, seen: Any) -> None:
        self.failed += not holds
        self.lines.append(f"{'ok  ' if holds else 'FAIL'} {name}: {seen}")


def check(timeline: Timeline, burners: dict[str, Burner]) -> Checks:
    checks = Checks()
    checks("no thread of the recorder failed", not timeline.errors, timeline.errors)
    phases = {phase["name"]: phase for phase in timeline.phases}
    pids = {name: burner.process.pid for name, burner in burners.items()}

    def means(phase: str, gauge: str) -> float | None:
        values = [
            row["sample"][0]["gauges"].get(gauge)
            for row in between(timeline.rounds, phases[phase])
            if row["sample"]
        ]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def share(phase: str, name: str) -> list[Any]:
        found = []
        for row in between(timeline.rounds, phases[phase]):
            for device in row["processes"]:
                found += [p["busy_pct"] for p in device["processes"] or () if p["pid"] == pids[name]]
        return found

    for gauge in (
        "gpu_util_pct",
        "mem_used_bytes",
        "mem_total_bytes",
        "power_w",
        "temperature_c",
        "sm_clock_mhz",
    ):
        checks(f"{gauge} is known", means("A full", gauge) is not None, means("A full", gauge))
    checks("idle GPU is idle", (means("idle", "gpu_util_pct") or 0) < 5, means("idle", "gpu_util_pct"))
    checks("busy GPU is busy", (means("A full", "gpu_util_pct") or 0) > 90, means("A full", "gpu_util_pct"))
    half = means("A half", "gpu_util_pct") or 0
    checks("half busy GPU is about half busy", 30 < half < 80, half)
    idle_w, busy_w = means("idle", "power_w") or 0, means("A full", "power_w") or 0
    checks("a busy GPU takes more power", busy_w > idle_w, (idle_w, busy_w))
    readings = [(row["at_us"], row["sample"][0]) for row in timeline.rounds if row["sample"]]
    known = [
        reading["counters"]["energy_mj"] for _, reading in readings if "energy_mj" in reading["counters"]
    ]
    checks("energy only grows", known == sorted(known) and len(known) >= len(readings) // 10, len(known))
    full = [row for row in timeline.rounds if row["sample"] and "energy_mj" in row["sample"][0]["counters"]]
    if len(full) > 2:
        first, last = full[0], full[-1]
        joules = (
            last["sample"][0]["counters"]["energy_mj"] - first["sample"][0]["counters"]["energy_mj"]
        ) / 1e3
        inside = [r for r in timeline.rounds if first["at_us"] < r["at_us"] <= last["at_us"] and r["sample"]]
        times = [first["at_us"], *(row["at_us"] for row in inside)]
        summed = sum(
            row["sample"][0]["gauges"]["power_w"] * (end - start) / 1e6
            for row, start, end in zip(inside, times[:-1], times[1:], strict=True)
        )
        checks("energy is power times time", abs(joules - summed) < 0.05 * joules, (joules, summed))
    for name in pids:
        checks(
            f"process {name} is found by its pid",
            bool(share("A and B full", name)),
            (pids[name], share("A and B full", name)),
        )
    checks(
        "nobody is left on the GPU",
        not any(d["processes"] for d in timeline.rounds[-1]["processes"]),
        timeline.rounds[-1]["processes"],
    )
    check_events(checks, timeline, phases)
    for phase in phases:
        checks.lines.append(
            f"     {phase}: util {means(phase, 'gpu_util_pct')} sm {means(phase, 'sm_active_pct')} "
            f"W {means(phase, 'power_w')} A {share(phase, 'A')} B {share(phase, 'B')}"
        )
    for name in ("devices", "sample", "processes"):
        for kind in ("us", "cpu_us"):
            values = sorted(row[f"{name}_{kind}"] for row in timeline.rounds)
            checks.lines.append(f"     {name}() {kind}: median {values[len(values) // 2]} max {values[-1]}")
    return checks


def check_events(checks: Checks, timeline: Timeline, phases: dict[str, Any]) -> None:
    """What the agent would have written down of the runs."""
    names = [name for _, name, _ in timeline.events]
    checks("one list of devices", names.count("devices") == 1, names.count("devices"))
    used: dict[str, list[float]] = {"01": [0, 0, 0], "02": [0, 0, 0]}
    whole = 0.0
    for _, name, fields in timeline.events:
        if name != "process_usage":
            continue
        whole += sum(item["energy_mj"] or 0 for item in fields["devices"]) / 1000
        for row in fields["usage"]:
            for device in row["devices"]:
                sums = used[row["run_id"].hex()[:2]]
                sums[0] += (device["busy_us"] or 0) / 1e6
                sums[1] += (device["energy_mj"] or 0) / 1000
                sums[2] = max(sums[2], device["memory_peak_bytes"] or 0)
    checks("both runs have use of the GPU", all(sums[0] > 0 for sums in used.values()), used)
    checks(
        "runs took a part of the device's energy",
        0 < sum(s[1] for s in used.values()) <= whole,
        (used, whole),
    )
    kinds = {item["kind"] for _, name, f in timeline.events if name == "allocation" for item in f["holders"]}
    checks("holders are runs, never unknown", kinds <= {"run"}, kinds)
    shared = phases["A and B full"]
    inside = [
        f
        for at_us, name, f in timeline.events
        if name == "allocation" and shared["start_us"] - 6e6 < at_us < shared["end_us"]
    ]
    checks.lines.append(f"     allocations around A and B full: {[len(f['holders']) for f in inside]}")


def play(timeline: Timeline, burners: dict[str, Burner], recording: dict[str, Any], handle: Any) -> None:
    """The phases; what each process does is known."""
    timeline.burners = burners
    fields = [*FIELDS, 83, 185, 197, 198]
    timeline.phase("idle", 6)
    recording["costs_idle"] = costs(handle, fields)
    burners["A"] = Burner("A", 4000, 8192)
    burners["A"].wait_ready()
    timeline.phase("A context only", 6)
    burners["A"].tell("load 1")
    timeline.phase("A full", 12)
    recording["costs_busy"] = costs(handle, fields)
    burners["B"] = Burner("B", 2000, 8192)
    burners["B"].wait_ready()
    timeline.phase("A full, B context", 5)
    burners["B"].tell("load 1")
    timeline.phase("A and B full", 14)
    recording["costs_shared"] = costs(handle, fields)
    burners["B"].tell("load 0.25")
    timeline.phase("A full, B quarter", 12)
    burners["A"].tell("load 0.5")
    burners["B"].tell("stop")
    timeline.phase("A half", 12)
    burners["A"].tell("load 0.25")
    burners["B"].tell("load 0.25")
    timeline.phase("A and B quarter", 12)
    burners["B"].process.kill()
    timeline.phase("B killed", 5)
    burners["A"].end()
    timeline.phase("done", 6)


def main(out: Path, speed: float) -> int:
    out.mkdir(parents=True, exist_ok=True)
    recording: dict[str, Any] = {"machine": about_machine()}
    opened = open_reader(SystemClock())
    if isinstance(opened, str):
        print(f"no GPU here: {opened}")
        return 1
    reader = opened
    recording["devices"] = [describe(device) for device in reader.devices()]
    handle = nv.nvmlDeviceGetHandleByIndex(0)
    call = Calls()
    static_calls(call, handle)
    event_calls(call, handle)
    recording["static"] = call.take()
    burners: dict[str, Burner] = {}
    try:
        with Timeline(handle, reader, speed=speed) as timeline:
            try:
                play(timeline, burners, recording, handle)
            finally:
                for burner in burners.values():
                    if burner.process.poll() is None:
                        burner.process.kill()
        recording["gpm"] = gpm_rows(reader, handle)
        recording["gpm_metrics"] = {str(number): name for number, (name, _) in METRICS.items()}
        static_calls(call, handle)
        recording["static_after"] = call.take()
        checks = check(timeline, burners)
    finally:
        recording["phases"], recording["fast"] = timeline.phases, timeline.fast
        recording["events"] = timeline.events
        recording["rounds"], recording["errors"] = timeline.rounds, timeline.errors
        recording["burners"] = {name: {"pid": b.process.pid, "said": b.said} for name, b in burners.items()}
        (out / "recording.json").write_text(json.dumps(recording, separators=(",", ":"), default=jsonable))
        reader.close()
    (out / "checks.txt").write_text("\n".join(checks.lines) + "\n")
    print("\n".join(checks.lines))
    return 1 if checks.failed else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), float(sys.argv[2] if len(sys.argv) > 2 else 1)))
