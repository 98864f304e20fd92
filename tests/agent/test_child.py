"""Starting commands and learning how they ended."""

import os
import signal
from pathlib import Path

import pytest

from support.polling import poll_until
from trainledger.child import Child, ExitStatus, NotStartedError, Streams, start_child
from trainledger.signals import ChildTarget, SignalGate


def start(*command: str, streams: Streams | None = None, shares_group: bool = False) -> Child:
    with SignalGate() as gate:
        return start_child(
            command, dict(os.environ), streams=streams or Streams(), shares_group=shares_group, gate=gate
        )


def end_of(child: Child) -> ExitStatus:
    return poll_until(child.poll)


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_code_is_the_commands(code: int) -> None:
    status = end_of(start("sh", "-c", f"exit {code}"))
    assert (status.exit_code, status.signal, status.shell_code) == (code, None, code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_signal_is_told_apart_from_an_exit_code(number: signal.Signals) -> None:
    status = end_of(start("sh", "-c", f"kill -{int(number)} $$"))
    assert (status.exit_code, status.signal, status.shell_code) == (None, number, 128 + number)


def test_missing_command_is_127_and_what_cannot_be_executed_126(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("text")
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    codes = {}
    for command in ("no-such-command-here", str(tmp_path / "none"), str(plain), str(tmp_path), str(broken)):
        with pytest.raises(NotStartedError) as caught:
            start(command)
        codes[command] = caught.value.exit_code
    assert list(codes.values()) == [127, 127, 126, 126, 126]


def test_script_without_an_interpreter_line_is_given_to_the_shell(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('exit "$1"\n')
    script.chmod(0o755)
    assert end_of(start(str(script), "7")).exit_code == 7


def test_cpu_time_of_ended_children_is_counted() -> None:
    status = end_of(start("sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; exit 0"))
    assert status.cpu_us > 10_000


def test_child_starts_with_open_signals_and_a_group_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        child = start(
            "sh",
            "-c",
            "grep SigBlk /proc/self/status; ps -o pgid= -p $$ || cut -d' ' -f5 /proc/$$/stat",
            streams=Streams(stdout_fd=file.fileno()),
        )
        end_of(child)
    blocked, group = out.read_text().splitlines()[:2]
    assert int(blocked.split()[1], 16) == 0
    assert int(group) == child.pid


def test_signal_reaches_the_whole_group_of_the_child(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = "trap 'echo inner; exit' TERM; echo ready; while :; do sleep 0.05; done"
    with out.open("wb") as file:
        child = start(
            "sh",
            "-c",
            f"trap 'wait; exit 5' TERM; ({script}) & wait",
            streams=Streams(stdout_fd=file.fileno()),
        )
        poll_until(lambda: "ready" in out.read_text())
        assert ChildTarget(child.pid, shares_group=False).send(signal.SIGTERM)
        assert end_of(child).exit_code == 5
    poll_until(lambda: "inner" in out.read_text())
    assert not ChildTarget(child.pid, shares_group=False).send(signal.SIGTERM)
