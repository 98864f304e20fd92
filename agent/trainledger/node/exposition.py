"""The names of the agent's numbers; `trainledger_schemas.exposition` serves them."""

from typing import Literal, get_args

__all__ = ["METRICS", "MetricName"]

MetricName = Literal[
    "trainledger_agent_live_writers",  # gauge: processes that write a journal now
    "trainledger_agent_journal_reads_total",  # counter: journals that had something new, each pass counted
    "trainledger_agent_points_total",  # counter: metric points spooled
    "trainledger_agent_journal_bytes_total",  # counter: bytes read from journals
    "trainledger_agent_events_total",  # counter: the agent's own events spooled
    "trainledger_agent_failed_rounds_total",  # counter: rounds of the loop that failed
    "trainledger_agent_spool_bytes",  # gauge: bytes in the spool
    "trainledger_agent_unpublished_records",  # gauge: spooled records that the broker has not acknowledged
    "trainledger_agent_published_records_total",  # counter: records that the broker acknowledged
    "trainledger_agent_publisher_connected",  # gauge: 1 while a producer is at work
    "trainledger_agent_publisher_failed",  # gauge: 1 when publishing stopped for good
    "trainledger_agent_in_flight_bytes",  # gauge: bytes sent and not acknowledged
    "trainledger_agent_stored_blobs_total",  # counter: blobs seen in the store of all machines, sent or there
    "trainledger_agent_sent_blob_bytes_total",  # counter: bytes of blobs that were sent there
    "trainledger_agent_unsent_records",  # gauge: records of topic runs whose blobs are not dealt with
    "trainledger_agent_unsent_files",  # gauge: files of artifacts that are not seen in the store yet
    "trainledger_agent_unsent_bytes",  # gauge: their bytes
    "trainledger_agent_unsent_oldest_seconds",  # gauge: how long the oldest that waits is logged; 0: nothing waits
    "trainledger_agent_store_trouble",  # gauge: 1 while the store of blobs cannot be reached or refuses
    "trainledger_agent_producers_total",  # counter: producers made; each after the first follows an error
]
METRICS: tuple[str, ...] = get_args(MetricName)
