"""The cells of a notebook that ran, in a real kernel: recorded as they ran, shown, and repeated with the same bits."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import Installation
from support.notebook_kernel import NotebookKernel
from support.polling import poll_until

CELLS = """
SELECT r.name AS name, r.state AS state, c.ordinal AS ordinal, c.phase AS phase, c.execution_count AS number,
  c.source AS source, c.is_whole AS is_whole, c.status AS status, c.error AS error
FROM notebook_cells AS c JOIN runs AS r ON r.run_id = c.run_id ORDER BY started_at, ordinal
"""
SECRET = "hunter2" + "hunter2"


class Notebook:
    """A folder with a notebook, and a kernel in it."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installation(folder)
        self.folder = folder / "study"
        self.folder.mkdir()
        cell: dict[str, object] = {
            "cell_type": "code",
            "source": "never run",
            "outputs": [],
            "metadata": {},
            "execution_count": None,
        }
        document = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        (self.folder / "study.ipynb").write_text(json.dumps(document))
        self._connection = folder / "kernel.json"

    def kernel(self, **variables: str) -> NotebookKernel:
        self._connection.unlink(missing_ok=True)
        environment = self.installation.environment | variables
        return NotebookKernel(self.folder, environment, connection=self._connection)

    def wait_for_captures(self, count: int) -> None:
        """A journal of its own for each."""
        journals = self.installation.journals
        poll_until(lambda: len(list(journals.glob("*/*/*.tlj"))) >= count, deadline_s=60)


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    yield Notebook(tmp_path)


def test_cells_are_recorded_as_they_ran_and_repeated_with_the_same_results(notebook: Notebook) -> None:
    with notebook.kernel(JPY_SESSION_NAME="elsewhere/study.ipynb") as kernel:
        kernel.run("rate = 0.5")
        kernel.run("import trainledger\nrun = trainledger.init(project='p', name='first')")
        # What the notebook has further below: cells out of order, one changed and run again, one that fails.
        kernel.run("def loss(x):\n    return rate * x")
        kernel.run("run.log({'loss': loss(1)})")
        assert "division" in kernel.run("1/0")
        kernel.run("rate = 0.25")
        kernel.run("run.log({'loss': loss(1)}); run.finish()")
        kernel.run("between = 7")
        kernel.run("run = trainledger.init(project='p', name='second')")
        kernel.run("%time run.log({'b': between * rate})")
        # The kernel dies in the middle of a cell.
        kernel.start("run.log({'c': 1.5}); import os; os.kill(os.getpid(), 9)")
        kernel.process.wait(timeout=60)
    notebook.wait_for_captures(4)
    rows = notebook.installation.sql(CELLS)
    assert [(row["number"], row["phase"], row["status"]) for row in rows if row["name"] == "first"] == [
        (1, "before", "unknown"),
        (2, "init", "finished"),
        (3, "during", "finished"),
        (4, "during", "finished"),
        (5, "during", "failed"),
        (6, "during", "finished"),
        (7, "during", "begun"),
    ]
    second = [row for row in rows if row["name"] == "second"]
    assert [row["number"] for row in second] == [*range(1, 12)]
    assert [row["phase"] for row in second] == ["before"] * 8 + ["init"] + ["during"] * 2
    assert second[-1]["source"].startswith("run.log({'c': 1.5})") and second[-1]["status"] == "begun"
    assert {row["state"] for row in rows} == {"finished", "crashed"}
    assert "[5]  1/0" in notebook.installation.command("show", "first").stdout
    (entry,) = notebook.installation.sql("SELECT DISTINCT entry_point, snapshot_id FROM provenance")
    assert entry["entry_point"] == str(notebook.folder / "study.ipynb") and entry["snapshot_id"]
    notebook.folder.rename(notebook.folder.with_name("away"))
    repeated = notebook.installation.command("reproduce", "first", "--yes")
    assert repeated.returncode == 0, repeated.stderr
    assert "identical" in repeated.stdout
    # The runs of earlier cells are not recorded again, and the code is the same code.
    assert "code: " not in repeated.stderr
    names = notebook.installation.sql("SELECT name FROM runs ORDER BY started_at")
    assert [row["name"] for row in names] == ["first", "second", "first"]


def test_cell_with_a_secret_is_recorded_without_it_and_is_not_repeated(notebook: Notebook) -> None:
    with notebook.kernel() as kernel:
        kernel.run("import trainledger; run = trainledger.init(project='p', name='secret')")
        kernel.run(f"password = '{SECRET}'")
        kernel.run("trained = True\n" + "# long\n" * 20_000)
        kernel.run("run.log({'a': 1.0}); run.finish()")
        kernel.run(f"__vsc_ipynb_file__ = '{notebook.folder / 'study.ipynb'}'")
        # As after thousands of cells and hundreds of runs in one session.
        kernel.run("import trainledger.notebook_cells as cells; cells.SESSION_CELLS_MAX = 5")
        kernel.run("run = trainledger.init(project='p', name='late'); run.log({'a': 2.0})")
        kernel.shut_down()
    notebook.wait_for_captures(4)
    rows = notebook.installation.sql(CELLS)
    late = [row for row in rows if row["name"] == "late"]
    assert [(row["phase"], row["source"][:4], row["is_whole"]) for row in late] == [
        ("before", "", False),
        ("init", "run ", True),
    ]
    (entry,) = notebook.installation.sql(
        "SELECT entry_point FROM provenance AS p JOIN runs AS r ON r.run_id = p.run_id WHERE r.name = 'late'"
    )
    assert entry["entry_point"] == str(notebook.folder / "study.ipynb")
    assert [(row["source"][:23], row["is_whole"]) for row in rows][1:3] == [
        ("password = '[redacted]'", False),
        ("", False),
    ]
    refused = notebook.installation.command("reproduce", "secret", "--plan")
    assert refused.returncode == 2 and "cells 2, 3 of the notebook are not recorded whole" in refused.stderr
    for path in notebook.installation.folder.rglob("*"):
        if path.is_file() and "kernel.json" not in path.name:
            assert SECRET.encode() not in path.read_bytes(), path


def test_script_that_a_cell_runs_is_recorded_by_its_cell(notebook: Notebook) -> None:
    script = notebook.folder / "train.py"
    script.write_text(
        "import trainledger\nrun = trainledger.init(project='p', name='magic')\nrun.log({'a': 1})\n"
    )
    with notebook.kernel() as kernel:
        kernel.run("PAPERMILL_INPUT_PATH = 'study.ipynb'")
        kernel.run("%run train.py")
        kernel.shut_down()
    notebook.wait_for_captures(2)
    (entry,) = notebook.installation.sql("SELECT entry_point FROM provenance")
    assert entry["entry_point"] == str(notebook.folder / "study.ipynb")
    assert [(row["phase"], row["source"]) for row in notebook.installation.sql(CELLS)] == [
        ("before", "PAPERMILL_INPUT_PATH = 'study.ipynb'"),
        ("init", "%run train.py"),
    ]


def test_training_that_only_imports_ipython_has_no_cells(notebook: Notebook) -> None:
    done = notebook.installation.script(
        "import IPython, trainledger\nrun = trainledger.init(project='p')\nrun.log({'a': 1})"
    )
    assert done.returncode == 0
    assert notebook.installation.sql("SELECT count() AS cells FROM notebook_cells") == [{"cells": 0}]
