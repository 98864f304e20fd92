"""What the processes beside a training share: leaving their starter, a time limit, a journal of their own."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Protocol

from trainledger_schemas.clock import Clock
from trainledger_schemas.ids import random_id

from .journal import JournalWriter
from .placement import Placement
from .settings import Settings, process_environment

__all__ = ["TimeUpError", "create_journal", "detach", "limit_time"]


class TimeUpError(BaseException):
    """The time limit is over; thrown into whatever runs, past every `except Exception` there."""


class JournalRequest(Protocol):
    """Where the journal goes, and whose it is."""

    @property
    def uid_folder(self) -> Path: ...
    @property
    def run_id(self) -> bytes: ...
    @property
    def parent_journal(self) -> bytes: ...
    @property
    def append_by_write(self) -> bool: ...


def detach(niceness: int) -> None:
    """Leave the session, folder and descriptors of the starter behind."""
    os.setsid()
    os.nice(niceness)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    if null > 2:
        os.close(null)


def limit_time(seconds: int) -> None:
    """Raise TimeUpError in the main thread after so many seconds, unless the alarm is set anew."""
    signal.signal(signal.SIGALRM, _raise_time_up)
    signal.alarm(seconds)


def create_journal(request: JournalRequest, clock: Clock) -> JournalWriter:
    """A journal beside the starter's, which it names as parent; raises OSError when that cannot be."""
    return JournalWriter.create(
        Placement(request.uid_folder, (), request.append_by_write, None),
        run_id=request.run_id,
        parent_journal=request.parent_journal,
        settings=Settings.from_env(process_environment()),
        ids=random_id,
        clock=clock,
    )


def _raise_time_up(number: int, frame: FrameType | None) -> None:
    raise TimeUpError
