import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainledger.node.host import HostReader, HostSampler, StatWindow
from trainledger.node.host_files import OpenFile

STAT = "cpu  {user} 0 100 5000 20 0 0 30 0 0\ncpu0 1 0 1 1 1 0 0 0 0 0\nintr 1 2 3\n"
MEMINFO = "MemTotal:       1000 kB\nMemFree:        100 kB\nMemAvailable:   400 kB\n"
DISKSTATS = (
    "   8  0 sda 10 0 {read} 0 5 0 {write} 0 0 0 0\n"
    "   8  1 sda1 10 0 999 0 5 0 999 0 0 0 0\n"
    " 253  0 dm-0 10 0 777 0 5 0 777 0 0 0 0\n"
    "   7  0 loop0 10 0 555 0 5 0 555 0 0 0 0\n"
)
NET = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
    "    lo: 9999 1 0 0 0 0 0 0 9999 1 0 0 0 0 0 0\n"
    "  eth0: {rx} 1 0 0 0 0 0 0 {tx} 1 0 0 0 0 0 0\n"
    " veth1: 8888 1 0 0 0 0 0 0 8888 1 0 0 0 0 0 0\n"
)


class FakeHost:
    """A folder that looks like /proc and /sys, rewritten in place as the kernel's files are."""

    def __init__(self, folder: Path, *, has_sysfs: bool = True) -> None:
        self.proc, self.sys = folder / "proc", folder / "sys"
        (self.proc / "self" / "net").mkdir(parents=True)
        self.sys.mkdir()
        if has_sysfs:
            (self.sys / "block" / "sda" / "device").mkdir(parents=True)
            (self.sys / "block" / "dm-0").mkdir(parents=True)
            (self.sys / "class" / "net" / "eth0" / "device").mkdir(parents=True)
            (self.sys / "class" / "net" / "veth1").mkdir(parents=True)
        self.write()

    def write(self, *, user: int = 0, read: int = 0, write: int = 0, rx: int = 0, tx: int = 0) -> None:
        (self.proc / "stat").write_text(STAT.format(user=user))
        (self.proc / "meminfo").write_text(MEMINFO)
        (self.proc / "diskstats").write_text(DISKSTATS.format(read=read, write=write))
        (self.proc / "self" / "net" / "dev").write_text(NET.format(rx=rx, tx=tx))

    def reader(self, *, in_container: bool = False) -> HostReader:
        return HostReader(proc=self.proc, sys=self.sys, in_container=in_container)


def stats_of(window: StatWindow) -> dict[str, dict[str, object]]:
    return {str(stat["name"]): stat for stat in window.take()}


def test_counts_physical_devices_once_and_leaves_out_partitions_loops_and_bridges(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.write(read=4, write=6, rx=1000, tx=2000)
    counters = host.reader().read()
    assert (counters.disk_read_bytes, counters.disk_write_bytes) == (4 * 512, 6 * 512)
    assert (counters.net_rx_bytes, counters.net_tx_bytes) == (1000, 2000)


def test_without_sysfs_takes_whole_disks_and_all_networks_but_loopback(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, has_sysfs=False)
    host.write(read=4, write=6, rx=1000, tx=2000)
    counters = host.reader().read()
    assert (counters.disk_read_bytes, counters.disk_write_bytes) == (4 * 512, 6 * 512)
    assert (counters.net_rx_bytes, counters.net_tx_bytes) == (1000 + 8888, 2000 + 8888)


def test_memory_in_use_leaves_out_what_is_available(tmp_path: Path) -> None:
    counters = FakeHost(tmp_path).reader().read()
    assert counters.mem_total_bytes == 1000 * 1024
    assert counters.mem_used_bytes == 600 * 1024


def test_mean_times_samples_is_the_total_of_a_byte_counter(tmp_path: Path) -> None:
    host, window = FakeHost(tmp_path), StatWindow()
    sampler = HostSampler(host.reader())
    for second, rx in enumerate((5000, 5100, 5400, 5450)):
        host.write(rx=rx)
        sampler.sample(second * 10**9, window)
    stat = stats_of(window)["net_rx_bytes"]
    assert stat["samples"] == 3
    assert float(str(stat["mean"])) * 3 == pytest.approx(450)
    assert (stat["minimum"], stat["maximum"], stat["last"]) == (50, 300, 50)


def test_counter_that_starts_again_is_never_negative(tmp_path: Path) -> None:
    host, window = FakeHost(tmp_path), StatWindow()
    sampler = HostSampler(host.reader())
    for second, rx in enumerate((5000, 40)):
        host.write(rx=rx)
        sampler.sample(second * 10**9, window)
    assert stats_of(window)["net_rx_bytes"]["last"] == 40


def test_cpu_percent_is_busy_of_all_time_with_stolen_time_not_busy(tmp_path: Path) -> None:
    host, window = FakeHost(tmp_path), StatWindow()
    sampler = HostSampler(host.reader())
    sampler.sample(0, window)
    (host.proc / "stat").write_text("cpu  60 0 100 5030 20 0 0 40 0 0\n")  # 60 busy, 30 idle, 10 stolen
    sampler.sample(10**9, window)
    assert stats_of(window)["cpu_pct"]["last"] == pytest.approx(60.0)


def test_in_a_container_the_limit_is_the_memory_and_the_quota_the_cores(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    group = host.sys / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{512 * 1024}\n")
    (group / "memory.current").write_text(f"{300 * 1024}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {50 * 1024}\nactive_file {20 * 1024}\n")
    (group / "cpu.stat").write_text("usage_usec 123456\nuser_usec 1\n")
    (group / "cpu.max").write_text("100000 100000\n")
    reader = host.reader(in_container=True)
    counters = reader.read()
    assert counters.mem_total_bytes == 512 * 1024
    assert counters.mem_used_bytes == 230 * 1024
    assert counters.busy_us == 123456
    assert reader.cores == 1
    assert host.reader(in_container=False).read().mem_total_bytes == 1000 * 1024


def test_missing_files_read_as_nothing(tmp_path: Path) -> None:
    counters = HostReader(proc=tmp_path, sys=tmp_path, in_container=False).read()
    assert (counters.busy_us, counters.mem_total_bytes, counters.net_rx_bytes) == (0, 0, 0)


def test_real_host_shows_a_busy_process() -> None:
    reader = HostReader()
    before = reader.read()
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    after = reader.read()
    reader.close()
    assert after.busy_us - before.busy_us >= 300_000
    assert 0 < after.mem_used_bytes < after.mem_total_bytes
    assert reader.cores == os.cpu_count() or reader.is_group


def test_a_sample_costs_little() -> None:
    sampler, window = HostSampler(HostReader()), StatWindow()
    begin = time.process_time()
    for number in range(50):
        sampler.sample(number, window)
    # 1 % of a core is 10 ms a second for the whole agent; a sample is taken once a second.
    assert (time.process_time() - begin) / 50 < 0.002


MAPPINGS = """
import mmap, sys
kept = [mmap.mmap(-1, 4096, prot=mmap.PROT_READ if n % 2 else mmap.PROT_READ | mmap.PROT_WRITE) for n in range(5000)]
print(len(kept), flush=True)
sys.stdin.read()
"""


def test_a_file_of_many_records_is_read_whole_and_not_just_its_first_page() -> None:
    # The kernel hands out such files (as it does net/dev of a host with a hundred interfaces) a page a call.
    with subprocess.Popen(
        [sys.executable, "-c", MAPPINGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as many_mappings:
        assert many_mappings.stdout is not None
        assert many_mappings.stdout.readline() == b"5000\n"
        path = Path(f"/proc/{many_mappings.pid}/maps")
        expected = path.read_bytes()[:200_000]
        assert len(expected) == 200_000
        file = OpenFile(path)
        try:
            assert file.read(200_000) == expected
            assert file.read(200_000) == expected
        finally:
            file.close()
            many_mappings.communicate()


PRESSURE = "some avg10=9.00 avg60=1.00 avg300=0.00 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"


def test_pressure_is_the_share_of_time_in_which_tasks_waited(tmp_path: Path) -> None:
    host, window = FakeHost(tmp_path), StatWindow()
    (host.proc / "pressure").mkdir()

    def write(some: int, full: int) -> None:
        for name in ("cpu", "memory", "io"):
            (host.proc / "pressure" / name).write_text(PRESSURE.format(some=some, full=full))

    write(1000, 500)
    sampler = HostSampler(host.reader())
    sampler.sample(0, window)
    write(1000 + 400_000, 500 + 100_000)
    sampler.sample(2_000_000_000, window)
    stats = stats_of(window)
    assert {name: stat["mean"] for name, stat in stats.items() if name.endswith(("some_pct", "full_pct"))} == {
        "cpu_some_pct": 20.0, "memory_some_pct": 20.0, "memory_full_pct": 5.0, "io_some_pct": 20.0, "io_full_pct": 5.0,
    }  # fmt: skip


def test_energy_of_processors_is_summed_and_turns_over(tmp_path: Path) -> None:
    host, window = FakeHost(tmp_path), StatWindow()
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:1": "package-1",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
    }
    for zone, name in zones.items():
        folder = host.sys / "class" / "powercap" / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
        (folder / "energy_uj").write_text("262143000000\n")
    sampler = HostSampler(host.reader())
    sampler.sample(0, window)
    for zone in zones:
        (host.sys / "class" / "powercap" / zone / "energy_uj").write_text("49671150\n")
    sampler.sample(1_000_000_000, window)
    stats = stats_of(window)
    assert stats["cpu_energy_j"]["mean"] == pytest.approx(2 * 50.0), "two processors, and no cores twice"
    assert stats["dram_energy_j"]["mean"] == pytest.approx(50.0)


def test_in_a_container_disks_and_pressure_are_its_own(tmp_path: Path) -> None:
    host, window = FakeHost(tmp_path), StatWindow()
    group = host.sys / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "io.stat").write_text("8:0 rbytes=100 wbytes=7 rios=1\n253:0 rbytes=100 wbytes=7 rios=1\n")
    (group / "io.pressure").write_text(PRESSURE.format(some=0, full=0))
    (host.sys / "dev" / "block" / "8:0" / "device").mkdir(parents=True)
    reader = host.reader(in_container=True)
    counters = reader.read()
    assert (counters.disk_read_bytes, counters.disk_write_bytes) == (100, 7), (
        "the volume above it holds the same bytes"
    )
    sampler = HostSampler(reader)
    sampler.sample(0, window)
    (group / "io.pressure").write_text(PRESSURE.format(some=500_000, full=0))
    sampler.sample(1_000_000_000, window)
    assert stats_of(window)["io_some_pct"]["mean"] == 50.0


def test_real_host_tells_its_pressure_where_its_kernel_does() -> None:
    try:
        has_pressure = b"total=" in Path("/proc/pressure/cpu").read_bytes()
    except OSError:
        has_pressure = False
    window = StatWindow()
    sampler = HostSampler(HostReader(in_container=False))
    sampler.sample(time.monotonic_ns(), window)
    sampler.sample(time.monotonic_ns() + 1, window)
    stats = stats_of(window)
    assert ("cpu_some_pct" in stats) == has_pressure
    assert all(0 <= float(str(stat["mean"])) <= 100 for name, stat in stats.items() if name.endswith("_pct"))
