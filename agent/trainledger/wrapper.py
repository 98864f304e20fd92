"""`trainledger run -- CMD ...`: run any command as a run of the ledger.

Guarantees: the command gets the same arguments, environment (plus three variables), stdin, signals and, on a
terminal, a terminal; we exit with its exit code. If nothing can be recorded the command runs all the same. When
we are killed the command goes on, except on a terminal and through pipes (see `streams`).
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from trainledger_schemas.clock import Clock, SystemClock

from .child import Child, ExitStatus, NotStartedError, Streams, start_child
from .notices import Notices
from .redaction import redact
from .run_options import USAGE, parse_run_options
from .settings import Settings, process_environment
from .signals import ChildTarget, SignalGate
from .streams import OpenStreams, open_streams
from .supervisor import Supervisor, TerminalLink
from .terminal import RawMode, is_foreground_terminal
from .wrapped_run import WrappedRun, open_wrapped_run

__all__ = ["main"]

_STDIN = 0
READ_POLL_S = 0.05


def main(arguments: Sequence[str]) -> int:
    """Serve `trainledger run` with the arguments behind `run`; returns the exit code of the command.

    Raises UsageError for a wrong command line.
    """
    options = parse_run_options(arguments)
    if not options.command:
        sys.stdout.write(USAGE)
        return 0
    _fill_standard_descriptors()
    environment = dict(process_environment()) | options.settings
    settings = Settings.from_env(environment)
    notices = Notices()
    for warning in settings.warnings:
        notices.once(warning, warning)
    with SignalGate() as gate:
        clock = SystemClock()
        run = open_wrapped_run(settings, options.command, clock=clock, notices=notices)
        wrapper = _Wrapper(options.command, gate=gate, clock=clock, notices=notices)
        if run is None:
            return wrapper.run_unrecorded(environment)
        code = wrapper.run_recorded(environment, run)
        wrapper.wait_until_read(run, settings.finish_wait_s)
        return code


class _Wrapper:
    """One command, with what it takes to run it."""

    def __init__(self, command: Sequence[str], *, gate: SignalGate, clock: Clock, notices: Notices) -> None:
        self._command = command
        self._gate = gate
        self._clock = clock
        self._notices = notices
        # A command that reads our terminal must be in its foreground group, which is ours.
        self._shares_group = is_foreground_terminal(_STDIN)

    def run_unrecorded(self, environment: dict[str, str]) -> int:
        """The command alone, with our streams."""
        try:
            child = self._start(environment, Streams())
        except NotStartedError as error:
            self._notices.say(str(error))
            return error.exit_code
        target = ChildTarget(child.pid, shares_group=self._shares_group)
        return self._supervise(child, target, None).shell_code

    def run_recorded(self, environment: dict[str, str], run: WrappedRun) -> int:
        """The command as a run, from its beginning to its end."""
        with run:
            try:
                streams = open_streams(run.folder, run.journal, redact=redact)
            except OSError as error:
                self._notices.say(f"output is not recorded: {run.folder}: {error.strerror}")
                streams = OpenStreams(run.folder, run.journal, redact=redact)
            if streams.why_pipes:
                self._notices.say(
                    f"output goes through a pipe: {streams.why_pipes}; the command ends if this process is killed"
                )
            run.capture(self._command, environment)
            try:
                child = self._start(environment | run.environment, streams.for_child)
            except NotStartedError as error:
                run.not_started(error)
                self._notices.say(str(error))
                return error.exit_code
            finally:
                streams.close_child_side()
            has_own_group = streams.pty is not None or not self._shares_group
            target = ChildTarget(child.pid, shares_group=not has_own_group)
            with ExitStack() as stack:
                supervisor = self._supervisor(child, target, streams, stack)
                status = supervisor.run()
            run.ended(status, at_us=supervisor.ended_at_us, forwarded=supervisor.forwarded)
            self._tell_unkept(streams, run)
        return status.shell_code

    def wait_until_read(self, run: WrappedRun, seconds: float) -> None:
        """Wait up to `seconds` until an agent has read the journals, which may go with their pod. Ctrl-C ends it."""
        if not seconds:
            return
        # Not at the top: only who waits needs it.
        from .unread_journals import is_unread

        end_ns = self._clock.monotonic_ns() + round(seconds * 1e9)
        while is_unread(run.folder, run.journal.journal_id) and self._clock.monotonic_ns() < end_ns:
            info = self._gate.wait(READ_POLL_S)
            if info is not None and info.si_signo in (signal.SIGINT, signal.SIGQUIT):
                return

    def _tell_unkept(self, streams: OpenStreams, run: WrappedRun) -> None:
        lines = sum(channel.unkept_lines for channel in streams.channels)
        if lines:
            count = sum(channel.unkept_bytes for channel in streams.channels)
            self._notices.say(
                f"{count:,} bytes of output in {lines:,} lines were passed on but not kept (a line is kept to 1 MiB, "
                "a stream up to 64 MiB ahead of us); `trainledger logs` says where they are missing"
            )
        if run.journal.dropped_points:
            self._notices.say(f"{run.journal.dropped_points:,} lines of output were dropped for want of room")

    def _start(self, environment: dict[str, str], streams: Streams) -> Child:
        return start_child(
            self._command, environment, streams=streams, shares_group=self._shares_group, gate=self._gate
        )

    def _supervise(self, child: Child, target: ChildTarget, streams: OpenStreams | None) -> ExitStatus:
        with ExitStack() as stack:
            return self._supervisor(child, target, streams, stack).run()

    def _supervisor(
        self, child: Child, target: ChildTarget, streams: OpenStreams | None, stack: ExitStack
    ) -> Supervisor:
        link = None
        if streams is not None and streams.pty is not None:
            raw = stack.enter_context(RawMode(_STDIN))
            link = TerminalLink(_STDIN, streams.pty.near_fd, raw)
        channels = [] if streams is None else streams.channels
        return Supervisor(child, target, channels=channels, gate=self._gate, clock=self._clock, terminal=link)


def _fill_standard_descriptors() -> None:
    """Open /dev/null for those of 0, 1, 2 that are closed, or the next file that we open would be one of them."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)
