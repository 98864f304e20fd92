"""A command in a terminal of its own: what it prints is kept, and it sees a terminal as before.

    our terminal (raw) --stdin--> near side | far side --> command
                       <--stdout-- near side | far side <--

The outer terminal is raw while the command runs: keys, Ctrl-C and Ctrl-Z too, go as bytes to the inner
terminal, which turns them into signals for the command alone. The inner one has the outer one's size and
settings. Limits: stdout and stderr are one stream here; when the wrapper dies, the inner terminal hangs up and
the command gets SIGHUP.
"""

import errno
import fcntl
import os
import termios
import tty
from types import TracebackType
from typing import Self

__all__ = ["KeyForwarder", "Pty", "RawMode", "copy_window_size", "is_foreground_terminal"]

KEYS_BYTES = 4096
_WINDOW_SIZE_BYTES = 8
_END_OF_INPUT = b"\x04"


def is_foreground_terminal(fd: int) -> bool:
    """Whether `fd` is our terminal and we are its foreground job: a background job must leave it alone."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


def copy_window_size(from_fd: int, to_fd: int) -> None:
    """Give one terminal the size of another; the kernel tells its foreground job by SIGWINCH."""
    try:
        size = fcntl.ioctl(from_fd, termios.TIOCGWINSZ, bytes(_WINDOW_SIZE_BYTES))
        fcntl.ioctl(to_fd, termios.TIOCSWINSZ, size)
    except OSError:
        pass  # a terminal without a size (a serial line) leaves the inner one at its default


class Pty:
    """A new terminal like the one at `outer_fd`; the command opens `far_path`, we hold `near_fd`."""

    def __init__(self, outer_fd: int) -> None:
        self.near_fd, self._far_fd = os.openpty()
        os.set_inheritable(self.near_fd, False)
        self.far_path = os.ttyname(self._far_fd)
        try:
            termios.tcsetattr(self._far_fd, termios.TCSANOW, termios.tcgetattr(outer_fd))
        except termios.error:
            pass  # the defaults of a new terminal are good enough
        copy_window_size(outer_fd, self._far_fd)

    def close_far(self) -> None:
        """Let go of our opening of the far side, once the command has its own."""
        os.close(self._far_fd)


class RawMode:
    """The outer terminal in raw mode; `leave` and `enter` may be called again and again."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before = termios.tcgetattr(fd)

    def enter(self) -> None:
        """Pass every key on."""
        tty.setraw(self._fd, termios.TCSADRAIN)

    def leave(self) -> None:
        """As it was."""
        try:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        except termios.error:
            pass  # the terminal has hung up: there is nothing left to put right

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class KeyForwarder:
    """Keys from our stdin to the near side of the command's terminal; never blocks."""

    def __init__(self, from_fd: int, to_fd: int) -> None:
        self._from_fd = from_fd
        self._to_fd = to_fd
        self._waiting = b""
        self._is_open = True

    def poll_fd(self) -> int | None:
        """What to wait on for more keys; None while the command does not take those it has."""
        return self._from_fd if self._is_open and not self._waiting else None

    def pump(self, *, is_readable: bool) -> None:
        """Move what can be moved; `is_readable` says that a read would not block."""
        if is_readable and self._is_open and not self._waiting:
            self._waiting = self._read()
        if not self._waiting:
            return
        try:
            self._waiting = self._waiting[os.write(self._to_fd, self._waiting) :]
        except BlockingIOError:
            pass  # the command is not reading; later
        except OSError:
            self._waiting = b""  # the far side is closed
            self._is_open = False

    def _read(self) -> bytes:
        try:
            keys = os.read(self._from_fd, KEYS_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # our terminal has hung up
                raise
            keys = b""
        if not keys:
            self._is_open = False
            return _END_OF_INPUT
        return keys
