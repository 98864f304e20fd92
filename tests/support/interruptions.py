"""Run a call and break into it at one chosen place where the interpreter runs signal handlers.

CPython runs handlers after a call, at a jump back and at the entry of a function. Tracing by instruction finds
these places in the code of ours, one after another, so that a test can try every one of them.
"""

import dis
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import trainledger

__all__ = ["break_into"]

FOLDER = os.path.dirname(trainledger.__file__) + os.sep
_PLACES = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD", "RESUME"}


def break_into(call: Callable[[], object], place: int, action: Callable[[], object]) -> bool:
    """Make `call`, and run `action` at its `place`-th place; False if there are fewer. May raise what action does."""
    count = 0
    previous: dict[int, str] = {}
    names: dict[Any, dict[int, str]] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        code = frame.f_code
        if not code.co_filename.startswith(FOLDER) and code.co_filename != "<shape>":
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            if previous.get(id(frame)) in _PLACES:
                count += 1
                if count == place + 1:
                    sys.settrace(None)
                    frame.f_trace = None
                    action()
                    return None
            if code not in names:
                names[code] = {item.offset: item.opname for item in dis.get_instructions(code)}
            previous[id(frame)] = names[code].get(frame.f_lasti, "")
        elif event == "return":
            previous.pop(id(frame), None)
        return trace

    raised: list[BaseException] = []

    def run() -> None:
        sys.settrace(trace)
        try:
            call()
        except BaseException as error:  # handed to the caller
            raised.append(error)
        finally:
            sys.settrace(None)

    # In a thread that ends: a lock that is not let go then stops whoever comes later.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return count > place
