"""The GPU stack that is installed, without starting a driver or importing a framework.

The driver from the kernel's own file; CUDA, cuDNN and NCCL from what torch was built with, from NVIDIA's wheels or from
conda. What was really loaded the training tells at its end (`loaded_libraries`).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["describe_gpu_stack"]

_DRIVER = re.compile(r"Kernel Module(?:\s+for\s+\S+)?\s+(\d+(?:\.\d+)+)")
_TORCH_CUDA = re.compile(r"(?m)^cuda(?:: Optional\[str\])? = '([^']+)'")
_TORCH_HIP = re.compile(r"(?m)^hip(?:: Optional\[str\])? = '([^']+)'")
_WHEELS = {
    "cuda": re.compile(r"nvidia-cuda-runtime(-cu\d+)?"),
    "cudnn": re.compile(r"nvidia-cudnn(-cu\d+)?"),
    "nccl": re.compile(r"nvidia-nccl(-cu\d+)?"),
}
_CONDA = {
    "cuda": ("conda.cuda-cudart", "conda.cudatoolkit"),
    "cudnn": ("conda.cudnn",),
    "nccl": ("conda.nccl",),
}


def describe_gpu_stack(
    sys_path: Sequence[Path], packages: Mapping[str, str], system: Mapping[str, str], root: Path = Path("/")
) -> dict[str, str]:
    """`driver`, `cuda`, `cudnn` and `nccl` as far as they are known; `hip` for AMD. `system`: facts of the machine."""
    found: dict[str, str] = {}
    driver = _DRIVER.search(_text(root / "proc/driver/nvidia/version"))
    if driver is not None:
        found["driver"] = driver[1]
    elif amd := _text(root / "sys/module/amdgpu/version").strip():
        found["driver"] = f"amdgpu {amd}"
    for kind, form in _WHEELS.items():
        version = next((packages[name] for name in sorted(packages) if form.fullmatch(name)), None)
        version = version or next((system[name].split()[0] for name in _CONDA[kind] if name in system), None)
        if version is not None:
            found[kind] = version
    for folder in sys_path:
        told = _text(folder / "torch" / "version.py")
        if told:
            for kind, form in (("cuda", _TORCH_CUDA), ("hip", _TORCH_HIP)):
                match = form.search(told)
                if match is not None:
                    found[kind] = match[1]
            break
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
