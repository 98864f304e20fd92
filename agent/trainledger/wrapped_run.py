"""The wrapper's own record of a run: its journal, when it began, how the command ended.

The wrapper is a writer of the run like any process. The command's first `init` joins its run by the variables
of `environment`; with an outer wrapper, or a run id from whoever started us, the wrapper joins that run itself.
Wrappers of the ranks of one launch (`mpirun trainledger run -- CMD`) are writers of one run, each with its rank.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from trainledger_schemas.clock import Clock
from trainledger_schemas.ids import id_text, random_id

from .capture import Program, start_capture
from .child import ExitStatus, NotStartedError
from .claims import run_identity, started_claim
from .command_interpreter import find_interpreter
from .identity import choose_run, is_told
from .journal import JournalWriter
from .launch import Launch
from .launch_place import find_launch, is_first_on_node
from .notices import Notices
from .placement import choose_folder
from .redaction import redact_argv
from .settings import PARENT, RUN_ID, WRAPPED, Settings
from .wrapper_claims import command_of_ranks, exit_claim, main_file_of, not_started_claim

if TYPE_CHECKING:
    from .launch_record import LaunchRecord

__all__ = ["WrappedRun", "open_wrapped_run"]


class WrappedRun:
    """An open journal of the wrapper; as a context manager it closes it."""

    def __init__(
        self,
        journal: JournalWriter,
        run_id: bytes,
        *,
        launch: Launch,
        record: "LaunchRecord | None",
        by_write: bool,
        clock: Clock,
    ) -> None:
        self._by_write = by_write
        self.journal = journal
        self.run_id = run_id
        self._launch = launch
        self._record = record
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

    def capture(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the detached capture of code and environment for the command's folder and interpreter.

        `environment`: what the command gets, for its PATH."""
        if not is_first_on_node(self._launch):
            return
        ranks = command_of_ranks(command)
        start_capture(
            self.run_id,
            self.journal.journal_id,
            self.journal.folder.parent,
            append_by_write=self._by_write,
            program=Program(
                redact_argv(list(command)), main_file_of(ranks), find_interpreter(ranks, environment)
            ),
        )

    def ended(self, status: ExitStatus, *, at_us: int, forwarded: Collection[int]) -> None:
        """The command ended at `at_us`, by itself or by a signal."""
        claim = exit_claim(status, at_us=at_us, forwarded=forwarded)
        self._claim(claim)
        if self._record is not None and claim["status"] == "finished":
            self._record.end()

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


def open_wrapped_run(
    settings: Settings, command: Sequence[str], *, clock: Clock, notices: Notices
) -> WrappedRun | None:
    """Open the wrapper's journal and say that the run begins; None, with one notice, if nothing can be recorded."""
    if settings.mode == "disabled":
        return None
    place = choose_folder(settings)
    for reason in place.reasons:
        notices.once(reason, reason)
    if place.folder is None:
        notices.say("nothing is recorded: no folder can be written")
        return None
    launch, record = find_launch(place, number=0, is_told=is_told(settings), command=command)
    membership = choose_run(settings, launch, ids=random_id, resume=None, mark=None, may_join_wrapper=True)
    try:
        journal = JournalWriter.create(
            place,
            run_id=membership.run_id,
            parent_journal=membership.parent_journal,
            settings=settings,
            ids=random_id,
            clock=clock,
        )
    except (OSError, ValueError) as error:
        notices.say(f"nothing is recorded: {place.folder} cannot be written: {error}")
        return None
    claim = started_claim(run_identity(settings, {}), membership, launch, {})
    journal.append_claim(claim | {"role": "wrapper", "argv": redact_argv(list(command))})
    return WrappedRun(
        journal, membership.run_id, launch=launch, record=record, by_write=place.append_by_write, clock=clock
    )
