"""Windows and events of the sampler; time is moved by hand, processes are real."""

from collections.abc import Sequence

import pytest

from support.burners import WriterStandIn, burning
from trainledger.node.node_settings import SamplingSettings
from trainledger.node.sampler import NodeEvent, NodeSampler
from trainledger_schemas.avro_codec import decode_event, encode_event
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.errors import SettingsError

ENVELOPE = {
    "producer_id": bytes(16),
    "seq": 0,
    "node_id": "n",
    "wall_us": 0,
    "boot_id": bytes(16),
    "boot_us": 0,
    "source": None,
}


class Loop:
    """Ticks a sampler as the daemon does, and keeps its events."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sampler = NodeSampler(self.clock, SamplingSettings())
        self.events: list[NodeEvent] = []

    def tick(self, seconds: int, writers: Sequence[WriterStandIn] = ()) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.events += self.sampler.tick(self.clock.monotonic_ns(), writers)

    def flush(self, writers: Sequence[WriterStandIn] = ()) -> list[NodeEvent]:
        events = self.sampler.flush(self.clock.monotonic_ns(), writers)
        self.events += events
        return events

    def windows(self) -> list[tuple[int, int]]:
        return [
            (int(str(fields["start_us"])), int(str(fields["end_us"])))
            for name, fields in self.events
            if name == "process_usage"
        ]


def test_one_event_of_each_kind_each_ten_seconds() -> None:
    loop = Loop()
    loop.tick(35)
    assert [name for name, _ in loop.events] == ["hardware", "process_usage"] * 3
    assert [end - start for start, end in loop.windows()] == [10_000_000] * 3


def test_windows_follow_one_another_without_a_hole_or_an_overlap() -> None:
    loop = Loop()
    loop.tick(13)
    loop.clock.advance(0.4)
    loop.flush()
    loop.tick(25)
    windows = loop.windows()
    assert len(windows) == 4
    assert all(earlier[1] == later[0] for earlier, later in zip(windows, windows[1:], strict=False))


def test_flush_ends_the_window_now_and_a_second_one_at_once_says_nothing() -> None:
    loop = Loop()
    loop.tick(3)
    assert [name for name, _ in loop.flush()] == ["hardware", "process_usage"]
    assert loop.flush() == []
    assert [end - start for start, end in loop.windows()] == [3_000_000]


def test_wall_clock_that_is_set_back_makes_no_overlap_and_loses_no_cpu_time() -> None:
    loop = Loop()
    loop.tick(10)
    loop.clock.step_wall(-25)
    loop.tick(40)
    windows = loop.windows()
    assert all(earlier[1] <= later[0] for earlier, later in zip(windows, windows[1:], strict=False))
    assert len(windows) >= 2


def test_wall_clock_that_is_set_forward_does_not_stretch_a_window() -> None:
    loop = Loop()
    loop.tick(10)
    loop.clock.step_wall(3600)
    loop.tick(10)
    (_, first_end), (start, end) = loop.windows()
    assert end - start == 10_000_000
    assert start - first_end == 3_600_000_000


def test_hardware_event_has_ten_samples_of_each_stat_and_fits_its_schema() -> None:
    loop = Loop()
    loop.tick(10)
    fields = dict(loop.events)["hardware"]
    decoded = decode_event(encode_event("hardware", {"envelope": ENVELOPE, **fields})).record
    stats = {stat["name"]: stat for stat in decoded["stats"]}
    assert stats.keys() >= {
        "mem_used_bytes",
        "mem_total_bytes",
        "disk_read_bytes",
        "disk_write_bytes",
        "net_rx_bytes",
        "net_tx_bytes",
    }
    assert all(stat["device"] == "host" for stat in stats.values())
    assert stats["net_rx_bytes"]["samples"] == 10
    assert (
        stats["mem_used_bytes"]["minimum"]
        <= stats["mem_used_bytes"]["mean"]
        <= stats["mem_used_bytes"]["maximum"]
    )


def test_usage_event_attributes_a_real_process_to_its_run_and_fits_its_schema() -> None:
    loop = Loop()
    with burning("burn(0.5)") as burner:
        writer = burner.writer(1)
        loop.tick(1, [writer])
        burner.go()
        used_us = burner.used_us()
        loop.tick(2, [writer])
        loop.flush([writer])
    fields = dict(loop.events)["process_usage"]
    decoded = decode_event(encode_event("process_usage", {"envelope": ENVELOPE, **fields})).record
    run = next(item for item in decoded["usage"] if item["kind"] == "run")
    assert (run["run_id"], run["writer_id"]) == (writer.run_id, writer.writer_id)
    assert run["cpu_us"] == pytest.approx(used_us, rel=0.15)
    assert decoded["cores"] >= 1


def test_cpu_of_a_run_is_whole_over_several_windows() -> None:
    loop = Loop()
    with burning("burn(0.3)\nprint('half', flush=True)\nsys.stdin.readline()\nburn(0.3)") as burner:
        writer = burner.writer(1)
        loop.tick(1, [writer])
        burner.go()
        burner.line()
        loop.tick(9, [writer])
        burner.go()
        used_us = burner.used_us()
        loop.tick(10, [writer])
    runs = [
        int(item["cpu_us"])
        for name, fields in loop.events
        if name == "process_usage"
        for item in fields["usage"]  # type: ignore[attr-defined]  # fields are objects until they are encoded
        if item["kind"] == "run"
    ]
    assert len(runs) == 2
    assert all(part >= 250_000 for part in runs)
    assert sum(runs) == pytest.approx(used_us, rel=0.15)


def test_settings_out_of_range_are_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="window_s"):
        SamplingSettings(window_s=0)
