"""The numerical libraries that this process has loaded, with their versions: what ran, whatever is installed.

Read from /proc/self/maps. A library that tells its version is asked; for the others the file's name tells it. Nothing
is loaded or started for it: a library is opened only as what is in memory already.
"""

import os
import re
import sys
from collections.abc import Callable, Container
from typing import Any

from .interruption import is_from_handler
from .redaction import redact

__all__ = ["read_libraries"]

MAPS_BYTES_MAX = 16 << 20
_NAMES = frozenset(
    "cudart cudnn nccl cublas cublasLt cuda rccl openblas mkl_rt mkl_core blis gomp iomp5 omp mpi".split()
)
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def read_libraries(maps: str = "/proc/self/maps") -> dict[str, str]:
    """Name to version, `<name>.path` to the file; threads of BLAS and OpenMP where threadpoolctl is loaded.

    Of a name that is loaded several times (numpy and scipy each bring an OpenBLAS) the second is `<name>.2`, in the
    order of their paths.
    """
    found: dict[str, str] = {}
    for name, path in _loaded_files(maps).items():
        version = _asked(name.partition(".")[0], path) or _told_by_name(path)
        found[name] = version or "loaded"
        found[f"{name}.path"] = redact(path)
    return found | _threads()


def _loaded_files(maps: str) -> dict[str, str]:
    try:
        with open(maps, "rb") as file:
            data = file.read(MAPS_BYTES_MAX)
    except OSError:
        return {}
    files: dict[str, str] = {}
    # Each file is mapped several times.
    paths = {line[line.index(b"/") :] for line in data.split(b"\n") if b"/lib" in line and b".so" in line}
    for path in sorted(paths):
        base = path.rpartition(b"/")[2]
        name = base.removeprefix(b"lib").replace(b"-", b".").partition(b".")[0].decode("ascii", "replace")
        name = "openblas" if name.startswith(("openblas", "scipy_openblas")) else name
        if base.startswith(b"lib") and name in _NAMES:
            files[_numbered(name, files)] = os.fsdecode(path)
    return dict(sorted(files.items()))


def _numbered(name: str, taken: Container[str]) -> str:
    number = 1
    while (numbered := name if number == 1 else f"{name}.{number}") in taken:
        number += 1
    return numbered


def _told_by_name(path: str) -> str | None:
    version = _VERSION.search(os.path.basename(path).partition(".so")[2]) or _VERSION.search(
        os.path.basename(path)
    )
    return None if version is None else version[0]


def _asked(name: str, path: str) -> str | None:
    if name not in _QUESTIONS:
        return None
    function, is_returned, in_words = _QUESTIONS[name]
    try:
        # Not at the top: most runs have no such library.
        import ctypes

        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        ask = getattr(library, function)
        if is_returned:
            ask.restype = ctypes.c_size_t
            return in_words(int(ask()))
        number = ctypes.c_int()
        return in_words(number.value) if ask(ctypes.byref(number)) == 0 else None
    except Exception as error:  # gone from memory, or without that function
        if is_from_handler(error):
            raise
        return None


def _three(number: int, thousand: int) -> str:
    return f"{number // (100 * thousand)}.{number // 100 % thousand}.{number % 100}"


def _nccl(number: int) -> str:
    # From 2.9 on the second number has two digits.
    return (
        _three(number, 100) if number >= 10_000 else f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    )


def _cudnn(number: int) -> str:
    return (
        _three(number, 100) if number >= 90_000 else f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    )


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


# The function, whether it returns the number, and what the number means.
_QUESTIONS: dict[str, tuple[str, bool, Callable[[int], str]]] = {
    "cudart": ("cudaRuntimeGetVersion", False, _cuda),
    "cuda": ("cuDriverGetVersion", False, _cuda),
    "cudnn": ("cudnnGetVersion", True, _cudnn),
    "nccl": ("ncclGetVersion", False, _nccl),
}


def _threads() -> dict[str, str]:
    module: Any = sys.modules.get("threadpoolctl")
    try:
        pools = [] if module is None else module.threadpool_info()
        found: dict[str, str] = {}
        for pool in sorted(pools, key=lambda pool: str(pool.get("filepath"))):
            told = f"{pool['num_threads']} ({pool['internal_api']} {pool.get('version') or ''})"
            found[_numbered(f"{pool['prefix']}.threads", found)] = told
        return found
    except Exception as error:  # of another version
        if is_from_handler(error):
            raise
        return {}
