"""Starts the detached child that captures code and environment: no thread, no wait, nothing inherited."""

import json
import os
import platform
import sys
from pathlib import Path

from trainledger_schemas.ids import id_text

__all__ = ["start_capture"]


def start_capture(
    run_id: bytes,
    journal_id: bytes,
    uid_folder: Path,
    *,
    append_by_write: bool,
    argv: list[str],
    main_file: str | None,
) -> int | None:
    """Start `python -m trainledger.provenance` in a session of its own; returns its pid, or None if it could not."""
    request = {
        "run_id": id_text(run_id),
        "parent_journal": id_text(journal_id),
        "uid_folder": str(uid_folder),
        "append_by_write": append_by_write,
        "cwd": os.getcwd(),
        "main_file": main_file,
        "entry_point": main_file,
        "argv": argv,
        "sys_path": sys.path,
        "python": f"{platform.python_version()} {platform.python_implementation()}",
        "python_executable": sys.executable,
    }
    try:
        told = os.memfd_create("trainledger-capture", os.MFD_CLOEXEC)
    except OSError:
        return None
    try:
        os.write(told, json.dumps(request).encode())
        os.lseek(told, 0, os.SEEK_SET)
        nothing = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", "trainledger.provenance"],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, told, 0), nothing, (os.POSIX_SPAWN_DUP2, 1, 2)],
            setsid=True,
        )
    except OSError:
        return None  # no memory or no processes left: the run matters more than its description
    finally:
        os.close(told)
