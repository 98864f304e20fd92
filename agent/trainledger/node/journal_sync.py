"""`trainledger sync`: read pending journals once.

    trainledger sync [DIR] [--json]

With the tables installed (extra `embedded`) the command behind the entry point group `trainledger.tables` does it:
journals to spool, tables, and Kafka if it is set. With the agent alone (extra `agent`) it is done here: journals
to spool, and to Kafka if TRAINLEDGER_KAFKA is set. A folder that a live agent reads is left to it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from trainledger.node.daemon import NodeAgent
from trainledger.node.node_settings import AgentSettings
from trainledger.node.reader_lock import STAYING_KINDS
from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import HomeLockedError, RetryableSourceError, TrainledgerError
from trainledger_schemas.structured_log import quiet_libraries

__all__ = ["SyncReport", "main", "sync_journals"]

TABLES_GROUP = "trainledger.tables"
PUBLISH_S = 60.0
_OUR_PACKAGES = frozenset({"trainledger", "trainledger_ingest", "trainledger_schemas"})

TablesCommand = Callable[[list[str]], int]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What was read. `published`: whether the broker has all of the spool; None without Kafka.

    `left_to`: who reads the journals instead, as words for a person; empty if they were read."""

    journals_read: int
    points: int
    published: bool | None
    left_to: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; `argv` is what follows `sync`. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    tables, why_not = _tables_command()
    if tables is not None:
        return tables(["sync", *arguments])
    quiet_libraries()
    parsed = _parser().parse_args(arguments)
    settings = AgentSettings.from_env()
    if parsed.folder is not None:
        settings = replace(settings, node_folder=Path(parsed.folder).absolute())
    report = sync_journals(settings, home=settings.home, clock=SystemClock())
    # The command line of the tables says the same in its own way.
    sys.stderr.write(f"trainledger: {report.left_to or f'the tables were left out: {why_not}'}\n")
    row = {"journals_read": report.journals_read, "points": report.points, "published": report.published}
    text = f"read {report.journals_read} journals, {report.points} points"
    sys.stdout.write((json.dumps([row]) if parsed.json else text) + "\n")
    if report.published is False:
        raise RetryableSourceError(
            "the broker has not taken everything yet; it stays in the spool, run this again"
        )
    return 0


def sync_journals(settings: AgentSettings, *, home: Path, clock: Clock) -> SyncReport:
    """Read what the journals hold into the spool of `home`, and publish it if Kafka is set.

    Waits for another one-shot. Blocks for up to PUBLISH_S for the broker. Raises as `NodeAgent.open` does, but
    not for a folder that a live agent or `up` reads: that is left to it, and the report says so."""
    try:
        agent = NodeAgent.open(home, settings.node_folder, kind="one-shot", settings=settings, clock=clock)
    except HomeLockedError as error:
        if error.kind not in STAYING_KINDS:
            raise
        owner = (
            f"process {error.pid} ({error.kind})"
            if error.pid
            else "an agent of another user (not seen running)"
        )
        return SyncReport(0, 0, None, f"left to {owner}: {error}")
    try:
        report = agent.one_shot()
        published = agent.publish(PUBLISH_S) if settings.kafka is not None else None
        if agent.failure is not None:
            raise agent.failure
        agent.upload(PUBLISH_S)
    finally:
        agent.close(leaving=False)
    return SyncReport(report.journals_read, report.points, published)


def _tables_command() -> tuple[TablesCommand | None, str]:
    """The command that fills tables too; None and the reason where that part is not installed."""
    for point in entry_points(group=TABLES_GROUP, name="sync"):
        try:
            return cast(TablesCommand, point.load()()), ""
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in _OUR_PACKAGES:
                raise TrainledgerError(
                    f'the installation is broken: {error.name} is missing; install again: pip install "trainledger"'
                ) from error
            return None, f'{missing} is not installed (pip install "trainledger[embedded]")'
    return None, 'pip install "trainledger[embedded]"'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainledger sync",
        description="Read pending journals once: into the spool, and to Kafka if TRAINLEDGER_KAFKA is set.",
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", help="journals; default the node's folder")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    return parser
