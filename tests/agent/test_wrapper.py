"""The wrapper as a real process: when the command ended, and what of its output is said to be missing."""

import os
import subprocess
import sys
import time
from pathlib import Path

from support.polling import poll_until
from support.training import Journal, read_journals

WRAPPER = [sys.executable, "-c", "from trainledger.cli import main; raise SystemExit(main())", "run", "--"]


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINLEDGER_")}
    return kept | {"TRAINLEDGER_DIR": str(folder / "node"), "TRAINLEDGER_CAPTURE": "off", "HOME": str(folder)}


def wrapper_journal(folder: Path) -> Journal:
    (journal,) = [
        found
        for found in read_journals(folder / "node")
        if any(claim["role"] == "wrapper" for claim in found.claims_of("run_started"))
    ]
    return journal


def test_wrapper_waits_for_the_agent_where_it_is_told_to(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*WRAPPER, "sh", "-c", "echo said; exit 3"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(tmp_path) | {"TRAINLEDGER_FINISH_WAIT_S": "60"},
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "said\n"
        (segment,) = poll_until(lambda: list((tmp_path / "node").glob("*/*/*.tlj")))
        poll_until(lambda: b"run_exited" in segment.read_bytes())
        assert process.poll() is None
        segment.unlink()
        assert process.wait(30) == 3


def test_command_ends_when_it_ends_and_not_when_its_output_is_read(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo $$ > pid; head -c 3000000 /dev/zero; exit 3"]
    process = subprocess.Popen(
        [*WRAPPER, *command], stdout=subprocess.PIPE, cwd=tmp_path, env=environment(tmp_path)
    )
    assert process.stdout is not None
    pid_file = tmp_path / "pid"
    poll_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    poll_until(lambda: not Path("/proc", pid_file.read_text().strip()).exists())
    time.sleep(0.3)  # the wrapper has taken the status and looks at its clock
    read_from_us = time.time_ns() // 1000
    assert len(process.stdout.read()) == 3_000_000
    process.stdout.close()
    assert process.wait(30) == 3
    ended = wrapper_journal(tmp_path).exit
    assert ended is not None and (ended["exit_code"], ended["cause"]) == (3, "exit_code")
    assert ended["at_us"] < read_from_us


def test_output_that_is_not_kept_is_counted_and_said(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo first; head -c 5000000 /dev/zero | tr '\\0' a"]
    done = subprocess.run(
        [*WRAPPER, *command],
        capture_output=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        timeout=60,
        check=True,
    )
    assert done.stdout == b"first\n" + b"a" * 5_000_000
    unkept = f"{5_000_000 - (1 << 20):,} bytes of output in 1 lines were passed on but not kept"
    assert unkept in done.stderr.decode()
    assert [gap["points"] for gap in wrapper_journal(tmp_path).gaps] == [1]


def test_nothing_is_said_of_output_that_is_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [*WRAPPER, "seq", "100000"], capture_output=True, cwd=tmp_path, env=environment(tmp_path), timeout=60
    )
    assert done.stdout.count(b"\n") == 100_000
    assert b"not kept" not in done.stderr and not wrapper_journal(tmp_path).gaps
