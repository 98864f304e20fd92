"""What speaks against a guessed join, and the command that takes it apart."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from trainledger_ingest.reports.weak_joins import find_doubt
from trainledger_ingest.run_moves import chosen_writers

START = datetime(2026, 11, 3, 12)


def process(
    rank: int | None, *, node: str = "a", attempt: int = 1, state: str = "running", **fields: Any
) -> dict[str, Any]:
    after_s = fields.pop("after_s", 0)
    return {
        "writer_id": f"{attempt}{rank}{node}", "attempt": attempt, "rank": rank, "node_id": node, "state": state,
        "world_size": fields.pop("size", 2), "started_at": START + timedelta(seconds=after_s),
        "role": "sdk", "parent_writer": None, "decides": True,
    }  # fmt: skip


TWICE = [process(0, state="finished"), process(1, state="finished")]
AGAIN = [process(0, attempt=2, after_s=60), process(1, attempt=2, after_s=60)]


@pytest.mark.parametrize(
    ("rows", "other_code", "expected"),
    [
        pytest.param([process(0), process(1, node="b", after_s=5)], "", None, id="nothing"),
        pytest.param([process(0, state="crashed"), *AGAIN], "", None, id="started again after a crash"),
        pytest.param(
            [process(0, state="finished"), process(1, state="failed"), *AGAIN],
            "",
            None,
            id="a rank had finished",
        ),
        pytest.param(
            TWICE + AGAIN,
            "",
            ("attempt 1 had finished when attempt 2 began", "--attempt 2"),
            id="finished before",
        ),
        pytest.param(
            [process(0), process(0, attempt=2, node="b")],
            "",
            ("rank 0 runs in attempt 1 and again in attempt 2", "--attempt 2"),
            id="a rank twice",
        ),
        pytest.param(
            [process(0), process(1), process(2, size=4), process(3, size=4)],
            "",
            ("their launches have 2 and 4 ranks", "--rank 2 --rank 3"),
            id="sizes",
        ),
        pytest.param(
            [process(0), process(1, node="b")], "b", ("other code ran on b", "--node b"), id="other code"
        ),
        pytest.param(
            [process(0, node="b"), process(1, node="b")], "b", None, id="other code than an earlier attempt"
        ),
        pytest.param(
            [process(0), process(1, node="b", after_s=700)],
            "",
            ("they started 11 min 40 s apart", "--node b"),
            id="long after",
        ),
        pytest.param(
            [process(None), process(None, node="b", after_s=700), process(None, after_s=701)],
            "",
            ("they started 11 min 40 s apart", "--writer 1Noneb --writer 1Nonea"),
            id="wrappers around launchers",
        ),
        pytest.param(
            [
                process(0, attempt=1, state="crashed"),
                process(0, attempt=2),
                process(1, attempt=2, after_s=900),
            ],
            "",
            ("they started 15 min 0 s apart", "--rank 1 --attempt 2"),
            id="in the second attempt",
        ),
    ],
)
def test_later_evidence_against_a_guess_is_named_with_what_takes_it_apart(
    rows: Sequence[dict[str, Any]], other_code: str, expected: tuple[str, str] | None
) -> None:
    assert find_doubt(rows, set(other_code)) == expected


def test_the_options_mean_the_processes_that_came_later() -> None:
    assert chosen_writers(TWICE + AGAIN, attempts=[2]) == sorted(row["writer_id"] for row in AGAIN)
