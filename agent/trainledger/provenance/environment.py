"""The interpreter of the training, where it is not this process's own, and the system by its name."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from .programs import Programs, UnavailableError

__all__ = ["ask_interpreter", "describe_system"]

_RELEASE_FILES = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_QUESTION = (
    "import json, platform, sys; json.dump({'sys_path': sys.path, "
    "'python': platform.python_version() + ' ' + platform.python_implementation()}, sys.stdout)"
)


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
