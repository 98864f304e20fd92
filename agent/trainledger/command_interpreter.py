"""Which Python a command runs in: its packages are the run's, not those of `trainledger run`.

The first word itself, or what the first line of the program names (`torchrun`, `accelerate`, a script of the user's). A
command that is no Python (a shell script) cannot be known beforehand: it is taken to use that of `trainledger run`.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from .wrapper_claims import python_of

__all__ = ["find_interpreter"]

FIRST_LINE_BYTES_MAX = 512


def find_interpreter(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The path of the command's interpreter; None where it is ours, or is not known."""
    found = shutil.which(command[0], path=environment.get("PATH", os.defpath))
    if found is None:
        return None
    if python_of(command) is None:
        words = _first_line(found).split()
        # `#!/usr/bin/env python`
        name = words[-1] if len(words) > 1 and words[0].endswith("/env") else (words or [""])[0]
        if python_of([name]) is None:
            return None
        found = shutil.which(name, path=environment.get("PATH", os.defpath))
    # Two names in one folder (python, python3) are one environment.
    is_ours = found is not None and os.path.dirname(os.path.abspath(found)) == os.path.dirname(
        sys.executable or ""
    )
    return None if is_ours or found is None else os.path.abspath(found)


def _first_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            line = file.read(FIRST_LINE_BYTES_MAX).split(b"\n", 1)[0]
    except OSError:
        return ""
    return line[2:].decode("utf-8", "replace") if line.startswith(b"#!") else ""
