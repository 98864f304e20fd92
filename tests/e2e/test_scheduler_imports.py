"""What Slurm's accounting or OpenCost says a job had, and nobody was seen to use, is billed to those it was for."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.installation import Installation
from support.opencost import OpenCost, allocation
from support.past_month import BEGIN_US, PAST_MONTH, write_past_month

BEGIN = BEGIN_US // 1_000_000
FIELDS = "JobIDRaw|JobID|Cluster|Submit|Start|End|ElapsedRaw|State|Account|User|NodeList|AllocTRES|Restarts"
PRICES = '[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "10"\n'


def row(job: int, user: str, account: str, *, start: int, end: int | str, **other: Any) -> str:
    """A row of sacct of a job that had `cpus` of the node; times in seconds from BEGIN."""
    stop = end if isinstance(end, str) else BEGIN + end
    elapsed = other.get("elapsed", 0 if isinstance(end, str) else end - start)
    state = other.get("state", "COMPLETED")
    tres = f"billing=1,cpu={other.get('cpus', 1)},mem=4G,node=1"
    times = f"{BEGIN + start - 60}|{BEGIN + start}|{stop}|{elapsed}"
    return f"{job}|{job}|c1|{times}|{state}|{account}|{user}|{other['node']}|{tres}|0"


def lines_of(node: Installation) -> dict[tuple[str, str | None, str | None, str | None], Decimal]:
    """Money by kind, owner, account and team."""
    rows = node.sql(
        "SELECT kind, owner, account, team, sum(cost) AS cost FROM cost_lines WHERE usage_hour < '2026-04-01' "
        "GROUP BY ALL ORDER BY ALL"
    )
    return {(r["kind"], r["owner"], r["account"], r["team"]): Decimal(r["cost"]) for r in rows}


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Two hours of a node of four cores and 10.00 an hour, two of them used by a run of ann throughout."""
    node = Installation(tmp_path)
    write_past_month(node.home)
    (tmp_path / "prices.toml").write_text(PRICES)
    with node.up():
        assert node.command("price", "load", "prices.toml").returncode == 0
        yield node


def test_idle_time_that_a_job_had_is_billed_to_its_user_and_account(installation: Installation) -> None:
    node = installation
    (name,) = (
        r["node_id"] for r in node.sql("SELECT DISTINCT node_id FROM node_bills WHERE day < '2026-04-01'")
    )
    assert lines_of(node) == {("run", "ann", None, "red"): 10, ("idle", None, None, None): 10}
    # Slurm knows the node by its short name; the second job goes on when sacct is asked first.
    short = name.partition(".")[0]
    ann = row(7, "ann", "ml", start=0, end=3600, cpus=3, node=short)
    batch = ann.replace("7|7|", "7.batch|7.batch|", 1)
    running = row(8, "carl", "vision", start=0, end="Unknown", elapsed=1800, state="RUNNING", node=short)
    pending = row(9, "dora", "ml", start=0, end="Unknown", node="None assigned")
    book = node.folder / "jobs.txt"
    book.write_text("\n".join([FIELDS, ann, batch, running, pending, ""]))
    (told,) = node.json("admin", "import", "sacct", "jobs.txt")
    assert told == {"jobs": 2, "nodes": 1, "new": 2, "changed": 0, "known": 0, "left_out": 2}
    # Ann had three cores and her run used two of them; carl had one for half an hour.
    first = {
        ("run", "ann", "account:ml", "ml"): Decimal(5),
        ("run", "ann", None, "red"): Decimal(5),
        ("untracked", "ann", "account:ml", "ml"): Decimal("2.5"),
        ("untracked", "carl", "account:vision", "vision"): Decimal("1.25"),
        ("idle", None, None, None): Decimal("6.25"),
    }
    assert lines_of(node) == first
    assert node.json("admin", "import", "sacct", "jobs.txt")[0]["known"] == 2
    over = row(8, "carl", "vision", start=0, end=7200, node=short)
    book.write_text("\n".join([FIELDS, ann, over]))
    (told,) = node.json("admin", "import", "sacct", "jobs.txt")
    assert (told["new"], told["changed"], told["known"]) == (0, 1, 1)
    assert (
        node.command(
            "admin", "owner", "set", "account:vision", "--team", "eyes", "--from", "2026-03-01"
        ).returncode
        == 0
    )
    later = lines_of(node)
    assert later["untracked", "carl", "account:vision", "eyes"] == 5
    assert later["idle", None, None, None] == Decimal("2.5") and sum(later.values()) == 20
    # An older reading does not take back what is known, and a rebuild deals the same.
    book.write_text("\n".join([FIELDS, running]))
    assert node.json("admin", "import", "sacct", "jobs.txt")[0]["known"] == 1
    assert node.command("admin", "rebuild").returncode == 0
    assert lines_of(node) == later
    (line,) = node.sql("SELECT DISTINCT evidence, payer_evidence FROM cost_lines WHERE owner = 'carl'")
    assert line == {"evidence": "sacct 8", "payer_evidence": "slurm account vision"}


def test_jobs_that_come_after_the_month_was_closed_are_differences(installation: Installation) -> None:
    node = installation
    (name,) = (
        r["node_id"] for r in node.sql("SELECT DISTINCT node_id FROM node_bills WHERE day < '2026-04-01'")
    )
    assert node.command("admin", "period", "close", PAST_MONTH).returncode == 0
    job = row(8, "carl", "vision", start=0, end=3600, cpus=2, node=name)
    (node.folder / "jobs.txt").write_text("\n".join([FIELDS, job]))
    done = node.command("admin", "import", "sacct", "jobs.txt")
    assert done.returncode == 0, done.stderr
    rows = node.sql("SELECT kind, owner, account, cause, delta FROM cost_adjustments ORDER BY kind")
    assert rows == [
        {"kind": "idle", "owner": None, "account": None, "cause": "late", "delta": "-5.000000000"},
        {
            "kind": "untracked",
            "owner": "carl",
            "account": "account:vision",
            "cause": "late",
            "delta": "5.000000000",
        },
    ]
    assert "total 20.00 USD" in node.command("cost", "--month", PAST_MONTH).stdout


def test_what_opencost_says_pods_had_is_billed_to_their_namespaces(installation: Installation) -> None:
    node = installation
    (name,) = (
        r["node_id"] for r in node.sql("SELECT DISTINCT node_id FROM node_bills WHERE day < '2026-04-01'")
    )
    with OpenCost() as api:
        api.entries = [allocation("web", "pod-1", node=name, start="10:00", end="11:00")]
        asked = (
            "admin",
            "import",
            "opencost",
            api.url,
            "--from",
            "2026-03-20T10:00Z",
            "--to",
            "2026-03-20T11:00Z",
        )
        assert node.json(*asked)[0]["new"] == 1
        # A window of another length says the same hour again, and the next one.
        api.entries = [allocation("web", "pod-1", node=name)]
        (told,) = node.json(*asked)
    assert api.asked[0]["window"] == ["2026-03-20T10:00:00Z,2026-03-20T11:00:00Z"]
    assert (told["new"], told["known"]) == (1, 1)
    assert lines_of(node) == {
        ("run", "ann", None, "red"): 10,
        ("untracked", None, "namespace:web", "web"): 5,
        ("idle", None, None, None): 5,
    }
