"""The pool of threads: how much is under way, and what came of it."""

import threading

import pytest

from trainledger_schemas.daemon_pool import DaemonPool


def test_work_is_done_side_by_side_and_handed_back() -> None:
    together = threading.Barrier(3, timeout=20)
    with DaemonPool[int](3, "test") as pool:
        for number in range(3):
            pool.submit(lambda number=number: together.wait() * 0 + number)  # type: ignore[misc]  # bound now
        assert pool.is_busy and pool.under_way == 3
        assert sorted(pool.take() for _ in range(3)) == [0, 1, 2]
        assert pool.under_way == 0


def test_an_error_is_raised_where_it_is_taken_and_the_thread_goes_on() -> None:
    def fail() -> int:
        raise ValueError("no")

    with DaemonPool[int](1, "test") as pool:
        pool.submit(fail)
        pool.submit(lambda: 5)
        with pytest.raises(ValueError, match="no"):
            pool.take()
        assert pool.take() == 5


def test_threads_end_when_it_is_closed() -> None:
    with DaemonPool[int](2, "pool that ends") as pool:
        pool.submit(lambda: 1)
        pool.take()
    for thread in threading.enumerate():
        if thread.name == "pool that ends":
            thread.join(20)
            assert not thread.is_alive()
