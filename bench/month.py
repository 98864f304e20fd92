"""A month of a cluster: 200 nodes of eight GPUs, 5,000 runs, 144,000 node-hours; reports, a new price, and their sums.

Runs are written by the SDK and read in by `trainledger sync`. Node-hours: some thousand streams of node events of one
hour each (who is on which GPU, claims, replicas, slices, gaps, usage windows each 10 s) are made, and dealt by the
product; each dealt hour stands at many places of the month, under the names of other runs, because dealing all of them
would take ten minutes, and writing them as 130 million events many more. The hour that is read from stored events is
one of the node itself, spooled as an agent does it.

Programs, each in a process of its own, as `python -m bench.month NAME HOME`; JSON on stdout:

fill     deal the streams, time that, and write the month through `CostTables`
hour     deal one hour anew from stored events: query, JSON, deal, insert
ask      reports, first and later times
reprice  a new price for all nodes until reports are exact, and two price books compared
check    sums and reports against a calculation in Decimal
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any

from bench.journals import TEAMS, write_journals
from bench.node_streams import node_stream, told_in_hour
from bench.slow_money import slow_cents, slow_costs
from bench.workspace import environment, temporary_folder, timed, trainledger
from trainledger.node.daemon import spool_folder
from trainledger.node.identity import load_identity
from trainledger.node.spool import Spool, SpoolSettings
from trainledger_ingest.cost.closed_hours import ClosedHours, DealtNode
from trainledger_ingest.cost.node_events import HOUR_US
from trainledger_ingest.cost.node_hour import NodeHour, deal_node_hour
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.prices import Price, price_fields
from trainledger_ingest.cost.report import read_report
from trainledger_ingest.cost.repricing import book_of, read_repricing
from trainledger_ingest.cost.tables import CostTables
from trainledger_ingest.session import Session
from trainledger_ingest.session_choice import open_session
from trainledger_ingest.settings import IngestSettings
from trainledger_ingest.storage.migrate import migrate
from trainledger_ingest.storage.opening import open_tables
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.ids import id_text, random_id

BARS = {"report_ms": 300, "node_hour_cpu_ms": 2.0, "repricing_s": 2.0}
BEGIN_US = 1_790_812_800 * 1_000_000  # 2026-10-01
START, END = "2026-10-01 00:00:00", "2026-11-01 00:00:00"
PRICED_FROM_US = 1_767_225_600 * 1_000_000  # 2026-01-01
FIRST_NANO, SECOND_NANO = 31_464_000_001, 29_990_000_003
SIZES = {"nodes": 200, "hours": 720, "runs": 5_000, "streams": 1_500}
QUICK_SIZES = {"nodes": 10, "hours": 48, "runs": 60, "streams": 40}
ASKED = 7
HOURS_OF_EVENTS = 6


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """See the module."""
    sizes = QUICK_SIZES if quick else SIZES
    with temporary_folder() as folder:
        env, home = environment(folder), folder / "home"
        write_journals(env, runs=sizes["runs"], rows=1, values=1)
        timed(trainledger("sync", "--json"), env)
        first = f"{Decimal(FIRST_NANO).scaleb(-9):f}"
        timed(
            trainledger(
                "price", "set", "--node", "*", "--usd-per-hour", first, "--from", "2026-01-01T00:00Z"
            ),
            env,
        )
        (folder / "month.json").write_text(json.dumps(sizes), encoding="ascii")
        answers: dict[str, Any] = {}
        for name in PROGRAMS:
            done = timed([sys.executable, "-m", "bench.month", name, str(home)], env)
            answers[name] = json.loads(done.output.splitlines()[-1])
        command = timed(trainledger("cost", "--by", "team", "--month", "2026-10", "--json"), env)
    data = (
        f"{sizes['nodes']} nodes x 8 GPUs x {sizes['hours']} hours, {answers['fill']['lines']} lines, "
        f"{sizes['runs']} runs"
    )
    for name in ("team", "user", "run"):
        answer = answers["ask"][name]
        is_met = (
            {"met": max(answer["warm_ms"], answer["first_ms"]) < BARS["report_ms"]} if name == "team" else {}
        )
        yield {
            "case": f"cost --by {name} over the month",
            "data": data,
            **answer,
            "bars": {"ms": BARS["report_ms"]},
        } | is_met
    yield {
        "case": "`trainledger cost --by team --month`, the whole command",
        "wall_s": round(command.wall_s, 2),
        "cpu_s": round(command.cpu_s, 2),
    }
    dealt = answers["fill"]["cpu_ms_a_node_hour"]
    yield {
        "case": "one node-hour of eight GPUs dealt from its events",
        "cpu_ms_mean": dealt,
        "from_stored_events": answers["hour"],
        "bars": {"cpu_ms_mean": BARS["node_hour_cpu_ms"]},
        "met": dealt <= BARS["node_hour_cpu_ms"],
    }
    for name in ("price_set", "prices"):
        answer = answers["reprice"][name]
        yield {
            "case": {
                "price_set": "a new price for all nodes, until all reports are exact",
                "prices": "cost --prices old.toml new.toml --by team",
            }[name],
            "data": data,
            **answer,
            "bars": {"wall_s": BARS["repricing_s"]},
            "met": answer["wall_s"] < BARS["repricing_s"],
        }
    yield {
        "case": "sums and reports of the month",
        **answers["check"],
        "met": all(answers["check"]["equal"].values()),
    }


@contextmanager
def opened(home: Path) -> Iterator[Session]:
    """The session of a command."""
    session = open_session(IngestSettings.from_env({}, home=home), say=lambda line: None)
    try:
        yield session
    finally:
        session.close()


class Stopwatch:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Both, to the millisecond."""
        return {
            "wall_s": round(time.perf_counter() - self._wall, 3),
            "cpu_s": round(time.process_time() - self._cpu, 3),
        }


def sizes_of(home: Path) -> dict[str, int]:
    """What `measure` asked for."""
    sizes: dict[str, int] = json.loads((home.parent / "month.json").read_text(encoding="ascii"))
    return sizes


def deal_streams(count: int) -> tuple[list[NodeHour], float]:
    """Dealt hours of different streams, and CPU milliseconds for each dealt."""
    policy, dealt, cpu_s = CostPolicy(), [], 0.0
    for number in range(count):
        stream = node_stream(number, BEGIN_US)
        started = time.process_time()
        dealt.append(deal_node_hour(stream, BEGIN_US, policy))
        cpu_s += time.process_time() - started
    return dealt, 1000 * cpu_s / count


def placed(hour: NodeHour, node: int, number: int, runs: list[str]) -> NodeHour:
    """A dealt hour at another place, its runs under the names of others: of few runs a node, which change each day."""
    first = (node * 31 + number // 24 * 7) % len(runs)
    lines = tuple(
        line._replace(run_id=runs[(first + int(line.run_id)) % len(runs)]) if line.run_id else line
        for line in hour.lines
    )
    return NodeHour(
        f"node-{node:04d}", BEGIN_US + number * HOUR_US, hour.presence_us, hour.observed_us, lines
    )


def fill(home: Path) -> dict[str, Any]:
    """See the module."""
    sizes = sizes_of(home)
    dealt, cpu_ms = deal_streams(sizes["streams"])
    store = open_tables(IngestSettings.from_env({}, home=home))
    try:
        schema = migrate(store)
        tables, closing = (
            CostTables(store, schema.generation),
            ClosedHours(store, schema.generation).closing(),
        )
        runs = [
            str(row["id"])
            for row in store.rows(
                f"SELECT toString(run_id) AS id FROM {schema.views_database}.runs ORDER BY id"
            )
        ]
        [price] = store.rows(f"SELECT toString(price_id) AS id FROM {schema.views_database}.prices")
        first = Price(str(price["id"]), "*", FIRST_NANO, "USD", from_hour_us=0)
        lines = 0
        for node in range(sizes["nodes"]):
            hours = [
                (placed(dealt[place_of(node, number, len(dealt))], node, number, runs), first)
                for number in range(sizes["hours"])
            ]
            lines += sum(len(hour.lines) for hour, _ in hours)
            # The one place where dealt hours are written; version 1: one price was known.
            tables._write(DealtNode(f"node-{node:04d}", hours, events=(), version=1), closing)
    finally:
        store.close()
    return {"cpu_ms_a_node_hour": round(cpu_ms, 3), "lines": lines}


def place_of(node: int, number: int, count: int) -> int:
    """Which dealt hour stands there."""
    return (node * 719 + number * 13) % count


def hour(home: Path) -> dict[str, Any]:
    """See the module: a day of events of this node is spooled and read in; then one of its hours is dealt anew."""
    begin_us = BEGIN_US - 40 * 24 * HOUR_US
    folder = spool_folder(home)
    identity = replace(load_identity(folder), boot_id=b"bench-past-boot.")
    clock = ManualClock(wall_ns=begin_us * 1000)
    spool = Spool.open(folder, identity=identity, clock=clock, settings=SpoolSettings())
    events = 0
    try:
        for number in range(HOURS_OF_EVENTS):
            for kind, at_us, fields in told_in_hour(number, begin_us + number * HOUR_US):
                clock.advance(max(0.0, (at_us * 1000 - clock.wall_ns()) / 1e9))
                spool.append(kind, _spooled(fields), key=identity.node_id.encode())
                events += 1
        spool.sync()
    finally:
        spool.close()
    watch = Stopwatch()
    with opened(home):
        taken_in = watch.read()
    store = open_tables(IngestSettings.from_env({}, home=home))
    try:
        tables = CostTables(store, migrate(store).generation)
        hours = {(identity.node_id, begin_us + HOUR_US * number) for number in range(1, HOURS_OF_EVENTS - 1)}
        for one in hours:
            tables.refresh([one], prices_changed=False)
        watch = Stopwatch()
        for one in hours:
            tables.refresh([one], prices_changed=False)
        each = watch.read()
    finally:
        store.close()
    return {
        "events": events,
        "spool_to_bill": taken_in,
        "cpu_ms_a_node_hour": round(1000 * each["cpu_s"] / len(hours), 1),
        "wall_ms_a_node_hour": round(1000 * each["wall_s"] / len(hours), 1),
    }


def _spooled(fields: dict[str, Any]) -> dict[str, Any]:
    """Run ids as bytes, wherever they stand."""
    found = dict(fields)
    for name in ("usage", "holders"):
        if name in found:
            found[name] = [
                item | {"run_id": int(item["run_id"]).to_bytes(16, "big") if item["run_id"] else None}
                for item in found[name]
            ]
    return found


def ask(home: Path) -> dict[str, Any]:
    """See the module."""
    answers: dict[str, Any] = {}
    with opened(home) as session:
        for name in ("team", "user", "run"):
            answers[name] = ask_often(lambda by=name: read_report(session, by=by, start=START, end=END))
    return answers


def ask_often(question: Callable[[], Any]) -> dict[str, Any]:
    """The first time and the median of the times after it; CPU of one time."""
    walls, cpu_s = [], time.process_time()
    for _ in range(ASKED):
        started = time.perf_counter()
        report = question()
        walls.append(1000 * (time.perf_counter() - started))
    cpu_s = time.process_time() - cpu_s
    return {
        "rows": len(report.rows),
        "first_ms": round(walls[0], 1),
        "warm_ms": round(statistics.median(walls[1:]), 1),
        "cpu_ms": round(1000 * cpu_s / ASKED, 1),
    }


def reprice(home: Path) -> dict[str, Any]:
    """See the module."""
    with opened(home) as session:
        watch = Stopwatch()
        session.append_admin("price_set", price_event(SECOND_NANO))
        answers = {"price_set": watch.read()}
        old, new = (book_of(price_file(nano)) for nano in (FIRST_NANO, SECOND_NANO))
        watch = Stopwatch()
        found = read_repricing(session, (old, new), by="team", start=START, end=END)
        answers["prices"] = watch.read() | {"rows": len(found.rows)}
        report = read_report(session, by="team", start=START, end=END)
        if [row["new"] for row in found.rows] != [row["cost"] for row in report.rows]:
            raise RuntimeError(
                "`cost --prices` with the prices of the tables is not the report of the tables"
            )
    return answers


def price_file(nano: int) -> str:
    """A price book with one price."""
    rate = Decimal(nano).scaleb(-9)
    return f'[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "{rate:f}"\n'


def price_event(nano: int) -> dict[str, Any]:
    """As `trainledger price set '*'` sends it."""
    return price_fields(
        id_text(random_id()),
        pattern="*",
        nano_per_hour=nano,
        currency="USD",
        from_hour_us=PRICED_FROM_US,
        extra={},
    )


def check(home: Path) -> dict[str, Any]:
    """See the module."""
    sizes = sizes_of(home)
    with opened(home) as session:
        [sums] = session.query(
            f"""SELECT count() AS hours, countIf(held != toUInt64(round(present_s * 1e6)) * 1000000) AS lost,
              countIf(cost != bill) AS unequal
            FROM (
              SELECT node_id, usage_hour, sum(held_share) AS held, sum(cost) AS cost
              FROM {session.views}.cost_lines WHERE startsWith(node_id, 'node-') GROUP BY node_id, usage_hour
            ) AS l
            INNER JOIN {session.views}.node_hour_bills AS b ON b.node_id = l.node_id AND b.usage_hour = l.usage_hour"""
        ).to_pylist()
        report = read_report(session, by="team", start=START, end=END)
        rows = session.query(
            f"SELECT toString(run_id) AS id, name FROM {session.views}.runs WHERE startsWith(name, 'run-') ORDER BY id"
        ).to_pylist()
    names = {row["id"]: row["name"] for row in rows}
    expected = slow_report(sizes, names)
    shown = {row["team"] or f"({row['kind']})": row["cost"] for row in report.rows}
    return {
        "node_hours": sums["hours"],
        "equal": {
            "lines are the presence of every node-hour": sums["lost"] == 0,
            "lines are the bill of every node-hour": sums["unequal"] == 0,
            "every node-hour is there": sums["hours"] == sizes["nodes"] * sizes["hours"],
            "the report is the bills, to the cent": report.totals == report.bills,
            "the report by team is that of Decimal": shown == expected,
        },
    }


def slow_report(sizes: dict[str, int], names: dict[str, str]) -> dict[str, str]:
    """The report by team from the dealt hours, in Decimal: bills, their division, and the cents."""
    dealt, _ = deal_streams(sizes["streams"])
    runs, sums = list(names), dict[str, Decimal]()
    with localcontext(Context(prec=60)):
        costs = [slow_costs(hour, Decimal(SECOND_NANO).scaleb(-9)) for hour in dealt]
        for node in range(sizes["nodes"]):
            for number in range(sizes["hours"]):
                place = place_of(node, number, len(dealt))
                hour = placed(dealt[place], node, number, runs)
                for line, cost in zip(hour.lines, costs[place], strict=True):
                    run = names.get(line.run_id or "")
                    team = f"team-{int(run[4:]) % TEAMS}" if run else f"({line.kind})"
                    sums[team] = sums.get(team, Decimal(0)) + cost
        # Rows are in the order of `cost`: teams by name, then what has none.
        teams = sorted(sums, key=lambda team: (team.startswith("("), team))
        return {team: f"{amount:.2f}" for team, amount in slow_cents(sums, teams).items()}


PROGRAMS = {"fill": fill, "hour": hour, "ask": ask, "reprice": reprice, "check": check}


if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]](Path(sys.argv[2]))))
