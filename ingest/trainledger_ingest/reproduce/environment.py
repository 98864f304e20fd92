"""The environment of a repetition: this machine's, a new virtual one from what is recorded, or the run's image.

A virtual environment is made beside the restored code by an interpreter of the recorded version, and filled from the
stored lock file or from the recorded versions, by pip, or by uv where the lock file is uv's. Which index is asked is
what the user's pip or uv is configured for. Then what is installed is compared with the record, by content where that
is known. Guarantees: no package is taken that was not recorded. Limits: pip may build packages, which runs their code.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.errors import TrainledgerError, UsageError

from .command import Command
from .installed import compare_installed, read_installed
from .requirements import read_requirements, usable_lock

__all__ = ["HERE", "IMAGE", "KINDS", "VENV", "Built", "build_venv", "image_command", "use_venv"]

HERE, VENV, IMAGE = "here", "venv", "image"
KINDS = (HERE, VENV, IMAGE)


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


def build_venv(
    provenance: Mapping[str, Any],
    code: Path,
    *,
    blobs: BlobSource,
    environ: Mapping[str, str],
    accept: bool,
) -> Built:
    """Make `<code>.environment`. `accept`: packages that cannot be had are left out and told. Blocks for minutes.

    Raises UsageError where there is no fitting interpreter, TrainledgerError with the installer's own words."""
    built = Built(code.with_name(f"{code.name}.environment"))
    installer = _Installer(built, environ)
    interpreter = find_interpreter(str(provenance.get("python") or ""), environ.get("PATH", ""))
    built.folder.mkdir(mode=0o700)
    # A pip that is here can install for another interpreter; it takes seconds to give each environment its own.
    options = ["--without-pip"] if installer.lends_pip else []
    installer.run([interpreter, "-m", "venv", *options, str(built.folder)], "venv")
    built.steps.append(f"virtual environment {built.folder} of {interpreter}")
    lock = usable_lock(provenance, has_uv=shutil.which("uv", path=environ.get("PATH")) is not None)
    wanted = read_requirements(provenance, str(code))
    if lock is not None:
        _install_lock(installer, lock, str(provenance["lock_files"][lock]), code, blobs)
    else:
        _install_pinned(installer, wanted.pinned, accept=accept)
    for name, folder in wanted.editable.items():
        installer.pip(["--editable", folder], f"{name}, editable, from {folder}")
    _lend_sdk(built.folder)
    built.deviations += wanted.missing
    installed = read_installed(str(built.python))
    if installed is not None:
        found = [line for line in compare_installed(provenance, installed) if line not in built.deviations]
        built.deviations += found
    return built


def find_interpreter(python: str, path: str) -> str:
    """An interpreter of the recorded version, else of its minor version. Raises UsageError."""
    version = python.split(" ")[0]
    minor = ".".join(version.split(".")[:2])
    if not minor.replace(".", "").isdecimal():
        raise UsageError("--environment venv: the version of Python is not recorded; use --environment here")
    own = ".".join(str(part) for part in sys.version_info[:3])
    if own == version:
        return sys.executable
    found = shutil.which(f"python{minor}", path=path)
    if found is not None:
        return found
    if own.startswith(f"{minor}."):
        return sys.executable
    raise UsageError(
        f"--environment venv: there is no python{minor} in PATH, which the run had ({python}); install it, or use "
        "--environment here"
    )


def use_venv(command: Command, folder: Path, environ: Mapping[str, str]) -> None:
    """Let a command run in a virtual environment: its programs come first, the old one's are exchanged."""
    programs = folder / "bin"
    for index, word in enumerate(command.argv):
        name = word.rpartition("/")[2]
        if word.startswith("-"):
            continue
        if (index == 0 or name.startswith("python")) and (programs / name).exists():
            command.argv[index] = str(programs / name)
    command.variables |= {
        "VIRTUAL_ENV": str(folder),
        "PATH": f"{programs}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "PYTHONHOME": None,
        "CONDA_DEFAULT_ENV": None,
    }


def image_command(
    provenance: Mapping[str, Any], command: Command, code: Path, *, told: Mapping[str, str], journals: Path
) -> str:
    """The command line that repeats the run in its image; `told`: variables of the repetition. Raises UsageError."""
    digest = provenance.get("image_digest")
    if not digest:
        raise UsageError("--environment image: no image is recorded for this run; use here or venv")
    name = str(digest) if "@" in str(digest) else f"IMAGE@{digest}"
    words = [
        "docker",
        "run",
        "--rm",
        "--network=host",
        "-v",
        f"{code}:{code}",
        "-v",
        f"{journals}:{journals}",
    ]
    variables = {name: value for name, value in command.variables.items() if value is not None}
    for variable, value in sorted((variables | dict(told) | {"TRAINLEDGER_DIR": str(journals)}).items()):
        words += ["-e", f"{variable}={value}"]
    return shlex.join([*words, "-w", command.cwd, name, *command.argv])


class _Installer:
    def __init__(self, built: Built, environ: Mapping[str, str]) -> None:
        self.built = built
        self.lends_pip = find_spec("pip") is not None
        # What was set for another environment must not reach into this one.
        dropped = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX")
        self._environment = {name: value for name, value in environ.items() if name not in dropped}

    def run(self, command: Sequence[str], what: str, **environment: str) -> None:
        """Run an installer; raises TrainledgerError with its last words."""
        try:
            done = subprocess.run(
                command, env=self._environment | environment, capture_output=True, text=True, errors="replace"
            )
        except OSError as error:
            raise TrainledgerError(f"--environment venv: {command[0]}: {error.strerror}") from error
        if done.returncode:
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            said = next((line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["?"])[-1])
            raise TrainledgerError(
                f"--environment venv: {what}: {said[:300]}; make it available to your pip, or use --accept-differences "
                "or --environment here"
            )

    def pip(self, arguments: Sequence[str], what: str) -> None:
        """Install without what the packages themselves ask for: all of that is recorded too."""
        python = str(self.built.python)
        pip = [sys.executable, "-m", "pip", "--python", python] if self.lends_pip else [python, "-m", "pip"]
        options = ["--disable-pip-version-check", "--no-input", "--no-deps"]
        self.run([*pip, "install", *options, *arguments], what)
        self.built.steps.append(what)


def _install_lock(installer: _Installer, lock: str, sha256: str, code: Path, blobs: BlobSource) -> None:
    folder, name = installer.built.folder, Path(lock).name
    copy = folder / name
    blobs.copy_to(sha256, copy)
    if name.endswith(".txt"):
        installer.pip(
            ["--require-hashes", "-r", str(copy)], f"packages by the stored {lock}, with its hashes"
        )
        return
    python = str(installer.built.python)
    if name == "uv.lock":
        # --frozen: the lock file is the record; it is not asked whether it is up to date.
        place = code / lock
        installer.run(
            ["uv", "sync", "--frozen", "--no-install-project", "--inexact", "--directory", str(place.parent)],
            "uv sync",
            UV_PROJECT_ENVIRONMENT=str(folder),
        )
    else:
        installer.run(["uv", "pip", "sync", "--python", python, str(copy)], "uv pip sync")
    installer.built.steps.append(f"packages by the stored {lock}")


def _install_pinned(installer: _Installer, pinned: Mapping[str, str], *, accept: bool) -> None:
    file = installer.built.folder / "recorded.txt"
    file.write_text("".join(f"{line}\n" for line in pinned.values()), encoding="utf-8")
    if not pinned:
        return
    try:
        installer.pip(["-r", str(file)], f"{len(pinned)} packages by their recorded versions")
    except TrainledgerError:
        if not accept:
            raise
        for name, line in pinned.items():
            try:
                installer.pip([line], line)
            except TrainledgerError as error:
                installer.built.steps.append(f"{name} is left out: {error}")


def _lend_sdk(folder: Path) -> None:
    """Let the training import the SDK of this machine: it needs nothing else, and decides no result."""
    for site in folder.glob("lib/*/site-packages"):
        for name in ("trainledger", "trainledger_schemas"):
            spec = find_spec(name)
            if spec is not None and spec.origin is not None and not (site / name).exists():
                (site / name).symlink_to(Path(spec.origin).parent)
