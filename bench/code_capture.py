"""What the capture of code adds to `init()` in a repository of 10,000 files, and how long it goes on beside the run.

The work tree has 20 changed and 20 new files. Each `init()` is a process of its own, with and without capture in
turn; the capture of one has ended before the next begins. `added_cpu_ms` counts what init itself computes and the shell
that it waits for. Then the repository of the tests that holds all that a patch loses is restored from its bundles and a
bare remote alone, and its entries (files, links, empty folders) are compared byte for byte.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.workspace import environment as user_environment
from bench.workspace import temporary_folder

FILES = 10_000
QUICK_FILES = 1_000
RUNS = 9
QUICK_RUNS = 3
WAIT_S_MAX = 120.0
INIT = (
    "import os, time, trainledger; began, cpu = time.perf_counter(), os.times(); trainledger.init(project='bench'); "
    "took, spent = time.perf_counter() - began, os.times(); "
    "print(took * 1000, (sum(spent[:4]) - sum(cpu[:4])) * 1000)"
)


def make_repository(folder: Path, files: int, environment: dict[str, str]) -> None:
    """A committed repository with local changes."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True)

    folder.mkdir()
    git("init", "-q")
    for number in range(files):
        place = folder / f"package{number // 100:03}" / f"module{number % 100:02}.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"value = {number}\n" * 40)
    git("add", "-A")
    git("-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m")
    for number in range(20):
        (folder / f"package{number % (files // 100):03}" / "module07.py").write_text("changed = True\n")
        (folder / f"new{number}.py").write_text(f"new = {number}\n")


def init_ms(
    repository: Path, environment: dict[str, str], journals: Path
) -> tuple[float, float, float | None]:
    """Wall and CPU milliseconds of one `init()`, and seconds until its capture had written, if there is one."""
    before = len(list(journals.glob("*/*/*.tlj")))
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", INIT],
        cwd=repository,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    wall_ms, cpu_ms = (float(word) for word in done.stdout.split())
    if environment["TRAINLEDGER_CAPTURE"] == "off":
        return wall_ms, cpu_ms, None
    # Its own journal, beside that of the run, is made when all is stored.
    while len(list(journals.glob("*/*/*.tlj"))) < before + 2:
        if time.perf_counter() - began > WAIT_S_MAX:
            raise RuntimeError(f"no capture was written within {WAIT_S_MAX:g} s")
        time.sleep(0.01)
    return wall_ms, cpu_ms, time.perf_counter() - began


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Medians, and their difference."""
    files, runs = (QUICK_FILES, QUICK_RUNS) if quick else (FILES, RUNS)
    with temporary_folder() as folder:
        environment = user_environment(folder, GIT_CONFIG_GLOBAL=os.devnull)
        make_repository(folder / "repository", files, environment)
        journals = Path(environment["TRAINLEDGER_DIR"])
        walls: dict[str, list[float]] = {"off": [], "on": []}
        cpus: dict[str, list[float]] = {"off": [], "on": []}
        beside_s: list[float] = []
        for _ in range(runs):
            for switch in walls:
                wall_ms, cpu_ms, took_s = init_ms(
                    folder / "repository", environment | {"TRAINLEDGER_CAPTURE": switch}, journals
                )
                walls[switch].append(wall_ms)
                cpus[switch].append(cpu_ms)
                beside_s += [] if took_s is None else [took_s]
    without_ms, captured_ms = (statistics.median(walls[switch]) for switch in ("off", "on"))
    added_ms = captured_ms - without_ms
    yield {
        "case": f"init() in a repository of {files} files",
        "init_ms": round(without_ms, 1),
        "init_with_capture_ms": round(captured_ms, 1),
        "added_ms": round(added_ms, 1),
        "added_cpu_ms": round(statistics.mean(cpus["on"]) - statistics.mean(cpus["off"]), 1),
        "first_capture_s": round(beside_s[0], 2),
        "next_captures_s": round(statistics.median(beside_s[1:]), 2),
        "bars": {"added_ms": 50},
        "met": added_ms < 50,
    }
    yield restore_everything()


def restore_everything() -> dict[str, Any]:
    """How many entries of the nasty repository come back as they were."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    # Loaded here: they are the tests' own.
    from support.code_workshop import Workshop
    from support.nasty_repository import make_nasty, manifest

    with temporary_folder() as folder:
        workshop = Workshop(folder)
        nasty = make_nasty(folder / "nasty", workshop.environment)
        stored = workshop.store(nasty.folder)
        wanted = manifest(nasty.folder)
        for place in folder.iterdir():
            if place.name not in ("blobs", "home", "nasty-remotes"):
                place.rename(place.with_name(f"away-{place.name}"))
        found = manifest(workshop.restore(stored).folder)
    same = sum(found.get(path) == entry for path, entry in wanted.items())
    extra = len(set(found) - set(wanted))
    return {
        "case": "repository that a patch loses, from its bundles and bare remotes",
        "entries": len(wanted),
        "restored": same,
        "not_there_before": extra,
        "bars": {"restored": len(wanted)},
        "met": same == len(wanted) and not extra and len(wanted) >= 36,
    }
