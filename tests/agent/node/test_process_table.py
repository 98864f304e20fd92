"""The table on a made-up /proc: every case of who waits for whom, to the tick."""

from pathlib import Path

from trainledger.node.process_table import ProcessTable, Spent, parse_stat


class FakeProc:
    """A folder like /proc, with processes that can be set and removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = ProcessTable(folder)

    def put(self, pid: int, *, parent: int = 1, own: int = 0, children: int = 0, start: int = 100) -> None:
        (self.folder / str(pid)).mkdir(exist_ok=True)
        (self.folder / str(pid) / "stat").write_bytes(stat_line(pid, parent, own, children, start))

    def remove(self, pid: int) -> None:
        (self.folder / str(pid) / "stat").unlink()
        (self.folder / str(pid)).rmdir()

    def look(self) -> dict[int, int]:
        return self._sums([(item.pid, item.ticks) for item in self.table.look()])

    def look_at(self, *pids: int) -> dict[int, int]:
        return self._sums([(item.pid, item.ticks) for item in self.table.look_at(pids)])

    @staticmethod
    def _sums(items: list[tuple[int, int]]) -> dict[int, int]:
        sums: dict[int, int] = {}
        for pid, ticks in items:
            sums[pid] = sums.get(pid, 0) + ticks
        return sums


def stat_line(pid: int, parent: int, own: int, children: int, start: int, flags: int = 0) -> bytes:
    head = f"{pid} (a) b) S {parent} {pid} {pid} 0 -1 {flags} 0 0 0 0".encode()
    return head + f" {own} 0 {children} 0 20 0 1 0 {start} 1000000 25 0 0\n".encode()


def test_parses_a_line_whose_name_has_brackets_and_blanks() -> None:
    reading = parse_stat(7, stat_line(7, 3, 11, 5, 42))
    assert reading is not None
    assert (reading.parent, reading.own, reading.children, reading.start_ticks) == (3, 11, 5, 42)
    assert reading.resident == 25
    assert not reading.is_kernel
    assert parse_stat(7, b"7 (cut off) S 1") is None


def test_what_was_used_before_the_first_look_is_nobodys(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10, own=500)
    assert proc.look() == {}
    proc.put(10, own=530)
    assert proc.look() == {10: 30}


def test_new_process_counts_from_its_birth(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.look()
    proc.put(10, own=40, children=3)
    assert proc.look() == {10: 43}


def test_seen_child_is_not_counted_again_when_its_parent_waits_for_it(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10)
    proc.look()
    proc.put(11, parent=10, own=70)
    assert proc.look() == {11: 70}
    proc.remove(11)
    proc.put(10, own=5, children=70)
    assert proc.look() == {10: 5}


def test_what_a_child_used_after_the_last_look_is_the_childs(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10)
    proc.look()
    proc.put(11, parent=10, own=70)
    proc.look()
    proc.remove(11)
    proc.put(10, own=5, children=95)
    assert proc.look() == {10: 5, 11: 25}


def test_child_too_short_lived_to_be_seen_is_its_parents(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10)
    proc.look()
    proc.put(10, children=8)
    assert proc.look() == {10: 8}


def test_child_that_nobody_waits_for_changes_nothing(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10)
    proc.put(11, parent=10)
    proc.look()
    proc.put(11, parent=10, own=70)
    proc.look()
    proc.remove(11)
    proc.put(10, own=3)
    assert proc.look() == {10: 3}
    assert proc.look() == {}


def test_parent_and_child_that_end_together_are_counted_once(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(9)
    proc.put(10, parent=9)
    proc.put(11, parent=10)
    proc.look()
    proc.put(10, parent=9, own=20)
    proc.put(11, parent=10, own=70)
    assert proc.look() == {10: 20, 11: 70}
    proc.remove(10)
    proc.remove(11)
    proc.put(9, children=95)  # 20 + 70, and 5 more after the look
    assert sum(proc.look().values()) == 5


def test_child_whose_parent_died_first_is_taken_out_of_the_ancestor_that_waited(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(8, children=1000)
    proc.put(9, parent=8)
    proc.put(10, parent=9)
    proc.put(11, parent=10)
    proc.look()
    proc.put(11, parent=10, own=70)
    proc.look()
    proc.remove(10)
    proc.remove(11)
    proc.put(8, children=1070)  # 8 takes over orphans; 9 never waited for 11
    assert proc.look() == {}


def test_parent_that_was_read_before_it_waited_is_settled_at_the_next_look(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10)
    proc.look()
    proc.put(11, parent=10, own=70)
    proc.look()
    proc.remove(11)
    assert proc.look() == {}
    proc.put(10, children=70, own=2)
    assert proc.look() == {10: 2}


def test_look_at_some_sees_their_ends_and_a_later_look_settles_other_ancestors(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10)
    proc.look()
    proc.put(11, parent=10, own=70)
    proc.look()
    proc.put(11, parent=10, own=90)
    assert proc.look_at(11) == {11: 20}
    proc.remove(11)
    assert proc.look_at(11) == {}
    proc.put(10, children=90)
    assert proc.look() == {}


def test_reused_pid_is_another_process(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10, own=500, start=100)
    proc.look()
    proc.put(10, own=4, start=900)
    assert proc.look() == {10: 4}


def test_kernel_threads_are_left_out(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.look()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "stat").write_bytes(stat_line(2, 0, 900, 0, 1, flags=0x00200040))
    assert proc.look() == {}
    assert 2 not in proc.table.known


def test_pid_of_an_ended_kernel_thread_may_become_a_process(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    (tmp_path / "55").mkdir()
    (tmp_path / "55" / "stat").write_bytes(stat_line(55, 2, 900, 0, 1, flags=0x00200040))
    proc.look()
    proc.remove(55)
    proc.look()
    proc.put(55, own=6)
    assert proc.look() == {55: 6}


def test_what_a_dead_child_or_unseen_ones_used_is_told_as_unseen(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10, start=7)
    proc.put(11, parent=10, own=70)
    proc.look()
    proc.remove(11)
    proc.put(10, children=170, start=7)
    assert proc.table.look() == [Spent(11, 100, 100, unseen_of=(10, 7))]


def test_child_that_was_late_is_not_counted_again_by_a_look_at_its_parent_alone(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(10)
    proc.put(11, parent=10, own=70)
    proc.look()
    proc.remove(11)
    assert proc.look_at(10, 11) == {}, "its parent was read just before it waited"
    assert proc.look_at(10) == {}
    proc.put(10, children=70)
    assert proc.look_at(10) == {}
    proc.put(10, children=75)
    assert proc.look() == {10: 5}
