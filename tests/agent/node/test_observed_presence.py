"""All time of a node's presence is measured: from its first event to its last, whatever the loop was busy with."""

from pathlib import Path

from support.journals import read_records
from trainledger.node.daemon import NodeAgent
from trainledger.node.node_settings import AgentSettings, SamplingSettings
from trainledger.node.sampler import NodeSampler
from trainledger_schemas.clock import ManualClock, SystemClock
from trainledger_schemas.events import TOPIC_NODES


class SlowReads(ManualClock):
    """Each look at the wall clock comes 30 ms after the last look at the other one: a loop with work between."""

    def wall_ns(self) -> int:
        self.advance(0.03)
        return super().wall_ns()


def test_presence_begins_and_ends_where_the_measurements_do(tmp_path: Path) -> None:
    (tmp_path / "journals").mkdir()
    agent = NodeAgent.open(
        tmp_path / "home",
        tmp_path / "journals",
        kind="up",
        settings=AgentSettings(
            poll_interval_s=0.1, sampling=SamplingSettings(sample_interval_s=0.1, window_s=1)
        ),
        clock=SystemClock(),
    )
    for _ in range(4):
        agent.step()
        agent.drain()
    agent.close()
    events = read_records(tmp_path / "home" / "spool", TOPIC_NODES)
    present = [fields["at_us"] for kind, fields in events if kind == "node_present"]
    windows = [(fields["start_us"], fields["end_us"]) for kind, fields in events if kind == "process_usage"]
    assert len(windows) >= 4
    assert windows[0][0] <= present[0]
    assert windows[-1][1] >= present[-1]
    assert all(earlier[1] == later[0] for earlier, later in zip(windows, windows[1:], strict=False))


def test_windows_have_no_hole_where_the_loop_was_busy_before_the_measurement() -> None:
    clock = SlowReads()
    sampler = NodeSampler(clock, SamplingSettings())
    windows = []
    for delay_s in (0.0, 0.4, 0.0, 0.2):
        clock.advance(10)
        now_ns = clock.monotonic_ns()
        clock.advance(delay_s)  # journals are read between the loop's look at the clock and the sampler's
        windows += [fields for name, fields in sampler.flush(now_ns, []) if name == "process_usage"]
    assert len(windows) == 4
    ends = [(window["start_us"], window["end_us"]) for window in windows]
    assert all(earlier[1] == later[0] for earlier, later in zip(ends, ends[1:], strict=False))
