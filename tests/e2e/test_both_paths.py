"""The same training through the spool alone and through a real Kafka broker: every view is equal."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.broker import Broker
from support.installation import BIN, Installation

TRAINING = """
    from sklearn.datasets import load_iris
    from sklearn.linear_model import SGDClassifier
    import trainledger
    x, y = load_iris(return_X_y=True)
    model = SGDClassifier(random_state=0)
    with trainledger.init(project="iris", team="green", config={"model": {"name": "sgd"}}) as run:
        run.define_metric("accuracy", goal="max")
        for epoch in range(300):
            model.partial_fit(x, y, classes=[0, 1, 2])
            run.log({"accuracy": model.score(x, y), "norm": float((model.coef_ ** 2).sum())}, step=epoch)
        run.log({"note": "done"}, step=300)
"""

QUERIES = {
    "runs": "SELECT run_id, project, team, state, attempts, ranks FROM runs ORDER BY run_id",
    "run_writers": "SELECT run_id, attempt, writer_id, state, exit_code FROM run_writers ORDER BY writer_id",
    "params": "SELECT * FROM params ORDER BY key",
    "metrics": "SELECT * FROM metrics ORDER BY key, step",
    "text_points": "SELECT * FROM text_points ORDER BY key, step",
    "metric_summary": "SELECT * FROM metric_summary ORDER BY key",
    "provenance": "SELECT run_id, commit, python, argv, packages FROM provenance ORDER BY run_id",
    "logs": "SELECT * FROM logs ORDER BY stream, line_no",
}


def answers(installation: Installation, **environment: str) -> dict[str, list[dict[str, Any]]]:
    return {view: installation.sql(query, **environment) for view, query in QUERIES.items()}


@pytest.mark.kafka
def test_every_view_is_equal_with_and_without_a_broker(tmp_path: Path, broker: Broker) -> None:
    node = Installation(tmp_path)
    kafka = {"TRAINLEDGER_KAFKA": broker.bootstrap}
    topics = node.command("admin", "topics", **kafka)
    assert topics.returncode == 0, topics.stderr
    script = node.write_script(TRAINING)
    trained = node.command("run", "--project", "iris", "--", sys.executable, str(script))
    assert trained.returncode == 0, trained.stderr
    agent = node.command("agent", "--once", "--home", str(tmp_path / "agent"), **kafka)
    assert agent.returncode == 0, agent.stderr
    cluster = {"TRAINLEDGER_HOME": str(tmp_path / "cluster"), **kafka}
    ingest = node.command("ingest", "--once", "--home", str(tmp_path / "cluster"), **cluster)
    assert ingest.returncode == 0, ingest.stderr
    through_kafka = answers(node, **cluster)
    through_spool = answers(node, TRAINLEDGER_HOME=str(tmp_path / "agent"))
    for view, rows in through_spool.items():
        assert through_kafka[view] == rows, view
    assert len(through_spool["metrics"]) == 600
    assert [row["state"] for row in through_spool["runs"]] == ["finished"]


def test_a_spool_written_by_the_agent_alone_is_taken_in_by_the_next_command(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    done = subprocess.run(
        [sys.executable, str(node.write_script(TRAINING))],
        env=node.environment,
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0
    agent = subprocess.run(
        [str(BIN / "trainledger"), "agent", "--once"], env=node.environment, capture_output=True, text=True
    )
    assert agent.returncode == 0, agent.stderr
    listed = node.command("ls", "--json")
    assert [row["state"] for row in json.loads(listed.stdout)] == ["finished"]
