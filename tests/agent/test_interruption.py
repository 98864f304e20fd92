"""Telling what a user's signal handler threw from what a value or a disk raised."""

import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainledger.interruption import is_from_handler


class TimeUpError(TimeoutError):
    pass


def plain(_number: int, _frame: object) -> None:
    raise TimeUpError


def deeper(_number: int, _frame: object) -> None:
    plain(0, None)


class Alarm:
    def method(self, _number: int, _frame: object) -> None:
        raise TimeUpError

    def __call__(self, _number: int, _frame: object) -> None:
        raise TimeUpError


def with_more(_text: str, _number: int, _frame: object) -> None:
    raise TimeUpError


HANDLERS: dict[str, Callable[[int, Any], Any]] = {
    "function": plain,
    "function that calls another": deeper,
    "method": Alarm().method,
    "object": Alarm(),
    "partial": functools.partial(with_more, "text"),
    "lambda": lambda number, frame: Alarm()(number, frame),
}


@pytest.fixture(params=HANDLERS)
def handler(request: pytest.FixtureRequest) -> Iterator[Callable[[int, Any], Any]]:
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    yield HANDLERS[request.param]
    signal.signal(signal.SIGUSR1, before)


def caught(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_a_handler_threw_is_known(handler: Callable[[int, Any], Any]) -> None:
    assert is_from_handler(caught(lambda: signal.raise_signal(signal.SIGUSR1)))


def test_the_same_function_called_by_a_value_when_it_is_no_handler_any_more(
    handler: Callable[[int, Any], Any],
) -> None:
    error = caught(lambda: signal.raise_signal(signal.SIGUSR1))
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert not is_from_handler(error)


def test_errors_of_values_disks_and_our_own_code_are_not(handler: Callable[[int, Any], Any]) -> None:
    class Value:
        def __float__(self) -> float:
            raise TimeoutError

    for call in (
        lambda: float(Value()),
        lambda: Path("/no/such/file").read_text(),
        lambda: [][0],
        lambda: 1 / 0,
    ):
        assert not is_from_handler(caught(call))
    assert not is_from_handler(ValueError("never raised"))
