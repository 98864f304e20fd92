"""`trainledger sync` with the agent alone: no engine, no Arrow, no command line of the tables."""

from pathlib import Path

import pytest

from support.blocked import without
from support.installation import Installation
from support.journals import JournalFile, read_records
from trainledger.node.node_settings import AgentSettings
from trainledger.node.reader_lock import acquire
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.events import TOPIC_METRICS, TOPIC_NODES

TABLES_PACKAGES = ("chdb", "pyarrow", "clickhouse_connect", "rich")
# The extra `kubernetes`, which no other part may need.
KUBERNETES_PACKAGES = ("grpc", "google")


@pytest.fixture
def node(tmp_path: Path) -> Installation:
    made = Installation(tmp_path)
    made.environment |= without(tmp_path / "blocked", TABLES_PACKAGES + KUBERNETES_PACKAGES)
    made.journals.mkdir()
    return made


def test_sync_with_the_agent_alone_reads_into_the_spool_and_names_what_is_missing(node: Installation) -> None:
    JournalFile(node.journals).rows(7)
    done = node.command("sync")
    assert done.returncode == 0
    assert done.stdout == "read 1 journals, 14 points\n"
    (line,) = done.stderr.splitlines()
    assert "the tables were left out" in line and "trainledger[embedded]" in line
    assert len(read_records(node.home / "spool", TOPIC_METRICS)) == 1
    assert read_records(node.home / "spool", TOPIC_NODES) == []  # a one-shot claims no presence
    assert node.json("sync") == [{"journals_read": 0, "points": 0, "published": None}]


def test_sync_of_a_server_installation_without_the_engine_does_the_same(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    node.environment |= without(tmp_path / "blocked", ["chdb"])
    node.journals.mkdir()
    JournalFile(node.journals).rows(7)
    assert node.json("sync") == [{"journals_read": 1, "points": 14, "published": None}]


def test_sync_reads_the_folder_that_is_named(node: Installation, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    JournalFile(other).rows(3)
    assert node.json("sync", str(other)) == [{"journals_read": 1, "points": 6, "published": None}]
    assert node.command("sync", "--nonsense").returncode == 2


def test_what_the_agent_alone_has_spooled_comes_into_the_tables_later(
    node: Installation, tmp_path: Path
) -> None:
    node.script("import trainledger\nwith trainledger.init(name='n') as run:\n    run.log({'x': 1.0})\n")
    assert node.json("sync")[0]["points"] == 1
    whole = without(tmp_path / "without kubernetes", KUBERNETES_PACKAGES)
    assert [row["name"] for row in node.json("ls", **whole)] == ["n"]
    assert node.json("sync", **whole) == [{"runs": 1, "points": 1, "published": None}]


def test_sync_leaves_journals_to_the_agent_that_reads_them(node: Installation, tmp_path: Path) -> None:
    JournalFile(node.journals).rows(7)
    other_home = tmp_path / "agent's home"
    with acquire(node.journals, "agent", home=other_home, wait_s=0, clock=SystemClock()):
        done = node.command("sync", "--json")
    assert (done.returncode, done.stdout) == (0, '[{"journals_read": 0, "points": 0, "published": null}]\n')
    (line,) = done.stderr.splitlines()
    assert "left to process" in line and str(other_home) in line


def test_other_commands_name_the_extra_that_they_need(node: Installation) -> None:
    done = node.command("ls")
    assert done.returncode == 1
    assert "trainledger[embedded]" in done.stderr


def test_settings_for_the_spool_are_part_of_the_agents(tmp_path: Path) -> None:
    assert AgentSettings.from_env({"TRAINLEDGER_DIR": str(tmp_path)}).spool.segment_bytes == 32 << 20
