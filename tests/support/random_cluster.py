"""A small cluster of seeded chance: runs that end in every way, GPUs that are held, used, measured, or not.

Everything that was sent is kept in lists, so that a slow calculation can be made of it without the tables.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from support.filled_tables import FilledTables
from support.ingest_events import HOUR_US, START_US, fixed_id

S = 1_000_000
MINUTE_US = 60 * S
BEGIN_US = START_US - START_US % HOUR_US
HOURS = 2
GPU_BYTES = 80 << 30
MODEL = "NVIDIA H100 80GB HBM3"
GPUS = {"node-1": ("GPU-a", "GPU-b"), "node-2": ()}
CORES = 8
STATUSES = ("finished", "failed", "killed", "crashed", None)


@dataclass(frozen=True)
class RandomRun:
    """A run; its attempts are its writers, in their order."""

    number: int
    node: str
    team: str | None
    project: str
    user: str
    writers: tuple[int, ...]
    status: str | None

    @property
    def run_id(self) -> bytes:
        return fixed_id(self.number)


@dataclass
class RandomCluster:
    """Fills tables; the same seed makes the same cluster."""

    tables: FilledTables
    seed: int
    begin_us: int = BEGIN_US
    runs: list[RandomRun] = field(default_factory=list)
    # (run, writer, device, start_us, end_us, fields of the event)
    device_uses: list[tuple[RandomRun, int, str, int, int, dict[str, Any]]] = field(default_factory=list)
    # (node, start_us, end_us, device, fields of the event)
    whole_uses: list[tuple[str, int, int, str, dict[str, Any]]] = field(default_factory=list)
    # (node, at_us, holders of the event)
    allocations: list[tuple[str, int, list[dict[str, Any]]]] = field(default_factory=list)
    # (node, device, name, start_us, mean, samples)
    samples: list[tuple[str, str, str, int, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)
        self._start_runs()
        for node in GPUS:
            self._live(node)
        self.tables.price(1, self.begin_us, nano=self.chance.randrange(1, 40 * 10**9), pattern="node-1")
        if self.chance.random() < 0.7:
            self.tables.price(2, self.begin_us, nano=3_333_333_333, pattern="node-2", currency="EUR")
        self._end_runs()
        self.tables.take_in()

    def _start_runs(self) -> None:
        for number in range(1, 7):
            run = RandomRun(
                number,
                self.chance.choice(("node-1", "node-1", "node-2")),
                self.chance.choice(("red", "blue", None)),
                self.chance.choice(("p", "q")),
                self.chance.choice(("ann", "bob")),
                (number * 10, number * 10 + 1) if self.chance.random() < 0.3 else (number * 10,),
                self.chance.choice(STATUSES),
            )
            self.runs.append(run)
            for place, writer in enumerate(run.writers):
                self.tables.started(
                    number, writer, self.begin_us + place * HOUR_US, node=run.node, team=run.team, project=run.project,
                    user=run.user, joined="new" if place == 0 else "resume",
                )  # fmt: skip

    def _end_runs(self) -> None:
        for run in self.runs:
            for place, writer in enumerate(run.writers):
                at_us = self.begin_us + (place + 1) * HOUR_US
                status = run.status if writer == run.writers[-1] else "failed"
                if status == "crashed":
                    self.tables.event(
                        "writer_gone", at_us, node=run.node, run_id=run.run_id, writer_id=fixed_id(writer),
                        at_us=at_us, evidence="lock_free", exit_seen=False,
                    )  # fmt: skip
                elif status is not None:
                    self.tables.exited(run.number, writer, at_us, status, node=run.node)

    def _live(self, node: str) -> None:
        devices = [
            {"device_id": gpu, "model": MODEL, "memory_bytes": GPU_BYTES, "mig_profile": None}
            for gpu in GPUS[node]
        ]
        self.tables.event("devices", self.begin_us, node=node, at_us=self.begin_us, devices=devices)
        hole = self.chance.randrange(5, 100)
        held: dict[str, list[tuple[RandomRun, int]]] = {}
        for minute in range(HOURS * 60):
            start_us = self.begin_us + minute * MINUTE_US
            if minute % 5 == 0:
                held = self._allocate(node, start_us)
            if not hole <= minute < hole + 4:
                self.tables.present(start_us, node=node)
                if self.chance.random() < 0.9:
                    self._use(node, start_us, held)
        self.tables.present(self.begin_us + HOURS * HOUR_US, node=node)

    def _here(self, node: str, at_us: int) -> list[tuple[RandomRun, int]]:
        """(run, writer) of the attempts that run then."""
        place = (at_us - self.begin_us) // HOUR_US
        return [
            (run, run.writers[place]) for run in self.runs if run.node == node and place < len(run.writers)
        ]

    def _allocate(self, node: str, at_us: int) -> dict[str, list[tuple[RandomRun, int]]]:
        here = self._here(node, at_us)
        held: dict[str, list[tuple[RandomRun, int]]] = {}
        holders = []
        if here and self.chance.random() < 0.4:
            holders.append(_holder("host", *here[0], self.chance.randrange(1, CORES), CORES))
        for gpu in GPUS[node]:
            held[gpu] = self.chance.sample(here, min(len(here), self.chance.randrange(3)))
            is_claim = self.chance.random() < 0.4
            for run, writer in held[gpu]:
                part = (self.chance.randrange(1, 4), 8) if is_claim else (0, 0)
                holders.append(_holder(f"device:{gpu}", run, writer, *part))
            if self.chance.random() < 0.15:
                holders.append(
                    {"resource": f"device:{gpu}", "kind": "untracked", "run_id": None, "writer_id": None,
                     "owner": "eve", "numerator": 0, "denominator": 0, "evidence": "process list"}
                )  # fmt: skip
        self.allocations.append((node, at_us, holders))
        self.tables.event("allocation", at_us, node=node, at_us=at_us, key_frame=False, holders=holders)
        return held

    def _use(self, node: str, start_us: int, held: dict[str, list[tuple[RandomRun, int]]]) -> None:
        end_us = start_us + MINUTE_US
        whole, by_writer, stats = [], dict[int, list[dict[str, Any]]](), list[dict[str, Any]]()
        for gpu in GPUS[node]:
            observed_us = self.chance.choice((MINUTE_US, MINUTE_US, 40 * S, 20 * S))
            busy_us = self.chance.choice((None, 0, observed_us, self.chance.randrange(observed_us)))
            fields: dict[str, Any] = {
                "device_id": gpu, "part_id": "", "observed_us": observed_us, "busy_us": busy_us,
                "energy_mj": self.chance.choice((None, self.chance.randrange(10**8))),
            }  # fmt: skip
            whole.append(fields)
            self.whole_uses.append((node, start_us, end_us, gpu, fields))
            stats += self._measure(node, gpu, start_us, fields)
            for run, writer in held[gpu]:
                share = {
                    **fields,
                    "busy_us": None if busy_us is None else busy_us // len(held[gpu]),
                    "energy_mj": None
                    if fields["energy_mj"] is None
                    else fields["energy_mj"] // len(held[gpu]),
                    "memory_peak_bytes": self.chance.choice((None, self.chance.randrange(GPU_BYTES))),
                    "quality": "unknown"
                    if busy_us is None
                    else "exclusive"
                    if len(held[gpu]) == 1
                    else "estimated",
                }
                by_writer.setdefault(writer, []).append(share)
                self.device_uses.append((run, writer, gpu, start_us, end_us, share))
        usage = [
            {"kind": "run", "run_id": run.run_id, "writer_id": fixed_id(writer), "owner": run.user,
             "cpu_us": self.chance.randrange(3 * MINUTE_US), "memory_peak_bytes": 1,
             "devices": by_writer.get(writer, [])}
            for run, writer in self._here(node, start_us)
        ]  # fmt: skip
        for kind, owner in (("system", None), ("untracked", "eve")):
            usage.append(
                {"kind": kind, "run_id": None, "writer_id": None, "owner": owner,
                 "cpu_us": self.chance.randrange(MINUTE_US), "memory_peak_bytes": 1}
            )  # fmt: skip
        self.tables.event(
            "process_usage",
            end_us,
            node=node,
            start_us=start_us,
            end_us=end_us,
            cores=CORES,
            usage=usage,
            devices=whole,
        )
        if stats:
            self.tables.event("hardware", end_us, node=node, start_us=start_us, end_us=end_us, stats=stats)

    def _measure(self, node: str, gpu: str, start_us: int, use: dict[str, Any]) -> list[dict[str, Any]]:
        seconds = use["observed_us"] // S
        values = {"observed_s": (1.0, seconds), "mem_total_bytes": (float(GPU_BYTES), seconds)}
        if use["busy_us"] is not None:
            values["gpu_util_pct"] = (float(self.chance.randrange(101)), seconds)
        if use["energy_mj"] is not None:
            values["energy_j"] = (float(self.chance.randrange(1000)), 6)
        for name, (mean, samples) in values.items():
            self.samples.append((node, gpu, name, start_us, mean, samples))
        return [
            {"device": gpu, "name": name, "minimum": mean, "mean": mean, "maximum": mean, "last": mean,
             "samples": samples}
            for name, (mean, samples) in values.items()
        ]  # fmt: skip


def _holder(resource: str, run: RandomRun, writer: int, numerator: int, denominator: int) -> dict[str, Any]:
    return {
        "resource": resource, "kind": "run", "run_id": run.run_id, "writer_id": fixed_id(writer), "owner": run.user,
        "numerator": numerator, "denominator": denominator, "evidence": "test",
    }  # fmt: skip
