"""The environment of a repetition: this machine's, a new virtual one from what is recorded, or the run's image.

A virtual environment is made beside the restored code with an interpreter of the recorded version, and filled from the
stored lock file or from the recorded versions, by pip or by uv (see `installers`). Then what is installed is compared
with the record, by content where that is known.

Guarantees: no package is taken that was not recorded; what cannot be had stops it, or is named. The SDK of this
machine is lent to it: the training may import it, and it decides no result.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.errors import TrainledgerError, UsageError

from .command import Command
from .installed import NOT_COMPARED, compare_installed, read_installed
from .installers import Installer, PipInstaller, UvInstaller, install_each
from .requirements import Requirements, read_requirements, usable_lock

__all__ = [
    "HERE",
    "IMAGE",
    "KINDS",
    "UV",
    "VENV",
    "Built",
    "build_environment",
    "environment_folder",
    "find_interpreter",
    "has_in_environment",
    "use_environment",
]

HERE, VENV, UV, IMAGE = "here", "venv", "uv", "image"
KINDS = (HERE, VENV, UV, IMAGE)
# Programs that lie beside the interpreter of an environment when their package is in it.
_LAUNCHERS = frozenset({"torchrun", "accelerate", "deepspeed", "horovodrun", "ray"})


@dataclass(slots=True)
class Built:
    """`folder` of the virtual environment, where its packages came from, and what is not as it was."""

    folder: Path
    steps: list[str] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


def environment_folder(code: Path) -> Path:
    """Where the virtual environment for the code restored in `code` lies: beside it, since in it it would be code."""
    return code.with_name(f"{code.name}.environment")


def build_environment(
    kind: str,
    provenance: Mapping[str, Any],
    code: Path,
    *,
    blobs: BlobSource,
    environ: Mapping[str, str],
    accept: bool,
) -> Built:
    """Make a virtual environment, `kind` venv or uv. `accept`: packages that cannot be had are left out and told.

    Blocks for minutes. Raises UsageError where there is no fitting interpreter or no uv, TrainledgerError with the
    installer's own words."""
    built = Built(environment_folder(code))
    uv = shutil.which("uv", path=environ.get("PATH"))
    if kind == UV and uv is None:
        raise UsageError("--environment uv: there is no uv in PATH; install it, or use --environment venv")
    by_uv = None if uv is None else UvInstaller(uv, built.folder, environ)
    installer: Installer = by_uv if kind == UV and by_uv is not None else PipInstaller(built.folder, environ)
    wanted = read_requirements(provenance, str(code))
    if wanted.missing and not accept:
        _refuse(kind, wanted.missing)
    built.folder.mkdir(mode=0o700)
    try:
        _make(installer, str(provenance.get("python") or ""), built, environ)
        _fill(installer, by_uv, provenance, (code, wanted), blobs=blobs, built=built)
    except TrainledgerError as error:
        if isinstance(error, UsageError):
            raise
        raise TrainledgerError(
            f"--environment {kind}: {error}; see to it that your {'uv' if kind == UV else 'pip'} can do it, or use "
            "--environment here"
        ) from error
    lost = install_each(installer, _open(wanted.pinned, built))
    lost |= _install_folders(installer, wanted, built)
    if lost and not accept:
        _refuse(kind, [f"{line}: {said}" for line, said in lost.items()])
    built.steps += [f"{line} is left out: {said}" for line, said in lost.items()]
    _lend_sdk(built.folder)
    built.deviations += [*wanted.missing, *wanted.beside]
    installed = read_installed(str(built.python))
    if installed is not None:
        # Of what cannot be had that is said already.
        told = {line.partition(":")[0] for line in built.deviations}
        differing = compare_installed(provenance, installed)
        built.deviations += [line for line in differing if line.partition(":")[0] not in told]
    return built


def find_interpreter(python: str, path: str) -> str:
    """An interpreter of the recorded version, else of its minor version. Raises UsageError."""
    version = python.split(" ")[0]
    minor = ".".join(version.split(".")[:2])
    if not minor.replace(".", "").isdecimal():
        raise UsageError("the version of Python is not recorded; use --environment here")
    own = ".".join(str(part) for part in sys.version_info[:3])
    if own == version:
        return sys.executable
    found = shutil.which(f"python{minor}", path=path)
    if found is not None:
        return found
    if own.startswith(f"{minor}."):
        return sys.executable
    raise UsageError(
        f"there is no python{minor} in PATH, which the run had ({python}); install it, or let uv fetch it with "
        "--environment uv, or use --environment here"
    )


def use_environment(
    command: Command, folder: Path, environ: Mapping[str, str], *, has: Callable[[Path], bool] = Path.exists
) -> None:
    """Let a command run in a virtual environment: its programs come first, the old one's are exchanged."""
    programs = folder / "bin"
    for index, word in enumerate(command.argv):
        name = word.rpartition("/")[2]
        if word.startswith("-"):
            continue
        if (index == 0 or name.startswith("python")) and has(programs / name):
            command.argv[index] = str(programs / name)
    program = command.argv[0]
    if os.path.isabs(program) and not os.path.exists(program) and not has(Path(program)):
        command.notes.append(f"{program} is not here; {os.path.basename(program)} is taken from PATH")
        command.argv[0] = os.path.basename(program)
    command.variables |= {
        "VIRTUAL_ENV": str(folder),
        "PATH": f"{programs}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "PYTHONHOME": None,
        "CONDA_DEFAULT_ENV": None,
    }


def has_in_environment(program: Path) -> bool:
    """Whether an environment that is not made yet will have this program, as far as can be told."""
    return program.name in _LAUNCHERS or re.fullmatch(r"python(3(\.\d+)?)?", program.name) is not None


def _make(installer: Installer, python: str, built: Built, environ: Mapping[str, str]) -> None:
    version = python.split(" ")[0]
    if isinstance(installer, UvInstaller) and version.replace(".", "").isdecimal():
        try:
            installer.make(version)
        except TrainledgerError as error:
            # The minor version is better than nothing, and told as a difference.
            built.steps.append(f"uv has no Python {version}: {error}")
        else:
            built.steps.append(f"virtual environment {built.folder} of Python {version}, by uv")
            return
    interpreter = find_interpreter(python, environ.get("PATH", ""))
    installer.make(interpreter)
    built.steps.append(f"virtual environment {built.folder} of {interpreter}")


def _fill(
    installer: Installer,
    by_uv: UvInstaller | None,
    provenance: Mapping[str, Any],
    code: tuple[Path, Requirements],
    *,
    blobs: BlobSource,
    built: Built,
) -> None:
    """Install from the stored lock file, if there is one, and take away what the run did not have."""
    lock = usable_lock(provenance, has_uv=by_uv is not None)
    if lock is None:
        return
    copy = built.folder / Path(lock).name
    blobs.copy_to(str(provenance["lock_files"][lock]), copy)
    if lock.endswith(".txt"):
        installer.install(["--require-hashes", "-r", str(copy)])
        built.steps.append(f"packages by the stored {lock}, with its hashes")
    elif by_uv is not None:
        # Its project lies beside it, in the restored code.
        by_uv.sync(code[0] / lock if copy.name == "uv.lock" else copy)
        built.steps.append(f"packages by the stored {lock}")
    installed = read_installed(str(built.python))
    recorded = {*code[1].pinned, *code[1].editable, *code[1].folders} | NOT_COMPARED
    extra = sorted(installed.versions.keys() - recorded) if installed is not None else []
    if extra:
        # A group of the lock file that was not installed then, such as tools for development.
        installer.uninstall(extra)
        built.steps.append(f"without {', '.join(extra)}, which the run did not have")


def _open(pinned: Mapping[str, str], built: Built) -> list[str]:
    """What is still to be installed: all, or what a lock file did not give."""
    installed = read_installed(str(built.python))
    there = {} if installed is None else installed.versions
    lines = [line for name, line in pinned.items() if line != f"{name}=={there.get(name)}"]
    if lines:
        built.steps.append(f"{len(lines)} packages by their recorded versions")
    return lines


def _install_folders(installer: Installer, wanted: Requirements, built: Built) -> dict[str, str]:
    lost = {}
    for name, folder in {**wanted.editable, **wanted.folders}.items():
        is_editable = name in wanted.editable
        place = Path(folder)
        if not is_editable:
            # A build leaves files behind, and those would be new code.
            place = built.folder / "sources" / name
            shutil.copytree(folder, place, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        try:
            installer.install(["--editable", str(place)] if is_editable else [str(place)])
        except TrainledgerError as error:
            lost[name] = str(error)
        else:
            built.steps.append(f"{name}, {'editable, ' * is_editable}from {folder}")
    return lost


def _refuse(kind: str, missing: list[str]) -> None:
    raise TrainledgerError(
        f"--environment {kind}: {len(missing)} packages cannot be had: {'; '.join(missing)}; make them available to "
        f"your {'uv' if kind == UV else 'pip'} (its index, its folders of wheels), or go without them by "
        "--accept-differences, or use --environment here"
    )


def _lend_sdk(folder: Path) -> None:
    """Let the training import the SDK of this machine: it needs nothing else, and decides no result."""
    for site in folder.glob("lib/*/site-packages"):
        for name in ("trainledger", "trainledger_schemas"):
            spec = find_spec(name)
            if spec is not None and spec.origin is not None and not (site / name).exists():
                (site / name).symlink_to(Path(spec.origin).parent)
