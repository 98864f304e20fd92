"""Repeating a run of a notebook: its cells, in the order in which they ran, in one IPython session without a kernel.

The notebook's file is restored like any other, and is not what is run. The cells are written to a file beside the
restored folder (not in it: the code must stay what it was). Cells of the session before `init` are run with recording
off, so that runs which they make do not count; cells that failed then may fail again. A cell of which something was
taken out (a secret) or that was too long to be recorded cannot be repeated.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainledger_schemas.errors import UsageError

from ..session import Session

__all__ = ["NotebookCells", "read_cells", "write_cells"]

_STARTER = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='cells')"
_SCRIPT = '''"""The cells of run {run_id}, in the order in which they ran; written by `trainledger reproduce`."""

import os
import sys

# (number, phase, status, source)
CELLS = [
{cells}
]
HIDDEN = ("TRAINLEDGER_RUN_ID", "TRAINLEDGER_PARENT", "TRAINLEDGER_WRAPPED", "TRAINLEDGER_MODE")


def main():
    try:
        from IPython.core.interactiveshell import InteractiveShell
    except ImportError:
        sys.exit("IPython is not installed here, and the cells of a notebook need it: pip install ipython")
    sys.argv[:] = [""]
    sys.path[0:0] = [] if "" in sys.path else [""]
    shell = InteractiveShell.instance()
    # What earlier cells of the session record is not part of this run.
    kept = {{name: os.environ.pop(name) for name in HIDDEN if name in os.environ}}
    os.environ["TRAINLEDGER_MODE"] = "disabled"
    is_hidden = True
    for number, phase, status, source in CELLS:
        if is_hidden and phase != "before":
            is_hidden = False
            del os.environ["TRAINLEDGER_MODE"]
            os.environ.update(kept)
        print(f"[{{number}}]", file=sys.stderr, flush=True)
        done = shell.run_cell(source, store_history=True)
        if not done.success and status == "finished":
            sys.exit(f"cell [{{number}}] failed, which it did not in the run that is repeated")
        if done.success and status == "failed":
            print(f"cell [{{number}}] failed in the run that is repeated, and not now", file=sys.stderr)


main()
'''


@dataclass(frozen=True, slots=True)
class NotebookCells:
    """The cells of the newest attempt of a run: rows of view notebook_cells."""

    run_id: str
    rows: tuple[Mapping[str, Any], ...]

    def provenance(self, provenance: Mapping[str, Any], script: Path) -> dict[str, Any]:
        """The provenance with a command that runs the cells from `script` instead of a kernel, which would wait for
        a notebook. Raises UsageError for cells that are not whole."""
        lost = [_number(row) for row in self.rows if not row["is_whole"]]
        if lost:
            raise UsageError(
                f"cells {', '.join(lost[:10])} of the notebook are not recorded whole (a secret was taken out, or they "
                'are very long); see what there is with `trainledger sql "SELECT source FROM notebook_cells"`, and '
                "give a command: trainledger reproduce RUN -- CMD ..."
            )
        python = (provenance.get("argv") or ("python",))[0]
        return dict(provenance) | {"argv": [python, "-c", _STARTER, str(script)], "launcher": []}

    def variables(self, provenance: Mapping[str, Any]) -> dict[str, str]:
        """What tells the capture of the repetition that this folder is the code, as the server of Jupyter does."""
        name = str(provenance.get("entry_point") or "")
        return {"JPY_SESSION_NAME": os.path.basename(name) if name.endswith(".ipynb") else "notebook.ipynb"}

    def script(self) -> str:
        """The text of the file that runs the cells."""
        cells = (
            f"    ({_number(row)!r}, {row['phase']!r}, {row['status']!r}, {row['source']!r}),"
            for row in self.rows
        )
        return _SCRIPT.format(run_id=self.run_id, cells="\n".join(cells))


def read_cells(session: Session, run_id: str) -> NotebookCells | None:
    """The cells of a run; None for one that ran no notebook."""
    view = f"{session.views}.notebook_cells"
    rows: Sequence[Mapping[str, Any]] = session.query(
        f"SELECT phase, execution_count, source, is_whole, status FROM {view} WHERE run_id = {{id:UUID}} "
        f"AND attempt = (SELECT max(attempt) FROM {view} WHERE run_id = {{id:UUID}}) "
        "ORDER BY rank, ordinal",
        {"id": run_id},
    ).to_pylist()
    return NotebookCells(run_id, tuple(rows)) if rows else None


def write_cells(cells: NotebookCells, script: Path) -> None:
    """Write the file anew, readable by its owner alone."""
    script.unlink(missing_ok=True)
    fd = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(cells.script())


def _number(row: Mapping[str, Any]) -> str:
    return str(row["execution_count"] if row["execution_count"] is not None else "-")
