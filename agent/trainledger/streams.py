"""Which way each stream of a wrapped command goes: through a file, a pipe, or a terminal of its own.

- stdin and stdout are our terminal and we are in its foreground: an inner terminal; stderr too, if it is one;
- else files in the journal's folder: the command never waits for us and outlives us;
- else pipes, when files cannot be (no room, no holes, a limit on sizes), which is said once.
"""

import os
from collections.abc import Callable
from pathlib import Path

from .child import Streams
from .output import Channel, ControlSink, CopyThrough, LogRecorder, OutputFile, OutputPipe, why_no_files
from .terminal import Pty, is_foreground_terminal

__all__ = ["OpenStreams", "open_streams"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class OpenStreams:
    """The streams of one command: `for_child` to start it with, `channels` to follow, `pty` if there is one."""

    def __init__(self, folder: Path, sink: ControlSink, *, redact: Callable[[str], str]) -> None:
        self._folder = folder
        self._sink = sink
        self._redact = redact
        self._write_fds: list[int] = []
        self.channels: list[Channel] = []
        self.pty: Pty | None = None
        self.why_pipes: str | None = None
        self.for_child = Streams()

    def open(self) -> None:
        """Open everything; raises OSError."""
        stdout_fd = stderr_fd = None
        if is_foreground_terminal(_STDIN) and os.isatty(_STDOUT):
            self.pty = Pty(_STDIN)
            # Its own descriptor: the channel closes it at the hang-up, keys and sizes still use the other.
            self._add("stdout", OutputPipe(os.dup(self.pty.near_fd)), _STDOUT)
            terminal = self.pty.far_path
        else:
            terminal = None
            stdout_fd = self._open_stream("stdout", _STDOUT)
        if self.pty is None or not os.isatty(_STDERR):
            stderr_fd = self._open_stream("stderr", _STDERR)
        self.for_child = Streams(stdout_fd, stderr_fd, terminal)

    def close_child_side(self) -> None:
        """Let go of what only the command needs, once it has started or failed to."""
        for fd in self._write_fds:
            os.close(fd)
        self._write_fds.clear()
        if self.pty is not None:
            self.pty.close_far()

    def _open_stream(self, name: str, own_fd: int) -> int:
        if self.why_pipes is None:
            self.why_pipes = why_no_files(self._folder) or ""
        source: OutputFile | OutputPipe
        if self.why_pipes:
            read_fd, write_fd = os.pipe()
            source = OutputPipe(read_fd)
        else:
            source = OutputFile(self._folder / f"{name}.out")
            write_fd = source.write_fd
        self._write_fds.append(write_fd)
        self._add(name, source, own_fd)
        return write_fd

    def _add(self, name: str, source: OutputFile | OutputPipe, own_fd: int) -> None:
        recorder = LogRecorder(self._sink, name, redact=self._redact)
        self.channels.append(Channel(source, CopyThrough(own_fd), recorder))


def open_streams(folder: Path, sink: ControlSink, *, redact: Callable[[str], str]) -> OpenStreams:
    """The open streams of a command whose journal is in `folder`; raises OSError."""
    streams = OpenStreams(folder, sink, redact=redact)
    streams.open()
    return streams
