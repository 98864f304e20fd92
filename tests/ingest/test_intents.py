"""Intents survive in files and in commits, and what is not one is not guessed at."""

from pathlib import Path

import pytest

from trainledger_ingest.intents import FileIntents, Intent, IntentLog, SourceIntents, encode_intent
from trainledger_ingest.recovery import TABLES_OF_TOPIC
from trainledger_ingest.sources.memory import MemoryLog, MemorySource
from trainledger_ingest.sources.source import COMMIT_METADATA_BYTES_MAX
from trainledger_ingest.storage.migrate import APPEND_TABLES
from trainledger_schemas.errors import InvariantError, RecoveryError, RetryableSourceError
from trainledger_schemas.events import TOPICS
from trainledger_schemas.positions import TopicPartition

PARTITION = TopicPartition("trainledger.nodes", 0)
INTENT = Intent(5, 9, "trainledger_g1", 202311, {"node_events": 3, "hardware_stats": 4})


@pytest.fixture(params=["file", "commit"])
def intents(request: pytest.FixtureRequest, tmp_path: Path) -> IntentLog:
    if request.param == "file":
        return FileIntents(tmp_path)
    return SourceIntents(MemorySource(MemoryLog(dict.fromkeys(TOPICS, 1))))


def test_the_newest_intent_of_a_partition_is_read_back(intents: IntentLog) -> None:
    assert intents.read(PARTITION) is None
    intents.write(PARTITION, Intent(0, 5, "trainledger_g1", 202311, {}))
    intents.write(PARTITION, INTENT)
    assert intents.read(PARTITION) == INTENT
    assert intents.read(TopicPartition("trainledger.runs", 0)) is None


def test_an_explicit_first_position_is_not_an_intent() -> None:
    source = MemorySource(MemoryLog(dict.fromkeys(TOPICS, 1)))
    source.commit(PARTITION, 0, "")
    assert SourceIntents(source).read(PARTITION) is None


def test_what_somebody_else_committed_stops_the_worker() -> None:
    source = MemorySource(MemoryLog(dict.fromkeys(TOPICS, 1)))
    source.commit(PARTITION, 0, '{"app": "other"}')
    with pytest.raises(RecoveryError, match="does not hold an intent"):
        SourceIntents(source).read(PARTITION)


@pytest.mark.parametrize("text", ["", "{", '"x"', "[]", '{"start": 1}'])
def test_a_damaged_intent_file_stops_the_worker(tmp_path: Path, text: str) -> None:
    (tmp_path / "trainledger.nodes-0.json").write_text(text)
    with pytest.raises(RecoveryError, match="restore the file"):
        FileIntents(tmp_path).read(PARTITION)


def test_a_folder_that_cannot_be_written_is_worth_another_try(tmp_path: Path) -> None:
    intents = FileIntents(tmp_path / "pending")
    (tmp_path / "pending" / "trainledger.nodes-0.new").mkdir()
    with pytest.raises(RetryableSourceError, match="cannot be written"):
        intents.write(PARTITION, INTENT)


def test_the_largest_intent_of_every_topic_fits_into_a_commit() -> None:
    for tables in TABLES_OF_TOPIC.values():
        largest = Intent(2**62, 2**62, "trainledger_g999", 229912, dict.fromkeys(tables, 2**40))
        assert len(encode_intent(largest)) <= COMMIT_METADATA_BYTES_MAX
    with pytest.raises(InvariantError):
        encode_intent(Intent(0, 1, "g" * 600, 202311, {}))


def test_every_append_table_belongs_to_a_topic() -> None:
    assert {table for tables in TABLES_OF_TOPIC.values() for table in tables} == set(APPEND_TABLES)
    assert set(TABLES_OF_TOPIC) == set(TOPICS)
