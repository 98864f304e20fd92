"""Training processes of a campaign, and what is known of each without asking trainledger."""

import json
import os
import signal
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from faults.workload import BEGUN, ENDED, LINES, PID, PROGRESS_BYTES, STOP, THREADS_MAX
from support.installation import BIN
from support.polling import poll_until

__all__ = ["Known", "Plan", "Trainer", "read_known"]

WORKLOAD = Path(__file__).parent / "workload.py"
_WORDS = struct.Struct(f"<{PROGRESS_BYTES // 8}Q")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a training process behaves; `calls` 0 means until told to stop."""

    name: str
    threads: int
    burst: int
    pause_us: int
    calls: int = 0
    is_wrapped: bool = False
    captures: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What must be in the tables: the calls that returned, by thread, and how the process ended."""

    plan: Plan
    returned: list[int]
    lines: int
    begun: bool
    ended: bool
    killed: bool


class Trainer:
    """A running training process of `plan` with its folder `<folder>/<name>`."""

    def __init__(self, folder: Path, plan: Plan, environment: dict[str, str]) -> None:
        self.plan = plan
        self.folder = folder / plan.name
        self.folder.mkdir(parents=True)
        (self.folder / "plan.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")
        numbers = (plan.threads, plan.burst, plan.pause_us, plan.calls)
        command = [sys.executable, str(WORKLOAD), str(self.folder), *map(str, numbers)]
        if plan.is_wrapped:
            command = [str(BIN / "trainledger"), "run", "--name", plan.name, "--", *command]
        with (self.folder / "output").open("w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment
                | {
                    "TRAINLEDGER_NAME": plan.name,
                    "TRAINLEDGER_CAPTURE": "on" if plan.captures else "off",
                    "PYTHONPATH": str(WORKLOAD.parents[1]),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def words(self) -> tuple[int, ...]:
        """The progress words; zeros before the process has made them."""
        return read_words(self.folder)

    def await_points(self, deadline_s: float = 60.0) -> None:
        """Return when the first call of log() has returned."""

        def look() -> bool:
            assert self.process.poll() is None, (self.folder / "output").read_text(encoding="utf-8")
            return any(self.words()[:THREADS_MAX])

        poll_until(look, deadline_s=deadline_s, pause_s=0.001)

    def signal(self, number: int) -> None:
        """Send a signal to the training process itself, never to its wrapper."""
        if self.plan.is_wrapped:
            poll_until(lambda: self.words()[PID] or self.process.poll() is not None, deadline_s=60)
        if self.process.poll() is None:
            os.kill(self.words()[PID] if self.plan.is_wrapped else self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, remembered for the checker, and wait until it (and its wrapper) is gone."""
        if self.process.poll() is None and not self.words()[ENDED]:
            (self.folder / "killed").touch()
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def close(self) -> None:
        """Kill what is left of it after a campaign that failed."""
        if self.process.poll() is None:
            if self.words()[PID]:
                os.kill(self.words()[PID], signal.SIGKILL)
            self.process.kill()
            self.process.wait()

    def finish(self) -> int:
        """Let it end by itself; the exit status."""
        with (self.folder / "progress").open("r+b") as progress:
            progress.seek(8 * STOP)
            progress.write((1).to_bytes(8, "little"))
        self.signal(signal.SIGCONT)
        return self.process.wait(60)


def read_words(folder: Path) -> tuple[int, ...]:
    try:
        raw = (folder / "progress").read_bytes()
    except FileNotFoundError:
        raw = b""
    return _WORDS.unpack(raw.ljust(PROGRESS_BYTES, b"\0"))


def read_known(folder: Path) -> list[Known]:
    """All trainers below `folder`, which must have ended."""
    known = []
    for place in sorted(path.parent for path in folder.glob("*/plan.json")):
        plan = Plan(**json.loads((place / "plan.json").read_text(encoding="utf-8")))
        words = read_words(place)
        known.append(
            Known(
                plan=plan,
                returned=list(words[: plan.threads]),
                lines=words[LINES],
                begun=bool(words[BEGUN]),
                ended=bool(words[ENDED]),
                killed=(place / "killed").exists(),
            )
        )
    return known
