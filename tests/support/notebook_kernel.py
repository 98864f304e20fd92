"""A real kernel of Jupyter in a process of its own, whose cells are run as a notebook runs them."""

import importlib
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.polling import poll_until

__all__ = ["NotebookKernel"]

CELL_TIMEOUT_S = 60


class NotebookKernel:
    """Started in `folder`; use as a context manager."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, connection: Path) -> None:
        self._connection = connection
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipykernel_launcher", "-f", str(connection)],
            cwd=folder,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        poll_until(lambda: connection.exists() and connection.stat().st_size > 100, deadline_s=60)
        # Without its types: they are another half of a second in each check of types.
        self._client: Any = importlib.import_module("jupyter_client").BlockingKernelClient(
            connection_file=str(connection)
        )
        self._client.load_connection_file()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=CELL_TIMEOUT_S)

    def __enter__(self) -> "NotebookKernel":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)

    def run(self, source: str) -> str:
        """Run a cell; returns what it wrote, errors included."""
        written: list[str] = []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            written.append(content.get("text") or content.get("evalue") or "")

        self._client.execute_interactive(source, timeout=CELL_TIMEOUT_S, output_hook=take)
        return "".join(written)

    def start(self, source: str) -> None:
        """Begin a cell and do not wait for its end."""
        self._client.execute(source)

    def shut_down(self) -> None:
        """End the kernel as the user does in the menu."""
        self._client.shutdown()
        self.process.wait(timeout=60)
