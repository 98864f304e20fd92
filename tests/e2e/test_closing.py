"""Finance closes a month of a real installation, a price is corrected, and the statement stands."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from support.installation import Installation
from support.past_month import PAST_MONTH, write_past_month


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    node = Installation(tmp_path_factory.mktemp("closing"))
    write_past_month(node.home)
    yield node


def test_a_month_is_closed_corrected_explained_and_rebuilt(
    installation: Installation, tmp_path: Path
) -> None:
    run = installation.command
    unpriced = run("admin", "period", "close", PAST_MONTH)
    assert unpriced.returncode == 2 and "2.0000 node-hours of 2026-03 have no price" in unpriced.stderr
    book = tmp_path / "prices.toml"
    book.write_text('[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "10"\n')
    assert run("price", "load", str(book)).returncode == 0
    with installation.up():
        closed = run("admin", "period", "close", PAST_MONTH, "--note", "all in")
        assert closed.returncode == 0 and "2026-03 is closed: 20.00 USD" in closed.stdout, closed.stderr
        before = run("cost", "--month", PAST_MONTH).stdout
        assert "total 20.00 USD; bills of the nodes 20.00 USD" in before and "as it was closed on" in before
        dearer = tmp_path / "dearer.toml"
        dearer.write_text(book.read_text().replace('"10"', '"12"'))
        compared = run("cost", "--month", PAST_MONTH, "--prices", str(book), str(dearer)).stdout
        assert "total 20.00 USD by prices.toml, 24.00 by dearer.toml: difference 4.00 USD" in compared
        assert run("price", "load", str(dearer)).returncode == 0
        told = run("cost", "--month", PAST_MONTH).stdout
        assert "total 20.00 USD; bills of the nodes 20.00 USD" in told and "learned since: 4.00 USD" in told
        rows = installation.json("cost", "--month", PAST_MONTH, "--explain")
        assert {row["cause"] for row in rows} == {"price"} and sum(Decimal(r["delta"]) for r in rows) == 4
        held = run("cost", "--month", "2026-04", "--reconcile", "0")
        assert "not in these bills: differences of closed months booked in 2026-04, 4.00 USD" in held.stderr
        text = run("cost", "--month", PAST_MONTH, "--explain").stdout
        assert "statement 20.00 USD, differences 4.00, newest bill 24.00 USD" in text
        assert run("admin", "rebuild").returncode == 0
        assert run("cost", "--month", PAST_MONTH, "--explain").stdout == text
        exported = run("cost", "--month", PAST_MONTH, "--focus", str(tmp_path / "f.csv"))
        assert "4 rows (FOCUS 1.4) written to" in exported.stderr and "20.000000000 USD" in exported.stderr
        assert "not the statement" not in exported.stderr
        days = ("--from", "2026-03-20", "--to", "2026-03-21", "--focus", str(tmp_path / "f.csv"))
        assert (
            "2026-03 is closed, and this is what is known now, not the statement" in run("cost", *days).stderr
        )
        assert (
            run("admin", "owner", "set", "ann", "--team", "blue", "--from", "2026-03-20T11:00Z").returncode
            == 0
        )
        moved = [
            r for r in installation.json("cost", "--month", PAST_MONTH, "--explain") if r["cause"] == "owner"
        ]
        # With what the price added before.
        assert {r["team"]: r["delta"] for r in moved} == {"red": "-6.00", "blue": "6.00"}
    (period,) = installation.json("admin", "period", "ls")
    assert period["is_intact"] and period["totals"] == {"USD": "20.000000000"}
    again = run("admin", "period", "close", PAST_MONTH)
    assert again.returncode == 2 and "closed already" in again.stderr
