"""Packages that are not Python's: Debian, Alpine, RPM, conda. A digest of all, and the versions that decide results.

    dpkg.sha256, apk.sha256, rpm.sha256    SHA-256 over the sorted lines `name version architecture`, as of
                                           dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n'
    system.<name>                          version of GPU, MPI, BLAS and C libraries among them
    conda.sha256                           the explicit list of a conda environment, stored as a blob

Read from the files of the package managers; only RPM has to be asked.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from trainledger_schemas.blobs import BlobStore

from ..redaction import redact
from .programs import Programs, UnavailableError

__all__ = ["CONDA_LIST", "conda_explicit_list", "describe_system_packages"]

TOLD_MAX = 60
# Under which the explicit list stands among the lock files.
CONDA_LIST = "(conda list --explicit)"
_DECIDING = re.compile(
    r"libc6|glibc|musl|libstdc\+\+6?|libgomp1?|libgcc|lib(cudnn|nccl|cublas|cusparselt|nvidia-compute)[^:]*|cuda-(cudart|nvcc)[^:]*"
    r"|nvidia-(driver|utils|kernel)[^:]*|(lib)?openmpi[^:]*|(lib)?mpich[^:]*|libopenblas[^:]*|libblas3?|liblapack3?"
    r"|intel-mkl|libmkl[^:]*|rocm-core|rccl|hip-runtime-amd|libibverbs1?|libucx0?|ucx"
)
_DECIDING_CONDA = frozenset({"cudatoolkit", "cudnn", "nccl", "mkl"})


def describe_system_packages(programs: Programs, root: Path = Path("/")) -> dict[str, str]:
    """What is known of the package manager of the system; empty without one."""
    for kind, read in (("dpkg", _debian), ("apk", _alpine)):
        packages = sorted(set(read(root)))
        if packages:
            return _told(kind, packages)
    if (root / "var/lib/rpm").is_dir() or (root / "usr/lib/sysimage/rpm").is_dir():
        try:
            said = programs.run(["rpm", "-qa", "--qf", "%{NAME} %{VERSION}-%{RELEASE} %{ARCH}\n"], root)
        except UnavailableError:
            return {}
        lines = said.decode("utf-8", "replace").splitlines()
        return _told("rpm", sorted({(*line.split(" "), "", "")[:3] for line in lines if line}))
    return {}


def conda_explicit_list(sys_path: Sequence[str], blobs: BlobStore) -> dict[str, str]:
    """Store the explicit list of the conda environment that a module path belongs to; raises OSError."""
    places = (Path(entry) for entry in sys_path if entry.endswith("/site-packages"))
    prefix = next((p.parents[2] for p in places if (p.parents[2] / "conda-meta").is_dir()), None)
    if prefix is None:
        return {}
    lines, versions = [], {}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            mark = f"#{told['md5']}" if told.get("md5") else ""
            lines.append(f"{redact(str(told.get('url') or told['dist_name']))}{mark}")
            versions[str(told["name"])] = f"{told['version']} {told.get('build', '')}".strip()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            lines.append(f"# {redact(path.name)} cannot be read")
    text = "\n".join(["# conda create --file", "@EXPLICIT", *sorted(lines), ""])
    found = {"conda.sha256": blobs.put(text.encode()).sha256, "conda.packages": str(len(lines))}
    names = [name for name in sorted(versions) if _DECIDING.fullmatch(name) or name in _DECIDING_CONDA]
    return found | {f"conda.{name}": versions[name] for name in names[:TOLD_MAX]}


def _told(kind: str, packages: Sequence[tuple[str, ...]]) -> dict[str, str]:
    text = "".join(f"{' '.join(package)}\n" for package in packages)
    deciding = [package for package in packages if _DECIDING.fullmatch(package[0])]
    found = {
        f"{kind}.sha256": hashlib.sha256(text.encode()).hexdigest(),
        f"{kind}.packages": str(len(packages)),
    }
    return found | {f"system.{package[0]}": package[1] for package in deciding[:TOLD_MAX]}


def _debian(root: Path) -> Iterator[tuple[str, str, str]]:
    folder = root / "var/lib/dpkg"
    # An image without dpkg itself has a file for each package.
    for path in (folder / "status", *sorted((folder / "status.d").glob("*"))):
        for fields in _paragraphs(path):
            if fields.get("Status", "install ok installed").endswith(" installed") and "Package" in fields:
                yield fields["Package"], fields.get("Version", ""), fields.get("Architecture", "")


def _alpine(root: Path) -> Iterator[tuple[str, str, str]]:
    for fields in _paragraphs(root / "lib/apk/db/installed"):
        if "P" in fields:
            yield fields["P"], fields.get("V", ""), fields.get("A", "")


def _paragraphs(path: Path) -> Iterable[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for paragraph in text.split("\n\n"):
        lines = (line.partition(":") for line in paragraph.splitlines() if line[:1].isalpha())
        yield {name: value.strip() for name, _, value in lines}
