"""The log of an embedded node is compressed once it is in the tables, and still is the log."""

from dataclasses import replace
from pathlib import Path

import pytest

from support.installation import Installation
from support.polling import poll_until
from trainledger.node.daemon import NodeAgent
from trainledger.node.node_settings import AgentSettings, SpoolSettings
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.events import TOPIC_METRICS
from trainledger_schemas.spool_reader import SegmentFile, list_segments

TRAINING = """
    import random, trainledger
    with trainledger.init(project='p', name='long') as run:
        for step in range(40_000):
            run.log({'a': random.random(), 'b': random.random()}, step=step)
"""
POINTS = 80_000


@pytest.fixture
def node(tmp_path: Path) -> Installation:
    """A home whose spool has several segments, none of them in tables yet."""
    made = Installation(tmp_path)
    assert made.script(TRAINING).returncode == 0
    small = replace(AgentSettings(), spool=SpoolSettings(segment_bytes=64 << 10, budget_bytes=1 << 30))
    agent = NodeAgent.open(made.home, made.journals, kind="one-shot", settings=small, clock=SystemClock())
    agent.one_shot()
    agent.close()
    assert len(segments(made)) >= 3
    return made


def segments(node: Installation) -> list[SegmentFile]:
    return list_segments(node.home / "spool" / TOPIC_METRICS)


def is_compressed(node: Installation) -> bool:
    return all(s.compressed for s in segments(node)[:-1])


def test_a_one_shot_compresses_what_it_read_and_rebuild_and_verify_read_it(node: Installation) -> None:
    count = "SELECT count() AS n, sum(value) AS total FROM metrics"
    (before,) = node.sql(count)
    assert before["n"] == POINTS
    # What a command has no time for, the next one does.
    poll_until(lambda: is_compressed(node) or not node.sql(count), deadline_s=60, pause_s=0.0)
    assert not segments(node)[-1].compressed
    assert all(row["ok"] for row in node.json("admin", "verify"))
    rebuilt = {row["table"]: row for row in node.json("admin", "rebuild")}
    assert rebuilt["points"]["rows_after"] == POINTS
    assert node.sql(count)[0]["n"] == POINTS


def test_up_compresses_when_it_is_idle(node: Installation) -> None:
    with node.up():
        poll_until(lambda: is_compressed(node), deadline_s=60, pause_s=0.2)
        assert node.sql("SELECT count() AS n FROM metrics") == [{"n": POINTS}]
        assert all(row["ok"] for row in node.json("admin", "verify"))
