"""What a process has loaded is told with its version, without loading anything."""

import json
import subprocess
import sys
from pathlib import Path

from trainledger import loaded_libraries
from trainledger.loaded_libraries import read_libraries

SOURCE = """
#include <stddef.h>
int ncclGetVersion(int *v) { *v = NCCL; return 0; }
int cudaRuntimeGetVersion(int *v) { *v = 12040; return 0; }
int cuDriverGetVersion(int *v) { *v = 12060; return CUDA_FAILS; }
size_t cudnnGetVersion(void) { return CUDNN; }
"""


def build(folder: Path, name: str, *, nccl: int = 22005, cudnn: int = 90100, fails: int = 0) -> Path:
    source, library = folder / "fake.c", folder / name
    source.write_text(SOURCE)
    numbers = [f"-DNCCL={nccl}", f"-DCUDNN={cudnn}", f"-DCUDA_FAILS={fails}"]
    command = ["cc", "-shared", "-fPIC", *numbers, "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library


def libraries_of_process(*paths: Path, also: str = "") -> dict[str, str]:
    body = (
        "import ctypes, json, sys\n"
        "from trainledger.loaded_libraries import read_libraries\n"
        f"kept = [ctypes.CDLL(path) for path in {[str(path) for path in paths]!r}]\n{also}\n"
        "before = sorted(line.split()[-1] for line in open('/proc/self/maps'))\n"
        "found = read_libraries()\n"
        "after = sorted(line.split()[-1] for line in open('/proc/self/maps'))\n"
        "assert {x for x in after if '.so' in x} == {x for x in before if '.so' in x}, 'something was loaded'\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_loaded_libraries_are_asked_for_their_versions(tmp_path: Path) -> None:
    names = ("libnccl.so.2", "libcudnn.so.9", "libcudart-0a1b2c.so.12", "libcuda.so.1")
    found = libraries_of_process(*(build(tmp_path, name) for name in names))
    assert {name: found[name] for name in ("nccl", "cudnn", "cudart", "cuda")} == {
        "nccl": "2.20.5",
        "cudnn": "9.1.0",
        "cudart": "12.4",
        "cuda": "12.6",
    }
    assert found["cudart.path"] == str(tmp_path / "libcudart-0a1b2c.so.12")


def test_older_numbers_and_libraries_that_fail(tmp_path: Path) -> None:
    nccl = build(tmp_path, "libnccl.so.2", nccl=2708)
    cudnn = build(tmp_path, "libcudnn.so.8.9.2", cudnn=8902)
    cuda = build(tmp_path, "libcuda.so.550.54.15", fails=3)
    found = libraries_of_process(nccl, cudnn, cuda)
    assert (found["nccl"], found["cudnn"], found["cuda"]) == ("2.7.8", "8.9.2", "550.54.15")


def test_blas_of_numpy_is_seen_with_its_threads() -> None:
    found = libraries_of_process(also="import numpy, threadpoolctl\nnumpy.ones((2, 2)) @ numpy.ones((2, 2))")
    assert Path(found["openblas.path"]).exists() and found["openblas"]
    assert any(name.endswith(".threads") for name in found)


def test_two_libraries_of_one_name_are_both_told_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
    found = libraries_of_process(
        build(tmp_path / "b", "libnccl.so.2", nccl=22005), build(tmp_path / "a", "libnccl.so.2", nccl=21805)
    )
    assert (found["nccl"], found["nccl.2"]) == ("2.18.5", "2.20.5")
    assert found["nccl.2.path"] == str(tmp_path / "b" / "libnccl.so.2")


def test_process_without_any_has_none(tmp_path: Path) -> None:
    assert "nccl" not in libraries_of_process()
    assert read_libraries(str(tmp_path / "none")) == {}
    (tmp_path / "maps").write_bytes(b"7f-80 r-xp 0 08:01 5   /a/libnccl.so.2 (deleted)\n")
    assert read_libraries(str(tmp_path / "maps"))["nccl"] == "loaded"
    assert loaded_libraries.MAPS_BYTES_MAX >= 1 << 20
