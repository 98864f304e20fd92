"""The writer of a journal: rotation under threads, signals and interrupts; full disks; both ways to append."""

import itertools
import json
import os
import shutil
import signal
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zlib import crc32

import pytest

import trainledger.journal as journal_module
from support.interruptions import break_into
from support.training import Journal, Recorder, Training, read_journal, small_disk
from trainledger.journal import JournalWriter, json_bytes
from trainledger.segment import RESERVE_BYTES, Segment
from trainledger_schemas.clock import ManualClock, wall_ns
from trainledger_schemas.journal import GAP, HEADER_BYTES, RESIDUE, SegmentHeader, pack_control, segment_name

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, for which one must be root")


@pytest.fixture(params=[False, True], ids=["mmap", "write"])
def by_write(request: pytest.FixtureRequest) -> bool:
    is_by_write: bool = request.param
    return is_by_write


@pytest.fixture
def tiny_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation every few dozen rows."""
    for name, size in (("MIN_SEGMENT_BYTES", 2048), ("FIRST_SEGMENT_BYTES", 1), ("SEGMENT_BYTES", 1)):
        monkeypatch.setattr(journal_module, name, size)


TINY = """
import trainledger.journal as j
j.MIN_SEGMENT_BYTES, j.FIRST_SEGMENT_BYTES, j.SEGMENT_BYTES = 4096, 1, 1
"""
# No file system is one for mapped appends.
BY_WRITE = """
import trainledger.placement
trainledger.placement.MAPPED = frozenset()
"""


@pytest.fixture
def training(tmp_path: Path, by_write: bool) -> Training:
    return Training(tmp_path, BY_WRITE if by_write else "")


def segments(recorder: Recorder) -> list[str]:
    return sorted(path.name for path in recorder.journal.folder.glob("*.tlj"))


def test_rotation_keeps_every_row_once_and_seals_what_it_leaves(
    tmp_path: Path, by_write: bool, tiny_segments: None
) -> None:
    recorder = Recorder(tmp_path, by_write=by_write)
    for step in range(2000):
        recorder.log({"x": float(step), "y": 0.0}, step)
    names = segments(recorder)
    assert len(names) > 20
    journal = recorder.end()
    assert journal.values("x") == [float(step) for step in range(2000)] and journal.is_sound()
    assert sorted(path.name for path in journal.folder.iterdir()) == sorted(
        [*names, "writer.lock", *(["ballast"] if by_write else [])]
    )
    # Cut to what is written: no preallocated rest stays.
    assert all(
        crc32(path.read_bytes()[HEADER_BYTES:], RESIDUE) == RESIDUE for path in journal.folder.glob("*.tlj")
    )


def test_each_segment_can_be_read_alone(tmp_path: Path, by_write: bool, tiny_segments: None) -> None:
    recorder = Recorder(tmp_path, by_write=by_write)
    for step in range(600):
        recorder.log({"x": float(step)} if step % 2 else {"y": float(step)}, step)
    recorder.journal.close()
    last = segments(recorder)[-1]
    for name in segments(recorder)[:-1]:
        (recorder.journal.folder / name).unlink()
    header = SegmentHeader.parse((recorder.journal.folder / last).read_bytes())
    assert header.segment == int(last[:6])
    journal = read_journal(recorder.journal.folder)
    assert journal.points and journal.points[-1] == ("x", 599, 599.0) and journal.is_sound()


def test_header_says_who_writes(tmp_path: Path, by_write: bool) -> None:
    recorder = Recorder(tmp_path, by_write=by_write)
    header = recorder.end().header
    assert (header.pid, header.uid, header.flags) == (os.getpid(), os.geteuid(), int(by_write))
    assert header.journal_id == recorder.journal.journal_id


WIDE = {f"w{i}": 0.5 for i in range(200)}
Points = list[tuple[str, int, float]]


def wide_row(step: int) -> Points:
    return [(key, step, value) for key, value in WIDE.items()]


def before_rotation(folder: Path, by_write: bool) -> tuple[Recorder, Points]:
    """A journal whose segment has room for small rows and for definitions, but not for a wide row; its points."""
    recorder = Recorder(folder, by_write=by_write)
    expected: Points = []
    for step in range(4):
        recorder.log(WIDE, step)
        recorder.log({"x": float(step)}, step)
        expected += [*wide_row(step), ("x", step, float(step))]
    assert recorder.journal._segment is not None
    recorder.journal._segment.seal()
    for step in range(4, 24):
        recorder.log({"x": float(step)}, step)
        expected.append(("x", step, float(step)))
    return recorder, expected


def check_old_is_sealed(recorder: Recorder, old: Segment, troubles: list[str]) -> None:
    """Once readers see the next segment, they take this one as complete."""
    if (recorder.journal.folder / segment_name(old.number + 1)).exists():
        try:
            old.write(pack_control(GAP, b"{}", step=0, wall_ns=0))
            troubles.append("the old segment takes records although the next one is there")
        except ValueError:
            return


def after_rotation(recorder: Recorder) -> Points:
    expected: Points = []
    for step in range(100, 104):
        recorder.log({"x": float(step)}, step)
        recorder.log({"new": 1.0, "shape": 2.0}, step)  # which a handler may have defined
        expected += [("x", step, float(step)), ("new", step, 1.0), ("shape", step, 2.0)]
    return expected


def check_each_segment_alone(folder: Path, copies: Path) -> None:
    """An agent that starts anew may begin with any segment."""
    for path in folder.glob("*.tlj"):
        copy = copies / path.stem / str(os.geteuid()) / folder.name
        copy.mkdir(parents=True)
        shutil.copy(path, copy)
        assert not read_journal(copy).lost, path


ACTIONS: dict[str, Callable[[Recorder], Points]] = {}


def action(function: Callable[[Recorder], Points]) -> None:
    ACTIONS[function.__name__] = function


@action
def small_row(recorder: Recorder) -> Points:
    recorder.log({"x": -1.0}, 77)
    return [("x", 77, -1.0)]


@action
def row_of_a_new_shape(recorder: Recorder) -> Points:
    for _ in range(4):
        recorder.log({"new": 1.0, "shape": 2.0}, 78)
    return [("new", 78, 1.0), ("shape", 78, 2.0)] * 4


@action
def row_beyond_every_reserve(recorder: Recorder) -> Points:
    data = {f"k{i}": float(i) for i in range(1200)}
    recorder.log(data, 79)
    return [(key, 79, value) for key, value in data.items()]


@action
def rows_that_rotate_too(recorder: Recorder) -> Points:
    for i in range(100):
        recorder.log({"x": float(i)}, 80)
    return [("x", 80, float(i)) for i in range(100)]


@pytest.mark.parametrize("name", ACTIONS)
def test_handler_that_logs_at_any_place_of_a_rotation(
    tmp_path: Path, by_write: bool, tiny_segments: None, name: str
) -> None:
    troubles: list[str] = []
    # Every place for the kinds that find the most; every third for the slow ones.
    for place in itertools.count(step=1 if name in ("small_row", "row_of_a_new_shape") else 3):
        recorder, expected = before_rotation(tmp_path / f"{place}", by_write)
        old, before = recorder.journal._segment, len(segments(recorder))
        assert old is not None

        def act(recorder: Recorder = recorder, expected: Points = expected, old: Segment = old) -> None:
            check_old_is_sealed(recorder, old, troubles)
            expected.extend(ACTIONS[name](recorder))
            check_old_is_sealed(recorder, old, troubles)

        was_hit = break_into(partial(recorder.log, WIDE, 76), place, act)
        expected += [*wide_row(76), *after_rotation(recorder)]
        assert not troubles, place
        assert len(segments(recorder)) > before
        journal = recorder.end()
        assert Counter(journal.points) == Counter(expected), place
        assert journal.is_sound(), (place, journal.lost)
        assert not list(journal.folder.glob("*.new"))
        if name == "row_of_a_new_shape":
            check_each_segment_alone(journal.folder, tmp_path / f"{place}" / "copies")
        shutil.rmtree(tmp_path / f"{place}")
        if not was_hit:
            assert place > 50, "no rotation was traced"
            return


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError], ids=lambda e: e.__name__)
def test_exception_thrown_into_any_place_of_a_rotation(
    tmp_path: Path, by_write: bool, tiny_segments: None, error: type[BaseException]
) -> None:
    def handler(_number: int, _frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    for place in itertools.count():
        recorder, expected = before_rotation(tmp_path / f"{place}", by_write)
        is_raised = False
        try:
            was_hit = break_into(partial(recorder.log, WIDE, 76), place, lambda: handler(0, None))
        except error:
            was_hit = is_raised = True
        assert was_hit == is_raised, f"the user's exception was swallowed at {place}"
        expected += after_rotation(recorder)
        journal = recorder.end()
        found = Counter(journal.points)
        cut = {found.pop(point, 0) for point in wide_row(76)}
        assert cut in (({0}, {1}) if is_raised else ({1},)), place
        assert found == Counter(expected), place
        assert journal.is_sound(), (place, journal.lost)
        shutil.rmtree(tmp_path / f"{place}")
        if not was_hit:
            assert place > 50, "no rotation was traced"
            break
    signal.signal(signal.SIGUSR1, before)


def test_real_signals_in_thousands(training: Training) -> None:
    training.prelude += TINY
    done = training.run(
        """
        import json, signal, sys
        run = trainledger.init()
        told = {"main": 0, "signal": 0, "big": 0}
        def handler(number, frame):
            kind = "big" if told["signal"] % 50 == 0 else "signal"
            row = {kind: float(told[kind])} if kind == "signal" else {"big": float(told[kind]), **{f"b{i}": 0.0 for i in range(300)}}
            run.log(row, 1)
            told[kind] += 1
            if kind == "big":
                told["signal"] += 1
                run.log({"signal": float(told["signal"] - 1)}, 1)
            signal.setitimer(signal.ITIMER_REAL, 0.0002)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        while told["signal"] < 1200:
            run.log({"main": float(told["main"]), "y": 0.0}, 0)
            told["main"] += 1
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler on its way would set the timer again
        print(json.dumps(told))
        """
    )
    told = json.loads(done.stdout)
    journal = training.only()
    assert told["signal"] >= 1200
    for key, count in told.items():
        assert sorted(journal.values(key)) == [float(i) for i in range(count)], key
    assert journal.is_sound() and not journal.gaps
    assert len(list(journal.folder.glob("*.tlj"))) > 50


def test_real_interrupts_into_the_middle_of_thousands_of_calls(training: Training) -> None:
    training.prelude += TINY
    done = training.run(
        """
        import json, random, signal
        random.seed(5)
        run = trainledger.init()
        def handler(number, frame):
            global armed
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003))
            if armed:
                armed = False
                raise (KeyboardInterrupt, TimeoutError, ValueError)[cuts % 3]
        armed, cuts, calls, returned = False, 0, 0, []
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while cuts < 400:
            calls += 1
            try:
                armed = True
                run.log({"x": float(calls)}, 0)
                armed = False
                returned.append(calls)
            except (KeyboardInterrupt, TimeoutError, ValueError):
                cuts += 1
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler on its way would set the timer again
        run.log({"x": -1.0}, 0)
        print(json.dumps([calls, returned]))
        """
    )
    calls, returned = json.loads(done.stdout)
    journal = training.only()
    found = Counter(journal.values())
    assert found.pop(-1.0) == 1, "the journal was not usable any more"
    assert set(map(float, returned)) <= set(found), "a call returned and its point is missing"
    assert set(found) <= set(map(float, range(calls + 1)))
    assert max(found.values()) == 1
    assert not journal.lost
    assert len(list(journal.folder.glob("*.tlj"))) > 20


def test_threads_lose_and_double_nothing(tmp_path: Path, by_write: bool, tiny_segments: None) -> None:
    recorder = Recorder(tmp_path, by_write=by_write)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    calls = 1500
    start = threading.Barrier(8)

    def work(thread: int) -> None:
        start.wait()
        for step in range(calls):
            # Shapes are learnt while others write, and rows of text and of None go the slow way.
            recorder.log(
                {f"t{thread}": float(step)} if step % 50 else {f"t{thread}": float(step), "n": None}, step
            )

    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    journal = recorder.end()
    assert len(segments(recorder)) > 50
    expected = Counter((f"t{n}", step, float(step)) for n in range(8) for step in range(calls))
    assert Counter(journal.points) == expected and journal.is_sound()


def counts(recorder: Recorder, journal: Journal) -> int:
    """Points in the file and points told as dropped."""
    dropped: int = sum(gap["points"] for gap in journal.gaps)
    assert recorder.journal.dropped_points == dropped
    return len(journal.points) + dropped


@needs_root
def test_full_disk_drops_and_counts_and_recovers_when_there_is_room(tmp_path: Path, by_write: bool) -> None:
    clock = ManualClock()
    with small_disk(tmp_path / "disk") as disk:
        recorder = Recorder(disk, by_write=by_write, clock=clock)
        told: list[str] = []
        recorder.journal.on_trouble = told.append
        ballast = disk / "something"
        ballast.write_bytes(bytes(1 << 20))
        calls = 0
        while recorder.journal.dropped_points < 1000:
            recorder.log({"x": float(calls)}, calls)
            calls += 1
        assert len(told) == 1 and "No space left" in told[0]
        for _ in range(5):
            clock.advance(1)
            recorder.log({"x": float(calls)}, calls)
            calls += 1
        assert len(told) == 6, "tried again each second, not each call"
        ballast.unlink()
        recorder.log({"x": float(calls)}, calls)
        calls += 1
        dropped = recorder.journal.dropped_points
        assert dropped == 1006, "not tried before its time"
        clock.advance(1)
        for _ in range(100):
            recorder.log({"x": float(calls)}, calls)
            calls += 1
        assert recorder.journal.dropped_points == dropped
        journal = recorder.end()
        assert counts(recorder, journal) == calls and not journal.lost
        assert [gap["points"] for gap in journal.gaps] == [1006]
        assert journal.values()[-1] == calls - 1
        assert Counter(journal.points).most_common(1)[0][1] == 1


@needs_root
def test_end_of_the_run_is_written_on_a_full_disk(tmp_path: Path, by_write: bool) -> None:
    with small_disk(tmp_path / "disk") as disk:
        recorder = Recorder(disk, by_write=by_write, clock=ManualClock())
        calls = 0
        while recorder.journal.dropped_points < 1000:
            recorder.log({"x": float(calls)}, calls)
            calls += 1
        with pytest.raises(OSError, match="No space left"), (disk / "more").open("wb") as file:
            while True:
                file.write(bytes(1 << 12))
                file.flush()
        message = "é" * 3500
        assert recorder.journal.append_claim({"type": "run_exited", "message": message})
        journal = recorder.end()
        assert [claim["type"] for claim in journal.claims] == ["run_exited"]
        assert journal.claims[0]["message"] == message
        assert counts(recorder, journal) == calls
        # A torn row may stand before it where the disk took part of a write.
        assert len(journal.lost) <= by_write


@needs_root
def test_claims_use_the_reserve_but_not_the_part_for_the_end(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        recorder = Recorder(disk, clock=ManualClock())
        (disk / "more").write_bytes(bytes(1 << 20))
        while recorder.journal.dropped_points < 10:
            recorder.log({"x": 1.0}, 0)
        written = 0
        while recorder.journal.append_claim({"type": "params_changed", "n": written, "pad": "x" * 900}):
            written += 1
        assert RESERVE_BYTES // 2000 < written < RESERVE_BYTES // 900
        assert recorder.journal.append_claim({"type": "run_exited", "pad": "x" * 14_000})
        journal = recorder.end()
        assert [claim.get("n") for claim in journal.claims] == [*range(written), None]
        assert journal.gaps[0]["points"] == recorder.journal.dropped_points and journal.is_sound()


def test_row_is_not_written_where_its_definition_found_no_room(
    tmp_path: Path, by_write: bool, tiny_segments: None
) -> None:
    recorder = Recorder(tmp_path, by_write=by_write, clock=ManualClock(), budget_mib=1)
    (recorder.journal.folder / "unread").write_bytes(bytes(2 << 20))  # over the budget: no rotation
    long = {"k" * 600: 1.0, "l" * 600: 2.0}
    calls = 40  # they leave room for a row of two values, but not for its definition
    for step in range(calls):
        recorder.log({"a": 1.0}, step)
    assert not recorder.journal.dropped_points
    for _ in range(10):
        recorder.log(long, calls)  # rows of a shape that could not be defined
    journal = recorder.end()
    assert counts(recorder, journal) == calls + 20 and journal.is_sound(), journal.lost


def test_budget_is_what_nobody_has_read(tmp_path: Path, by_write: bool, tiny_segments: None) -> None:
    clock = ManualClock()
    recorder = Recorder(tmp_path, by_write=by_write, clock=clock, budget_mib=1)
    told: list[str] = []
    recorder.journal.on_trouble = told.append
    unread = recorder.journal.folder / "unread"
    unread.write_bytes(bytes(2 << 20))
    calls = 0
    while recorder.journal.dropped_points < 10:
        recorder.log({"x": 0.0}, calls)
        calls += 1
    assert len(told) == 1 and "TRAINLEDGER_BUDGET_MIB" in told[0] and "sync" in told[0]
    unread.unlink()  # as the agent does with a segment that it has read
    clock.advance(1)
    for _ in range(100):
        recorder.log({"x": 0.0}, calls)
        calls += 1
    journal = recorder.end()
    assert counts(recorder, journal) == calls and journal.gaps[0]["points"] == 10 and journal.is_sound()


def test_agent_that_takes_segments_does_not_stop_a_rotation(
    tmp_path: Path, by_write: bool, tiny_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is listed, and then the agent removes what was listed."""
    recorder = Recorder(tmp_path, by_write=by_write, clock=ManualClock())
    listdir = os.listdir

    def listdir_then_remove(folder: Path) -> list[str]:
        found = listdir(folder)
        for name in sorted(name for name in found if name.endswith(".tlj"))[:-1]:
            (folder / name).unlink()
        return found

    monkeypatch.setattr(os, "listdir", listdir_then_remove)
    for step in range(2000):
        recorder.log({"x": 1.0}, step)
    assert recorder.journal.dropped_rows == 0
    recorder.journal.close()


@pytest.mark.parametrize("trouble", ["removed", "read-only", "no more files"])
def test_trouble_with_the_folder_never_reaches_training(training: Training, trouble: str) -> None:
    body = {
        "removed": "import shutil; shutil.rmtree(folder)",
        "read-only": "os.setuid(65534)",
        "no more files": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))",
    }[trouble]
    training.prelude += TINY
    if trouble == "read-only" and os.geteuid():
        pytest.skip("gives its rights away, for which one must be root")
    done = training.run(
        f"""
        import os
        run = trainledger.init()
        folder = run._journal.folder
        run.log({{"x": 1.0}}, 0)
        {body}
        for i in range(1000): run.log({{"x": 1.0, "y": 2.0}}, i)
        run.config["a"] = 1
        run.finish()
        print("alive")
        """
    )
    assert done.stdout == "alive\n"
    assert "dropped and counted" in done.stderr and "rows were dropped" in done.stderr, done.stderr


def test_limit_on_the_size_of_files(training: Training) -> None:
    done = training.run(
        """
        import resource
        run = trainledger.init()
        limit = 1_200_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        for i in range(100_000): run.log({"x": float(i), "y": 0.0}, i)
        run.finish()
        """
    )
    journal = training.only()
    dropped = sum(gap["points"] for gap in journal.gaps)
    assert len(journal.points) + dropped == 200_000
    if journal.header.flags:
        return  # the next segment takes what this one could not
    assert dropped
    assert journal.exit is not None and journal.exit["status"] == "finished"
    assert "rows were dropped" in done.stderr


def test_journal_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, by_write: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FIRST_SEGMENT_BYTES", 1 << 60)
    if by_write:
        monkeypatch.setattr(
            JournalWriter, "_check_budget", lambda self: (_ for _ in ()).throw(OSError(28, "full"))
        )
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        Recorder(tmp_path, by_write=by_write)
    assert list((tmp_path / str(os.geteuid())).iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_closed_journal_takes_nothing_and_does_not_raise(tmp_path: Path, by_write: bool) -> None:
    recorder = Recorder(tmp_path, by_write=by_write)
    for step in range(4):
        recorder.log({"x": 1.0}, step)
    recorder.journal.close()
    recorder.journal.close()
    recorder.log({"x": 1.0}, 4)
    recorder.log({"new": 1.0}, 4)
    assert recorder.journal.append_claim({"type": "run_exited"}) is False
    assert len(read_journal(recorder.journal.folder).points) == 4


def test_claim_over_the_limit_of_a_record_is_a_value_error(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with pytest.raises(ValueError, match="over the limit"):
        recorder.journal.append_claim({"type": "run_exited", "pad": "x" * 300_000})
    with pytest.raises(ValueError, match="JSON"):
        recorder.journal.append_claim({"number": float("nan")})


@pytest.mark.parametrize("text", ["a", "é\U0001f600", "\udc80\ud800", '"\\\n\0'], ids=ascii)
def test_json_bytes_are_json_of_the_same_text(text: str) -> None:
    assert json.loads(json_bytes({text: text})) == {text: text}


def test_lock_is_held_while_the_journal_is_open_and_not_by_children(training: Training) -> None:
    probe = "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB)"
    training.run(
        f"""
        import subprocess, sys, os
        run = trainledger.init()
        def is_held():
            return subprocess.run([sys.executable, "-c", {probe!r}, run_lock], stderr=subprocess.DEVNULL).returncode != 0
        run_lock = str(run._journal.folder / "writer.lock")
        assert is_held()
        pid = os.fork()
        if not pid:
            run.log({{"x": 1.0}})
            os._exit(0)
        os.waitpid(pid, 0)
        assert is_held(), "a child let the parent's lock go"
        run.finish()
        assert not is_held()
        """
    )


def test_wall_clock_that_steps_back_keeps_the_order(tmp_path: Path, by_write: bool) -> None:
    clock = ManualClock()
    recorder = Recorder(tmp_path, by_write=by_write, clock=clock)
    recorder.log({"x": 1.0}, 0)
    clock.step_wall(-3600)
    recorder.log({"x": 2.0}, 1)
    assert recorder.end().values() == [1.0, 2.0]


def test_records_are_sealed_as_the_format_says(tmp_path: Path, by_write: bool) -> None:
    recorder = Recorder(tmp_path, by_write=by_write)
    for step in range(3):
        recorder.log({"x": 0.5}, step)
    recorder.journal.close()
    data = (recorder.journal.folder / "000000.tlj").read_bytes()
    record = data[-32:]
    head, step, wall, value, crc = struct.unpack("<IqqdI", record)
    assert (head, step, value) == (1 << 16 | 8, 2, 0.5)
    assert abs(wall_ns() - wall) < 60e9 and crc == crc32(record[:-4], RESIDUE)
    assert crc32(pack_control(4, b"abc", step=0, wall_ns=0), RESIDUE) == RESIDUE
