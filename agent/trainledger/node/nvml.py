"""NVIDIA's management library, opened once and called with care. The one module that imports `pynvml`.

Guarantees: a node without the library costs one failed `dlopen` a try and imports nothing; no call raises but
`GpuGoneError` (the library must be opened anew); a call that the driver refuses (not supported, no permission,
no such symbol) is not repeated for ten minutes, so that one that begins to work is found again; a device that
the driver calls lost is remembered and not asked any more. Any other error is for this once: the next round asks
again. Calls block as long as the driver does, so they belong on a thread that may wait.

`pynvml` is provided by the distribution nvidia-ml-py. It loads `libnvidia-ml.so.1` by name and keeps it mapped
until the process ends: after a driver upgrade only a new process sees the new library.
"""

import ctypes
from importlib import import_module
from typing import Any

from trainledger.node.gpu import GpuGoneError
from trainledger.node.gpu_refusals import Refusals
from trainledger_schemas.clock import Clock

__all__ = ["LIBRARY", "NOT_FOUND", "REFUSED", "SUCCESS", "Nvml", "open_nvml"]

LIBRARY = "libnvidia-ml.so.1"

SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
ARGUMENT_VERSION_MISMATCH = 25
# A lost device falls off the bus, one that needs a reset answers nothing more: both until the next driver load.
_LOST = {GPU_IS_LOST, RESET_REQUIRED}
REFUSED = {INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH}


class Nvml:
    """The opened library; made by `open_nvml`."""

    def __init__(self, module: Any, clock: Clock) -> None:
        """Use `open_nvml`."""
        self.module = module
        self.lost: set[str] = set()
        self._clock = clock
        self._refusals = Refusals(clock)
        self._errors: type[Exception] = module.NVMLError

    def ask(self, place: str, function: str, *args: Any) -> Any | None:
        """What `function` returns, or None. `place`: the device or part that it is about; of "" nothing
        is remembered."""
        return self.outcome(place, function, *args)[1]

    def outcome(self, place: str, function: str, *args: Any) -> tuple[int, Any | None]:
        """NVML's return code and what the function returned (None unless the code is 0)."""
        if self._refusals.holds(place, function):
            return NOT_SUPPORTED, None
        called = getattr(self.module, function, None)
        if called is None:  # an older nvidia-ml-py
            return self._failed(place, function, FUNCTION_NOT_FOUND), None
        try:
            return SUCCESS, called(*args)
        except self._errors as error:
            # Success with nothing to give is raised as an error with code 0 by some functions of pynvml.
            return self._failed(place, function, int(getattr(error, "value", -1))), None

    def wall_us(self) -> int:
        """Wall time, microseconds since 1970: what the driver stamps its samples with."""
        return self._clock.wall_ns() // 1000

    def monotonic_ns(self) -> int:
        """For how long something took."""
        return self._clock.monotonic_ns()

    def is_lost(self, place: str) -> bool:
        """Whether the driver said that the device is gone; it stays so until the driver is loaded anew."""
        return place in self.lost

    def forget(self, place: str) -> None:
        """Ask a place everything again: its layout changed."""
        self._refusals.forget(place)

    def close(self) -> None:
        """End the session with the driver; the library stays mapped."""
        try:
            self.module.nvmlShutdown()
        except self._errors:
            pass  # it was ended already, or the driver is gone: there is nothing left to end

    def _failed(self, place: str, function: str, code: int) -> int:
        if code == UNINITIALIZED:
            raise GpuGoneError(f"{function}: NVML is not initialised")
        if not place:
            return code
        if code in _LOST:
            self.lost.add(place)
        elif code in REFUSED:
            self._refusals.note(place, function)
        return code


def open_nvml(clock: Clock, *, library: str = LIBRARY) -> Nvml | str:
    """The library, initialised, or why this node has none in a few words. May block while the driver loads."""
    try:
        # By file name, before pynvml is imported: on a node without GPUs this is all that happens.
        ctypes.CDLL(library)
    except OSError:
        return "no NVIDIA driver"
    try:
        module = import_module("pynvml")
    except ImportError:
        return "nvidia-ml-py is not installed: pip install 'trainledger[agent]'"
    try:
        module.nvmlInit()
    except module.NVMLError as error:
        return f"NVML does not start: {error}"
    return Nvml(module, clock)
