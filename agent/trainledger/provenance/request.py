"""What the starter of a capture tells: which run, where to write, and what it knows of the training process.

UTF-8 JSON on stdin; the first three keys must be there, the others may be absent or null, unknown ones are
ignored:

    run_id             UUID text
    parent_journal     UUID text of the starter's journal
    uid_folder         <node folder>/<uid>, where the capture makes a journal of its own
    append_by_write    true where journals are appended by write calls
    cwd                folder of the training process
    main_file          the script, if there is one; its folder says which repository
    entry_point        script or module, as people name it
    argv               command line (redacted again here)
    sys_path           module path of the training process
    python             version and implementation, e.g. "3.11.7 CPython"
    python_executable  an interpreter to ask for the last two when they are not known
    launcher           command line of the outermost launcher above the starter; empty without one
    loaded             files of modules that the training process has loaded
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_bytes

__all__ = ["Request", "parse_request"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Request:
    """See the module."""

    run_id: bytes
    parent_journal: bytes
    uid_folder: Path
    append_by_write: bool
    cwd: Path
    main_file: str | None
    entry_point: str | None
    argv: tuple[str, ...]
    sys_path: tuple[str, ...] | None
    python: str | None
    python_executable: str | None
    launcher: tuple[str, ...]
    loaded: tuple[str, ...]

    @property
    def script(self) -> Path | None:
        """The file that was started, if it is one of the user's and not an installed program or module."""
        if self.main_file is None:
            return None
        path = (self.cwd / self.main_file).resolve()
        is_installed = not _INSTALLED.isdisjoint(path.parts) or path.parent.name in ("bin", "sbin")
        return None if is_installed else path

    @property
    def is_from_stdin(self) -> bool:
        """Whether Python was given its program on standard input: that is in no file."""
        words = [word for word in self.argv[1:] if not word.startswith("-") or word == "-"]
        is_python = bool(self.argv) and PurePath(self.argv[0]).name.startswith(("python", "pypy"))
        has_other = any(word.startswith(("-c", "-m")) for word in self.argv[1:])
        return is_python and self.main_file is None and not has_other and (not words or words[0] == "-")

    @property
    def code_folder(self) -> Path:
        """Where to look for the code: beside the script (above the package it is in), else where it was started."""
        if self.script is None:
            return self.cwd
        folder = self.script.parent
        while (folder / "__init__.py").exists() and folder != folder.parent:
            folder = folder.parent
        return folder


def parse_request(text: bytes) -> Request:
    """Read a request; raises UsageError when it is none."""
    try:
        told: dict[str, Any] = json.loads(text)
        sys_path = told.get("sys_path")
        return Request(
            run_id=id_bytes(told["run_id"]),
            parent_journal=id_bytes(told["parent_journal"]),
            uid_folder=Path(told["uid_folder"]),
            append_by_write=bool(told.get("append_by_write")),
            cwd=Path(told.get("cwd") or "/"),
            main_file=_file(told.get("main_file")),
            entry_point=_text(told.get("entry_point")),
            argv=tuple(str(argument) for argument in told.get("argv") or ()),
            sys_path=None if sys_path is None else tuple(str(entry) for entry in sys_path),
            python=_text(told.get("python")),
            python_executable=_text(told.get("python_executable")),
            launcher=tuple(str(argument) for argument in told.get("launcher") or ()),
            loaded=tuple(str(path) for path in told.get("loaded") or ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"not a capture request: {error!r}; `init` and `trainledger run` write it"
        ) from error


def _file(value: object) -> str | None:
    # Python calls a program from standard input "<stdin>": that is no file.
    return None if value == "<stdin>" else _text(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
