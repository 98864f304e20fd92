"""`up`, `sync` and `ingest`."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import RetryableError, RetryableSourceError
from trainledger_schemas.structured_log import set_up_log

from ..alert_channels import alert_channels
from ..alert_watch import alert_watch
from ..session_choice import open_sync, open_up
from ..settings import IngestSettings
from .opening import environment, read_settings
from .options import Json
from .output import print_json, stderr_line
from .progress import progress_bar

if TYPE_CHECKING:
    from ..embedded import Embedded

__all__ = ["register"]

IDLE_S = 0.2
_POINTS = (
    "SELECT count() AS runs, sum(points) AS points FROM "
    "(SELECT run_id, sum(points) AS points FROM {views}.metric_summary GROUP BY run_id)"
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up", help="Run agent, tables and local API until Ctrl-C.")(up)
    app.command("sync", help="Read pending journals once, and exit.")(sync)
    app.command("ingest", help="Run a worker from Kafka into the tables until Ctrl-C.")(ingest)


def up(
    home: Annotated[Path | None, typer.Option(help="Folder of spool and tables.")] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="No web page (there is none yet).")] = False,
    restarted_for: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run agent, worker and local API in this process. Ends clean on Ctrl-C or SIGTERM.

    `restarted_for`: for `up` itself, the GPU driver for which it replaced the process before it."""
    del no_page
    settings, channels = read_settings(home), alert_channels(environment())
    stop = stop_on_signals()
    embedded = open_up(settings, say=stderr_line)
    driver = embedded.driver_change(restarted_for)
    is_changed = False
    try:
        alerts = alert_watch(
            embedded.query,
            embedded.views,
            append=embedded.append_admin,
            channels=channels,
            clock=SystemClock(),
            settings=settings,
        )
        with _answering(settings, embedded), alerts.watching():
            while not (stop.is_set() or is_changed):
                if embedded.step() == 0 and not tidy(embedded):
                    stop.wait(IDLE_S)
                is_changed = driver is not None and driver.is_due()
    finally:
        embedded.close(leaving=not is_changed)
    if driver is not None and is_changed and not stop.is_set():
        stderr_line(f"the GPU driver was changed ({driver.version}); beginning anew")
        driver.begin_anew()


@contextmanager
def _answering(settings: IngestSettings, embedded: "Embedded") -> Iterator[None]:
    from ..api import ApiServer

    api = ApiServer(settings.api_socket, embedded, drain=embedded.drain, run_cost=embedded.run_cost)
    try:
        announce(f"ready: journals {settings.node_folder}, home {settings.home}; Ctrl-C ends")
        yield
    finally:
        api.close()


def sync(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Journals; default the node's folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read everything that is pending into the tables, and bring it to Kafka if TRAINLEDGER_KAFKA is set."""
    settings = read_settings()
    if folder is not None:
        settings = settings.with_journals(folder)
    with progress_bar("reading what is pending") as progress:
        session = open_sync(settings, say=stderr_line, progress=progress)
    published: bool | None
    if session is None:
        from ..embedded import sync_node

        report = sync_node(settings)
        if report.left_to:
            stderr_line(report.left_to)
        rows = [{"journals_read": report.journals_read, "points": report.points}]
        text = (
            f"read {report.journals_read} journals, {report.points} points; the tables are filled from Kafka"
        )
        published = report.published
    else:
        try:
            rows = session.query(_POINTS.format(views=session.views)).to_pylist()
            published = session.publish()
        finally:
            session.close()
        text = f"up to date: {rows[0]['points']} points of {rows[0]['runs']} runs with metrics"
    if as_json:
        print_json([{**rows[0], "published": published}])
    else:
        typer.echo(text)
    if published is False:
        raise RetryableSourceError(
            "the broker has not taken everything yet; it stays in the spool, run this again"
        )


def ingest(
    home: Annotated[
        Path | None, typer.Option(help="Embedded tables here instead of a ClickHouse server.")
    ] = None,
    group: Annotated[
        str, typer.Option(help="Consumer group; workers of one group share partitions.")
    ] = "trainledger",
    once: Annotated[bool, typer.Option("--once", help="Read to the present end, then exit.")] = False,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve Prometheus text on http://HOST:PORT/metrics."),
    ] = None,
) -> None:
    """Consume Kafka into ClickHouse (TRAINLEDGER_CLICKHOUSE) or into embedded tables (--home)."""
    # Loaded here: the Kafka client costs every other command 0.3 s.
    from ..ingest_daemon import IngestOptions, run_ingest

    stop = stop_on_signals()
    set_up_log(sys.stderr)
    options = IngestOptions(group, once, metrics, tuple(alert_channels(environment())))
    run_ingest(read_settings(home), options, stop=stop, announce=announce)


def announce(line: str) -> None:
    """One line on stdout at once, for whoever waits for it."""
    typer.echo(line)
    sys.stdout.flush()


def tidy(embedded: "Embedded") -> bool:
    """Use an idle moment; a full disk must not end `up`."""
    try:
        return embedded.tidy()
    except (OSError, RetryableError) as error:
        stderr_line(f"the log could not be compressed, or manifests not be indexed: {error}")
        return False


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set; a second one ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop
