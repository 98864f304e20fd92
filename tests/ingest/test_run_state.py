"""How a run stands follows from the evidence alone, whatever the order in which it arrives."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainledger_ingest.run_evidence import RunEvent, collect_writers
from trainledger_ingest.run_state import judge_run

RUN = "00000000-0000-4000-8000-000000000001"
SECOND_US = 1_000_000


def started(writer: str, at_s: int, **body: Any) -> RunEvent:
    defaults = {"role": "sdk", "joined": "new", "project": "p", "tags": [], "config": []}
    return RunEvent(at_s * 10, "run_started", writer, "node-1", at_s * SECOND_US, defaults | body)


def exited(writer: str, at_s: int, status: str, cause: str, **body: Any) -> RunEvent:
    return RunEvent(
        at_s * 10 + 1,
        "run_exited",
        writer,
        "node-1",
        at_s * SECOND_US,
        {"status": status, "cause": cause} | body,
    )


def gone(writer: str, at_s: int, evidence: str = "lock_free") -> RunEvent:
    return RunEvent(at_s * 10 + 2, "writer_gone", writer, "node-1", at_s * SECOND_US, {"evidence": evidence})


CASES = {
    "nothing ended it": ([started("a", 1)], "running"),
    "an explicit finish": ([started("a", 1), exited("a", 2, "finished", "finish"), gone("a", 3)], "finished"),
    "an exception": ([started("a", 1), exited("a", 2, "failed", "exception"), gone("a", 3)], "failed"),
    "gone without a word": ([started("a", 1), gone("a", 3)], "crashed"),
    "interrupted": ([started("a", 1), exited("a", 2, "killed", "exception", signal=2)], "killed"),
    "an exit whose status only the wrapper saw": (
        [
            started("w", 1, role="wrapper"),
            started("a", 2, joined="wrapper", parent_writer="w"),
            exited("a", 3, "finished", "exit"),
            exited("w", 4, "failed", "exit_code", exit_code=3),
            gone("a", 5),
            gone("w", 5),
        ],
        "failed",
    ),
    "an explicit finish beats the wrapper's exit code": (
        [
            started("w", 1, role="wrapper"),
            started("a", 2, joined="wrapper", parent_writer="w"),
            exited("a", 3, "finished", "finish"),
            exited("w", 4, "failed", "exit_code", exit_code=1),
        ],
        "finished",
    ),
    "the wrapper saw a signal": (
        [
            started("w", 1, role="wrapper"),
            started("a", 2, joined="wrapper", parent_writer="w"),
            gone("a", 3),
            exited("w", 4, "killed", "signal", signal=15),
        ],
        "killed",
    ),
    "a child that left by os._exit never decides": (
        [
            started("a", 1),
            started("c", 2, joined="parent", parent_writer="a"),
            gone("c", 3),
            exited("a", 4, "finished", "finish"),
        ],
        "finished",
    ),
    "one failed rank fails the run": (
        [
            started("r0", 1, rank=0, joined="environment"),
            started("r1", 1, rank=1, joined="environment"),
            exited("r1", 5, "failed", "exception"),
        ],
        "failed",
    ),
    "one rank still running keeps the run running": (
        [
            started("r0", 1, rank=0, joined="environment"),
            started("r1", 1, rank=1, joined="environment"),
            exited("r1", 5, "finished", "finish"),
        ],
        "running",
    ),
    "a second attempt that finished heals a crashed first": (
        [
            started("a", 1, rank=0, joined="environment"),
            gone("a", 5),
            started("b", 6, rank=0, joined="environment"),
            exited("b", 9, "finished", "finish"),
        ],
        "finished",
    ),
}


@pytest.mark.parametrize(("events", "state"), CASES.values(), ids=CASES.keys())
def test_state_follows_the_strongest_evidence(events: list[RunEvent], state: str) -> None:
    assert judge_run(RUN, events).run.state == state


@given(st.sampled_from(sorted(CASES)), st.integers(0, 2**32))
def test_the_order_of_events_changes_nothing(case: str, seed: int) -> None:
    events = CASES[case][0]
    shuffled = list(events)
    random.Random(seed).shuffle(shuffled)
    first, second = judge_run(RUN, events), judge_run(RUN, shuffled)
    assert (first.run, first.params) == (second.run, second.params)


def test_the_reason_says_that_a_journal_was_removed() -> None:
    run = judge_run(RUN, [started("a", 1), gone("a", 3, "journal_removed")]).run
    assert run.state == "crashed" and "journal was removed" in run.reason
    ended = [started("a", 1), exited("a", 2, "failed", "exception"), gone("a", 3, "journal_removed")]
    assert judge_run(RUN, ended).run.state == "failed"


def test_attempts_count_a_rank_that_starts_again() -> None:
    events = [
        started("a0", 1, rank=0, joined="environment"),
        started("a1", 1, rank=1, joined="environment"),
        gone("a0", 5),
        started("b0", 6, rank=0, joined="environment"),
        started("b1", 7, rank=1, joined="environment"),
    ]
    picture = judge_run(RUN, events)
    assert picture.run.attempts == 2
    assert {w.evidence.writer_id: w.evidence.attempt for w in picture.writers} == {
        "a0": 1,
        "a1": 1,
        "b0": 2,
        "b1": 2,
    }
    assert picture.run.ranks == 2


def ranks(prefix: str, at_s: int, count: int = 4, **body: Any) -> list[RunEvent]:
    return [
        started(f"{prefix}{rank}", at_s, rank=rank, world_size=count, joined="environment", **body)
        for rank in range(count)
    ]


def test_counts_of_torchrun_that_differ_between_nodes_make_no_attempts() -> None:
    events = ranks("a", 1, 2, restart_hint=0) + [gone("a0", 4), gone("a1", 4)]
    # Node 1 has a new agent, which counts from 0.
    events += [
        started("b0", 5, rank=0, joined="environment", restart_hint=1),
        started("b1", 5, rank=1, joined="environment", restart_hint=0),
        gone("b0", 8),
        gone("b1", 8),
        started("c1", 9, rank=1, joined="environment", restart_hint=1),
        started("c0", 10, rank=0, joined="environment", restart_hint=2),
    ]
    picture = judge_run(RUN, events)
    assert [(w.evidence.writer_id, w.evidence.attempt) for w in picture.writers] == [
        ("a0", 1), ("a1", 1), ("b0", 2), ("b1", 2), ("c1", 3), ("c0", 3)
    ]  # fmt: skip


def test_a_job_that_its_scheduler_starts_again_is_a_new_attempt_though_its_ranks_are_others() -> None:
    events = ranks("a", 1, 1, scheduler_restart=0) + [
        gone("a0", 4),
        started("b1", 5, rank=1, joined="environment", scheduler_restart=1),
        started("b0", 6, rank=0, joined="environment", scheduler_restart=1),
    ]
    assert [w.evidence.attempt for w in judge_run(RUN, events).writers] == [1, 2, 2]


def test_the_reason_names_the_rank_that_ended_first_and_counts_the_others() -> None:
    events = ranks("a", 1) + [gone("a3", 5), gone("a0", 6), gone("a1", 6), gone("a2", 6)]
    run = judge_run(RUN, events).run
    assert (run.state, run.ranks) == ("crashed", 4)
    assert run.reason == (
        "rank 3 on node node-1: the process is gone and left no exit record (3 more ranks crashed)"
    )
    assert judge_run(RUN, events[:5]).run.reason.startswith("rank 3 on node node-1: the process is gone")


def test_the_reason_begins_with_the_rank_whose_end_the_others_followed() -> None:
    events = ranks("a", 1, 3) + [
        exited("a0", 5, "failed", "exception", message="peer gone"),
        exited("a2", 5, "failed", "exception", message="peer gone"),
        gone("a1", 6),
    ]
    run = judge_run(RUN, events).run
    assert run.state == "failed"
    assert run.reason == (
        "first rank 1 on node node-1: the process is gone and left no exit record; "
        "then rank 0 on node node-1: exception: peer gone (1 more rank failed)"
    )


def test_a_rank_known_by_its_wrapper_alone_counts_and_decides() -> None:
    events = [
        started("w0", 1, role="wrapper", rank=0, joined="environment"),
        started("w1", 1, role="wrapper", rank=1, joined="environment"),
        started("a0", 2, rank=0, joined="wrapper", parent_writer="w0"),
        exited("a0", 4, "finished", "finish"),
        exited("w0", 5, "finished", "exit_code", role="wrapper", exit_code=0),
        exited("w1", 5, "killed", "signal", role="wrapper", signal=9),
    ]
    run = judge_run(RUN, events).run
    assert (run.state, run.ranks, run.attempts) == ("killed", 2, 1)
    assert run.reason == "rank 1 on node node-1: signal: signal 9"


def test_rank_0_speaks_for_its_launch() -> None:
    def of(rank: int, at_s: int) -> RunEvent:
        config = [{"key": "seed", "value": str(rank), "number": float(rank)}]
        return started(f"a{rank}", at_s, rank=rank, joined="environment", name=f"n{rank}", config=config)

    def code(rank: int, at_s: int) -> RunEvent:
        body = {"commit": f"c{rank}", "argv": []}
        return RunEvent(at_s * 10 + 3, "provenance", f"p{rank}", "node-1", at_s * SECOND_US, body)

    def seen(rank: int) -> RunEvent:
        body = {"parent_writer": f"a{rank}", "alive": True}
        return RunEvent(90 + rank, "writer_seen", f"p{rank}", "node-1", 9 * SECOND_US, body)

    events = [of(1, 1), of(0, 2), of(2, 3), code(0, 4), code(1, 5), seen(0), seen(1)]
    picture = judge_run(RUN, events)
    assert picture.run.name == "n0" and picture.provenance[0].body["commit"] == "c0"
    assert [(p.number, p.is_current) for p in picture.params] == [(1, False), (0, True), (2, False)]


def test_a_node_with_other_code_or_packages_is_named() -> None:
    def code(rank: int, **body: Any) -> list[RunEvent]:
        seen = {"parent_writer": f"a{rank}", "alive": True}
        event = RunEvent(
            50 + rank, "provenance", f"p{rank}", f"node-{rank}", 5 * SECOND_US, {"reasons": ["r"], **body}
        )
        return [event, RunEvent(90 + rank, "writer_seen", f"p{rank}", f"node-{rank}", 9 * SECOND_US, seen)]

    events = ranks("a", 1) + code(0, snapshot_id="a" * 40, packages={"x": "1", "y": "1"})
    events += code(1, snapshot_id="a" * 40, packages={"x": "1", "y": "1"})
    events += code(2, snapshot_id="b" * 40, packages={"x": "2", "z": "1"}) + code(3)
    (facts,) = judge_run(RUN, events).provenance
    assert facts.body["reasons"] == [
        "r",
        "node node-2 ran other code: bbbbbbbbbbbb, not aaaaaaaaaaaa",
        "node node-2 has other packages: x 2, not 1; y missing, not 1; z 1, not missing",
    ]


@st.composite
def launches(draw: st.DrawFn) -> list[RunEvent]:
    """Attempts of a launch, each after the one before; in each any ranks, which end in any way, or do not."""
    events: list[RunEvent] = []
    for attempt in range(draw(st.integers(1, 3))):
        for rank in draw(st.sets(st.integers(0, 3), min_size=1)):
            writer, at_s = f"{attempt}{rank}", attempt * 100 + draw(st.integers(1, 9))
            count = draw(st.sampled_from([None, attempt]))
            events.append(
                started(writer, at_s, rank=rank, joined="environment", scheduler_restart=count, name=writer)
            )
            end = draw(st.sampled_from(["gone", "failed", "finished", "killed", None]))
            if end == "gone":
                events.append(gone(writer, at_s + 50))
            elif end is not None:
                events.append(exited(writer, at_s + 50, end, "finish"))
    return events


@given(launches(), st.randoms(use_true_random=False))
def test_ranks_and_attempts_do_not_depend_on_the_order_of_events(
    events: list[RunEvent], shuffle: random.Random
) -> None:
    shuffled = list(events)
    shuffle.shuffle(shuffled)
    first, second = judge_run(RUN, events), judge_run(RUN, shuffled)
    assert first == second
    for attempt in range(1, first.run.attempts + 1):
        found = [w.evidence.rank for w in first.writers if w.evidence.attempt == attempt]
        assert found and len(found) == len(set(found))


def test_two_unranked_processes_at_once_are_one_attempt_and_one_after_the_other_two() -> None:
    together = [started("a", 1, joined="environment"), started("b", 2, joined="environment"), gone("a", 9)]
    after = [started("a", 1, joined="environment"), gone("a", 2), started("b", 3, joined="environment")]
    assert judge_run(RUN, together).run.attempts == 1
    assert judge_run(RUN, after).run.attempts == 2


def test_a_summary_keeps_every_change_apart_from_the_parameters() -> None:
    def told(at_s: int, kind: str, value: float) -> RunEvent:
        changes = [{"key": "best", "value": str(value), "number": value}]
        return RunEvent(at_s * 10, kind, "a", "node-1", at_s * SECOND_US, {"changes": changes})

    picture = judge_run(
        RUN,
        [
            started("a", 1),
            told(4, "summary_set", 0.9),
            told(2, "summary_set", 0.5),
            told(3, "params_changed", 7.0),
        ],
    )
    assert [(c.number, c.is_current) for c in picture.summary] == [(0.5, False), (0.9, True)]
    assert [c.number for c in picture.params] == [7.0]


def test_parameters_keep_every_change_and_mark_the_newest() -> None:
    config = [{"key": "lr", "value": "0.1", "number": 0.1}]
    change = RunEvent(
        99,
        "params_changed",
        "a",
        "node-1",
        2 * SECOND_US,
        {"changes": [{"key": "lr", "value": "0.2", "number": 0.2}]},
    )
    params = judge_run(RUN, [started("a", 1, config=config), change]).params
    assert [(p.key, p.number, p.is_current) for p in params] == [("lr", 0.1, False), ("lr", 0.2, True)]


def test_a_process_that_only_describes_another_is_no_writer() -> None:
    seen = RunEvent(50, "writer_seen", "capture", "node-1", SECOND_US, {"parent_writer": "a", "alive": True})
    facts = RunEvent(51, "provenance", "capture", "node-1", SECOND_US, {"commit": "abc", "argv": []})
    picture = judge_run(RUN, [started("a", 1), seen, facts, gone("capture", 2)])
    assert [w.evidence.writer_id for w in picture.writers] == ["a"]
    assert picture.run.state == "running"
    assert picture.provenance[0].body["commit"] == "abc"


def test_rank_zero_describes_the_run_whatever_comes_later() -> None:
    events = [started("a", 1, rank=0), started("b", 1, rank=2, joined="environment")]
    for number, (capture, starter) in enumerate([("of a", "a"), ("of b", "b")]):
        at_us = (2 + number) * SECOND_US
        events += [
            RunEvent(60 + number, "writer_seen", capture, "node-1", at_us, {"parent_writer": starter}),
            RunEvent(
                70 + number, "provenance", capture, "node-1", at_us, {"launcher": [starter], "argv": []}
            ),
        ]
    assert [facts.body["launcher"] for facts in judge_run(RUN, events).provenance] == [["a"]]


def test_what_the_training_says_of_itself_beats_the_wrappers_defaults() -> None:
    events = [
        started("w", 1, role="wrapper", project="folder", team=None),
        started("a", 2, joined="wrapper", parent_writer="w", project="vision", team="blue"),
    ]
    run = judge_run(RUN, events).run
    assert (run.project, run.team) == ("vision", "blue")


def test_keeping_its_blobs_is_no_sign_of_life() -> None:
    events = [started("a", 1), exited("a", 2, "finished", "finish"), gone("a", 3)]
    late = RunEvent(99, "blobs_stored", "c", "node-1", 900 * SECOND_US, {"sha256": "0" * 64})
    before, after = judge_run(RUN, events), judge_run(RUN, [*events, late])
    assert (after.run, after.writers) == (before.run, before.writers) and after.version == 100


def test_a_process_has_the_devices_it_was_on_and_before_those_it_was_told_to_use() -> None:
    def told(number: int, used: list[str], named: list[str]) -> RunEvent:
        body = {"device_ids": used, "named_ids": named}
        return RunEvent(number, "writer_devices", "w", "node-1", number * SECOND_US, body)

    def devices(*events: RunEvent) -> list[str]:
        return collect_writers(events)["w"].devices

    named, first, second = told(1, [], ["g1", "g0"]), told(2, ["g3"], ["g1", "g0"]), told(3, ["g2"], [])
    assert devices(named) == ["g1", "g0"]
    assert devices(named, first) == ["g3"]
    # An agent that began again knows only what it saw itself; in whatever order the events come.
    assert devices(second, named, first) == devices(named, first, second) == ["g2", "g3"]
