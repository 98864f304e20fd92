"""Which environment ran: the installed packages of the training's interpreter, the interpreter, the system.

The packages are those on the *training* process's module path, which the request brings along: this process
was started with its own. Versions only; nothing is imported and no installer is started.
"""

import json
import os
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from .programs import Programs, UnavailableError
from .settings import PACKAGES_MAX

__all__ = ["ask_interpreter", "describe_system", "read_packages"]

_RELEASE_FILES = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_VERSION_CHARS_MAX = 100
_NAME_CHARS_MAX = 200
_QUESTION = (
    "import json, platform, sys; json.dump({'sys_path': sys.path, "
    "'python': platform.python_version() + ' ' + platform.python_implementation()}, sys.stdout)"
)


def read_packages(sys_path: Sequence[str], cwd: Path) -> tuple[dict[str, str], list[str]]:
    """Distribution name (lower case, words joined by `-`) to version, and reasons for what is missing.

    The first on the path wins, as in an import.
    """
    found: dict[str, str] = {}
    unreadable = 0
    folders = [str(cwd / entry) for entry in sys_path]
    for distribution in metadata.distributions(path=folders):
        try:
            # Typed as texts, but None when the fields are missing.
            name: str | None = distribution.metadata["Name"]
            version: str | None = distribution.version
        except Exception:  # a damaged installation raises whatever its bytes provoke; the others still count
            unreadable += 1
            continue
        if name is None or version is None:
            unreadable += 1
        elif len(found) < PACKAGES_MAX:
            found.setdefault(_canonical(name)[:_NAME_CHARS_MAX], version[:_VERSION_CHARS_MAX])
    reasons = []
    if unreadable:
        reasons.append(f"packages: {unreadable} have metadata that cannot be read")
    if len(found) >= PACKAGES_MAX:
        reasons.append(f"packages: only the first {PACKAGES_MAX} are listed")
    return found, reasons


def ask_interpreter(executable: str, folder: Path, programs: Programs) -> tuple[list[str], str]:
    """The module path and version of another Python interpreter; raises UnavailableError."""
    try:
        told = json.loads(programs.run([executable, "-c", _QUESTION], folder))
        return [str(entry) for entry in told["sys_path"]], str(told["python"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"{executable} did not answer like a Python interpreter") from error


def describe_system(release_files: Sequence[Path] = _RELEASE_FILES) -> str:
    """Distribution and kernel, e.g. `Debian GNU/Linux 12 (bookworm); Linux 6.1.0 x86_64`."""
    system = os.uname()
    kernel = f"{system.sysname} {system.release} {system.machine}"
    for path in release_files:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return f"{value.strip().strip(chr(34) + chr(39))}; {kernel}"
    return kernel


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
