"""Who used how much of which GPU: looks as the driver gives them, answers worked out by hand."""

from typing import Any

import pytest

from trainledger.node.gpu import GpuDevice, GpuPart, GpuProcess, GpuProcesses, GpuReading
from trainledger.node.gpu_account import GpuAccount
from trainledger.node.gpu_watch import GpuLook
from trainledger.node.host import StatWindow
from trainledger.node.processes import Holder

SECOND = 1_000_000_000
GPU = GpuDevice("GPU-0", "H100", 80 << 30)
ANN, BOB = (Holder("run", bytes([n]) * 16, bytes([n + 1]) * 16, 1000) for n in (1, 2))
CARL = Holder("untracked", uid=1001)
SCREEN = Holder("system")
HOLDERS = {10: ANN, 11: ANN, 20: BOB, 30: CARL, 40: SCREEN}


class Desk:
    """Feeds an account one look a second."""

    def __init__(self, *devices: GpuDevice) -> None:
        self.holders: dict[int, Holder] = dict(HOLDERS)
        self.account = GpuAccount(lambda process: self.holders.get(process.pid))
        self.stats = StatWindow()
        self.now_ns = 0
        self._devices: tuple[GpuDevice, ...] | None = devices or (GPU,)

    def look(
        self,
        gauges: dict[str, float] | None,
        *processes: GpuProcess,
        counters: dict[str, int] | None = None,
        place: str = "GPU-0",
        after_s: float = 1,
        lists_processes: bool = True,
    ) -> None:
        self.now_ns += round(after_s * SECOND)
        readings = () if gauges is None else (GpuReading(place, gauges, counters or {}),)
        lists = (GpuProcesses("GPU-0", processes),) if lists_processes else None
        self.account.add(GpuLook(self.now_ns, self._devices, readings, lists), self.stats)
        self._devices = None

    def runs(self) -> dict[Holder, dict[str, Any]]:
        """What each run used of the one device, ending the window."""
        return {holder: dict(rows[0]) for holder, rows in self.account.take()[1].items()}

    def evidence(self, after_s: float = 0) -> list[str]:
        return [item.evidence for item in self.account.occupants(self.now_ns + round(after_s * SECOND))]

    def mean(self, name: str, place: str = "GPU-0") -> tuple[float, str] | None:
        rows = [row for row in self.stats.take() if (row["device"], row["name"]) == (place, name)]
        return (float(str(rows[0]["mean"])), str(rows[0]["quality"])) if rows else None


def busy(percent: float) -> dict[str, float]:
    return {"gpu_util_pct": percent}


def test_holder_that_is_alone_has_all_of_the_device() -> None:
    desk = Desk()
    for step in range(11):
        desk.look(busy(60), GpuProcess(10, memory_bytes=5), counters={"energy_mj": 1000 + step * 300})
    use = desk.runs()[ANN]
    assert (use["observed_us"], use["busy_us"], use["energy_mj"]) == (10_000_000, 6_000_000, 3000)
    assert (use["quality"], use["memory_peak_bytes"]) == ("exclusive", 5)


def test_two_processes_of_one_run_are_one_holder() -> None:
    desk = Desk()
    for _ in range(3):
        desk.look(busy(50), GpuProcess(10, memory_bytes=5), GpuProcess(11, memory_bytes=7))
    use = desk.runs()[ANN]
    assert (use["busy_us"], use["quality"], use["memory_peak_bytes"]) == (1_000_000, "exclusive", 12)


def test_shared_device_is_divided_as_the_driver_measured_it() -> None:
    desk = Desk()
    for _ in range(6):
        desk.look(busy(80), GpuProcess(10, busy_pct=60), GpuProcess(20, busy_pct=20), counters={})
    runs = desk.runs()
    assert {holder: use["busy_us"] for holder, use in runs.items()} == {ANN: 3_000_000, BOB: 1_000_000}
    assert {str(use["quality"]) for use in runs.values()} == {"shared-measured"}


def test_shared_device_without_measured_processes_is_an_estimate_by_equal_shares() -> None:
    desk = Desk()
    for _ in range(5):
        desk.look(busy(80), GpuProcess(10), GpuProcess(11), GpuProcess(20, busy_pct=20))
    runs = desk.runs()
    assert {use["busy_us"] for use in runs.values()} == {1_600_000}, "by run, not by process"
    assert {str(use["quality"]) for use in runs.values()} == {"estimated"}


def test_what_others_used_is_not_the_runs() -> None:
    desk = Desk()
    for _ in range(5):
        desk.look(
            busy(80), GpuProcess(10, busy_pct=30), GpuProcess(30, busy_pct=10), GpuProcess(40, busy_pct=0)
        )
    assert desk.runs()[ANN]["busy_us"] == 2_400_000
    assert [item.holder for item in desk.account.occupants(desk.now_ns)] == [ANN, CARL], (
        "a display holds nothing"
    )


def test_device_that_tells_no_utilisation_leaves_use_unknown() -> None:
    desk = Desk()
    for _ in range(3):
        desk.look({"power_w": 100.0}, GpuProcess(10))
    use = desk.runs()[ANN]
    assert (use["busy_us"], use["quality"], use["observed_us"]) == (None, "unknown", 2_000_000)
    assert use["energy_mj"] == 200_000, "power times time"
    assert desk.mean("energy_j") == (100.0, "estimated")


def test_time_without_a_look_belongs_to_nobody() -> None:
    desk = Desk()
    desk.look(busy(100), GpuProcess(10))
    desk.look(busy(100), GpuProcess(10))
    desk.look(busy(100), GpuProcess(10), after_s=60)
    desk.look(busy(100), GpuProcess(10))
    assert desk.runs()[ANN]["observed_us"] == 2_000_000


def test_counter_that_began_anew_adds_nothing_and_is_never_negative() -> None:
    desk = Desk()
    for energy in (5000, 6000, 10, 20):
        desk.look(busy(0), GpuProcess(10), counters={"energy_mj": energy, "throttled_power_ns": energy})
    assert desk.runs()[ANN]["energy_mj"] == 1010
    stats = {str(row["name"]): row for row in desk.stats.take()}
    assert stats["energy_j"]["samples"] == 2 and stats["energy_j"]["maximum"] == 1.0


def test_throttling_of_an_old_driver_is_an_estimate_from_the_reasons_of_the_moment() -> None:
    desk = Desk()
    for reasons in (0, 4, 4, 1, 0):
        desk.look({"throttle_reasons": float(reasons)})
    assert desk.mean("throttled_s") == (0.5, "estimated")


def test_traffic_of_a_counter_is_a_rate_unless_the_hardware_tells_one() -> None:
    desk = Desk()
    for step in range(3):
        desk.look(
            {"nvlink_rx_bytes_per_s": 7.0}, counters={"nvlink_tx_bytes": step * 500, "nvlink_rx_bytes": step}
        )
    means = {str(row["name"]): row["mean"] for row in desk.stats.take()}
    assert (means["nvlink_tx_bytes_per_s"], means["nvlink_rx_bytes_per_s"]) == (500.0, 7.0)


def test_several_reasons_at_once_are_no_more_time_than_passed() -> None:
    desk = Desk()
    for step in range(2):
        desk.look({}, counters={"throttled_power_ns": step * SECOND, "throttled_thermal_ns": step * SECOND})
    assert desk.mean("throttled_s") == (1.0, "measured")


def test_mig_instances_are_counted_apart_with_their_placement() -> None:
    parts = (GpuPart("MIG-a", "3g.40gb", 1, 4, 8), GpuPart("MIG-b", "1g.10gb", 1, 1, 8))
    desk = Desk(GpuDevice("GPU-0", "H100", 80 << 30, is_mig=True, parts=parts))
    for _ in range(5):
        desk.look({"sm_active_pct": 50.0}, GpuProcess(10, "MIG-a"), GpuProcess(20, "MIG-b"), place="MIG-a")
    (use,) = desk.account.take()[1][ANN]
    assert (use["part_id"], use["busy_us"], use["quality"]) == ("MIG-a", 2_000_000, "exclusive")
    found = desk.account.occupants(desk.now_ns)
    assert [(i.place.part_id, i.part_numerator, i.part_denominator, i.holder) for i in found] == [
        ("MIG-a", 4, 8, ANN),
        ("MIG-b", 1, 8, BOB),
    ]


def test_process_that_nobody_can_see_makes_the_device_unknown_at_the_second_look() -> None:
    desk = Desk()
    desk.look(busy(50), GpuProcess(10), GpuProcess(99))
    assert desk.account.has_strangers()
    assert desk.evidence() == ["process list"], "it may have begun a moment ago"
    desk.look(busy(50), GpuProcess(10), GpuProcess(99))
    assert desk.evidence() == ["process not visible to the agent"]
    desk.holders[99] = BOB
    desk.look(busy(50), GpuProcess(10), GpuProcess(99))
    assert desk.evidence() == ["process list"] * 2 and not desk.account.has_strangers()


def test_process_that_ended_keeps_its_holder_while_the_driver_still_lists_it() -> None:
    desk = Desk()
    desk.look(busy(50), GpuProcess(10))
    del desk.holders[10]
    desk.look(busy(50), GpuProcess(10))
    desk.look(busy(50), GpuProcess(10))
    assert [item.holder for item in desk.account.occupants(desk.now_ns)] == [ANN]


def test_device_that_is_busy_without_a_process_is_unknown_and_an_idle_one_is_not() -> None:
    desk = Desk()
    for _ in range(3):
        desk.look(busy(0))
    assert desk.evidence() == []
    for _ in range(3):
        desk.look(busy(40))
    assert desk.evidence() == ["used without a visible process"]


@pytest.mark.parametrize(
    ("device", "lists", "after_s", "why"),
    [
        (GpuDevice("GPU-0", "H100", 1, problem="lost"), (), 0, "device lost"),
        (GPU, None, 0, "the driver does not list processes"),
        (GPU, (), 31, "no answer from the driver"),
    ],
    ids=["lost", "no list", "silent"],
)
def test_what_is_not_told_is_unknown(
    device: GpuDevice, lists: tuple[GpuProcess, ...] | None, after_s: float, why: str
) -> None:
    desk = Desk()
    desk.account.add(GpuLook(1, (device,), (), (GpuProcesses("GPU-0", lists),)), desk.stats)
    assert desk.evidence(after_s) == [why]


def waiting(desk: Desk, seconds: int, percent: float = 80) -> None:
    """Looks between two lists."""
    for _ in range(seconds):
        desk.look(busy(percent), lists_processes=False)


def test_what_passed_before_a_list_is_divided_by_what_the_list_measured() -> None:
    desk = Desk()
    desk.look(busy(80), GpuProcess(10), GpuProcess(20))
    waiting(desk, 3)
    assert desk.runs() == {}, "it waits for the list"
    desk.look(busy(80), GpuProcess(10, busy_pct=20), GpuProcess(20, busy_pct=60))
    runs = desk.runs()
    assert {holder: use["busy_us"] for holder, use in runs.items()} == {ANN: 800_000, BOB: 2_400_000}


def test_process_that_ended_has_what_it_used_until_then_and_is_not_there() -> None:
    desk = Desk()
    desk.look(busy(80), GpuProcess(10), GpuProcess(20))
    waiting(desk, 1)
    desk.look(busy(80), GpuProcess(10, busy_pct=20), GpuProcess(20, busy_pct=60, is_gone=True))
    assert {holder: use["busy_us"] for holder, use in desk.runs().items()} == {ANN: 400_000, BOB: 1_200_000}
    assert [item.holder for item in desk.account.occupants(desk.now_ns)] == [ANN]


def test_unmeasured_change_between_two_lists_is_half_and_half() -> None:
    desk = Desk()
    desk.look(busy(80), GpuProcess(10))
    waiting(desk, 3)
    desk.look(busy(80), GpuProcess(20))
    runs = desk.runs()
    assert {holder: use["busy_us"] for holder, use in runs.items()} == {ANN: 1_600_000, BOB: 1_600_000}
    assert {str(use["quality"]) for use in runs.values()} == {"estimated"}


def test_who_came_to_an_empty_device_used_what_was_busy_and_was_not_there_while_it_was_idle() -> None:
    desk = Desk()
    desk.look(busy(0))
    waiting(desk, 2, percent=0)
    waiting(desk, 1, percent=60)
    desk.look(busy(60), GpuProcess(10))
    use = desk.runs()[ANN]
    assert (use["observed_us"], use["busy_us"], use["quality"]) == (2_000_000, 1_200_000, "exclusive")


def test_last_window_holds_what_still_waits_and_a_silent_list_does_not_keep_it_for_ever() -> None:
    desk = Desk()
    desk.look(busy(50), GpuProcess(10))
    waiting(desk, 2, percent=50)
    (use,) = desk.account.take(is_last=True)[1][ANN]
    assert use["busy_us"] == 1_000_000
    waiting(desk, 20, percent=50)
    assert desk.runs()[ANN]["busy_us"] >= 7_500_000


def test_energy_counter_that_is_told_no_more_gives_way_to_power() -> None:
    desk = Desk()
    for second in range(11):
        counters = {"energy_mj": second * 1000} if second % 10 == 0 else {}
        desk.look({"power_w": 2.0}, GpuProcess(10), counters=counters)
    assert desk.runs()[ANN]["energy_mj"] == 10_000
    for _ in range(100):
        desk.look({"power_w": 2.0}, GpuProcess(10))
    assert desk.runs()[ANN]["energy_mj"] == pytest.approx(2000 * 100, rel=0.02), "nothing is lost on the way"
