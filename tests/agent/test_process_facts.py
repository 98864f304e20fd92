"""Who started a process, also in a pid namespace of its own, where that is process 1; the namespaces are real."""

import subprocess
import sys
from collections.abc import Sequence

from trainledger.process_facts import name_launcher

SAY = "from trainledger.process_facts import name_launcher; print(name_launcher('RANK', '0'))"
# As a launcher that is what a container was started with: two ranks, each told its own.
LAUNCHER = (
    "import os, subprocess, sys\n"
    "for rank in '01':\n"
    f"    code = {SAY!r}.replace(\"'0'\", repr(rank))\n"
    "    subprocess.run([sys.executable, '-c', code], env={**os.environ, 'RANK': rank}, check=True)\n"
)
CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


def names(*command: str) -> list[str]:
    told = subprocess.run(
        [*command, sys.executable, "-c", LAUNCHER], capture_output=True, text=True, check=True
    )
    return told.stdout.split()


def containers(count: int) -> Sequence[list[str]]:
    return [names(*CONTAINER) for _ in range(count)]


def test_ranks_name_the_process_that_started_them() -> None:
    one, other = names()
    assert one == other != ""
    assert names() != [one, other], "another launch has another name"
    assert name_launcher(None, "") != one


def test_process_1_of_a_container_is_a_launcher_like_any_other() -> None:
    (first, second), (third, _) = containers(2)
    assert first == second != ""
    assert first != third, "all that is alike in two containers is the number 1"
    assert first.split(":")[1] == "1"
