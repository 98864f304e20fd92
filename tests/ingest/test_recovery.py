"""The order of steps that makes a batch exactly once, driven without any store through every path."""

from collections.abc import Callable

import pytest

from trainledger_ingest.intents import Intent
from trainledger_ingest.recovery import (
    CountRows,
    InsertRows,
    Operation,
    ReadLedgerEnd,
    WriteIntent,
    WriteLedger,
    find_cut,
    run_steps,
    write_steps,
)
from trainledger_schemas.errors import RecoveryError

PLAN = {"points": 10, "text_points": 3}
INTENT = Intent(start=100, end=120, generation="g1", month=202311, plan=PLAN)
TABLES = ("points", "text_points", "dead_letters")


class Engine:
    """Answers operations from counts; `swallows` are inserts that answer OK and store nothing."""

    def __init__(
        self, counts: dict[str, int], *, ledger_end: int = 100, swallows: frozenset[InsertRows] = frozenset()
    ) -> None:
        self.counts = dict.fromkeys(TABLES, 0) | counts
        self.ledger_end = ledger_end
        self.swallows = swallows
        self.done: list[Operation] = []

    def __call__(self, operation: Operation) -> int:
        self.done.append(operation)
        if isinstance(operation, CountRows):
            return self.counts[operation.table]
        if isinstance(operation, ReadLedgerEnd):
            return self.ledger_end
        if isinstance(operation, InsertRows) and operation not in self.swallows:
            self.counts[operation.table] += PLAN[operation.table]
        if isinstance(operation, WriteLedger):
            self.ledger_end = INTENT.end
        return 0

    @property
    def inserts(self) -> list[InsertRows]:
        return [operation for operation in self.done if isinstance(operation, InsertRows)]


def write(engine: Engine, *, is_fresh: bool, has_tokens: bool) -> None:
    run_steps(write_steps(INTENT, is_fresh=is_fresh, has_tokens=has_tokens), engine)


def test_a_fresh_batch_writes_intent_then_each_table_then_the_ledger_and_counts_nothing() -> None:
    engine = Engine({})
    write(engine, is_fresh=True, has_tokens=True)
    assert engine.done == [
        WriteIntent(),
        InsertRows("points"),
        InsertRows("text_points"),
        WriteLedger(),
    ]


@pytest.mark.parametrize("has_tokens", [True, False], ids=["tokens", "no tokens"])
@pytest.mark.parametrize("points", [0, 10], ids=["points missing", "points there"])
@pytest.mark.parametrize("texts", [0, 3], ids=["texts missing", "texts there"])
def test_a_batch_with_unknown_outcome_inserts_only_the_tables_that_have_none_of_it(
    points: int, texts: int, has_tokens: bool
) -> None:
    engine = Engine({"points": points, "text_points": texts})
    write(engine, is_fresh=False, has_tokens=has_tokens)
    assert {name: engine.counts[name] for name in PLAN} == PLAN
    missing = [name for name, found in (("points", points), ("text_points", texts)) if not found]
    assert engine.inserts == [InsertRows(name) for name in missing]
    assert engine.done[0] == ReadLedgerEnd()
    assert engine.done[1] == WriteIntent(), "the intent fences before anything else is written"
    assert engine.done[-1] == WriteLedger()


def test_a_batch_whose_ledger_row_is_there_does_nothing_more() -> None:
    engine = Engine(PLAN, ledger_end=120)
    write(engine, is_fresh=False, has_tokens=True)
    assert engine.done == [ReadLedgerEnd()]


def test_a_token_that_outlived_its_rows_is_followed_by_another_token() -> None:
    engine = Engine({"text_points": 3}, swallows=frozenset({InsertRows("points", 0)}))
    write(engine, is_fresh=False, has_tokens=True)
    assert engine.inserts == [InsertRows("points", 0), InsertRows("points", 1)]
    assert engine.counts["points"] == 10


@pytest.mark.parametrize(
    ("has_tokens", "swallowed", "tries"),
    [(True, {InsertRows("points", 0), InsertRows("points", 1)}, 2), (False, {InsertRows("points", 0)}, 1)],
    ids=["tokens", "no tokens"],
)
def test_an_engine_that_stores_nothing_stops_the_worker(
    has_tokens: bool, swallowed: set[InsertRows], tries: int
) -> None:
    engine = Engine({}, swallows=frozenset(swallowed))
    with pytest.raises(RecoveryError, match="points holds 0 of 10 rows"):
        write(engine, is_fresh=False, has_tokens=has_tokens)
    assert len(engine.inserts) == tries
    assert WriteLedger() not in engine.done


@pytest.mark.parametrize("found", [1, 9, 11, 20])
def test_a_part_of_a_batch_in_a_table_stops_the_worker(found: int) -> None:
    engine = Engine({"points": found})
    with pytest.raises(RecoveryError, match=f"points holds {found} rows"):
        write(engine, is_fresh=False, has_tokens=True)
    assert not engine.inserts


def look(engine: Callable[[Operation], int], intent: Intent | None, *, has_tokens: bool) -> Intent | None:
    steps = find_cut(100, intent, generation="g1", tables=TABLES, has_tokens=has_tokens)
    return run_steps(steps, engine)


@pytest.mark.parametrize(
    "intent",
    [
        pytest.param(None, id="none"),
        pytest.param(Intent(80, 100, "g1", 202311, PLAN), id="done"),
        pytest.param(Intent(100, 120, "g2", 202311, PLAN), id="of another generation"),
    ],
)
def test_without_an_intent_above_the_ledger_any_cut_will_do_if_no_row_is_above_it(
    intent: Intent | None,
) -> None:
    assert look(Engine({}), intent, has_tokens=True) is None
    for table in TABLES:
        with pytest.raises(RecoveryError, match=f"{table} holds 4 rows"):
            look(Engine({table: 4}), intent, has_tokens=True)


def test_an_intent_above_the_ledger_is_finished_as_it_was_cut() -> None:
    assert look(Engine({}), INTENT, has_tokens=True) == INTENT, "a late insert may still come: same token"
    assert look(Engine({"points": 10}), INTENT, has_tokens=False) == INTENT


def test_without_tokens_an_intent_of_which_nothing_was_stored_is_forgotten() -> None:
    assert look(Engine({}), INTENT, has_tokens=False) is None


def test_rows_in_a_table_that_the_intent_does_not_name_stop_the_worker() -> None:
    with pytest.raises(RecoveryError, match="dead_letters holds 1 rows"):
        look(Engine({"dead_letters": 1}), INTENT, has_tokens=True)


@pytest.mark.parametrize("start", [90, 110], ids=["below the ledger's end", "above it"])
def test_an_intent_that_does_not_begin_at_the_ledgers_end_stops_the_worker(start: int) -> None:
    with pytest.raises(RecoveryError, match="does not begin at the ledger's end"):
        look(Engine({}), Intent(start, 130, "g1", 202311, PLAN), has_tokens=True)
