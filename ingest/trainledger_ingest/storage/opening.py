"""Opening the product's tables: in a home's folder, or on a server."""

from ..settings import IngestSettings
from ..tables_place import VIEWS
from .chdb import ChdbStore
from .clickhouse import ClickHouseStore

__all__ = ["open_server", "open_tables"]


def open_tables(settings: IngestSettings) -> ChdbStore:
    """The embedded tables of the home; the caller holds the home's lock."""
    return ChdbStore.open(settings.tables, database=VIEWS, memory_bytes_max=settings.engine_memory_bytes)


def open_server(url: str) -> ClickHouseStore:
    """The tables on a ClickHouse server."""
    return ClickHouseStore.open(url, database=VIEWS)
