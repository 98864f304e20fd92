"""Which smaller GPU or MIG instance a run's measured peak of memory fits; without a measurement nothing is advised."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from support.random_cluster import BEGIN_US, MINUTE_US, S
from trainledger_ingest.reports.headroom import read_headroom, saving_totals

GIB = 1 << 30
# Model, memory in GiB, profiles with the part of the memory and of the multiprocessors: NVIDIA's MIG User Guide.
CARDS: dict[str, tuple[int, list[tuple[str, Fraction, Fraction]]]] = {
    "NVIDIA A100-SXM4-40GB": (40, [("1g.5gb", Fraction(1, 8), Fraction(1, 7)), ("2g.10gb", Fraction(2, 8), Fraction(2, 7)), ("3g.20gb", Fraction(4, 8), Fraction(3, 7))]),
    "NVIDIA H100 80GB HBM3": (80, [("1g.10gb", Fraction(1, 8), Fraction(1, 7)), ("2g.20gb", Fraction(2, 8), Fraction(2, 7)), ("3g.40gb", Fraction(4, 8), Fraction(3, 7))]),
    "NVIDIA H200": (141, [("1g.18gb", Fraction(1, 8), Fraction(1, 7)), ("2g.35gb", Fraction(2, 8), Fraction(2, 7)), ("3g.71gb", Fraction(4, 8), Fraction(3, 7))]),
    "NVIDIA A30": (24, [("1g.6gb", Fraction(1, 4), Fraction(1, 4)), ("2g.12gb", Fraction(2, 4), Fraction(2, 4))]),
    "NVIDIA L40S": (48, []),
    "NVIDIA GH200 480GB": (96, []),
}  # fmt: skip
SIZES = (8, 16, 24, 32, 40, 48, 80)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def fill(tables: FilledTables, seed: int, *, exact: int | None = None) -> dict[str, list[list[int | None]]]:
    """One run of two ranks on every card for ten minutes; device -> a list of its ranks' peaks for each minute."""
    chance = Random(seed)
    cards = {f"GPU-{n}": model for n, model in enumerate(CARDS)}
    tables.event(
        "devices", BEGIN_US, at_us=BEGIN_US,
        devices=[
            {"device_id": gpu, "model": model, "memory_bytes": CARDS[model][0] * GIB, "mig_profile": None}
            for gpu, model in cards.items()
        ],
    )  # fmt: skip
    for rank in (0, 1):
        tables.started(1, 11 + rank, BEGIN_US, rank=rank, world_size=2, team="red", joined="environment")
    holders = [
        {"resource": f"device:{gpu}", "kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11), "owner": "ann",
         "numerator": 1, "denominator": 1, "evidence": "claim"}
        for gpu in cards
    ]  # fmt: skip
    tables.event("allocation", BEGIN_US, at_us=BEGIN_US, key_frame=False, holders=holders)
    tops = {
        gpu: chance.randrange(CARDS[model][0] * GIB // chance.choice((2, 4, 16, 32)))
        for gpu, model in cards.items()
    }
    blind = chance.choice(list(cards))
    seen: dict[str, list[list[int | None]]] = {gpu: [] for gpu in cards}
    for minute in range(10):
        start_us = BEGIN_US + minute * MINUTE_US
        for gpu in cards:
            peaks: list[int | None] = [chance.randrange(tops[gpu] + 1) for _ in range(2)]
            if gpu == blind and minute == 5:
                peaks[1] = None
            if exact is not None and gpu == "GPU-1":
                peaks = [exact, 0]
            seen[gpu].append(peaks)
        usage = [
            {"kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(11 + rank), "owner": "ann", "cpu_us": 1,
             "memory_peak_bytes": 1,
             "devices": [
                 {"device_id": gpu, "part_id": "", "observed_us": MINUTE_US, "busy_us": 15 * S, "energy_mj": None,
                  "memory_peak_bytes": seen[gpu][-1][rank], "quality": "shared-measured"}
                 for gpu in cards
             ]}
            for rank in (0, 1)
        ]  # fmt: skip
        tables.present(start_us)
        tables.event(
            "process_usage",
            start_us + MINUTE_US,
            start_us=start_us,
            end_us=start_us + MINUTE_US,
            cores=4,
            usage=usage,
        )
    tables.present(BEGIN_US + 10 * MINUTE_US)
    tables.price(1, BEGIN_US, nano=60_000_000_000)
    tables.take_in()
    return seen


@pytest.mark.parametrize("seed", [1, 2])
def test_what_fits_is_what_the_table_of_the_maker_says(tables: FilledTables, seed: int) -> None:
    seen = fill(tables, seed)
    rows = {row["device_id"]: row for row in read_headroom(tables.session, start=None, end=None, run_id=None)}
    assert set(rows) == set(seen)
    paid = {row["resource"]: row["cost"] for row in tables.rows("cost_lines", rest="WHERE kind = 'run'")}
    blind = 0
    for number, (model, (gib, profiles)) in enumerate(CARDS.items()):
        row, windows = rows[f"GPU-{number}"], seen[f"GPU-{number}"]
        peak = max(sum(value or 0 for value in peaks) for peaks in windows)
        assert (row["model"], row["mem_peak_bytes"], row["mem_total_bytes"]) == (model, peak, gib * GIB)
        assert (row["busy_pct"], row["observed_s"]) == (50.0, 600.0)
        sure = all(value is not None for peaks in windows for value in peaks)
        blind += not sure
        assert row["unmeasured_s"] == (0.0 if sure else 60.0)
        fitting = [
            item
            for item in profiles
            if sure and peak <= item[1] * gib * GIB * Fraction(95, 100) * Fraction(9, 10)
        ]
        name, part, compute = fitting[0] if fitting else (None, None, None)
        assert row["fits_profile"] == name
        assert row["fits_part"] == (None if part is None else float(part))
        assert row["fits_compute"] == (None if compute is None else pytest.approx(float(compute)))
        sizes = [
            size
            for size in SIZES
            if sure and peak <= size * GIB * Fraction(9, 10) and size < gib * Fraction(9, 10)
        ]
        assert row["fits_gpu_gib"] == (sizes[0] if sizes else None)
        cost = paid[f"device:GPU-{number}"]
        assert Decimal(row["cost"]) == round(cost, 2)
        if part is None:
            assert row["could_save"] is None
        else:
            saved = Fraction(cost) * (1 - part)
            assert abs(Fraction(row["could_save"]) - saved) <= Fraction(1, 200)
    assert blind == 1
    shown = [Decimal(row["could_save"]) for row in rows.values() if row["could_save"] is not None]
    assert saving_totals(rows.values()).get("USD", Decimal(0)) == sum(shown, Decimal(0))


def test_a_mig_instance_is_not_advised_a_smaller_one_and_a_period_or_run_alone_is_asked_for(
    tables: FilledTables,
) -> None:
    seen = fill(tables, 1)
    assert len(read_headroom(tables.session, start="2023-11-14 22:00:00", end=None, run_id=id_of(1))) == len(
        seen
    )
    assert not read_headroom(tables.session, start="2023-11-14 23:00:00", end=None, run_id=None)
    assert not read_headroom(tables.session, start=None, end=None, run_id=id_of(2))
    tables.event(
        "devices", BEGIN_US + S, at_us=BEGIN_US + S,
        devices=[{"device_id": "GPU-1", "model": "NVIDIA H100 80GB HBM3", "memory_bytes": 40 * GIB, "mig_profile": "3g.40gb"}],
    )  # fmt: skip
    tables.take_in()
    rows: list[dict[str, Any]] = read_headroom(tables.session, start=None, end=None, run_id=None)
    (slice_row,) = [row for row in rows if row["mig_profile"] == "3g.40gb"]
    assert (slice_row["fits_profile"], slice_row["fits_gpu_gib"], slice_row["could_save"]) == (
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("mib", "profile"), [(8755, "1g.10gb"), (8756, "2g.20gb")], ids=["fits", "a-mib-more"]
)
def test_a_slice_has_95_percent_of_its_part_and_a_tenth_of_it_is_left_free(
    tables: FilledTables, mib: int, profile: str
) -> None:
    """1/8 of 80 GiB are 10240 MiB; 95 % and of that 90 % are 8755.2 MiB."""
    fill(tables, 1, exact=mib << 20)
    (row,) = tables.rows("gpu_headroom", rest="WHERE device_id = 'GPU-1'")
    assert row["fits_profile"] == profile
