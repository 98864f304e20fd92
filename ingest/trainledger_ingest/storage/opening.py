"""Opening the product's tables: in a home's folder, or on a server."""

from pathlib import Path

from trainledger_schemas.errors import UsageError

from ..settings import IngestSettings
from .chdb import ChdbStore
from .clickhouse import ClickHouseStore

__all__ = ["VIEWS", "are_fed_by_kafka", "mark_fed_by_kafka", "open_server", "open_tables"]

_KAFKA_MARK = "tables-from-kafka"
_LOG_ID = Path("spool") / "log.id"

VIEWS = "trainledger"
"""The database of the public views; those of the tables are named after it."""


def open_tables(settings: IngestSettings) -> ChdbStore:
    """The embedded tables of the home; the caller holds the home's lock."""
    return ChdbStore.open(settings.tables, database=VIEWS, memory_bytes_max=settings.engine_memory_bytes)


def open_server(url: str) -> ClickHouseStore:
    """The tables on a ClickHouse server."""
    return ClickHouseStore.open(url, database=VIEWS)


def are_fed_by_kafka(home: Path) -> bool:
    """Whether `trainledger ingest` fills the tables of this home; else they are filled from its own spool."""
    return (home / _KAFKA_MARK).exists()


def mark_fed_by_kafka(home: Path) -> None:
    """Say so, for good; raises UsageError for a home whose tables are filled from its own spool."""
    if (home / _LOG_ID).exists():
        raise UsageError(
            f"the tables in {home} are filled from the spool of this node; two logs do not go into one ledger. "
            "Give `ingest` another folder with --home"
        )
    (home / _KAFKA_MARK).touch()
