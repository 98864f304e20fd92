"""What a worker has done, counted since its start, for metrics. Written by the worker, read from any thread.

A record that is read again after an outage or a rebalance is counted again: these are counts of work, not of rows in
the tables (the ledger has those).
"""

import threading
from collections import Counter
from typing import Literal, get_args

from trainledger_schemas import __version__
from trainledger_schemas.exposition import Sample
from trainledger_schemas.positions import TopicPartition

from .batch import Batch
from .sources.source import SourceRecord

__all__ = ["METRICS", "WorkerCounts"]

MetricName = Literal[
    "trainledger_ingest_records_total",  # counter by topic: records read
    "trainledger_ingest_bytes_total",  # counter by topic: bytes of those, keys included
    "trainledger_ingest_batches_total",  # counter by topic: batches written
    "trainledger_ingest_rows_total",  # counter by topic: rows of those
    "trainledger_ingest_dead_letters_total",  # counter by topic: records set aside because nobody can read them
    "trainledger_ingest_retries_total",  # counter: times that store or broker could not be reached
    "trainledger_ingest_fenced_total",  # counter: times that partitions went to another worker with work open
    "trainledger_ingest_last_batch_timestamp_seconds",  # gauge: Unix time of the last batch; absent before it
    "trainledger_ingest_lag_records",  # gauge by topic and partition: records not read yet, as of the last look
    "trainledger_ingest_stopped_partitions",  # gauge: partitions that wait for `trainledger admin dead skip`
    "trainledger_ingest_unreachable",  # gauge: 1 while store or broker cannot be reached
    "trainledger_ingest_build_info",  # gauge: always 1; label version
]
METRICS: tuple[str, ...] = get_args(MetricName)


class WorkerCounts:
    """Counters of one worker."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._by_topic: Counter[tuple[str, MetricName]] = Counter()
        self._retries = 0
        self._fenced = 0
        self._last_batch_us: int | None = None
        self._lag: dict[TopicPartition, int] = {}
        self._stopped = 0
        self._is_unreachable = False

    def note_record(self, record: SourceRecord) -> None:
        """A record was read."""
        with self._mutex:
            self._by_topic[record.topic, "trainledger_ingest_records_total"] += 1
            size = len(record.key) + len(record.value)
            self._by_topic[record.topic, "trainledger_ingest_bytes_total"] += size

    def note_batch(self, batch: Batch, *, at_us: int) -> None:
        """A batch is in the tables."""
        topic, plan = batch.partition.topic, batch.plan
        with self._mutex:
            self._by_topic[topic, "trainledger_ingest_batches_total"] += 1
            self._by_topic[topic, "trainledger_ingest_rows_total"] += sum(plan.values())
            self._by_topic[topic, "trainledger_ingest_dead_letters_total"] += plan.get("dead_letters", 0)
            self._last_batch_us = at_us

    def note_retry(self) -> None:
        """Store or source could not be reached."""
        with self._mutex:
            self._retries += 1

    def note_fenced(self) -> None:
        """Open work was dropped because the partitions are another worker's."""
        with self._mutex:
            self._fenced += 1

    def note_lag(self, lag: dict[TopicPartition, int]) -> None:
        """How far behind each partition is; replaces what was known."""
        with self._mutex:
            self._lag = lag

    def note_state(self, *, stopped: int, is_unreachable: bool) -> None:
        """How many partitions wait for a person, and whether store or broker cannot be reached now."""
        with self._mutex:
            self._stopped = stopped
            self._is_unreachable = is_unreachable

    def samples(self) -> list[Sample]:
        """All of it by the names above."""
        with self._mutex:
            counts = sorted(self._by_topic.items())
            found = [Sample(name, value, {"topic": topic}) for (topic, name), value in counts]
            found += [
                Sample(
                    "trainledger_ingest_lag_records",
                    behind,
                    {"topic": place.topic, "partition": str(place.partition)},
                )
                for place, behind in sorted(self._lag.items())
            ]
            if self._last_batch_us is not None:
                at_s = self._last_batch_us / 1e6
                found.append(Sample("trainledger_ingest_last_batch_timestamp_seconds", at_s))
            found.append(Sample("trainledger_ingest_retries_total", self._retries))
            found.append(Sample("trainledger_ingest_fenced_total", self._fenced))
            found.append(Sample("trainledger_ingest_stopped_partitions", self._stopped))
            found.append(Sample("trainledger_ingest_unreachable", int(self._is_unreachable)))
            found.append(Sample("trainledger_ingest_build_info", 1, {"version": __version__}))
            return found
