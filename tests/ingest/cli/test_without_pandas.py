"""Commands do not import pandas where it is installed: it would add half a second to each."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = """
import sys
from datetime import UTC, datetime
from trainledger_ingest.cli.app import main
main(["--help"])
import pyarrow as pa
print(pa.table({"at": [datetime(2026, 1, 1, tzinfo=UTC)]}).to_pylist(), "pandas" in sys.modules)
"""


def test_pandas_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("__version__ = '3.0.0'\n", encoding="ascii")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].endswith("}] False"), done.stdout
