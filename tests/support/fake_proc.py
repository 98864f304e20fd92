"""A folder like /proc and one like /sys/fs/cgroup, with processes of jobs that can be put and removed."""

import os
from collections.abc import Mapping
from pathlib import Path

from trainledger.node.process_table import ProcessTable

__all__ = ["FakeProc"]


class FakeProc:
    """Made-up processes; `table` looks at them. Files belong to whoever runs the test unless `uid` says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.cgroup = folder / "cgroup"
        self.proc.mkdir()
        self.cgroup.mkdir()
        self.table = ProcessTable(self.proc)

    def put(
        self,
        pid: int,
        *,
        parent: int = 1,
        cgroup: str = "0::/\n",
        variables: Mapping[str, str] | None = None,
        name: str = "python",
        title: str = "",
        uid: int | None = None,
        start: int = 0,
    ) -> None:
        """A process, or what has changed of it."""
        place = self.proc / str(pid)
        (place / "fd").mkdir(parents=True, exist_ok=True)
        stat = (
            f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 {start or pid} 0 25 0 0\n"
        )
        (place / "stat").write_text(stat)
        (place / "comm").write_text(f"{name}\n")
        (place / "cmdline").write_text(title or f"{name}\0")
        (place / "cgroup").write_text(cgroup)
        pairs = (f"{key}={value}\0" for key, value in (variables or {}).items())
        (place / "environ").write_text("".join(pairs))
        if uid is not None:
            os.chown(place, uid, -1)

    def open_device(self, pid: int, fd: int, path: str) -> None:
        """The process has a file open."""
        (self.proc / str(pid) / "fd" / str(fd)).symlink_to(path)

    def end(self, pid: int) -> None:
        """The process ends."""
        (self.proc / str(pid) / "stat").unlink()

    def file(self, path: str, text: str) -> None:
        """A file of a control group."""
        place = self.cgroup / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
