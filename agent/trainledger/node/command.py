"""`trainledger agent`: the daemon of a node.

    trainledger agent [--home DIR] [--once] [--metrics HOST:PORT]

Prints one line that starts with `ready` on stdout once it watches, logs JSON lines on stderr, and ends clean on
SIGINT and SIGTERM. Exit codes: 0 done; 1 failed, with one line on stderr (another agent, a folder that cannot be
used, publishing stopped for good); 2 wrong use.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from trainledger.node.daemon import NodeAgent
from trainledger.node.driver_change import OPTION
from trainledger.node.exposition import MetricName
from trainledger.node.node_settings import AgentSettings
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import SettingsError, TrainledgerError
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.exposition import Exposition, Sample
from trainledger_schemas.structured_log import say, set_up_log

__all__ = ["main"]

ONCE_PUBLISH_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; `argv` is what follows `agent`. Returns the exit code."""
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else list(argv))
    set_up_log(sys.stderr)
    try:
        settings = AgentSettings.from_env()
        home = Path(arguments.home).absolute() if arguments.home else settings.home
        if arguments.once:
            return _run_once(home, settings, as_json=arguments.json)
        return _run_daemon(home, settings, arguments)
    except SettingsError as error:
        return _fail(str(error), 2)
    except TrainledgerError as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error}; the agent needs to write its home and to read the journal folder", 1)


def _run_once(home: Path, settings: AgentSettings, *, as_json: bool) -> int:
    agent = NodeAgent.open(
        home, settings.node_folder, kind="one-shot", settings=settings, clock=SystemClock()
    )
    try:
        report = agent.one_shot()
        is_published = agent.publish(ONCE_PUBLISH_S)
        agent.upload(ONCE_PUBLISH_S)
    finally:
        agent.close(leaving=False)
    result = {"journals_read": report.journals_read, "points": report.points, "published": is_published}
    if as_json:
        _print(json.dumps([result]))
    else:
        _print(f"read {report.journals_read} journals, {report.points} points")
    if not is_published:
        return _fail("the broker has not taken everything yet; it stays in the spool, run this again", 1)
    return 0


def _run_daemon(home: Path, settings: AgentSettings, arguments: argparse.Namespace) -> int:
    stop = threading.Event()
    metrics: str | None = arguments.metrics

    def end(signum: int, _: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    agent = NodeAgent.open(home, settings.node_folder, kind="agent", settings=settings, clock=SystemClock())
    driver = agent.driver_change(arguments.restarted_for)
    served: Exposition | None = None
    is_leaving = True
    try:
        served = Exposition(metrics, lambda: _samples(agent)) if metrics else None
        agent.step()
        about = {
            "pid": os.getpid(),
            "node": agent.identity.node_id,
            "journals": str(settings.node_folder),
            "spool": str(agent.spool.folder),
        }
        if served is not None:
            about["metrics"] = served.address
        say(logging.INFO, "ready", dict(about))
        _print("ready agent " + " ".join(f"{name}={value}" for name, value in about.items()))
        agent.run(stop, until=driver.is_due)
        is_leaving = stop.is_set()
    finally:
        if served is not None:
            served.close()
        agent.close(leaving=is_leaving)
    if not is_leaving:
        say(logging.INFO, "the GPU driver was changed; beginning anew", {"driver": driver.version})
        driver.begin_anew()
    say(logging.INFO, "ended")
    return 0 if agent.failure is None else _fail(str(agent.failure), 1)


def _samples(agent: NodeAgent) -> list[Sample]:
    return [Sample(name, value) for name, value in _values(agent).items()]


def _values(agent: NodeAgent) -> dict[MetricName, float]:
    status = agent.status()
    values: dict[MetricName, float] = {
        "trainledger_agent_live_writers": status.live_writers,
        "trainledger_agent_journal_reads_total": status.journals_read,
        "trainledger_agent_points_total": status.points,
        "trainledger_agent_journal_bytes_total": status.bytes_read,
        "trainledger_agent_events_total": status.events,
        "trainledger_agent_failed_rounds_total": status.failures,
        "trainledger_agent_spool_bytes": status.spool_bytes,
    }
    if agent.publisher is not None:
        publishing = agent.publisher.status()
        values["trainledger_agent_unpublished_records"] = status.unpublished
        values["trainledger_agent_published_records_total"] = publishing.acknowledged_records
        values["trainledger_agent_publisher_connected"] = int(publishing.is_connected)
        values["trainledger_agent_publisher_failed"] = int(bool(publishing.failure))
        values["trainledger_agent_in_flight_bytes"] = publishing.in_flight_bytes
        values["trainledger_agent_producers_total"] = publishing.producers
    if agent.uploader is not None:
        values["trainledger_agent_stored_blobs_total"] = agent.uploader.stored_blobs
        values["trainledger_agent_sent_blob_bytes_total"] = agent.uploader.sent_bytes
        values["trainledger_agent_unsent_records"] = max(
            0, agent.spool.synced_end(TOPIC_RUNS) - agent.uploader.saved
        )
        pending = agent.uploader.pending()
        values["trainledger_agent_unsent_files"] = pending.files
        values["trainledger_agent_unsent_bytes"] = pending.size_bytes
        values["trainledger_agent_unsent_oldest_seconds"] = pending.age_s(SystemClock())
        values["trainledger_agent_store_trouble"] = int(bool(agent.uploader.trouble))
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainledger agent",
        description="Read the journals of this node, measure it, and publish to Kafka if TRAINLEDGER_KAFKA is set.",
    )
    parser.add_argument("--home", metavar="DIR", help="where the spool lies (default TRAINLEDGER_HOME)")
    parser.add_argument("--once", action="store_true", help="read what there is, publish it, and end")
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", help="serve Prometheus text on http://HOST:PORT/metrics"
    )
    parser.add_argument("--json", action="store_true", help="with --once: the result as JSON")
    # For the agent itself: the driver for which it replaced the process before it.
    parser.add_argument(OPTION, metavar="VERSION", help=argparse.SUPPRESS)
    return parser


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"trainledger: {message}\n")
    return code
