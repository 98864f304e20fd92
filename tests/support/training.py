"""Trainings for tests: real processes that use the SDK, and what the production reader finds in their journals."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainledger.journal import JournalWriter
from trainledger.log_call import log_function
from trainledger.node.coerce import parse_json
from trainledger.node.journal_folder import JournalFolder
from trainledger.node.journal_reader import JournalReader
from trainledger.notices import Notices
from trainledger.placement import Placement
from trainledger.settings import Settings
from trainledger.shapes import RowWriter
from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.ids import id_bytes, id_text, random_id
from trainledger_schemas.journal import CLAIM, GAP, HEADER_BYTES, SegmentHeader

__all__ = ["Journal", "Recorder", "Training", "read_journal", "read_journals", "small_disk", "user_folder"]

TIMEOUT_S = 60
RUN_ID = b"run-id-16-bytes."


@dataclass
class Journal:
    """All that one journal holds, in its order."""

    folder: Path
    header: SegmentHeader
    points: list[tuple[str, int, float]] = field(default_factory=list)
    texts: list[tuple[str, int, str]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    torn: int = 0

    @property
    def id(self) -> str:
        return id_text(self.header.journal_id)

    @property
    def parent(self) -> str | None:
        return id_text(self.header.parent_journal) if any(self.header.parent_journal) else None

    @property
    def run_id(self) -> str:
        return id_text(self.header.run_id)

    def claims_of(self, type_name: str) -> list[dict[str, Any]]:
        return [claim for claim in self.claims if claim["type"] == type_name]

    @property
    def started(self) -> dict[str, Any]:
        (claim,) = self.claims_of("run_started")
        return claim

    @property
    def exit(self) -> dict[str, Any] | None:
        """How the process says that it ended; None if it does not."""
        found = self.claims_of("run_exited")
        assert len(found) < 2, found
        return found[0] if found else None

    def settings(self) -> dict[str, dict[str, Any]]:
        """The last entry of each parameter."""
        entries = list(self.started["config"])
        for claim in self.claims_of("params_changed"):
            entries += claim["changes"]
        return {entry["key"]: entry for entry in entries}

    def summary(self) -> dict[str, dict[str, Any]]:
        return {e["key"]: e for claim in self.claims_of("summary_set") for e in claim["changes"]}

    def values(self, key: str = "x") -> list[float]:
        return [value for name, _, value in self.points if name == key]

    def is_sound(self) -> bool:
        """Whether nothing was lost on the way from the writer to the reader."""
        return not self.lost and not self.torn


def user_folder(node_folder: Path) -> Path:
    return node_folder / str(os.geteuid())


def read_journal(folder: Path, *, is_dead: bool = True) -> Journal:
    """Read a journal's folder with the agent's reader."""
    journal_id = id_bytes(folder.name)
    reader = JournalReader(journal_id)
    first = min(folder.glob("*.tlj"))
    found = Journal(folder, SegmentHeader.parse(first.read_bytes()[:HEADER_BYTES]))
    with JournalFolder(folder.parent.parent, os.geteuid(), journal_id) as opened:
        while (chunk := reader.read(opened, is_dead=is_dead)) is not None:
            rows = []
            for block in chunk.blocks:
                for row, offset in enumerate(block.offset.tolist()):
                    values = zip(block.keys, block.values[row].tolist(), strict=True)
                    rows += [(offset, (key, int(block.step[row]), value)) for key, value in values]
            found.points += [point for _, point in sorted(rows, key=lambda row: row[0])]
            found.texts += [(text["key"], text["step"], text["text"]) for text in chunk.texts]
            found.claims += [parse_json(item.body) for item in chunk.controls if item.kind == CLAIM]
            found.gaps += [parse_json(item.body) for item in chunk.controls if item.kind == GAP]
            found.lost += [lost.reason for lost in chunk.lost]
    found.torn = reader.torn
    return found


def read_journals(node_folder: Path) -> list[Journal]:
    """All journals of this user that have begun, by the time of their first segment."""
    begun = {path.parent for path in user_folder(node_folder).glob("*/*.tlj")}
    return sorted(map(read_journal, begun), key=lambda journal: journal.header.boot_ns)


class Training:
    """Scripts in processes of their own; their journals lie in `journals`. Each script begins with `prelude`."""

    def __init__(self, folder: Path, prelude: str = "") -> None:
        self.folder = folder
        self.prelude = prelude
        self.journals = folder / "journals"
        self._scripts = 0
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("TRAINLEDGER_")} | {
            "TRAINLEDGER_DIR": str(self.journals),
            "TRAINLEDGER_CAPTURE": "off",
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def start(self, body: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a script; `trainledger` is imported and `run` made unless it says `init` itself."""
        self._scripts += 1
        path = self.folder / f"script{self._scripts}.py"
        text = textwrap.dedent(body)
        if "init(" not in text:
            text = f"run = trainledger.init(project='p')\n{text}"
        path.write_text(f"import trainledger\n{self.prelude}{text}", encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, str(path), *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, body: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a script to its end, which must be a good one."""
        return self.run_until(0, body, *arguments, **environment)

    def run_until(
        self, code: int, body: str, /, *arguments: str, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a script to its end, which must have this exit status."""
        process = self.start(body, *arguments, **environment)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
        assert process.returncode == code, f"exit {process.returncode}: {out[-1000:]}{err[-3000:]}"
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def read(self) -> list[Journal]:
        return read_journals(self.journals)

    def only(self) -> Journal:
        (journal,) = self.read()
        return journal


class Recorder:
    """A row writer on a journal of its own, in this process; `log(data, step)` as Run has it."""

    def __init__(
        self,
        node_folder: Path,
        *,
        by_write: bool = False,
        clock: Clock | None = None,
        budget_mib: int | None = None,
    ) -> None:
        folder = user_folder(node_folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.notices = Notices()
        self.journal = JournalWriter.create(
            Placement(folder, append_by_write=by_write),
            run_id=RUN_ID,
            settings=Settings(budget_mib=budget_mib),
            ids=random_id,
            clock=clock or SystemClock(),
        )
        self.rows = RowWriter(lambda: self.journal, self.notices)
        self.log = log_function(self.rows, self.notices)

    def end(self) -> Journal:
        """Close, and read all back."""
        self.journal.close()
        return read_journal(self.journal.folder)


@contextmanager
def small_disk(folder: Path, size: str = "4m") -> Iterator[Path]:
    """A tmpfs of this size; needs root, as CI has it."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
