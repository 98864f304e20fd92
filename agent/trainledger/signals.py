"""Signals as values: blocked and waited for, never handled in between.

A handler runs between any two instructions and cannot tell who sent a signal. With the signals blocked and
taken by `sigtimedwait`, one loop does everything, its pause is the wait, and the origin is known: a Ctrl-C
that the terminal already gave to the child (same process group) must not reach it a second time.
"""

import os
import signal
from types import TracebackType
from typing import Self

__all__ = ["FORWARDED", "ChildTarget", "SignalGate"]

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class SignalGate:
    """Block the signals that are to be forwarded, and hand them out one by one.

    A signal that was ignored when the process began (nohup, a background job of a script) stays ignored, for
    the child as well. `child_mask` and `child_defaults` are what a child must be started with.
    """

    def __init__(self) -> None:
        self._watched = {number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}
        self._watched |= {signal.SIGCHLD, signal.SIGWINCH}
        self.child_mask: set[int] = set()
        # The interpreter ignores these for itself; a program expects the system's default.
        self.child_defaults = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGWINCH}
        self.child_defaults |= self._watched

    def __enter__(self) -> Self:
        # With SIGCHLD ignored the kernel would reap the child and its exit code would be lost.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.child_mask = {int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What still waits was meant for a child that is gone: taken, or it would end this process late.
        while self.wait(0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self.child_mask)

    def wait(self, seconds: float) -> signal.struct_siginfo | None:
        """The next signal, or None after `seconds` without one."""
        return signal.sigtimedwait(self._watched, seconds)


class ChildTarget:
    """Where a forwarded signal goes: the child's process group, or the child alone if it shares ours."""

    def __init__(self, pid: int, *, shares_group: bool) -> None:
        self._pid = pid
        self._shares_group = shares_group

    def forward(self, info: signal.struct_siginfo) -> bool:
        """Send the signal on; False when the child already has it from the terminal, or is gone."""
        from_terminal = info.si_code > 0
        if self._shares_group and from_terminal:
            return False
        return self.send(info.si_signo)

    def send(self, number: int) -> bool:
        """Send a signal; False when the child is gone."""
        try:
            if self._shares_group:
                os.kill(self._pid, number)
            else:
                os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True
