"""Commands that tell what was wasted, on a real installation: each as table, JSON, CSV and Parquet."""

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest

from support.installation import Installation
from support.past_month import PAST_MONTH, write_past_month


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two hours of a node at 10.00, half of them a run of team red that nobody ended."""
    node = Installation(tmp_path_factory.mktemp("waste"))
    write_past_month(node.home)
    book = node.folder / "prices.toml"
    book.write_text('[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "10"\n')
    assert node.command("price", "load", str(book)).returncode == 0
    yield node


def test_waste_is_one_report_in_four_forms(installation: Installation, tmp_path: Path) -> None:
    text = installation.command("waste", "--month", PAST_MONTH).stdout
    assert "total 20.00 USD; bills of the nodes 20.00 USD" in text
    assert "wasted 10.00 USD (50.0 %): idle 10.00" in text
    printed = installation.command("waste", "--month", PAST_MONTH, "--csv").stdout
    assert [row["wasted"] for row in csv.DictReader(io.StringIO(printed))] == ["0.00", "10.00"]
    file = tmp_path / "waste.parquet"
    assert installation.command("waste", "--month", PAST_MONTH, "--parquet", str(file)).returncode == 0
    stored = pyarrow.parquet.read_table(file).to_pylist()
    assert [row["wasted"] for row in stored] == [Decimal(0), Decimal(10)]


def test_waste_of_one_team_by_run_and_a_wrong_group(installation: Installation) -> None:
    (row,) = installation.json("waste", "--month", PAST_MONTH, "--team", "red", "--by", "run")
    assert (row["cost"], row["wasted_pct_min"], row["wasted_pct_max"]) == ("10.00", 0.0, 0.0)
    wrong = installation.command("waste", "--by", "colour")
    assert wrong.returncode == 2 and "the groups are team" in wrong.stderr and not wrong.stdout


def test_the_bill_is_compared_with_an_invoice(installation: Installation, tmp_path: Path) -> None:
    text = installation.command("cost", "--month", PAST_MONTH, "--reconcile", "21.50").stdout
    assert "bills of the nodes 20.00 USD, invoice 21.50: difference 1.50 USD" in text
    assert "in no line of any team" in text
    file = tmp_path / "invoice.csv"
    (node,) = {row["node"] for row in installation.json("cost", "--month", PAST_MONTH, "--by", "node")}
    file.write_text(f"node,amount\n{node},20\nother,3.5\n")
    rows = installation.json("cost", "--month", PAST_MONTH, "--reconcile", str(file))
    assert {(row["node"], row["status"], row["difference"]) for row in rows} == {
        (node, "equal", "0.00"), ("other", "not in the bills", "3.50"),
    }  # fmt: skip
