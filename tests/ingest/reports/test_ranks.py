"""Runs of many ranks in `show`: few rows, the straggler, guessed joins."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.filled_tables import FilledTables, id_of
from support.ingest_events import START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.reports.description import Picture, describe_run
from trainledger_ingest.reports.logs import LogReader
from trainledger_ingest.reports.ranks import ranks_text, straggler
from trainledger_schemas.point_codec import PointBlock

S = 1_000_000
MANY, SLOW, LATE, WEAK, NODES, TWICE = 1, 2, 3, 4, 5, 6
STEP_S = 0.1


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    filled = FilledTables(fresh_store(), tmp_path_factory.mktemp("ranks"))
    launch(filled, MANY, 64, ranks_a_node=8)
    for rank in range(63):
        filled.exited(MANY, MANY * 1000 + rank, START_US + 600 * S)
    filled.exited(
        MANY, MANY * 1000 + 63, START_US + 600 * S, "killed", cause="signal", signal=9, role="wrapper"
    )
    filled.usage(START_US, START_US + 10 * S, *((MANY, MANY * 1000 + rank) for rank in range(64)), cores=0.05)
    launch(filled, SLOW, 8)
    launch(filled, LATE, 4)
    launch(filled, WEAK, 2, join="weak")
    launch(filled, NODES, 40, ranks_a_node=1)
    launch(filled, TWICE, 2, join="weak")
    for rank in range(2):
        filled.exited(TWICE, TWICE * 1000 + rank, START_US + 10 * S)
        filled.started(
            TWICE, TWICE * 1000 + 10 + rank, START_US + 20 * S, node="node-0", rank=rank, world_size=2,
            joined="environment", join="weak",
        )  # fmt: skip
    for rank in range(8):
        log_steps(filled, SLOW, rank, step_s=STEP_S * (1.12 if rank == 5 else 1 + rank / 1000))
    for rank in range(4):
        log_steps(filled, LATE, rank, step_s=STEP_S, late_s=0.02 if rank == 2 else rank / 10_000)
        log_steps(filled, LATE, rank, step_s=STEP_S, key="of-some", only=rank < 2)
    filled.log_lines(WEAK, WEAK * 1000, (START_US, "of rank 0"))
    filled.log_lines(WEAK, WEAK * 1000 + 1, (START_US, "of rank 1"))
    filled.take_in()
    yield filled


def launch(
    tables: FilledTables, run: int, ranks: int, *, ranks_a_node: int = 4, join: str = "strong"
) -> None:
    for rank in range(ranks):
        node = f"node-{rank // ranks_a_node}"
        tables.started(
            run, run * 1000 + rank, START_US, node=node, rank=rank, world_size=ranks, joined="environment", join=join
        )  # fmt: skip


def log_steps(
    tables: FilledTables,
    run: int,
    rank: int,
    *,
    step_s: float,
    late_s: float = 0,
    key: str = "loss",
    only: bool = True,
) -> None:
    if not only:
        return
    steps = np.arange(1500, dtype=np.int64)
    writer = run * 1000 + rank
    at_us = START_US + np.round((steps * step_s + late_s) * S).astype(np.int64)
    block = PointBlock((key,), steps, at_us, tables._offsets(writer, len(steps)), np.ones((len(steps), 1)))
    source = (fixed_id(writer), int(block.offset[0]), int(block.offset[-1]) + 40)
    tables.log.append(
        "trainledger.metrics", tables.producer.metrics([block], run=run, writer=writer, source=source)
    )


def shown(tables: FilledTables, run: int) -> Picture:
    return describe_run(tables.session, id_of(run))


def section(picture: Picture, title: str) -> list[tuple[str, ...]]:
    return next(list(found.rows) for found in picture.sections if found.title == title)


def test_sixty_four_ranks_take_a_row_a_node_and_what_differs_stands_out(tables: FilledTables) -> None:
    picture = shown(tables, MANY)
    rows = section(picture, "processes")
    assert [row[1:5] for row in rows] == [
        *((f"{8 * n}-{8 * n + 7}", f"node-{n}", "8", "finished") for n in range(7)),
        ("56-62", "node-7", "7", "finished"),
        ("63", "node-7", "1", "killed"),
    ]
    (usage,) = section(picture, "usage")
    assert usage[:3] == ("1", "0-63", "32.00 s")
    assert sum(len(found.rows) for found in picture.sections) + len(picture.facts) < 40


def test_forty_nodes_take_one_row(tables: FilledTables) -> None:
    (row,) = section(shown(tables, NODES), "processes")
    assert row[1:4] == ("0-39", "node-0 and 39 more", "40")


def test_a_rank_whose_steps_take_longer_is_named(tables: FilledTables) -> None:
    facts = dict(shown(tables, SLOW).facts)
    assert facts["slowest rank"] == (
        "rank 5 is 12 % slower than the median (0.112 s a step, node node-1, 8 ranks, by loss)"
    )
    rows = tables.rows("rank_steps", rest=f"WHERE run_id = '{id_of(SLOW)}' ORDER BY rank")
    assert [row["steps"] for row in rows] == [1000] * 8 and [row["ranks"] for row in rows] == [8] * 8
    assert [row["last_share"] for row in rows] == [0.0] * 5 + [1.0] + [0.0] * 2


def test_a_rank_that_the_others_wait_for_is_named_by_how_late_it_is(tables: FilledTables) -> None:
    facts = dict(shown(tables, LATE).facts)
    assert facts["slowest rank"] == (
        "rank 2 is the last in 100 % of the steps, 0.0199 s behind the others of its node (20 % of a step, "
        "node node-0, 4 ranks, by loss)"
    )


@pytest.mark.parametrize(
    ("late", "nodes", "words"),
    [
        pytest.param([0, 0, 0.02, 0.0201], "aabb", None, id="the clock of a node is late"),
        pytest.param([0, 0.03], "aa", "0.03 s behind the others of its node (30 %", id="one is late"),
        pytest.param([0, 0.15], "aa", None, id="one began later and runs freely"),
        pytest.param([0, 0.03], "ab", "0.03 s behind the first, if clocks agree (30 %", id="a rank a node"),
        pytest.param([0, 0.001], "aa", None, id="as good as equal"),
    ],
)
def test_who_is_late(late: list[float], nodes: str, words: str | None) -> None:
    rows = [
        {"rank": rank, "node_id": nodes[rank], "key": "loss", "ranks": len(late), "step_s": 0.1, "slower_pct": 0.0,
         "late_s": late_s, "last_share": float(rank == len(late) - 1)}
        for rank, late_s in enumerate(late)
    ]  # fmt: skip
    found = straggler(rows)
    assert (found is None) == (words is None) and (words or "") in (found or "")


def test_equal_ranks_have_no_straggler_and_a_guessed_join_is_said(tables: FilledTables) -> None:
    assert "slowest rank" not in dict(shown(tables, MANY).facts)
    assert "TRAINLEDGER_RUN_ID" in dict(shown(tables, WEAK).facts)["joined by"]
    assert "joined by" not in dict(shown(tables, SLOW).facts)
    facts = dict(shown(tables, TWICE).facts)
    assert "attempt 1 had finished when attempt 2 began" in facts["joined by"]
    assert facts["to take them apart"] == f"trainledger admin run split {id_of(TWICE)[:8]} --attempt 2"


def test_the_output_of_one_rank(tables: FilledTables) -> None:
    lines = LogReader(id_of(WEAK), rank=1).read(tables.session)
    assert [line["text"] for line in lines] == ["of rank 1"]


@given(st.sets(st.integers(0, 200)))
def test_ranks_as_people_write_them_are_all_of_them_and_no_other(ranks: set[int]) -> None:
    text = ranks_text([*ranks, None])
    ends = [part.split("-") for part in text.split(", ")] if ranks else []
    assert {
        rank for first, *last in ends for rank in range(int(first), int((last or [first])[0]) + 1)
    } == ranks
    assert text != "-" or not ranks
