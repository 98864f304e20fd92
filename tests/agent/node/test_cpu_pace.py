"""The share of a core that sending may take."""

from trainledger.node.cpu_pace import BURST_NS, CpuPace
from trainledger_schemas.clock import ManualClock


def test_work_stays_below_its_share_after_a_first_burst() -> None:
    clock = ManualClock()
    pace = CpuPace(0.25, clock=clock, wait=clock.advance)
    begin_ns = clock.monotonic_ns()
    used_ns = 0
    for _ in range(1000):
        clock.advance(0.002)  # the work itself
        used_ns += 2_000_000
        pace.pay(2_000_000)
    passed_ns = clock.monotonic_ns() - begin_ns
    assert 0.24 < used_ns / (passed_ns + BURST_NS) <= 0.251


def test_rare_work_never_waits() -> None:
    clock = ManualClock()
    pace = CpuPace(0.25, clock=clock, wait=lambda seconds: (_ for _ in ()).throw(AssertionError(seconds)))
    for _ in range(20):
        clock.advance(1)
        pace.pay(20_000_000)
