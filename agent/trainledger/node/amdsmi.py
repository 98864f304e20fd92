"""AMD's management library, opened once and called with care. The one module that imports `amdsmi`.

Guarantees: as in `nvml`: without the library nothing is imported; no call raises but `GpuGoneError`; what the driver
refuses is not repeated for ten minutes. A number that AMD's library does not know ("N/A", or all ones in 16, 32 or 64
bits) is None.

The Python package belongs to the library's version: it asks the library for all its functions when it is imported, and
one that is missing is an AttributeError; without a library it prints a line and raises KeyError. So the copy that lies
beside ROCm is taken before any that was installed with pip.
"""

import ctypes
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from trainledger.node.gpu import GpuGoneError
from trainledger.node.gpu_refusals import Refusals
from trainledger.node.node_settings import rocm_folder
from trainledger_schemas.clock import Clock

__all__ = ["FAILED", "LIBRARY", "SUCCESS", "AmdSmi", "is_library_there", "known", "open_amdsmi"]

LIBRARY = "libamd_smi.so"
SUCCESS = 0
INVALID, NOT_SUPPORTED, NOT_IMPLEMENTED, NO_PERMISSION, NOT_INITIALISED = 1, 2, 3, 10, 32
FAILED = -1
REFUSED = {INVALID, NOT_SUPPORTED, NOT_IMPLEMENTED, NO_PERMISSION}
UNKNOWN = {0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF}


class AmdSmi:
    """The opened library; made by `open_amdsmi`."""

    def __init__(self, module: Any, clock: Clock) -> None:
        """Use `open_amdsmi`."""
        self.module = module
        self.clock = clock
        self._refusals = Refusals(clock)

    def ask(self, place: str, function: str, *args: Any) -> Any | None:
        """What `function` returns, or None. `place`: the device that it is about; of "" nothing is remembered."""
        return self.outcome(place, function, *args)[1]

    def outcome(self, place: str, function: str, *args: Any) -> tuple[int, Any | None]:
        """The library's return code (FAILED where it gave none) and what the function returned."""
        if self._refusals.holds(place, function):
            return NOT_SUPPORTED, None
        called = getattr(self.module, function, None)
        if called is None:
            return self._failed(place, function, NOT_SUPPORTED), None
        try:
            return SUCCESS, called(*args)
        except self.module.AmdSmiException as error:
            code = getattr(error, "err_code", None)
            return self._failed(place, function, FAILED if code is None else int(code)), None
        except (KeyError, ValueError, UnicodeDecodeError):
            # The package names numbers and decodes text, and meets what it does not know.
            return FAILED, None

    def forget(self, place: str) -> None:
        """Ask a place everything again."""
        self._refusals.forget(place)

    def close(self) -> None:
        """End the session; the library stays mapped."""
        self.ask("", "amdsmi_shut_down")

    def _failed(self, place: str, function: str, code: int) -> int:
        if code == NOT_INITIALISED and function != "amdsmi_shut_down":
            raise GpuGoneError(f"{function}: the library is not initialised")
        if place and code in REFUSED:
            self._refusals.note(place, function)
        return code


def known(value: Any) -> float | None:
    """A number of the library, None where it does not know it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value in UNKNOWN:
        return None
    return float(value)


def is_library_there() -> bool:
    """Whether the loader finds the library, or ROCm's folder has it; it stays mapped then."""
    for place in (str(rocm_folder() / "lib" / LIBRARY), LIBRARY):
        try:
            ctypes.CDLL(place)
        except OSError:
            continue
        return True
    return False


def open_amdsmi(clock: Clock) -> AmdSmi | str:
    """The library, initialised, or why this node has none in a few words. May block while the driver loads."""
    if not is_library_there():
        return "no AMD library"
    beside = rocm_folder() / "share" / "amd_smi"
    try:
        module = _import(beside if (beside / "amdsmi").is_dir() else None)
    except ImportError:
        return f"the Python package amdsmi is missing: install ROCm's ({beside}), or amdsmi of ROCm's version with pip"
    except (KeyError, AttributeError, OSError) as error:
        why = "the Python package amdsmi is of another version than ROCm's library"
        return f"{why}: {error!r}; install the one of ROCm"
    try:
        module.amdsmi_init()
    except module.AmdSmiException as error:
        return f"AMD's library does not start: {' '.join(str(error).split())}"
    return AmdSmi(module, clock)


def _import(folder: Path | None) -> Any:
    if folder is None:
        return import_module("amdsmi")
    sys.path.insert(0, str(folder))
    try:
        return import_module("amdsmi")
    finally:
        sys.path.remove(str(folder))
