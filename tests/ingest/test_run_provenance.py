"""What an attempt ran is put together from several processes."""

from typing import Any

from trainledger_ingest.run_evidence import RunEvent, assign_attempts, collect_writers
from trainledger_ingest.run_provenance import collect_provenance

S = 1_000_000


def event(offset: int, kind: str, writer: str, **body: Any) -> RunEvent:
    return RunEvent(offset, kind, writer, "node-1", offset * S, body)


def started(offset: int, writer: str, rank: int | None = None) -> RunEvent:
    return event(offset, "run_started", writer, role="sdk", joined="new", rank=rank)


def seen(offset: int, writer: str, stage: str, **randomness: str) -> RunEvent:
    return event(offset, "runtime_seen", writer, randomness={"stage": stage, **randomness}, libraries={})


def collect(*events: RunEvent) -> list[tuple[int, dict[str, Any]]]:
    writers = collect_writers(events)
    assign_attempts(writers)
    return [(facts.attempt, dict(facts.body)) for facts in collect_provenance(events, writers)]


def test_lowest_rank_speaks_for_all_and_its_last_word_counts() -> None:
    ((_, body),) = collect(
        started(1, "r1", 1),
        started(2, "r0", 0),
        event(3, "provenance", "c", parent_writer="r0", cuda="12.1", nccl="2.18"),
        seen(4, "r1", "init", a="1"),
        seen(5, "r0", "init", a="unknown", b="kept"),
        seen(6, "r0", "finish", a="2"),
        seen(7, "r1", "finish", a="3"),
    )
    assert body["randomness"] == {"stage": "finish", "a": "2", "b": "kept"}
    assert (body["cuda"], body["nccl"]) == ("12.1", "2.18")


def test_what_is_loaded_goes_before_what_is_installed() -> None:
    loaded = {"cudart": "12.4", "cudnn": "9.1.0"}
    ((_, body),) = collect(
        started(1, "w"),
        event(2, "provenance", "w", cuda="12.1", cudnn="8.9", nccl="2.18"),
        event(3, "runtime_seen", "w", randomness={}, libraries=loaded),
    )
    assert (body["cuda"], body["cudnn"], body["nccl"]) == ("12.4", "9.1.0", "2.18")
    assert body["libraries"] == loaded


def test_container_runtime_goes_before_what_was_declared_and_each_attempt_has_its_own() -> None:
    attempts = collect(
        started(1, "a"),
        event(2, "provenance", "a", image_digest="sha256:1", image_source="declared"),
        event(3, "writer_seen", "a", image_digest="sha256:2", image_name="a:1", alive=True),
        event(4, "run_exited", "a", status="failed"),
        started(5, "b"),
        event(6, "provenance", "b", parent_writer="b", image_digest="sha256:3", image_source="declared"),
        event(7, "writer_seen", "b", image_digest=None, alive=True),
    )
    assert attempts[0][1]["system"] == {"image.name": "a:1"}
    assert [(n, body["image_digest"], body["image_source"]) for n, body in attempts] == [
        (1, "sha256:2", "runtime"),
        (2, "sha256:3", "declared"),
    ]


def test_events_without_the_newer_parts_are_taken_as_they_are() -> None:
    ((_, body),) = collect(started(1, "w"), event(2, "provenance", "w", commit="c"))
    assert body == {"commit": "c", "libraries": {}, "randomness": {}, "reasons": []}


def test_nodes_with_other_builds_or_another_gpu_stack_and_ranks_with_other_flags_are_named() -> None:
    def runtime(offset: int, writer: str, **libraries: str) -> RunEvent:
        flags = {"stage": "finish", "flag/torch.cudnn.benchmark": str(writer == "r1"), "seed/numpy": writer}
        return event(offset, "runtime_seen", writer, stage="finish", randomness=flags, libraries=libraries)

    same: dict[str, Any] = {
        "packages": {"torch": "2.4"},
        "package_ids": {"torch": "1"},
        "driver": "550",
        "nccl": None,
    }
    other = same | {"package_ids": {"torch": "2"}, "driver": "535", "nccl": "2.20"}
    ((_, body),) = collect(
        started(1, "r0", 0),
        started(2, "r1", 1),
        started(3, "r2", 2),
        event(3, "writer_seen", "c0", parent_writer="r0"),
        event(3, "writer_seen", "c1", parent_writer="r1"),
        event(4, "provenance", "c0", reasons=["own"], **same),
        RunEvent(5, "provenance", "c1", "node-2", 5 * S, other),
        runtime(6, "r0", nccl="2.20.5", **{"nccl.path": "/a"}),
        runtime(7, "r1", nccl="2.20.5", **{"nccl.path": "/b"}),
        runtime(8, "r2", nccl="2.18.3"),
    )
    assert body["reasons"] == [
        "own",
        "node node-2 has other builds of the same versions: torch",
        "node node-2 has another GPU stack: driver 535, not 550",
        "rank 1 ran with flag/torch.cudnn.benchmark True, not False",
        "rank 2 ran with nccl 2.18.3, not 2.20.5",
    ]
