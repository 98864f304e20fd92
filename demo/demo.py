"""The whole path in about a minute: real trainings, one that crashes, one that is killed, and what they cost.

Starts `trainledger up` in a temporary folder, trains scikit-learn models for two teams and four experiments,
and shows the commands that answer afterwards. Nothing is made up: every number comes from the runs above it.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
USD_PER_HOUR = "98.32"  # about what eight large GPUs cost in a cloud
KILL_AFTER_CALLS = 100_000
# The agent looks at processes each second: what it never saw alive has no bill.
KILL_AFTER_S = 2.5


class Demo:
    """A folder, its environment, and the processes started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("TRAINLEDGER_")} | {
            "TRAINLEDGER_DIR": str(folder / "journals"),
            "TRAINLEDGER_HOME": str(folder / "home"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            # Whatever else runs on this machine: its jobs have no part in this bill.
            "TRAINLEDGER_SCHEDULERS": "none",
            # One thread a training: two cores are shared by all of them.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def start_up(self) -> subprocess.Popen[str]:
        """Start `up` and wait until it answers."""
        log = (self.folder / "up.log").open("w")
        process = subprocess.Popen(
            [str(BIN / "trainledger"), "up"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("ready"):
            raise SystemExit(f"trainledger up did not start: {(self.folder / 'up.log').read_text()}")
        return process

    def train(self, *arguments: str, team: str, experiment: str, name: str) -> subprocess.Popen[str]:
        """Start one training as a user would, under the wrapper that keeps its output."""
        command = [str(BIN / "trainledger"), "run", "--project", "demo", "--team", team]
        command += ["--experiment", experiment, "--name", name, "--", sys.executable, str(HERE / "train.py")]
        return subprocess.Popen(
            [*command, *arguments], env=self.environment, text=True, stderr=subprocess.DEVNULL
        )

    def show(self, *arguments: str) -> None:
        """Print a command and run it."""
        print(f"\n$ {shlex.join(['trainledger', *arguments])}", flush=True)
        subprocess.run([str(BIN / "trainledger"), *arguments], env=self.environment, check=True)

    def ask(self, *arguments: str) -> list[dict[str, object]]:
        """The JSON answer of a command."""
        done = subprocess.run(
            [str(BIN / "trainledger"), *arguments, "--json"],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        rows: list[dict[str, object]] = json.loads(done.stdout)
        return rows


def train_all(demo: Demo) -> int:
    """Run everything; returns the number of log() calls that had returned in the killed process."""
    say("training: two teams, four experiments")
    first = [
        demo.train("mlp", "--rate", "0.001", team="vision", experiment="width", name="mlp-slow"),
        demo.train("mlp", "--rate", "0.01", team="vision", experiment="width", name="mlp-fast"),
    ]
    wait_all(first)
    second = [
        demo.train("sgd", "--data", "cancer", team="health", experiment="baseline", name="sgd"),
        demo.train(
            "mlp", "--data", "cancer", "--workers", "2", team="health", experiment="ensemble", name="pair"
        ),
    ]
    wait_all(second)
    say("a run that crashes, and one that is killed with SIGKILL in the middle")
    crash = demo.train("sgd", "--fail-at", "5", team="vision", experiment="stress", name="crash")
    wait_all([crash])
    return kill_one(demo)


def kill_one(demo: Demo) -> int:
    """SIGKILL a process that logs without pause, and read how far it had come from a file of its own."""
    progress = demo.folder / "progress"
    progress.write_bytes(bytes(8))
    process = subprocess.Popen(
        [sys.executable, str(HERE / "count.py"), str(progress)],
        env=demo.environment
        | {
            "TRAINLEDGER_PROJECT": "demo",
            "TRAINLEDGER_TEAM": "vision",
            "TRAINLEDGER_EXPERIMENT": "stress",
            "TRAINLEDGER_NAME": "killed",
        },
        stderr=subprocess.DEVNULL,
    )
    begin = time.monotonic()
    returned = 0
    while time.monotonic() < begin + KILL_AFTER_S or (
        returned < KILL_AFTER_CALLS and time.monotonic() < begin + 30
    ):
        time.sleep(0.01)
        returned = int.from_bytes(progress.read_bytes(), "little")
    process.send_signal(signal.SIGKILL)
    process.wait()
    return int.from_bytes(progress.read_bytes(), "little")


def wait_all(processes: list[subprocess.Popen[str]]) -> None:
    """Wait for processes; their exit codes are part of the show."""
    for process in processes:
        process.wait()


def prove_nothing_lost(demo: Demo, returned: int) -> None:
    """Compare what had returned in the killed process with what the table holds."""
    row = demo.ask(
        "sql",
        "SELECT count() AS points, uniqExact(step) AS steps, max(step) AS last FROM metrics m "
        "JOIN runs r ON r.run_id = m.run_id WHERE r.name = 'killed'",
    )[0]
    points, last = int(str(row["points"])), int(str(row["last"]))
    print(
        f"\nlog() had returned {returned:,} times when SIGKILL came; the table holds {points:,} points, 0 to {last:,}."
    )
    if not returned <= points <= returned + 1 or points != last + 1 or points != int(str(row["steps"])):
        raise SystemExit("points were lost or doubled: this is a bug")


def prove_the_bill(demo: Demo) -> None:
    """Compare the sum of all lines with the bill of the node."""
    # One query, because the open hour is billed up to the moment of asking.
    row = demo.ask(
        "sql",
        "SELECT (SELECT sum(bill) FROM node_bills) AS bill, (SELECT sum(difference) FROM node_bills) AS difference, "
        "(SELECT sum(cost) FROM cost_lines) AS lines",
    )[0]
    print(f"\nthe node's bill is {row['bill']} USD, the sum of all lines {row['lines']} USD.")
    if Decimal(str(row["bill"])) != Decimal(str(row["lines"])) or Decimal(str(row["difference"])) != 0:
        raise SystemExit("the lines do not sum to the bill: this is a bug")


def say(text: str) -> None:
    """A heading."""
    print(f"\n== {text}", flush=True)


def main() -> None:
    """The demo, start to end; the folder stays for the reader to try more."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="trainledger-demo-"))
    demo = Demo(folder)
    up = demo.start_up()
    try:
        demo.show("price", "set", "--node", "*", "--usd-per-hour", USD_PER_HOUR)
        returned = train_all(demo)
        say("what ran")
        demo.show("ls")
        demo.show("compare", "mlp-slow", "mlp-fast")
        prove_nothing_lost(demo, returned)
        say("what it cost")
        demo.show("cost", "--by", "team")
        demo.show("cost", "--by", "experiment")
        prove_the_bill(demo)
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(30)
    print(f"\ndone in {time.monotonic() - started:.0f} s. Try next, in this folder's tables:")
    print(f"  export TRAINLEDGER_HOME={folder}/home TRAINLEDGER_DIR={folder}/journals PATH={BIN}:$PATH")
    print("  trainledger show mlp-fast")
    print("  trainledger logs crash")
    print('  trainledger sql "SELECT name, state, duration_s, cost FROM runs ORDER BY cost DESC"')


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped; the trainings ended with it, what they logged is kept", file=sys.stderr)
        sys.exit(130)
