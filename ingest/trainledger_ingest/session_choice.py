"""Which session fits the settings of a command, and opening it: see `open_session`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import HomeLockedError, RetryableError, UsageError

from .home_lock import HomeLock
from .remote_session import RemoteSession
from .session import Progress, Say, Session
from .settings import IngestSettings
from .tables_place import VIEWS, are_fed_by_kafka

if TYPE_CHECKING:
    from .embedded import Embedded
    from .tables_session import Reader, TablesReader

# The engines and the agent are loaded where they are used: beside a live `up` a command needs neither of them, and
# they take half a second.

__all__ = ["is_cheap_to_open", "open_session", "open_sync", "open_up", "peek_session"]

ONE_SHOT_WAIT_S = 120.0
UP_WAIT_S = 30.0
POLL_S = 0.1


def open_session(settings: IngestSettings, *, say: Say, progress: Progress | None = None) -> Session:
    """A cluster's ClickHouse if one is set, tables that `ingest` fills here, the API of a live `up`, or this process
    as owner of the home for as long as the command takes. It covers everything written before the call."""
    clock = SystemClock()
    if settings.clickhouse is not None:
        url = settings.clickhouse
        return _cluster_session(
            settings, lambda: _read_server(url, settings.kafka), say=say, are_filled_now=True
        )
    if are_fed_by_kafka(settings.home):
        return _cluster_session(settings, lambda: _read_home(settings, clock), say=say, are_filled_now=False)
    if settings.kafka is not None and not settings.tables.is_dir():
        # Nothing was ever asked here: a price is for the cluster, and must not make this home one of its own.
        return _cluster_session(
            settings, lambda: _open_embedded(settings, clock, say, progress), say=say, are_filled_now=False
        )
    return _open_embedded(settings, clock, say, progress)


def peek_session(settings: IngestSettings, *, say: Say) -> Session:
    """As `open_session`, but beside a live `up` it asks for what its tables have and does not make it read, sample and
    bill first: that is a second old at most, and costs a query."""
    is_embedded = settings.clickhouse is None and not are_fed_by_kafka(settings.home)
    if is_embedded and HomeLock.owner_kind(settings.home) == "up":
        return RemoteSession(settings.api_socket, views=VIEWS)
    return open_session(settings, say=say)


def open_sync(settings: IngestSettings, *, say: Say, progress: Progress | None = None) -> Session | None:
    """The session that fills this node's own tables with all that is pending; None where others fill them."""
    if settings.clickhouse is not None or are_fed_by_kafka(settings.home):
        return None
    return _open_embedded(settings, SystemClock(), say, progress)


def open_up(settings: IngestSettings, *, say: Say) -> "Embedded":
    """Take the home as `up`: another `up` is refused at once, a one-shot is waited for."""
    from .embedded import Embedded

    if are_fed_by_kafka(settings.home):
        raise UsageError(
            f"the tables in {settings.home} are filled from Kafka by `trainledger ingest`; "
            "give `up` another folder with --home"
        )
    return Embedded.open(settings, kind="up", wait_s=UP_WAIT_S, say=say)


def is_cheap_to_open(settings: IngestSettings) -> bool:
    """Whether a session asks a server or a live `up`, and does not open the tables itself."""
    return settings.clickhouse is not None or HomeLock.owner_kind(settings.home) == "up"


def _open_embedded(settings: IngestSettings, clock: Clock, say: Say, progress: Progress | None) -> Session:
    deadline_ns = clock.monotonic_ns() + int(ONE_SHOT_WAIT_S * 1e9)
    while True:
        try:
            if HomeLock.owner_kind(settings.home) == "up":
                return RemoteSession.open(settings.api_socket, views=VIEWS)
            from .embedded import Embedded

            embedded = Embedded.open(settings, kind="one-shot", wait_s=1.0, clock=clock, say=say)
        except (HomeLockedError, RetryableError):
            # Somebody else was first, or `up` is starting or ending: look again who has it.
            if clock.monotonic_ns() > deadline_ns:
                raise
            clock.sleep(POLL_S)
            continue
        try:
            embedded.drain(progress)
        except BaseException:
            embedded.close()
            raise
        return embedded


def _cluster_session(
    settings: IngestSettings, open_reader: "Callable[[], Reader]", *, say: Say, are_filled_now: bool
) -> Session:
    from .embedded import AdminSender
    from .tables_session import TablesSession

    sender = AdminSender(settings.kafka)
    return TablesSession(
        open_reader,
        send=sender.send,
        release=sender.close,
        say=say,
        clock=SystemClock(),
        are_filled_now=are_filled_now,
    )


def _read_server(url: str, kafka: str | None) -> "TablesReader":
    from .storage.migrate import migrate
    from .storage.opening import open_server
    from .tables_session import TablesReader

    store = open_server(url)
    return TablesReader(store, migrate(store), kafka=kafka, release=lambda: None)


def _read_home(settings: IngestSettings, clock: Clock) -> "TablesReader":
    from .storage.migrate import migrate
    from .storage.opening import open_tables
    from .tables_session import TablesReader

    # A worker that fills them has them for itself, for as long as it lives: waiting would be for nothing.
    wait_s = 0.0 if HomeLock.owner_kind(settings.home) == "ingest" else ONE_SHOT_WAIT_S
    lock = HomeLock.acquire(settings.home, kind="one-shot", wait_s=wait_s, clock=clock)
    try:
        store = open_tables(settings)
        return TablesReader(store, migrate(store), kafka=settings.kafka, release=lock.release)
    except BaseException:
        lock.release()
        raise
