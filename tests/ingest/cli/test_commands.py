"""Commands on a small real installation, and one clear line with the right status for wrong use."""

import csv
import io
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest

from support.aws_server import AwsServer, product
from support.installation import SCRIPT, Installation
from support.polling import poll_until
from trainledger_ingest.cli.app import main
from trainledger_ingest.reports.listing import RUN_COLUMNS
from trainledger_schemas.errors import UsageError

TRAINING = """
import os, sys, trainledger
name, team, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
with trainledger.init(project="iris", team=team, name=name, config={"rate": rate, "model": "sgd"}) as run:
    for step in range(50):
        run.log({"loss": 1 / (1 + rate * step)}, step=step)
    print("hello from", name, flush=True)
    print("100% [done]", flush=True)
    while not os.path.exists(sys.argv[4]):
        sum(range(1000))
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two runs with output and a bill; `up` answers the commands, which is quicker."""
    node = Installation(tmp_path_factory.mktemp("commands"))
    script = str(node.write_script(TRAINING))
    with node.up():
        for name, team, rate in (("one", "red", "0.5"), ("two", "blue", "0.1")):
            train(node, script, name, team, rate)
        priced = node.command("price", "set", "--node", "*", "--usd-per-hour", "3600.000001")
        assert priced.returncode == 0 and "*: 3600.000001 USD an hour from " in priced.stdout
        yield node


def train(node: Installation, script: str, name: str, team: str, rate: str) -> None:
    """One run under the wrapper, which works until its team has a line of cost: a busy machine may be slow to see it."""
    seen = node.folder / f"{name}.seen"
    words = [str(SCRIPT), "run", "--group", "rates", "--", "python", script, name, team, rate, str(seen)]
    with subprocess.Popen(words, cwd=node.folder, env=node.environment, stdout=subprocess.DEVNULL) as process:
        try:
            is_seen = f"SELECT 1 AS n FROM cost_lines WHERE team = '{team}' AND held_hours > 0"
            poll_until(lambda: node.sql(is_seen), deadline_s=60)
        finally:
            seen.touch()
    assert process.returncode == 0


# `--help` would start, and open nothing.
STARTED: dict[str, list[str]] = {
    "ls": ["ls"],
    "show": ["show", "one"],
    "logs": ["logs", "one"],
    "compare": ["compare", "one", "two"],
    "sql": ["sql", "SELECT name FROM runs"],
    "cost": ["cost"],
    "price": ["price", "ls"],
    "waste": ["waste"],
    "gpus": ["gpus", "--json"],
    "energy": ["energy", "--json"],
    "reproduce": ["reproduce", "one", "--plan"],
    "doctor": ["doctor"],
    "admin": ["admin", "verify"],
    "sync": ["sync"],
}


@pytest.mark.parametrize("arguments", STARTED.values(), ids=STARTED)
def test_each_command_starts_from_its_script(installation: Installation, arguments: list[str]) -> None:
    started = Installation(installation.folder, is_warm=False)
    done = started.command(*arguments)
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["compare", "one", "two", "--json"], ["sql", "SELEC 1"], ["ls", "--nope"], ["logs", "--help"]],
    ids=["answer", "refused", "wrong use", "help"],
)
def test_a_warm_command_is_as_one_that_starts(installation: Installation, arguments: list[str]) -> None:
    started = Installation(installation.folder, is_warm=False).command(*arguments)
    warm = installation.command(*arguments)
    assert (warm.returncode, warm.stdout, warm.stderr) == (started.returncode, started.stdout, started.stderr)


def test_ls_show_logs_and_compare_say_what_ran(installation: Installation) -> None:
    listed = installation.command("ls")
    assert listed.returncode == 0
    head, *rows = listed.stdout.splitlines()
    assert head.split() == [
        "run",
        "name",
        "project",
        "experiment",
        "team",
        "state",
        "started",
        "duration",
        "cost",
    ]
    assert [row.split()[1] for row in rows] == ["two", "one"] and all(row == row.rstrip() for row in rows)
    assert {row["run_group"] for row in installation.json("ls", "--group", "rates")} == {"rates"}
    (shown,) = installation.json("show", "one")
    assert tuple(shown) == RUN_COLUMNS and shown["state"] == "finished" and Decimal(shown["cost"]) > 0
    text = installation.command("show", "one").stdout
    assert "results\nmetric" in text and "█" in text and "rate   0.5" in text
    assert installation.command("logs", "two").stdout.splitlines()[-2:] == ["hello from two", "100% [done]"]
    assert installation.command("logs", "two", "--grep", "%", "-f").stdout == "100% [done]\n"
    nothing = installation.command("logs", "two", "--grep", "nowhere")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "no line contains that text\n")
    unranked = installation.command("logs", "two", "--rank", "3", "--json")
    assert (unranked.returncode, unranked.stdout, unranked.stderr) == (0, "[]\n", "the run has no ranks\n")
    keys = {(row["what"], row["key"]): row["values"] for row in installation.json("compare", "one", "two")}
    assert sorted(keys["parameter", "rate"].values()) == [0.1, 0.5]
    assert ("parameter", "model") not in keys and ("result", "loss (last)") in keys


def test_cost_sums_to_the_bills_in_every_form(installation: Installation, tmp_path: Path) -> None:
    # The node goes on costing money between the calls, so each is held against itself.
    *lines, last, open_hour = installation.command("cost", "--by", "team").stdout.splitlines()
    total, bill = re.fullmatch(r"total (\S+) USD; bills of the nodes (\S+) USD", last).groups()  # type: ignore[union-attr] # or it fails
    assert total == bill == str(sum(Decimal(line.split()[2]) for line in lines[1:]))
    assert re.fullmatch(
        r"the hour open until \d\d:00 UTC is billed up to each node's last event; it grows", open_hour
    )
    rows = installation.json("cost", "--by", "team")
    assert [set(row) for row in rows] == [{"team", "kind", "cost", "currency", "unpriced_hours"}] * len(rows)
    assert (
        [row["team"] for row in rows][:2] == ["blue", "red"] and rows[-1]["team"] is None and rows[-1]["kind"]
    )
    told = list(csv.DictReader(io.StringIO(installation.command("cost", "--by", "team", "--csv").stdout)))
    assert [row["team"] for row in told][:3] == ["blue", "red", ""] and Decimal(told[0]["cost"]) > 0
    done = installation.command("cost", "--by", "team", "--parquet", str(tmp_path / "c.parquet"))
    assert (done.returncode, done.stdout) == (0, "")
    kept = pyarrow.parquet.read_table(tmp_path / "c.parquet").to_pylist()
    assert [row["team"] for row in kept][:3] == ["blue", "red", None] and isinstance(kept[0]["cost"], Decimal)
    empty = installation.command("cost", "--from", "2100-01-01", "--json")
    assert (empty.returncode, json.loads(empty.stdout)) == (0, [])


def test_cost_in_another_currency_has_the_rate_that_was_set(installation: Installation) -> None:
    kept = installation.command("cost", "--currency", "EUR")
    assert "kept in their own currency: no rate between USD and EUR for " in kept.stderr
    assert " USD; bills of the nodes " in kept.stdout and " EUR; bills" not in kept.stdout
    rate = ("price", "rate", "set", "EUR", "USD")
    assert installation.command(*rate, "2", "--from", "2026-01-01", "--source", "bank").returncode == 0
    done = installation.command(*rate, "1.25", "--from", "2026-01-01")
    assert done.stdout == "1 EUR = 1.25 USD from 2026-01-01 on (UTC)\n"
    shown = installation.command("cost", TRAINLEDGER_CURRENCY="EUR").stdout
    found = re.search(r"^total (\S+) EUR; bills of the nodes (\S+) EUR$", shown, re.MULTILINE)
    assert found is not None and found[1] == found[2]
    assert "each hour at the rate of its day: 1 EUR = 1.25 USD from 2026-01-01" in shown.splitlines()
    before, after, later = (
        sum(Decimal(row["cost"]) for row in installation.json("cost", *currency))
        for currency in ((), ("--currency", "EUR"), ())
    )
    assert (
        before - Decimal("0.02") <= after * Decimal("1.25") <= later + Decimal("0.02")
    )  # it grows meanwhile
    rows = installation.json("price", "rate", "ls")
    assert [(row["rate"], row["source"], row["in_effect"]) for row in rows] == [("1.250000000", None, True)]
    assert [row["in_effect"] for row in installation.json("price", "rate", "ls", "--all")] == [False, True]
    ended = installation.command("price", "rate", "rm", "USD", "EUR", "--from", "2026-01-01")
    assert ended.stdout == "USD and EUR: no rate from 2026-01-01 on (UTC)\n"
    assert installation.json("price", "rate", "ls") == []
    euros = ("price", "set", "--node", "nowhere-eu", "--per-hour", "4.5", "--currency", "EUR")
    dated = installation.command(*euros, "--from", "2100-01-01")
    assert dated.stdout == "nowhere-eu: 4.50 EUR an hour from 2100-01-01 00:00 UTC\n"
    again = installation.command("price", "rate", "rm", "USD", "EUR")
    assert again.returncode == 2 and "USD and EUR have no rate on " in again.stderr


def test_a_period_within_hours_is_told_as_the_hours_it_covers(installation: Installation) -> None:
    cut = installation.command("cost", "--from", "2020-01-01T10:15", "--to", "2100-01-01T12:30")
    assert "cost is by whole hours: from 2020-01-01 10:00 to 2100-01-01 12:00 UTC" in cut.stderr.splitlines()
    whole = installation.command("cost", "--from", "2020-01-01T10:00", "--to", "2100-01-01")
    assert "whole hours" not in whole.stderr


def test_control_characters_of_a_source_are_not_echoed(installation: Installation) -> None:
    factor = ("energy", "set", "--node", "nowhere", "--grid-g-per-kwh", "400", "--year", "2025")
    done = installation.command(*factor, "--source", "q\n\x07")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 and "\x07" not in done.stdout


def test_sql_writes_all_forms_of_one_result(installation: Installation, tmp_path: Path) -> None:
    # No column that still grows: a run's share of the open hour may move by a nano between two calls.
    query = "SELECT name, toDecimal64('0.374904447', 9) AS cost, started_at, tags FROM runs ORDER BY name"
    rows = installation.sql(query)
    assert rows[0]["name"] == "one" and rows[0]["started_at"].endswith("Z") and rows[0]["tags"] == []
    told = list(csv.DictReader(io.StringIO(installation.command("sql", query, "--csv").stdout)))
    assert [(r["name"], r["cost"]) for r in told] == [(r["name"], r["cost"]) for r in rows]
    installation.command("sql", query, "--parquet", str(tmp_path / "r"))
    assert [str(r["cost"]) for r in pyarrow.parquet.read_table(tmp_path / "r").to_pylist()] == [
        r["cost"] for r in rows
    ]


def test_the_price_that_counts_is_marked_and_a_pattern_that_meets_no_node_is_told(
    installation: Installation,
) -> None:
    for rate in ("5", "7"):
        done = installation.command("price", "set", "--node", "nowhere-[1]*", "--usd-per-hour", rate)
        assert done.returncode == 0
        assert done.stderr.startswith("no node seen so far is called 'nowhere-[1]*'; seen are ")
    assert (
        installation.command(
            "price", "set", "--node", "nowhere-[1]*", "--usd-per-hour", "9", "--from", "2100-01-01"
        ).returncode
        == 0
    )
    for form, expected in (
        ((), [("7", True), ("9", False)]),
        (("--all",), [("5", False), ("7", True), ("9", False)]),
    ):
        listed = [row for row in installation.json("price", "ls", *form) if row["node"] == "nowhere-[1]*"]
        assert [(row["per_hour"][0], row["in_effect"]) for row in listed] == expected
    lines = [line.split() for line in installation.command("price", "ls").stdout.splitlines()]
    assert [line[1] for line in lines if "now" in line] == ["3600.000001", "7.00"]


def test_a_price_over_one_of_an_owned_node_keeps_its_terms_unless_it_is_plain(
    installation: Installation, tmp_path: Path
) -> None:
    book = tmp_path / "book.toml"
    book.write_text(
        '[[price]]\nnode = "nowhere-owned"\nfrom = "2026-01-01T00:00Z"\nusd_per_hour = "4"\n'
        'presence = "owned"\nowned_from = "2026-01-01T00:00Z"\nowned_to = "2030-01-01"\nhost_share = 0.2\n'
        "weights = {H100 = 4}\n"
    )
    for _ in range(2):  # the same book again adds nothing to what counts
        assert installation.command("price", "load", str(book)).returncode == 0
    loaded = [row for row in installation.json("price", "ls") if row["node"] == "nowhere-owned"]
    assert [row["weights"] for row in loaded] == [{"H100": 4}]
    change = ("price", "set", "--node", "nowhere-owned", "--usd-per-hour")
    kept = installation.command(*change, "5")
    assert kept.stderr.startswith(
        "kept from the price of 'nowhere-owned' before: presence owned from 2026-01-01 00:00 UTC to 2030-01-01 00:00 "
        "UTC; host share 0.2; weights H100 4 (--plain"
    )
    assert "which ends where this one begins" in installation.command(*change, "6", "--plain").stderr
    assert "kept from" not in installation.command(*change, "7").stderr
    listed = [row for row in installation.json("price", "ls", "--all") if row["node"] == "nowhere-owned"]
    assert [
        (r["presence"], r["owned_to"], r["host_share"], r["weights"], r["source"]) for r in listed[1:]
    ] == [
        ("owned", "2030-01-01T00:00:00Z", 0.2, {"H100": 4}, "file"),
        ("owned", "2030-01-01T00:00:00Z", 0.2, {"H100": 4}, None),
        ("observed", None, None, {}, None),
        ("observed", None, None, {}, None),
    ]
    shown = installation.command("price", "ls", "--all").stdout
    assert "owned from 2026-01-01 to 2030-01-01  0.2         H100 4   file" in shown


def test_a_price_that_is_taken_away_counts_no_more(installation: Installation) -> None:
    change = ("price", "set", "--node", "nowhere-gone", "--usd-per-hour", "3", "--from")
    for start in ("2026-01-01", "2100-01-01"):
        assert installation.command(*change, start).returncode == 0
    wrong = installation.command("price", "rm", "--node", "nowhere-gon")
    assert (wrong.returncode, "did you mean 'nowhere-gone'?" in wrong.stderr) == (2, True)
    done = installation.command(
        "price", "rm", "--node", "nowhere-gone", "--from", "2026-02-01", "--note", "sold"
    )
    assert done.stdout.splitlines() == [
        "nowhere-gone: no price from 2026-02-01 00:00 UTC",
        "a price of nowhere-gone begins at 2100-01-01 00:00 UTC and counts from then on; end that one too if it is "
        "not meant",
    ]
    (later,) = (row for row in installation.json("price", "ls") if row["node"] == "nowhere-gone")
    assert later["from_hour"] == "2100-01-01T00:00:00Z"
    listed = [row for row in installation.json("price", "ls", "--all") if row["node"] == "nowhere-gone"]
    assert [(row["per_hour"], row["in_effect"], row["note"]) for row in listed] == [
        ("3.000000000", False, None), ("3.000000000", False, None), (None, False, "sold"),
    ]  # fmt: skip
    assert installation.command("price", "rm", "--node", "nowhere-gone").returncode == 2


def test_what_was_set_for_later_is_told(installation: Installation) -> None:
    owner = ("admin", "owner", "set", "later", "--team", "red", "--from", "2100-03-01")
    assert installation.command(*owner).returncode == 0
    removed = installation.command("admin", "owner", "rm", "later", "--from", "2020-01-01")
    assert "later: from 2100-03-01 00:00 UTC red pays" in removed.stderr
    again = installation.command("admin", "owner", "rm", "later", "--from", "2100-03-01")
    assert "counts from then on" not in again.stderr
    budget = ("admin", "budget", "set", "--project", "later", "--month-amount", "0.001", "--currency", "EUR")
    done = installation.command(*budget, "--from", "2100-03")
    assert "budget of 0.001 EUR a month from 2100-03" in done.stdout
    listed = installation.command("admin", "budget", "ls").stdout
    assert "from 2100-03: project later, budget of 0.001 EUR a month" in listed


HINTS: list[tuple[list[str], str]] = [
    (["ls", "--project", "irsi"], "no project was ever called 'irsi'; did you mean 'iris'?"),
    (["ls", "--team", "zzz"], "no team was ever called 'zzz'; there are blue, red"),
    (["ls", "--project", "iris", "--tag", "none"], "no run is like that"),
    (
        ["admin", "budget", "set", "--team", "rde", "--month-usd", "5"],
        "no team was ever called 'rde'; did you mean 'red'?",
    ),
    (
        ["admin", "owner", "set", "nobody-of-this-name", "--team", "red"],
        "no user was ever called 'nobody-of-this-name'",
    ),
]


@pytest.mark.parametrize(("arguments", "hint"), HINTS, ids=[" ".join(arguments) for arguments, _ in HINTS])
def test_a_name_that_nobody_has_is_told_with_the_nearest(
    installation: Installation, arguments: list[str], hint: str
) -> None:
    done = installation.command(*arguments)
    assert done.returncode == 0 and done.stderr.startswith(hint), done.stderr


def test_prices_of_aws_are_set_once(installation: Installation) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    machine = ("--instance-type", "p5.48xlarge", "--region", "us-east-1")
    on_demand = ("price", "aws", "--node", "nowhere-p5-*", *machine)
    spot = ("price", "aws-spot", "--node", "nowhere-spot-*", *machine, "--zone", "us-east-1a", "--from", "2d")
    with AwsServer() as aws:
        aws.products = [product("AAA"), product("BBB", operatingSystem="Windows")]
        changes = ((60, "2"), (10.75, "3.5"), (10.5, "4"), (2, "1.000001"))
        aws.spot = [(hour - timedelta(hours=ago), rate, "us-east-1a") for ago, rate in changes]
        dry = installation.command(*on_demand, "--dry-run", **aws.environment)
        assert "nowhere-p5-*: 98.32 USD an hour from" in dry.stdout and "nothing was set" in dry.stdout
        first = installation.json(*on_demand, **aws.environment)
        assert [(p["nano_per_hour"], p["presence"]) for p in first] == [(98_320_000_000, "boot")]
        assert installation.json(*on_demand, **aws.environment) == []
        hours = installation.json(*spot, "--to", "1h", **aws.environment)
        # The last hours may have become one more on the way.
        assert 46 <= len(hours) <= 47 and aws.asked.count("DescribeSpotPriceHistory") == 2
        by_hour = {p["from_hour_us"] // 3_600_000_000: p["nano_per_hour"] for p in hours}
        place = int(hour.timestamp()) // 3600
        assert [by_hour[place - ago] for ago in (12, 11, 10, 2)] == [
            2 * 10**9, 3_375_000_000, 4 * 10**9, 1_000_001_000,
        ]  # fmt: skip
        more = installation.json(*spot, **aws.environment)
        assert {p["from_hour_us"] for p in more}.isdisjoint(p["from_hour_us"] for p in hours) and len(
            more
        ) <= 2
        aws.products.append(product("CCC", usagetype="UnusedBox:p5"))
        refused = installation.command(*on_demand, **aws.environment)
        assert refused.returncode == 2 and "2 on-demand prices" in refused.stderr and "CCC" in refused.stderr
    text = installation.command("price", "ls").stdout
    assert re.search(r"nowhere-p5-\* +98\.32 .* boot .* aws-on-demand +now", text)
    assert re.search(r"and \d+ that count no more; --all lists them", text)


NOT_FOUND: list[tuple[list[str], int, str]] = [
    (["show", "nobody"], 1, "no run has the id or name 'nobody'; `trainledger ls` lists the runs"),
    (
        ["admin", "owner", "rm", "nobody"],
        2,
        "no team was ever set for 'nobody'; `trainledger admin owner ls` lists who has one",
    ),
    (
        ["admin", "budget", "rm", "--team", "x"],
        2,
        "no budget in USD was ever set for team 'x'; `trainledger admin budget ls` lists them",
    ),
    (["compare", "one", "one"], 2, "the same run is named twice"),
    (["sql", "SELECT 1", "--parquet", "/nowhere/x"], 2, "cannot write /nowhere/x: No such file or directory"),
]


@pytest.mark.parametrize(
    ("arguments", "status", "message"), NOT_FOUND, ids=[" ".join(a) for a, _, _ in NOT_FOUND]
)
def test_what_is_not_there_is_told_in_one_line(
    installation: Installation, arguments: list[str], status: int, message: str
) -> None:
    done = installation.command(*arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (status, "", 1)
    assert message in done.stderr


WRONG: dict[str, tuple[list[str], str]] = {
    "sort by nothing": (["ls", "--sort", "start_at"], "cannot sort by 'start_at'; did you mean started_at"),
    "no state": (["ls", "--state", "done"], "no state 'done'"),
    "no time": (["ls", "--since", "soon"], "'soon' is not a time"),
    "time before all": (["ls", "--since", "999999w"], "is not a time"),
    "limit of none": (["ls", "--limit", "0"], "--limit"),
    "limit in words": (["ls", "--limit", "many"], "--limit"),
    "two forms": (["ls", "--json", "--csv"], "choose one"),
    "one run": (["compare", "a"], "at least two"),
    "follow as array": (["logs", "a", "-f", "--json"], "choose one"),
    "no group": (["cost", "--by", "planet"], "the groups are team, project"),
    "month 13": (["cost", "--month", "2026-13"], "'2026-13' is not a month"),
    "month and from": (["cost", "--month", "2026-11", "--from", "7d"], "--month stands alone"),
    "cost of no time": (["cost", "--from", "yesterdayish"], "'yesterdayish' is not a time"),
    "backwards": (["cost", "--from", "2026-11-02", "--to", "2026-11-01"], "is not behind"),
    "two forms of cost": (["cost", "--json", "--parquet", "x"], "choose one"),
    "prices in a file": (
        ["cost", "--prices", "a.toml", "b.toml", "--parquet", "x"],
        "--prices has no --parquet",
    ),
    "explained as csv": (["cost", "--month", "2026-10", "--explain", "--csv"], "--explain has no --csv"),
    "focus as json": (["cost", "--month", "2026-10", "--focus", "x.csv", "--json"], "--focus has no --json"),
    "focus by team": (
        ["cost", "--month", "2026-10", "--focus", "x.csv", "--by", "team"],
        "--focus has no --by",
    ),
    "explained by run": (["cost", "--month", "2026-10", "--explain", "--by", "run"], "--explain has no --by"),
    "explained in a currency": (
        ["cost", "--month", "2026-10", "--explain", "--currency", "EUR"],
        "--explain has no --currency",
    ),
    "no currency": (["cost", "--currency", "euro"], "'euro' is not a code"),
    "price in no currency": (
        ["price", "set", "--node", "*", "--per-hour", "5"],
        "give --usd-per-hour X, or --per-hour X with --currency EUR",
    ),
    "price in two": (
        ["price", "set", "--node", "*", "--usd-per-hour", "5", "--currency", "EUR"],
        "give --usd-per-hour X, or --per-hour X with --currency EUR",
    ),
    "rate of nothing": (["price", "rate", "set", "EUR", "USD", "0"], "rate 0 is not above 0"),
    "rate of an hour": (
        ["price", "rate", "set", "EUR", "USD", "1", "--from", "2026-11-01T10:00"],
        "a rate counts from the beginning of a UTC day",
    ),
    "no rates": (["price", "rate", "load", "missing.csv"], "cannot read missing.csv"),
    "reconciled by team": (
        ["cost", "--month", "2026-10", "--reconcile", "1", "--by", "team"],
        "--reconcile has no --by",
    ),
    "one hour": (["cost", "--from", "2026-11-01T10:05", "--to", "2026-11-01T10:50"], "lie in one hour"),
    "no price": (["price", "set", "--node", "*", "--usd-per-hour", "minus"], "'minus' is not a price"),
    "no hour": (
        ["price", "set", "--node", "*", "--usd-per-hour", "1", "--from", "2026-11-01T10:00:00.5"],
        "whole UTC hour",
    ),
    "no pattern": (["price", "set", "--node", "", "--usd-per-hour", "1"], "needs a node pattern"),
    "no book": (["price", "load", "missing.toml"], "cannot read missing.toml"),
    "no machine": (["price", "aws", "--node", "a"], "--instance-type TYPE"),
    "no zone": (["price", "aws-spot", "--node", "a", "--instance-type", "t", "--region", "r"], "--zone ZONE"),
    "older than AWS knows": (
        [
            "price",
            "aws-spot",
            "--node",
            "a",
            "--instance-type",
            "t",
            "--region",
            "r",
            "--zone",
            "z",
            "--from",
            "91d",
        ],
        "AWS keeps 90 days",
    ),
    "no argument": (["show"], "RUN"),
    "no option": (["ls", "--sorted"], "--sorted"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_told_before_anything_is_opened(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("TRAINLEDGER_HOME", str(home))
    monkeypatch.setenv("TRAINLEDGER_DIR", str(tmp_path / "journals"))
    with pytest.raises(UsageError) as caught:
        main(arguments)
    assert message in str(caught.value)
    assert not home.exists()


def test_a_list_of_nothing_says_how_to_begin(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    done = node.command("ls")
    assert (done.returncode, done.stdout) == (0, "") and "trainledger run -- CMD" in done.stderr
