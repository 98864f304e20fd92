"""Which faults of a GPU are told, and how often."""

from trainledger.node.gpu import GpuDevice, GpuError, GpuReading
from trainledger.node.gpu_errors import ErrorLog
from trainledger.node.gpu_watch import GpuLook


def counted(**counters: int) -> GpuLook:
    return GpuLook(0, readings=(GpuReading("GPU-0", {}, counters),))


def test_memory_errors_from_before_the_agent_are_not_new_and_each_new_one_is_told_once() -> None:
    log = ErrorLog()
    told = [log.new_in(counted(ecc_uncorrected=value)) for value in (5, 5, 8, 8, 2, 3)]
    assert told == [[], [], [GpuError("GPU-0", "ecc_uncorrected", count=3)], [], [], [
        GpuError("GPU-0", "ecc_uncorrected", count=1)
    ]]  # fmt: skip


def test_a_flag_is_told_when_it_rises_and_again_after_it_fell() -> None:
    log = ErrorLog()
    told = [log.new_in(counted(row_remap_failed=value)) for value in (1, 1, 0, 1)]
    assert [bool(errors) for errors in told] == [True, False, False, True]
    assert told[0] == [GpuError("GPU-0", "row_remap_failed")]


def test_lost_device_is_told_once_and_what_the_driver_said_is_passed_on() -> None:
    log = ErrorLog()
    gone = GpuLook(0, devices=(GpuDevice("GPU-0", "H100", 1, problem="lost"), GpuDevice("GPU-1", "H100", 1)))
    said = GpuError("GPU-0", "xid", 79, 1)
    assert log.new_in(GpuLook(0, errors=(said,))) == [said]
    assert [log.new_in(gone), log.new_in(gone)] == [[GpuError("GPU-0", "lost")], []]
