"""Starts the detached child that captures code and environment: no thread, nothing inherited, nothing left.

A shell starts it in the background and ends at once, so that it is never a child of the training: a training that
forks and calls os.wait() must not be given a process that it does not know. That costs init about 2 ms. Where there
is no shell it is started directly, and its first process stays as a zombie until the training waits or ends.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainledger_schemas.ids import id_text

from .provenance.launcher import find_launcher

__all__ = ["Program", "start_beside", "start_capture"]

# Of very many modules the first: they are asked for only because some of them may be ignored files.
_LOADED_MAX = 2000
_OWN = ("trainledger", "trainledger_schemas", "trainledger_ingest")
_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy"}


class Program(NamedTuple):
    """What runs: its command line without secrets, its script, and its interpreter where that is another than ours."""

    argv: list[str]
    main_file: str | None
    interpreter: str | None = None


def start_capture(
    run_id: bytes,
    journal_id: bytes,
    uid_folder: Path,
    *,
    append_by_write: bool,
    program: Program,
) -> bool:
    """Start `python -m trainledger.provenance` in a session of its own; False if that could not be done."""
    try:
        here = os.getcwd()
    except OSError:
        return False  # the working folder is gone: there is no code to look at
    request = {
        "run_id": id_text(run_id),
        "parent_journal": id_text(journal_id),
        "uid_folder": str(uid_folder),
        "append_by_write": append_by_write,
        "cwd": _starting_folder(here, program.main_file, program.argv),
        "main_file": program.main_file,
        "entry_point": program.main_file,
        "argv": program.argv,
        "sys_path": [str(path) for path in sys.path],
        # As the module platform has it, which takes 7 ms to load.
        "python": f"{sys.version.split()[0]} {_IMPLEMENTATIONS.get(name := sys.implementation.name, name)}",
        "python_executable": sys.executable,
        # Now: a launcher whose ranks are quick may be gone when the capture comes to look.
        "launcher": find_launcher(os.getpid()),
        "loaded": _loaded_files(),
    }
    if program.interpreter is not None:
        request |= {"sys_path": None, "python": None, "python_executable": program.interpreter}
    return start_beside("trainledger.provenance", request)


def _starting_folder(here: str, main_file: str | None, argv: Sequence[str]) -> str:
    """Where the process was started, if it has changed its folder since (Hydra does): what the command line says is
    relative to that. Python makes the path of the script whole, so what is before its name there tells it."""
    for word in argv[1:] if main_file is not None and os.path.isabs(main_file) else ():
        name = os.path.normpath(word)
        if not os.path.isabs(name) and not word.startswith("-") and str(main_file).endswith(f"/{name}"):
            return str(main_file)[: -len(name) - 1] or "/"
    return here


def start_beside(module: str, request: Mapping[str, Any]) -> bool:
    """Start `python -m module` in a session of its own with the request as JSON on stdin; False if that failed."""
    try:
        told = os.memfd_create("trainledger-capture", os.MFD_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(told, json.dumps(request, default=str).encode())
        os.lseek(told, 0, os.SEEK_SET)
        return _start_detached([sys.executable, "-I", "-m", module], told)
    except (OSError, TypeError, ValueError):
        # No memory or processes left, an interpreter without a path: the run matters more than its description.
        return False
    finally:
        os.close(told)


def _start_detached(command: list[str], stdin_fd: int) -> bool:
    nothing = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    actions = [(os.POSIX_SPAWN_DUP2, stdin_fd, 0), nothing, (os.POSIX_SPAWN_DUP2, 1, 2)]
    if not command[0]:
        return False
    try:
        # Descriptor 3: as stdin itself, a shell gives what it starts in the background nothing.
        shell = ["sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "sh", *command]
        pid = os.posix_spawn("/bin/sh", shell, os.environ, file_actions=actions, setsid=True)
    except FileNotFoundError:
        os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)
        return True
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return True  # the training has SIGCHLD ignored: the kernel waits for it
    return True


def _loaded_files() -> list[str]:
    """Files of modules that are no part of Python or of an installed package: git may be told to ignore them, or they
    lie elsewhere."""
    library = f"{os.path.dirname(os.__file__)}/"
    found = dict.fromkeys(
        file
        for name, module in list(sys.modules.items())
        if isinstance(file := getattr(module, "__file__", None), str)
        and not file.startswith(library)
        and "-packages/" not in file
        and name.partition(".")[0] not in _OWN
    )
    return list(found)[:_LOADED_MAX]
