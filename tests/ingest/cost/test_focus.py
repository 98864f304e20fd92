"""The FOCUS file: what a public validator and the specification's own sums ask for, and the bill exactly."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_store import fresh_store
from trainledger_ingest.cost.focus_export import write_focus
from trainledger_ingest.cost.statements import CloseRequest, write_statement
from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_bytes

S = 1_000_000
H = 3600 * S
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * S


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """October closed and then made dearer; November open; an hour without a price; names that CSV must quote."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("focus"))
    for number, begin in ((1, us(NOVEMBER) - 2 * H), (2, us(NOVEMBER) + 5 * H)):
        node = f"node-{number}"
        tables.started(number, number + 10, begin, team='r"ed, ü', project="p", node=node)
        tables.alive(begin, begin + H + 7 * S, node=node)
        tables.usage(begin, begin + H, (number, number + 10), cores=1.7, node=node)
    tables.alive(us(NOVEMBER) + 9 * H, us(NOVEMBER) + 10 * H, node="free")
    tables.price(1, us(NOVEMBER), nano=12_345_678_901, pattern="node-*")
    tables.take_in()
    now = datetime(2026, 11, 5, tzinfo=UTC)
    request = CloseRequest("2026-10")
    fields = write_statement(tables.store, tables.schema, request, now=now, statement_id=id_of(99))
    event = fields | {"statement_id": id_bytes(fields["statement_id"])}
    tables.event("period_closed", us(now), at_us=us(now), set_by="fin", **event)
    tables.take_in()
    tables.price(2, us(now), nano=13 * 10**9, pattern="node-1")
    tables.take_in()
    yield tables


def export(tables: FilledTables, path: Path, month: str, version: str = "1.4") -> Any:
    first, behind = (OCTOBER, NOVEMBER) if month == "2026-10" else (NOVEMBER, DECEMBER)
    statement = id_of(99) if month == "2026-10" else None
    return write_focus(tables.session, path, (first, behind), version=version, statement=statement)


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("version", ["1.4", "1.2"])
@pytest.mark.parametrize("month", ["2026-10", "2026-11"])
def test_the_sum_of_the_file_is_the_bill_exactly(
    tables: FilledTables, tmp_path: Path, month: str, version: str
) -> None:
    path = tmp_path / "f.csv"
    done = export(tables, path, month, version)
    rows = read(path)
    total = sum((Decimal(row["EffectiveCost"]) for row in rows if not row["ChargeClass"]), Decimal(0))
    views = tables.schema.views_database
    bills = "statement_bills" if month == "2026-10" else "node_hour_bills"
    (expected,) = tables.store.rows(
        f"SELECT sum(bill) AS total FROM {views}.{bills} WHERE toYYYYMM(usage_hour, 'UTC') = {month.replace('-', '')}"
    )
    assert total == expected["total"] and total > 0 and done.rows == len(rows)
    assert done.unpriced_hours == (0 if month == "2026-10" else 1)
    corrections = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert bool(corrections) == (month == "2026-11")
    (moved,) = tables.rows("cost_adjustments", columns="sum(delta) AS total")
    if corrections:
        assert sum(Decimal(row["BilledCost"]) for row in corrections) == moved["total"]
        assert {row["BillingPeriodStart"] for row in corrections} == {"2026-11-01T00:00:00Z"}
        assert {row["ChargePeriodStart"][:7] for row in corrections} == {"2026-10"}


@pytest.mark.parametrize("month", ["2026-10", "2026-11"])
def test_a_public_validator_finds_nothing_wrong_with_version_1_4(
    tables: FilledTables, tmp_path: Path, month: str
) -> None:
    path = tmp_path / "f.csv"
    export(tables, path, month)
    command = [
        sys.executable,
        "-m",
        "focus_data_toolkit.cli",
        "validate",
        str(path),
        "--dataset",
        "cost-and-usage",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    # It would have seen it: a price that is not the quotient of cost and quantity.
    spoiled = path.read_text(encoding="utf-8").replace("12.345678901", "12.4")
    path.write_text(spoiled, encoding="utf-8")
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 1


@pytest.mark.parametrize("version", ["1.4", "1.2"])
def test_every_row_keeps_the_rules_of_the_specification(
    tables: FilledTables, tmp_path: Path, version: str
) -> None:
    for month in ("2026-10", "2026-11"):
        path = tmp_path / f"{month}.csv"
        export(tables, path, month, version)
        for row in read(path):
            check_row(row, version)


def check_row(row: dict[str, str], version: str) -> None:
    providers = {"1.4": {"ServiceProviderName", "HostProviderName"}, "1.2": {"ProviderName", "PublisherName"}}
    for own, names in providers.items():
        assert all((name in row) == (own == version) and row.get(name, "x") for name in names)
    # There and empty: else the validator of 1.2 asks for no quantity.
    assert row.get("CommitmentDiscountStatus") == {"1.4": None, "1.2": ""}[version]
    for name in (
        "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
        "ChargeCategory", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost",
        "InvoiceIssuerName", "ListCost", "ServiceCategory", "ServiceName", "ChargeFrequency", "ServiceSubcategory",
    ):  # fmt: skip
        assert row[name] not in ("", "N/A", "0"), name
    for name, value in row.items():
        assert len(name) <= 50
        if name.endswith(("Cost", "Quantity", "UnitPrice")) and value:
            assert "." in value and "E" not in value and "+" not in value and "," not in value
        if name.endswith(("PeriodStart", "PeriodEnd")):
            assert datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
    assert (
        row["BillingPeriodStart"] < row["BillingPeriodEnd"]
        and row["ChargePeriodStart"] < row["ChargePeriodEnd"]
    )
    assert row["BilledCost"] == row["EffectiveCost"] and row["ChargeCategory"] == "Usage"
    if row["ChargeClass"] == "Correction":
        assert row["ChargePeriodEnd"] <= row["BillingPeriodStart"] and not row["PricingQuantity"]
    else:
        assert row["ChargeClass"] == "" and row["BillingPeriodStart"] <= row["ChargePeriodStart"]
        for kind in ("List", "Contracted"):
            product = Decimal(row[f"{kind}UnitPrice"]) * Decimal(row["PricingQuantity"])
            assert product == Decimal(row[f"{kind}Cost"])
            assert abs(product - Decimal(row["EffectiveCost"])) < Decimal("1E-7")
        assert (row["PricingUnit"], row["ConsumedUnit"]) == ("Hours", "Hours")
    tags = json.loads(row["Tags"])
    assert all(isinstance(value, str) for value in tags.values()) and tags["kind"] == row["x_Kind"]
    if row["x_Kind"] == "run":
        assert (row["SubAccountId"], row["SubAccountType"]) == ('r"ed, ü', "Team") and row["x_RunId"]
    else:
        assert (row["SubAccountId"], row["SubAccountType"], row["x_RunId"]) == ("", "", "")


def test_parquet_has_the_same_rows_with_types(tables: FilledTables, tmp_path: Path) -> None:
    export(tables, tmp_path / "f.parquet", "2026-11")
    export(tables, tmp_path / "f.csv", "2026-11")
    kept = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pylist()
    told = read(tmp_path / "f.csv")
    assert [row["BilledCost"] for row in kept] == [Decimal(row["BilledCost"]) for row in told]
    assert list(kept[0]) == list(told[0])
    assert kept[0]["ChargePeriodStart"] == datetime.fromisoformat(told[0]["ChargePeriodStart"])
    assert kept[0]["ChargeClass"] is None


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [("f.txt", "1.4", r"neither .csv nor .parquet"), ("f.csv", "1.3", "there are 1.4 and 1.2")],
    ids=["suffix", "version"],
)
def test_what_cannot_be_written_is_told(
    tables: FilledTables, tmp_path: Path, name: str, version: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export(tables, tmp_path / name, "2026-11", version)
