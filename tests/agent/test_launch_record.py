"""Launches with one scope and id, one after the other or at once: which of them are one run."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.training import Training, user_folder
from trainledger.launch_record import ALIVE, BYTES_KEPT, DEAD, FINISHED, UNSEEN, Entry, choose_ordinal

STATES = (FINISHED, ALIVE, DEAD, UNSEEN)


def entry(
    rank: int, state: str = ALIVE, parent: str = "a", *, ordinal: int = 0, restarts: int = 0, job: int = 0
) -> Entry:
    return Entry(ordinal, rank, parent, restarts, job, "here", 100 + rank, 5, state)


@pytest.mark.parametrize(
    ("before", "me", "strong", "weak"),
    [
        pytest.param([], entry(0), 0, 0, id="the first"),
        pytest.param([entry(0)], entry(1), 0, 0, id="the next rank of a launcher"),
        pytest.param([entry(0)], entry(1, parent="b"), 0, 0, id="a rank beside one that lives"),
        pytest.param([entry(0, UNSEEN)], entry(1, parent="b"), 0, 0, id="a rank in another container"),
        pytest.param([entry(0, DEAD)], entry(0, restarts=1), 0, 0, id="torchrun starts a rank again"),
        pytest.param([entry(0, FINISHED)], entry(0, restarts=1), 0, 0, id="and one that left by exit(1)"),
        pytest.param([entry(0, ALIVE)], entry(0, restarts=1), 0, 0, id="and one that is not reaped"),
        pytest.param([entry(0, DEAD)], entry(0), 0, 0, id="a launcher that counts nothing starts a rank again"),
        pytest.param([entry(0, FINISHED)], entry(0), 1, 1, id="a loop over launches in one shell"),
        pytest.param([entry(0, FINISHED), entry(1, FINISHED)], entry(1, parent="b"), 1, 1, id="the next launch"),
        pytest.param([entry(0, FINISHED), entry(1, FINISHED)], entry(2, parent="b"), 1, 1, id="with other ranks here"),
        pytest.param([entry(0, FINISHED), entry(0, ordinal=1)], entry(1), 1, 1, id="the rest of that"),
        pytest.param([entry(0, ALIVE)], entry(0, parent="b"), 1, 1, id="the same rank twice at once"),
        pytest.param([entry(0, DEAD)], entry(0, parent="b"), 0, 1, id="the same command again after a crash"),
        pytest.param([entry(0, DEAD)], entry(1, parent="b"), 0, 1, id="and another rank of it"),
        pytest.param([entry(0, DEAD), entry(1, FINISHED)], entry(1, parent="b"), 1, 1, id="it had done its part"),
        pytest.param([entry(0, FINISHED)], entry(0, job=1), 0, 0, id="the scheduler starts the whole job again"),
    ],
)  # fmt: skip
def test_which_launch_a_process_belongs_to(before: list[Entry], me: Entry, strong: int, weak: int) -> None:
    assert choose_ordinal(before, me, is_weak=False, may_move=True) == strong
    assert choose_ordinal(before, me, is_weak=True, may_move=True) == weak


def test_a_rank_that_begins_when_the_others_have_finished_is_late_where_ranks_have_fixed_places() -> None:
    late, gone = entry(1, parent="b"), entry(0, FINISHED)
    assert choose_ordinal([gone], late, is_weak=False, may_move=False) == 0
    assert choose_ordinal([gone], late, is_weak=True, may_move=False) == 0
    assert choose_ordinal([gone], entry(0, parent="b"), is_weak=False, may_move=False) == 1
    assert choose_ordinal([gone, entry(2, DEAD)], late, is_weak=True, may_move=False) == 1


entries = st.builds(
    entry, st.integers(0, 3), st.sampled_from(STATES), st.sampled_from("ab"), ordinal=st.integers(0, 3)
)


@given(st.lists(entries, max_size=12), entries, st.booleans(), st.booleans())
def test_an_ordinal_is_the_newest_or_the_next(
    before: list[Entry], me: Entry, is_weak: bool, may_move: bool
) -> None:
    newest = max((known.ordinal for known in before), default=0)
    assert choose_ordinal(before, me, is_weak=is_weak, may_move=may_move) in (newest, newest + bool(before))


RANK = {"WORLD_SIZE": "2", "MASTER_ADDR": "node-a", "MASTER_PORT": "29500"}
LOG = "run.log({'x': 1.0})"


def run_ids(training: Training) -> list[str]:
    return [journal.run_id for journal in training.read()]


HOLD = f"{LOG}; print('begun', flush=True); input()"


def begin(training: Training, rank: int) -> "subprocess.Popen[str]":
    """A rank that has begun, and waits for a line."""
    process = training.start(HOLD, RANK=str(rank), **RANK)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def test_ranks_that_a_shell_starts_one_launch_after_the_other_are_a_run_each(training: Training) -> None:
    for _ in range(2):
        for process in [begin(training, rank) for rank in (0, 1)]:
            process.communicate("\n", timeout=30)
    assert len(set(run_ids(training))) == 2 and len(run_ids(training)) == 4


def test_a_rank_that_was_killed_and_starts_again_goes_on_in_its_run(training: Training) -> None:
    process = begin(training, 1)
    process.kill()
    process.communicate()
    training.run(LOG, RANK="1", **RANK)
    assert len(set(run_ids(training))) == 1


def test_runs_of_one_rank_in_one_process_are_shared_in_their_order(training: Training) -> None:
    body = "for n in range(2):\n    with trainledger.init() as run: run.log({'x': float(n)})"
    ranks = [training.start(body, RANK=str(rank), **RANK) for rank in (0, 1)]
    for process in ranks:
        process.communicate(timeout=30)
    by_run = {journal.run_id: set[float]() for journal in training.read()}
    for journal in training.read():
        by_run[journal.run_id] |= set(journal.values())
    assert sorted(by_run.values()) == [{0.0}, {1.0}]


def test_a_record_that_cannot_be_written_or_read_harms_nothing(training: Training) -> None:
    user_folder(training.journals).mkdir(parents=True, mode=0o700)
    place = user_folder(training.journals) / "launches"
    place.write_text("no folder")
    training.run(LOG, RANK="0", **RANK)
    place.unlink()
    training.run(LOG, RANK="0", **RANK)
    (file,) = place.iterdir()
    file.write_bytes(b"\xff nonsense\nbegin 1 2\n" * (BYTES_KEPT // 8))
    training.run(LOG, RANK="0", **RANK)
    assert file.stat().st_size < 2 * BYTES_KEPT
    assert len(set(run_ids(training))) == 1


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)
