"""The wrapper's own record of a run: its journal, when it began, how the command ended.

The wrapper is a writer of the run like any process. The command's first `init` joins its run by the variables
of `environment`; with an outer wrapper, or a run id from whoever started us, the wrapper joins that run itself.
"""

import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trainledger_schemas.clock import Clock
from trainledger_schemas.ids import id_text

from .child import ExitStatus, NotStartedError
from .journal import JournalWriter
from .settings import PARENT, RUN_ID, WRAPPED
from .wrapper_claims import exit_claim, not_started_claim

__all__ = ["WrappedRun", "open_wrapped_run"]


class WrappedRun:
    """An open journal of the wrapper; as a context manager it closes it."""

    def __init__(self, journal: JournalWriter, run_id: bytes, *, clock: Clock) -> None:
        self.journal = journal
        self.run_id = run_id
        self._clock = clock

    @property
    def folder(self) -> Path:
        """The journal's folder."""
        return self.journal.folder

    @property
    def environment(self) -> dict[str, str]:
        """What the command gets so that its first `init` joins this run."""
        return {
            RUN_ID: id_text(self.run_id),
            PARENT: f"{os.getpid()}:{id_text(self.journal.journal_id)}",
            WRAPPED: "1",
        }

    def ended(self, status: ExitStatus, forwarded: Collection[int]) -> None:
        """The command ended by itself or by a signal."""
        self._claim(exit_claim(status, at_us=self._now_us(), forwarded=forwarded))

    def not_started(self, error: NotStartedError) -> None:
        """The command could not be started."""
        self._claim(not_started_claim(error, at_us=self._now_us()))

    def _claim(self, claim: dict[str, Any]) -> None:
        self.journal.append_claim(claim)

    def _now_us(self) -> int:
        return self._clock.wall_ns() // 1000

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.close()
