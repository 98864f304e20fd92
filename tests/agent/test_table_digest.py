"""The digest of a table is of its values: the same from pandas, polars and pyarrow, and of no two different tables."""

import datetime
import decimal
import itertools
import sys
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from trainledger.table_digest import describe_table, is_table

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
VALUES: dict[str, list[Any]] = {
    "id": [1, 2, 3, 4],
    "score": [0.5, None, -1.5, 2.0],
    "name": ["ä", None, "", "longer text"],
    "flag": [True, False, True, True],
    "at": [WHEN, WHEN, None, WHEN],
}


def digest(table: Any) -> str:
    facts = describe_table(table)
    assert facts.digest is not None, facts.reason
    return facts.digest


def arrow(**changes: Any) -> pa.Table:
    return pa.table({**VALUES, **changes})


def test_the_digest_is_fixed_for_ever() -> None:
    # Were this to change, the same table would be another version: that needs table-v2.
    assert digest(arrow()) == GOLDEN
    assert describe_table(arrow())[:2] == (
        4,
        ["id: int64", "score: float64", "name: string", "flag: bool", "at: timestamp[]"],
    )


GOLDEN = "table-v1:ab67b5a09bd2c464b4ffb9dd083b62064388654a045bf16a4584bc0dacaf2c95"


def test_libraries_chunks_and_layouts_make_no_difference() -> None:
    table = arrow()
    frame = pd.DataFrame({**VALUES, "flag": pd.Series(VALUES["flag"], dtype=bool)})
    polars = pl.DataFrame(VALUES)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    padded = pa.concat_tables([table, table]).combine_chunks().slice(4, 4)
    same: dict[str, Any] = {
        "pandas": frame,
        "pandas, text as objects": frame.astype({"name": object}),
        "pandas, category": frame.astype({"name": "category"}),
        "pandas, nanoseconds": frame.astype({"at": "datetime64[ns]"}),
        "polars": polars,
        "polars, category": polars.with_columns(pl.col("name").cast(pl.Categorical)),
        "polars, milliseconds and back": polars.with_columns(pl.col("at").cast(pl.Datetime("ns"))),
        "batch": table.to_batches()[0],
        "chunks": chunked,
        "a slice": padded,
        "empty chunks": pa.concat_tables([table.slice(0, 0), table, table.slice(4)]),
        "dictionary": arrow(name=pa.array(VALUES["name"]).dictionary_encode()),
        "NaN": arrow(score=pa.array([0.5, float("nan"), -1.5, 2.0])),
        "view": arrow(name=pa.array(VALUES["name"], pa.string_view())),
    }
    assert {how: digest(data) for how, data in same.items()} == dict.fromkeys(same, digest(table))


def test_what_differs_has_another_digest() -> None:
    different = {
        "as it is": arrow(),
        "one value": arrow(id=[1, 2, 3, 5]),
        "null is not zero": arrow(id=[1, 2, 3, None]),
        "zero": arrow(id=[1, 2, 3, 0]),
        "text moved": arrow(name=["ä", None, "l", "onger text"]),
        "null text": arrow(name=["ä", "", "", "longer text"]),
        "width": arrow(id=pa.array([1, 2, 3, 4], pa.int32())),
        "sign of zero": arrow(score=[-0.0, None, -1.5, 2.0]),
        "positive zero": arrow(score=[0.0, None, -1.5, 2.0]),
        "zone": arrow(at=pa.array(VALUES["at"], pa.timestamp("us", "UTC"))),
        "rows in another order": arrow().take([1, 0, 2, 3]),
        "columns in another order": arrow().select(["score", "id", "name", "flag", "at"]),
        "a name": arrow().rename_columns(["ID", "score", "name", "flag", "at"]),
        "an index": pd.DataFrame(VALUES).set_index("id"),
        "fewer rows": arrow().slice(0, 3),
        "no rows": arrow().slice(0, 0),
    }
    digests = {how: digest(data) for how, data in different.items()}
    for one, other in itertools.combinations(digests, 2):
        assert digests[one] != digests[other], (one, other)


@pytest.mark.parametrize(
    ("values", "other"),
    [
        ([[1, 2], [], None, [3]], [[1], [2], None, [3]]),
        ([{"a": 1, "b": "x"}, None], [{"a": 1, "b": "y"}, None]),
        ([[{"a": 1}], [{"a": 2}]], [[{"a": 1}, {"a": 2}], []]),
        ([b"\x00", b""], [b"", b"\x00"]),
        ([datetime.date(2026, 1, 1)], [datetime.date(2026, 1, 2)]),
        ([datetime.time(1, 2, 3)], [datetime.time(1, 2, 4)]),
        ([datetime.timedelta(seconds=1)], [datetime.timedelta(seconds=2)]),
        ([decimal.Decimal("1.10")], [decimal.Decimal("1.11")]),
        ([datetime.datetime(1, 1, 1)], [datetime.datetime(1, 1, 2)]),
        ([None, None], [None]),
    ],
    ids=["list", "struct", "list of structs", "binary", "date", "time", "duration", "decimal", "year 1", "null"],
)  # fmt: skip
def test_every_type_is_read_whole_in_any_chunks(values: list[Any], other: list[Any]) -> None:
    table = pa.table({"x": values})
    chunks = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert digest(table) == digest(chunks) == digest(pl.DataFrame(table)) != digest(pa.table({"x": other}))


def test_what_cannot_be_read_says_why() -> None:
    table = pa.table({"x": list(range(1000))})
    large = describe_table(table, bytes_max=1000)
    assert (large.rows, large.columns, large.digest) == (1000, ["x"], None) and "above 0 MiB" in str(
        large.reason
    )
    strange = describe_table(pa.table({"x": _interval()}))
    assert strange.digest is None and "month_day_nano_interval" in str(strange.reason)
    assert (
        is_table(pd.Series([1]))
        and is_table(pl.Series([1]))
        and digest(pd.Series([1], name="x")) == digest(pl.Series("x", [1]))
    )
    assert not is_table([1]) and not is_table(sys)


def _interval() -> pa.Array:
    return pa.array([pa.MonthDayNano([1, 2, 3])])
