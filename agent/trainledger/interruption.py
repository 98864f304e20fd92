"""Exceptions that a signal handler of the user's threw into our code: they belong to the user.

A Python signal handler runs between any two instructions of the main thread, so also inside log(). People throw
out of it to stop what runs, often with TimeoutError, which is an OSError: code that swallows what a disk or a
value may raise would swallow the alarm as well, and write a record twice. Such exceptions are known by their
traceback, which ends in, or goes through, the code of a handler that is installed. KeyboardInterrupt and other
exceptions that are no Exception are never caught in the first place.

Limit: an exception put into a thread from outside (PyThreadState_SetAsyncExc) leaves no trace of where it came
from; if it is an Exception, it is taken for trouble of ours.
"""

import os
import sys
from types import CodeType, TracebackType
from typing import Any

__all__ = ["is_from_handler"]

_OWN_FOLDER = os.path.dirname(__file__) + os.sep


def is_from_handler(error: BaseException) -> bool:
    """Whether `error` came out of a signal handler; it is then to be raised on."""
    trace = error.__traceback__
    if trace is None or trace.tb_next is None:
        return False  # raised by the C call that the catching function made: the usual case
    last = trace
    while last.tb_next is not None:
        last = last.tb_next
    if last.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        return False
    handlers = _handler_code()
    return bool(handlers) and _goes_through(trace, handlers)


def _goes_through(trace: TracebackType | None, codes: set[CodeType]) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _handler_code() -> set[CodeType]:
    # Not imported: whoever installed a handler has.
    signal = sys.modules.get("signal")
    if signal is None:
        return set()
    installed = (signal.getsignal(number) for number in range(1, signal.NSIG))
    return {code for handler in installed if callable(handler) and (code := _code_of(handler)) is not None}


def _code_of(handler: Any) -> CodeType | None:
    for inside in ("func", "__func__"):  # functools.partial, a method
        handler = getattr(handler, inside, handler)
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None
