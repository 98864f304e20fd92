"""Settings of the worker and of its Kafka reader: meaning, unit, default, range and reason of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.errors import SettingsError
from trainledger_schemas.events import TOPICS

__all__ = ["KafkaSourceSettings", "WorkerSettings"]


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How batches are cut and when things are tried again."""

    pending: Path | None = None
    """Folder of the intents (`<home>/pending`); needed when the source keeps none itself (the spool)."""

    batch_points: int = 400_000
    """Rows after which a batch closes, 1 to 5,000,000: the engine's merges cost more than its inserts, and larger
    batches need fewer of them (200,000 cost a fifth more CPU over a backlog); 400,000 are about 40 MB."""

    batch_bytes: int = 64 << 20
    """Encoded bytes after which a batch closes, 1 MiB to 1 GiB: bounds memory, with log lines above all."""

    batch_age_s: float = 1.0
    """Seconds after its first record when a batch closes, 0 to 60: how fresh tables are."""

    retry_s_min: float = 0.5
    """First wait after a store or source could not be reached, in seconds; doubles up to `retry_s_max`."""

    retry_s_max: float = 30.0
    """Longest such wait in seconds: how soon a server that is back is noticed."""

    skip_check_s: float = 10.0
    """How often a partition that stopped at a poison record asks whether the record was skipped, in seconds."""

    def __post_init__(self) -> None:
        _check("batch_points", self.batch_points, 1, 5_000_000)
        _check("batch_bytes", self.batch_bytes, 1 << 20, 1 << 30)
        _check("batch_age_s", self.batch_age_s, 0, 60)
        _check("retry_s_min", self.retry_s_min, 0.001, self.retry_s_max)
        _check("retry_s_max", self.retry_s_max, self.retry_s_min, 3600)
        _check("skip_check_s", self.skip_check_s, 0, 3600)


@dataclass(frozen=True, slots=True)
class KafkaSourceSettings:
    """How to read the cluster's topics."""

    bootstrap_servers: str
    """Comma-separated host:port."""

    group_id: str
    """The consumer group; one a generation of tables, because commits hold that generation's intents."""

    topics: tuple[str, ...] = tuple(TOPICS)
    """The topics to read."""

    session_timeout_ms: int = 15_000
    """A silent member loses its partitions after this, 1,000 to 300,000: the longest a restart waits."""

    poll_interval_ms_max: int = 600_000
    """The longest a member may work between two polls: longer than any insert."""

    unstable_s_max: float = 60.0
    """Seconds outside a stable group after which the client is made anew: the library can lose its join."""

    fetch_bytes: int = 8 << 20
    """Most bytes of one partition a fetch; above the largest record (4 MiB)."""

    security: Mapping[str, object] = field(default_factory=dict, repr=False)
    """TLS and SASL options of the client, by its own names; may hold secrets, never shown."""

    def __post_init__(self) -> None:
        if not self.bootstrap_servers or not self.group_id:
            raise SettingsError("reading Kafka needs bootstrap servers and a group id")
        _check("session_timeout_ms", self.session_timeout_ms, 1000, 300_000)
        _check("fetch_bytes", self.fetch_bytes, 4 << 20, 256 << 20)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value}; it must lie between {low} and {high}")
