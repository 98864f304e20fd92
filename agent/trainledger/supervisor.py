"""One loop for a running command: its output, its keys, its signals, its end.

Nothing in the loop blocks but its one wait, which ends with the next output, key or signal. It returns when the
command itself has ended and what was written until then is read and copied; processes that the command left in
the background do not hold it.
"""

import os
import select
import signal
from collections.abc import Sequence

from trainledger_schemas.clock import Clock

from .child import Child, ExitStatus
from .output import Channel
from .signals import ChildTarget, SignalGate
from .terminal import KeyForwarder, RawMode, copy_window_size

__all__ = ["Supervisor", "TerminalLink"]

# The wait between two looks at the output files: short while something comes, long while nothing does.
PAUSE_S_MIN = 0.005
PAUSE_S_MAX = 0.1
# With descriptors to wait on, signals are looked at this often.
SIGNAL_CHECK_S = 0.05
_ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})


class TerminalLink:
    """The outer terminal of a command that has an inner one: size, raw mode, keys."""

    def __init__(self, outer_fd: int, inner_fd: int, raw: RawMode) -> None:
        self._outer_fd = outer_fd
        self._inner_fd = inner_fd
        self._raw = raw
        self.keys = KeyForwarder(outer_fd, inner_fd)

    def resize(self) -> None:
        """Give the inner terminal the outer one's new size."""
        copy_window_size(self._outer_fd, self._inner_fd)

    def stop_with_child(self, target: ChildTarget) -> None:
        """The command was stopped (Ctrl-Z): stop as well, so that the shell gets its terminal back."""
        self._raw.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        # Here the shell has continued us.
        self._raw.enter()
        self.resize()
        target.send(signal.SIGCONT)


class Supervisor:
    """See the module. `forwarded` are the signals that were sent on to the command; it ended at `ended_at_us`."""

    def __init__(
        self,
        child: Child,
        target: ChildTarget,
        *,
        channels: Sequence[Channel],
        gate: SignalGate,
        clock: Clock,
        terminal: TerminalLink | None = None,
    ) -> None:
        self._child = child
        self._target = target
        self._channels = channels
        self._gate = gate
        self._clock = clock
        self._terminal = terminal
        self._pause_s = PAUSE_S_MIN
        self.forwarded: set[int] = set()
        self.ended_at_us = 0

    def run(self) -> ExitStatus:
        """Until the command has ended and its output is through."""
        while True:
            moved = self._pump()
            status = self._child.poll()
            if status is not None:
                break
            if self._terminal is not None and self._child.has_stopped():
                self._terminal.stop_with_child(self._target)
            self._wait(moved)
        # Not later: to read what it left behind takes our time, not the command's.
        self.ended_at_us = self._now_us()
        for channel in self._channels:
            channel.source.stop_at_present_end()
        self._drain()
        for channel in self._channels:
            channel.close(self._now_us())
        return status

    def _pump(self) -> bool:
        now_us = self._now_us()
        moved = False
        for channel in self._channels:
            moved |= channel.pump(now_us)
        return moved

    def _drain(self) -> None:
        while not all(channel.is_drained() for channel in self._channels):
            if self._pump():
                continue
            info = self._gate.wait(PAUSE_S_MIN)
            if info is not None and info.si_signo in _ENDING:
                # The command is gone and the reader of our output stands still: the signal is meant for us.
                for channel in self._channels:
                    channel.copy.give_up()

    def _wait(self, moved: bool) -> None:
        """Wait for output, keys or signals; hand on the last two."""
        readable = [fd for channel in self._channels if (fd := channel.source.poll_fd()) is not None]
        writable = [channel.copy.fd for channel in self._channels if channel.copy.is_waiting]
        keys_fd = None if self._terminal is None else self._terminal.keys.poll_fd()
        self._pause_s = PAUSE_S_MIN if moved else min(self._pause_s * 2, PAUSE_S_MAX)
        pause_s = 0.0 if moved else self._pause_s
        is_key_there = False
        if readable or writable or keys_fd is not None:
            if writable:
                readable = []  # not read while the reader of our output stands still
            inputs = readable if keys_fd is None else [*readable, keys_fd]
            ready, _, _ = select.select(inputs, writable, [], min(pause_s, SIGNAL_CHECK_S))
            is_key_there = keys_fd in ready
            pause_s = 0.0
        if self._terminal is not None:
            self._terminal.keys.pump(is_readable=is_key_there)
        while (info := self._gate.wait(pause_s)) is not None:
            self._hand_on(info)
            pause_s = 0.0

    def _hand_on(self, info: signal.struct_siginfo) -> None:
        if info.si_signo == signal.SIGWINCH:
            if self._terminal is not None:
                self._terminal.resize()
        elif info.si_signo != signal.SIGCHLD and self._target.forward(info):
            self.forwarded.add(info.si_signo)

    def _now_us(self) -> int:
        return self._clock.wall_ns() // 1000
