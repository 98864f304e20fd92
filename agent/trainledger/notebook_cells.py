"""The cells of a notebook (or of an interactive IPython session) that ran, in their order, as claims of the run.

The notebook's file is not what ran: cells are run out of order, changed and run again, and deleted. So each cell is
told as it begins, which keeps it when the kernel dies in it, and once more with its outcome. Cells that ran before
`init`, in the same session, come first: their names and data are what the run works with.

Nothing here raises into a cell, and nothing is added to `log()`: a cell costs one append of its text to the journal,
some 0.1 ms. Limits: CELLS_MAX cells of CELL_BYTES_MAX bytes, CELLS_BYTES_MAX together; what is beyond is told without
its text. SESSION_CELLS_MAX for all runs of a session; beyond, the cells before a run are told by one empty cell.
Secrets are taken out.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from trainledger_schemas.clock import wall_ns

from .notices import Notices
from .redaction import redact

__all__ = ["CellRecorder", "find_notebook", "find_shell", "record_cells"]

CELLS_MAX = 2000
CELL_BYTES_MAX = 100_000
CELLS_BYTES_MAX = 4 << 20
# Of all runs of a session together: a loop of a thousand runs would tell the cells before it a thousand times.
SESSION_CELLS_MAX = 10_000
# An event's text is cut at 64 KiB.
_PART_CHARACTERS = 15_000
_ID_CHARACTERS_MAX = 200

Claim = dict[str, Any]

# Cells that this process has told, for all its runs.
_told = [0]


def find_shell() -> Any:
    """The IPython shell of this process, or None; loads nothing."""
    module = sys.modules.get("IPython")
    get_shell = getattr(module, "get_ipython", None)
    try:
        return None if get_shell is None else get_shell()
    except Exception:  # a module of that name which is another
        return None


def find_notebook(environ: Mapping[str, str]) -> str | None:
    """The file of the notebook that this process is the kernel of; None where nothing says so.

    VS Code and papermill (with --inject-paths) put it into the session, Jupyter's server into the environment.
    """
    shell = find_shell()
    if shell is None:
        return None
    names = getattr(shell, "user_ns", {})
    told = (
        names.get("__vsc_ipynb_file__")
        or names.get("PAPERMILL_INPUT_PATH")
        or environ.get("JPY_SESSION_NAME")
    )
    if not isinstance(told, str) or not told.endswith(".ipynb"):
        return None
    # Jupyter's is relative to the root of its server, and the kernel runs in the folder of the notebook.
    for place in (told, os.path.basename(told)):
        if os.path.exists(place):
            return os.path.abspath(place)
    return told


def record_cells(append: Callable[[Claim], None], notices: Notices) -> "CellRecorder | None":
    """Tell the cells so far and watch for more; None where there is no session of IPython."""
    shell = find_shell()
    history = getattr(getattr(shell, "history_manager", None), "input_hist_raw", None)
    if history is None or not (any(history) or hasattr(shell, "kernel")):
        return None
    recorder = CellRecorder(shell, append, notices)
    recorder.begin(list(history))
    return recorder


class CellRecorder:
    """Told of each cell by IPython until `stop`."""

    def __init__(self, shell: Any, append: Callable[[Claim], None], notices: Notices) -> None:
        self._shell = shell
        self._append = append
        self._notices = notices
        self._pid = os.getpid()
        self._told = 0
        self._bytes_left = CELLS_BYTES_MAX
        self._open: Claim | None = None

    def begin(self, history: list[str]) -> None:
        """`history`: the cells of the session by number, the last being the one that calls init."""
        try:
            numbered = [(number, text) for number, text in enumerate(history) if text]
            before = numbered[:-1]
            if _told[0] + len(before) > SESSION_CELLS_MAX:
                # One that says that they are missing: what follows cannot be run without them.
                before = [(0, "")]
            for number, text in before:
                self._tell(text, number, phase="before", status="unknown")
            for number, text in numbered[-1:]:
                self._tell(text, number, phase="init", status="begun")
            self._shell.events.register("pre_run_cell", self._on_begin)
            self._shell.events.register("post_run_cell", self._on_end)
        except Exception as error:  # another version of IPython: the run matters more than its cells
            self._notices.once(
                "cells", f"the cells of this notebook are not recorded: {type(error).__name__}"
            )

    def stop(self) -> None:
        """Watch no more; harmless twice."""
        for event, callback in (("pre_run_cell", self._on_begin), ("post_run_cell", self._on_end)):
            try:
                self._shell.events.unregister(event, callback)
            except Exception:  # not registered, or a session that is being taken apart
                pass

    def _on_begin(self, info: Any) -> None:
        if os.getpid() == self._pid:
            # Of the shell's own count some versions are one ahead here; the cell is not in the history yet.
            is_counted = getattr(info, "store_history", True)
            number = len(self._shell.history_manager.input_hist_raw) if is_counted else None
            cell_id = getattr(info, "cell_id", None)
            self._guarded(
                lambda: self._tell(info.raw_cell, number, phase="during", status="begun", cell_id=cell_id)
            )

    def _on_end(self, result: Any) -> None:
        if os.getpid() == self._pid:
            self._guarded(lambda: self._tell_end(result))

    def _guarded(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as error:  # IPython would print it into the notebook, cell by cell
            self._notices.once("cells", f"a cell could not be recorded: {type(error).__name__}")

    def _tell(
        self, text: str, number: int | None, *, phase: str, status: str, cell_id: str | None = None
    ) -> None:
        if self._told >= CELLS_MAX:
            self._notices.once("many cells", f"only the first {CELLS_MAX} cells are recorded")
            self._open = None
            return
        size = len(text.encode("utf-8", "surrogatepass"))
        cleaned = redact(text) if size <= min(CELL_BYTES_MAX, self._bytes_left) else ""
        self._bytes_left -= size if cleaned else 0
        claim: Claim = {
            "type": "cell_run",
            "at_us": wall_ns() // 1000,
            "ordinal": self._told,
            "stage": 0,
            "phase": phase,
            "execution_count": number,
            "cell_id": None if cell_id is None else str(cell_id)[:_ID_CHARACTERS_MAX],
            "source": [cleaned[i : i + _PART_CHARACTERS] for i in range(0, len(cleaned), _PART_CHARACTERS)],
            "is_whole": cleaned == text != "",
            "status": status,
            "error": None,
        }
        self._told += 1
        _told[0] += 1
        self._open = claim if status == "begun" else None
        self._append(claim)

    def _tell_end(self, result: Any) -> None:
        claim, self._open = self._open, None
        if claim is None:
            return
        error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
        ended = {
            "at_us": wall_ns() // 1000,
            "stage": 1,
            "source": [],
            "status": "finished" if error is None else "failed",
            "error": None if error is None else type(error).__name__,
        }
        self._append(claim | ended)
