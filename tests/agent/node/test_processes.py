"""Who pays for the CPU time of real processes."""

import os

import pytest

from support.burners import Burner, WriterStandIn, burning, start_ticks_of
from trainledger.node.process_table import ProcessTable
from trainledger.node.processes import ProcessSampler, is_person, owner_name

# The wrapper's own start and 10 ms ticks are in the small figures of these tests; the bar is 15 %.
CLOSE = 0.15


def new_sampler() -> ProcessSampler:
    return ProcessSampler(ProcessTable())


def cpu_us(usage: list[dict[str, object]], kind: str, writer: WriterStandIn | None = None) -> int:
    return sum(
        int(str(item["cpu_us"]))
        for item in usage
        if item["kind"] == kind and (writer is None or item["writer_id"] == writer.writer_id)
    )


def watch(sampler: ProcessSampler, burner: Burner, writers: list[WriterStandIn]) -> int:
    """Let it burn and look now and then, as the agent does; what it says that it used."""
    sampler.look(writers)
    burner.go()
    used_us = burner.used_us()
    sampler.look(writers)
    return used_us


def test_cpu_of_a_tree_with_living_children_is_the_runs() -> None:
    code = "kids = [child(0.3, 'input()') for _ in range(2)]\nburn(0.2)\nimport select\n" + (
        "for kid in kids:\n"
        "    while open(f'/proc/{kid.pid}/stat').read().split()[2] != 'S': time.sleep(0.01)\n"
    )
    with burning(code) as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        watch(sampler, burner, [writer])
        usage = sampler.take(0)
    assert cpu_us(usage, "run", writer) == pytest.approx(800_000, rel=CLOSE)


def test_children_that_came_and_went_between_two_looks_are_counted_once() -> None:
    with burning("for _ in range(4): child(0.1).wait()\nburn(0.2)") as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        sampler.look([writer])
        burner.go()
        used_us = 0
        for _ in range(3):
            sampler.look_at_runs()
        used_us = burner.used_us()
        sampler.look_at_runs()
        sampler.look([writer])
        usage = sampler.take(0)
    assert cpu_us(usage, "run", writer) == pytest.approx(used_us, rel=CLOSE)


def test_seen_children_that_end_are_not_counted_again_with_their_parent() -> None:
    code = "kid = child(0.4, 'print(1, flush=True)\\nimport sys, time\\ntime.sleep(0.3)')\nkid.stdout.readline()\n"
    with burning(code + "print('seen', flush=True)\nkid.wait()\n") as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        sampler.look([writer])
        burner.go()
        assert burner.line() == "seen"
        sampler.look([writer])  # the child lives, and is counted here
        used_us = burner.used_us()
        sampler.look([writer])  # its parent has its time now
        usage = sampler.take(0)
    assert cpu_us(usage, "run", writer) == pytest.approx(used_us, rel=CLOSE)


def test_writer_inside_another_writers_tree_has_its_own_time() -> None:
    inner_code = "kid = child(0.5, 'print(1, flush=True)\\nimport sys\\nsys.stdin.read()')\n"
    report = "kid.stdout.readline()\nprint(kid.pid, flush=True)\nburn(0.2)\n"
    with burning(inner_code + report) as burner:
        outer = burner.writer(1)
        sampler = new_sampler()
        sampler.look([outer])
        burner.go()
        inner_pid = int(burner.line())
        inner = WriterStandIn(b"i" * 16, b"w" * 16, inner_pid, os.getuid(), start_ticks_of(inner_pid))
        sampler.look([outer, inner])
        burner.used_us()
        os.kill(inner_pid, 9)
        sampler.look([outer])
        usage = sampler.take(0)
    assert cpu_us(usage, "run", inner) == pytest.approx(500_000, rel=CLOSE)
    assert cpu_us(usage, "run", outer) == pytest.approx(200_000, rel=CLOSE, abs=40_000)


def test_last_part_of_a_writer_whose_parent_is_no_runs_is_untracked_time_of_its_owner() -> None:
    # Its parent is this test: what else that ran unseen would look the same.
    other = os.getuid() or 23456
    code = "burn(0.3)\nprint('seen', flush=True)\nsys.stdin.readline()\nburn(0.2)"
    with burning(code, uid=other if os.getuid() == 0 else None) as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        sampler.look([writer])
        burner.go()
        assert burner.line() == "seen"
        sampler.look_at_runs()
        burner.go()
        used_us = burner.used_us()
        burner.end()  # waited for: all its time is this process's children's time now
        sampler.look([])
        usage = sampler.take(0)
    assert cpu_us(usage, "run", writer) == pytest.approx(300_000, rel=CLOSE, abs=40_000)
    untracked = sum(
        int(str(item["cpu_us"]))
        for item in usage
        if item["kind"] == "untracked" and item["owner"] == owner_name(other)
    )
    assert untracked == pytest.approx(used_us - 300_000, rel=CLOSE, abs=60_000)


def test_what_a_process_does_after_its_run_is_not_the_runs_once_the_sampler_knew() -> None:
    with burning("burn(0.3)") as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        sampler.look([writer])
        assert not sampler.has_changed([writer]) and sampler.has_changed([])
        sampler.look([])
        burner.go()
        burner.used_us()
        sampler.look([])
        assert cpu_us(sampler.take(0), "run") <= 10_000


def test_process_left_behind_by_its_parent_stays_with_its_run() -> None:
    code = (
        "middle = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import subprocess, sys\\n"
        'kid = subprocess.Popen([sys.executable, "-I", "-S", "-c", sys.argv[1]])\\n'
        'print(kid.pid, flush=True)\\ninput()\', "input()\\n" + CHILD.format(0.4) + "input()\\n"],'
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "pid = int(middle.stdout.readline())\nprint(pid, flush=True)\nsys.stdin.readline()\n"
        "middle.kill()\nmiddle.wait()\nmiddle.stdin.write(b'\\n')\nmiddle.stdin.flush()\n"
        "while used_ticks(pid) < 39: time.sleep(0.01)\n"
    )
    with burning(code) as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        sampler.look([writer])
        burner.go()
        orphan = int(burner.line())
        try:
            sampler.look([writer])
            burner.go()
            burner.used_us()
            sampler.look([writer])
            sampler.look([writer])
            usage = sampler.take(0)
        finally:
            os.kill(orphan, 9)
    assert cpu_us(usage, "run", writer) >= 390_000


def test_other_peoples_processes_are_untracked_and_the_rest_is_system() -> None:
    # Only root can start a process of somebody else; without that, our own are the other people's.
    other = 23456 if os.getuid() == 0 else os.getuid()
    with burning("burn(0.4)", uid=other if os.getuid() == 0 else None) as burner:
        sampler = new_sampler()
        used_us = watch(sampler, burner, [])
        usage = sampler.take(1_000_000)
    untracked = [item for item in usage if item["kind"] == "untracked" and item["owner"] == owner_name(other)]
    assert len(untracked) == 1
    assert int(str(untracked[0]["cpu_us"])) == pytest.approx(used_us, rel=CLOSE, abs=40_000)
    rest = 1_000_000 - cpu_us(usage, "untracked")
    assert cpu_us(usage, "system") == rest


def test_process_of_root_that_is_no_run_is_system() -> None:
    sampler = new_sampler()
    with burning("burn(0.3)") as burner:
        watch(sampler, burner, [])
        usage = sampler.take(300_000)
    if os.getuid() == 0:
        assert {item["owner"] for item in usage if item["kind"] == "untracked"}.isdisjoint({"root"})
        assert cpu_us(usage, "system") <= 300_000
    assert [item["kind"] for item in usage].count("system") == 1


def test_peak_memory_is_that_of_the_whole_tree() -> None:
    code = "big = bytearray(64 << 20)\nfor i in range(0, len(big), 4096): big[i] = 1\n"
    with burning(code) as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        watch(sampler, burner, [writer])
        usage = sampler.take(0)
    peak = next(int(str(item["memory_peak_bytes"])) for item in usage if item["kind"] == "run")
    assert 64 << 20 <= peak < 128 << 20


def test_a_window_begins_empty() -> None:
    with burning("burn(0.2)") as burner:
        writer = burner.writer(1)
        sampler = new_sampler()
        watch(sampler, burner, [writer])
        sampler.take(0)
        sampler.look([writer])
        assert cpu_us(sampler.take(0), "run", writer) <= 20_000


def test_writer_whose_pid_was_reused_gets_nothing() -> None:
    with burning("burn(0.2)") as burner:
        real = burner.writer(1)
        stale = WriterStandIn(real.run_id, real.writer_id, real.pid, real.uid, real.start_ticks - 1)
        sampler = new_sampler()
        watch(sampler, burner, [stale])
        assert cpu_us(sampler.take(0), "run") == 0


@pytest.mark.parametrize(
    ("uid", "also", "expected"),
    [
        pytest.param(1000, (), True, id="first person"),
        pytest.param(0, (0,), False, id="root even with a run"),
        pytest.param(33, (), False, id="service"),
        pytest.param(33, (33,), True, id="service that runs trainings"),
        pytest.param(65534, (), False, id="nobody"),
        pytest.param(61200, (), False, id="dynamic service user"),
        pytest.param(1_200_000, (), True, id="directory user"),
    ],
)
def test_people_are_told_from_services(uid: int, also: tuple[int, ...], expected: bool) -> None:
    assert is_person(uid, also) is expected


def test_user_id_without_a_name_is_shown_as_a_number() -> None:
    assert owner_name(3_999_999_999) == "3999999999"
    assert owner_name(0) == "root"
