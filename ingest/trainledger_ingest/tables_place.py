"""Where the tables stand and who fills them, without opening them."""

from pathlib import Path

from trainledger_schemas.errors import UsageError

__all__ = ["VIEWS", "are_fed_by_kafka", "mark_fed_by_kafka"]

VIEWS = "trainledger"
"""The database of the public views; those of the tables are named after it."""

_KAFKA_MARK = "tables-from-kafka"
_LOG_ID = Path("spool") / "log.id"


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
