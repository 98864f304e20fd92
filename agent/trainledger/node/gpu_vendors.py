"""Whose GPUs the agent knows how to read: how to see that a vendor's library is there, and how to open it."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from trainledger.node import amdsmi_reader
from trainledger.node.amdsmi import is_library_there
from trainledger.node.gpu import GpuReader
from trainledger.node.nvml import LIBRARY
from trainledger.node.nvml_reader import open_reader
from trainledger_schemas.clock import Clock

__all__ = ["AMD", "NVIDIA", "VENDORS", "Vendor", "can_load"]


@dataclass(frozen=True, slots=True)
class Vendor:
    """`open` gives a reader, or why there is none in a few words; it may block. `is_there` looks for the library."""

    name: str
    is_there: Callable[[], bool]
    open: Callable[[Clock], GpuReader | str]


def can_load(library: str) -> bool:
    """Whether the loader finds a library; it stays mapped then."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


NVIDIA = Vendor("nvidia", lambda: can_load(LIBRARY), open_reader)
AMD = Vendor("amd", is_library_there, amdsmi_reader.open_reader)
VENDORS = (NVIDIA, AMD)
