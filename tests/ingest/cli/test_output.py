"""What a program reads is exact, and what a person reads fits the terminal."""

import csv
import fcntl
import io
import json
import os
import re
import struct
import subprocess
import sys
import termios
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.engine import shared_engine
from trainledger_ingest.cli.output import (
    CSV_ROWS_AT_ONCE,
    cell_text,
    json_value,
    print_json,
    print_rows,
    print_table,
    table_rows,
)
from trainledger_schemas.errors import UsageError

Capture = pytest.CaptureFixture[str]
SQL = """
SELECT toInt64(-9223372036854775808) AS low, toUInt64(18446744073709551615) AS high,
  toDecimal128('12345678901234567890.000000001', 9) AS money, nan AS nothing, inf AS up, -inf AS down, 1e300 AS big,
  CAST(NULL AS Nullable(String)) AS missing, true AS yes, 'a "b"\\n[red]ü' AS text,
  toDateTime64('2026-11-25 10:00:00.000001', 6, 'UTC') AS at, toDateTime('2026-11-25 10:00:00', 'UTC') AS hour,
  toDate('2026-11-25') AS day, [1, 2] AS list, map('k', 'v') AS pairs, ['x'] AS names,
  toInt256('-123456789012345678901234567890') AS wide, toUUID('00000000-0000-4000-8000-000000000001') AS id
"""
EXPECTED = {
    "low": -(2**63), "high": 2**64 - 1, "money": "12345678901234567890.000000001", "nothing": "NaN", "up": "Infinity",
    "down": "-Infinity", "big": 1e300, "missing": None, "yes": True, "text": 'a "b"\n[red]ü',
    "at": "2026-11-25T10:00:00.000001Z", "hour": "2026-11-25T10:00:00Z", "day": "2026-11-25", "list": [1, 2],
    "pairs": {"k": "v"}, "names": ["x"], "wide": -123456789012345678901234567890,
    "id": "00000000-0000-4000-8000-000000000001",
}  # fmt: skip


@pytest.fixture(scope="module")
def result() -> pa.Table:
    """One row of the real engine with every type that the views have."""
    columns = SQL.replace("toUUID(", "toString(toUUID(").replace("0001') AS id", "0001')) AS id")
    return shared_engine().query(columns)


def test_json_has_every_value_of_a_real_result_without_loss(result: pa.Table, capsys: Capture) -> None:
    print_rows(result, as_json=True)
    told = capsys.readouterr()
    assert json.loads(told.out) == [EXPECTED]
    assert told.err == ""
    # Digits, not a float that happens to be equal.
    assert '"high": 18446744073709551615' in told.out and "NaN," not in told.out


def test_csv_has_the_same_values(result: pa.Table, capsys: Capture) -> None:
    print_rows(result, as_csv=True)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    lists = {name: json.dumps(value) for name, value in EXPECTED.items() if isinstance(value, list | dict)}
    plain = {"missing": "", "yes": "true", "big": "1e+300"}
    assert row == {name: str(value) for name, value in EXPECTED.items()} | lists | plain


def test_a_long_csv_is_written_part_by_part_without_a_seam(capsys: Capture) -> None:
    count = 2 * CSV_ROWS_AT_ONCE + 1
    print_rows(pa.table({"n": pa.array(range(count))}), as_csv=True)
    assert capsys.readouterr().out == "\n".join(["n", *map(str, range(count))]) + "\n"


def test_parquet_gives_back_the_table(result: pa.Table, tmp_path: Path, capsys: Capture) -> None:
    print_rows(result, parquet=tmp_path / "r.parquet")
    told = capsys.readouterr()
    assert told.out == "" and "1 rows written" in told.err
    back = pa.parquet.read_table(tmp_path / "r.parquet")
    assert [json_value(row) for row in table_rows(back)] == [EXPECTED]
    assert back.schema.field("money").type == pa.decimal128(38, 9)


def test_a_place_that_cannot_be_written_is_wrong_use(result: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*none/r.parquet: No such file"):
        print_rows(result, parquet=tmp_path / "none" / "r.parquet")


@pytest.mark.parametrize(
    "forms",
    [
        {"as_json": True, "as_csv": True},
        {"as_json": True, "parquet": Path("x")},
        {"as_csv": True, "parquet": Path("x")},
    ],
    ids=["json csv", "json parquet", "csv parquet"],
)
def test_two_forms_at_once_are_refused(result: pa.Table, forms: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="choose one"):
        print_rows(result, **forms)


def test_an_empty_result_is_an_empty_array_a_header_and_a_table(capsys: Capture, tmp_path: Path) -> None:
    empty = shared_engine().query("SELECT 1 AS a, 'x' AS b WHERE 0")
    print_rows(empty, as_json=True)
    assert capsys.readouterr().out == "[]\n"
    print_rows(empty, as_csv=True)
    assert capsys.readouterr().out == "a,b\n"
    print_rows(empty)
    assert capsys.readouterr().out == "a  b\n"
    print_rows(empty, parquet=tmp_path / "e")
    assert pa.parquet.read_table(tmp_path / "e").column_names == ["a", "b"]


def test_times_are_told_in_utc_wherever_they_come_from() -> None:
    there = datetime(2026, 11, 25, 12, tzinfo=timezone(timedelta(hours=2)))
    for value in (there, datetime(2026, 11, 25, 10), datetime(2026, 11, 25, 10, tzinfo=UTC)):
        assert json_value(value) == "2026-11-25T10:00:00Z"
        assert cell_text(value) == "2026-11-25 10:00:00"
    assert json_value(date(2026, 11, 25)) == "2026-11-25"


def test_ids_bytes_and_small_decimals_are_text() -> None:
    assert json_value([UUID(int=1), b"ab\xff", Decimal("1E-9"), Decimal("1E+3")]) == [
        str(UUID(int=1)), "ab\ufffd", "0.000000001", "1000",
    ]  # fmt: skip


@given(st.integers(), st.decimals(allow_nan=False, allow_infinity=False), st.floats(), st.text())
def test_what_json_carries_can_be_read_back_exactly(
    whole: int, exact: Decimal, real: float, text: str
) -> None:
    told = json.loads(json.dumps(json_value({"i": whole, "d": exact, "f": real, "t": text}), allow_nan=False))
    assert (told["i"], Decimal(told["d"]), told["t"]) == (whole, exact, text)
    assert float(told["f"]) == real or real != real


def test_a_piped_table_is_aligned_and_has_no_blanks_at_the_ends(capsys: Capture) -> None:
    print_table(("run", "cost"), [("a", "1.00"), ("日本語", "-"), ("long name", "100.00")], right=("cost",))
    assert (
        capsys.readouterr().out
        == "run          cost\na            1.00\n日本語          -\nlong name  100.00\n"
    )
    print_table(("a",), [], title="nothing")
    assert capsys.readouterr().out == "\nnothing\na\n"


def test_names_cannot_format_the_table_or_drive_the_terminal(capsys: Capture) -> None:
    print_table(("name",), [("[bold]x[/bold]",), ("[/red]",), ("\x1b[2J\r\x9b",), ("two\nlines",)])
    assert capsys.readouterr().out.splitlines() == [
        "name", "[bold]x[/bold]", "[/red]", "\\x1b[2J\\r\\x9b", "two\\nlines",
    ]  # fmt: skip


def test_a_cell_is_short_and_plain() -> None:
    assert [cell_text(v) for v in (None, True, 3, 0.1 + 0.2, "x" * 100, ["a"], {"k": 1}, float("nan"))] == [
        "-", "true", "3", "0.3", "x" * 59 + "…", '["a"]', '{"k": 1}', "nan",
    ]  # fmt: skip


def test_print_json_takes_any_rows(capsys: Capture) -> None:
    print_json({"n": n} for n in range(3))
    assert json.loads(capsys.readouterr().out) == [{"n": 0}, {"n": 1}, {"n": 2}]


PRINT_ON_TERMINAL = """
import sys
import pyarrow as pa
from trainledger_ingest.cli.output import print_rows, print_table
if sys.argv[1] == "table":
    names = ("run", "experiment", "team", "state")
    rows = [("6b49ae14", "a-long-experiment", "[red]", "finished")]
    print_table(names, rows, optional=("experiment", "team"), title="runs")
else:
    print_rows(pa.table({"a" * 20: ["x" * 50], "b": [1]}))
"""


def on_terminal(what: str, columns: int) -> list[str]:
    """The lines that a terminal of this width gets, without colours."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", PRINT_ON_TERMINAL, what],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert done.returncode == 0, done.stderr.decode()
        text = re.sub(r"\x1b\[[0-9;]*m", "", os.read(ours, 65536).decode())
    finally:
        os.close(theirs)
        os.close(ours)
    return [line.rstrip() for line in text.splitlines()]


def test_a_narrow_terminal_goes_without_the_optional_columns() -> None:
    wide = on_terminal("table", 100)
    assert wide == [
        "",
        "runs",
        "run       experiment         team   state",
        "6b49ae14  a-long-experiment  [red]  finished",
    ]
    assert on_terminal("table", 30) == ["", "runs", "run       team   state", "6b49ae14  [red]  finished"]
    assert on_terminal("table", 20)[2:] == ["run       state", "6b49ae14  finished"]


def test_a_result_too_wide_for_the_terminal_is_shown_value_by_value() -> None:
    assert on_terminal("rows", 100) == ["a" * 20 + " " * 32 + "b", "x" * 50 + "  1"]
    assert on_terminal("rows", 40) == ["-- row 1", "a" * 20 + "  " + "x" * 50, "b" + " " * 21 + "1"]
