"""Seeded faults on real processes: `python -m faults.campaign spool|kafka|trainers [--rounds N] [--seed S]`.

Each round kills (SIGKILL) or freezes (SIGSTOP) one process of the path while training goes on, and starts it again
a moment later; the seed decides which and when. In the end everything is let go on, read to its end, and a checker
that knows only what the training processes acknowledged compares it with the tables. `trainers` kills nothing but
training processes that log as fast as they can, and counts the torn records found behind the last whole one.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.deployments import Deployment, make_kafka, make_spool
from faults.torn import count_torn
from faults.trainers import Plan, Trainer
from faults.workload import THREADS_MAX
from support.installation import Installation

__all__ = ["run_campaign", "run_trainer_kills"]

TRAINERS_AT_ONCE = 2
CHECKER_TIMEOUT_S = 600
# They take seconds to come back, and all others wait for them.
SLOW_VICTIMS = ("broker", "sync")


def run_campaign(deployment: Deployment, folder: Path, *, seed: int, rounds: int) -> dict[str, object]:
    """Faults on every part; returns the checker's summary, raises AssertionError with its contradictions."""
    chance = random.Random(seed)
    trainers: list[Trainer] = []
    counts: dict[str, int] = {}
    try:
        deployment.start()
        for number in range(rounds):
            trainers = [trainer for trainer in trainers if trainer.process.poll() is None]
            while len(trainers) < TRAINERS_AT_ONCE:
                plan = draw_plan(chance, f"round{number}-{len(trainers)}")
                trainers.append(Trainer(folder / "trainers", plan, deployment.node.environment))
            act = draw_fault(chance, deployment, trainers)
            counts[act] = counts.get(act, 0) + 1
            for daemon in deployment.daemons.values():
                daemon.start()
        end_trainers(chance, trainers)
        deployment.settle()
        return check(folder / "trainers", deployment.query_environment) | {"faults": counts}
    finally:
        for trainer in trainers:
            trainer.close()
        deployment.close()


def draw_plan(chance: random.Random, name: str) -> Plan:
    """A training process: one thread or eight, slow or in bursts, with an end of its own or without."""
    return Plan(
        name=name,
        threads=chance.choice((1, 1, THREADS_MAX)),
        burst=chance.choice((1, 5, 40)),
        pause_us=chance.choice((1000, 3000, 20_000)),
        calls=chance.choice((0, 0, 0, 500)),
        is_wrapped=chance.random() < 0.25,
        captures=chance.random() < 0.2,
    )


def draw_fault(chance: random.Random, deployment: Deployment, trainers: list[Trainer]) -> str:
    """One fault now; returns what it was. Frozen processes go on before it returns."""
    names = [*deployment.victims, "trainer"]
    name = chance.choices(names, [1 if name in SLOW_VICTIMS else 4 for name in names])[0]
    is_kill = chance.random() < 0.7
    pause_s = chance.uniform(0, 0.5)
    if name == "trainer":
        trainer = chance.choice(trainers)
        if is_kill:
            time.sleep(pause_s / 2)
            trainer.kill()
        else:
            trainer.signal(signal.SIGSTOP)
            time.sleep(pause_s)
            trainer.signal(signal.SIGCONT)
    else:
        victim = deployment.victims[name]
        if is_kill:
            time.sleep(pause_s)
            victim.kill()
            time.sleep(chance.uniform(0, 0.3))
            victim.start()
        else:
            victim.pause()
            time.sleep(pause_s)
            victim.resume()
    time.sleep(chance.uniform(0, 0.4))
    return f"{'kill' if is_kill else 'stop'} {name}"


def end_trainers(chance: random.Random, trainers: list[Trainer]) -> None:
    """Those that still run are killed or told to end."""
    for trainer in trainers:
        if trainer.process.poll() is not None:
            continue
        if chance.random() < 0.5:
            trainer.kill()
        else:
            status = trainer.finish()
            if status:
                raise AssertionError(f"{trainer.plan.name} ended with status {status}")


def run_trainer_kills(folder: Path, *, seed: int, rounds: int) -> dict[str, object]:
    """Kill one training process a round, from one or eight unpaced threads, then read all journals at once."""
    chance = random.Random(seed)
    node = Installation(folder)
    for number in range(rounds):
        plan = Plan(f"kill{number}", threads=(1, THREADS_MAX)[number % 2], burst=1000, pause_us=0)
        trainer = Trainer(folder / "trainers", plan, node.environment)
        try:
            trainer.await_points()
            time.sleep(chance.uniform(0, 0.08))
        finally:
            trainer.kill()
    torn = count_torn(node.journals)
    done = node.command("sync")
    if done.returncode:
        raise AssertionError(f"sync: status {done.returncode}: {done.stderr[-2000:]}")
    return check(folder / "trainers", node.environment) | {"torn_tails": torn}


def check(trainers: Path, environment: dict[str, str]) -> dict[str, object]:
    """The summary of the checker, a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "faults.checker", str(trainers)],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=CHECKER_TIMEOUT_S,
    )
    if done.returncode:
        raise AssertionError(f"{done.stdout}{done.stderr}")
    summary: dict[str, object] = json.loads(done.stdout)
    return summary


@contextmanager
def work_folder(keep: bool) -> Iterator[Path]:
    """A folder on the disk of the working directory; kept after a failure, when asked."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".faults-"))
    try:
        yield folder
    except BaseException:
        if keep:
            sys.stderr.write(f"everything is kept in {folder}\n")
            raise
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        raise
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def main() -> int:
    """Run one campaign and print its summary as one JSON line."""
    parser = argparse.ArgumentParser(
        prog="faults.campaign", description="Seeded kills of every part of the path."
    )
    parser.add_argument("path", choices=("spool", "kafka", "trainers"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave everything in place after a failure")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    with work_folder(arguments.keep) as folder:
        if arguments.path == "trainers":
            summary = run_trainer_kills(folder, seed=arguments.seed, rounds=arguments.rounds)
        else:
            make = make_spool if arguments.path == "spool" else make_kafka
            summary = run_campaign(
                make(folder, arguments.seed), folder, seed=arguments.seed, rounds=arguments.rounds
            )
    wall_s = round(time.monotonic() - began_s, 1)
    sys.stdout.write(
        json.dumps(
            {"path": arguments.path, "seed": arguments.seed, "rounds": arguments.rounds}
            | summary
            | {"wall_s": wall_s}
        )
        + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
