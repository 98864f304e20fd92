"""What an attempt ran, put together from what several processes said of it. Pure.

    provenance      of the process beside the training: code, command, packages, machine; of rank 0 the newest
    runtime_seen    of the training process itself: random generators, loaded libraries; of the lowest rank that said
                    something, what was said later counts
    writer_seen     of the agent: the image that the process runs in

What is loaded goes before what is installed, and what a container runtime says before what was declared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .node_differences import node_differences, rank_differences
from .run_evidence import RunEvent, WriterEvidence

__all__ = ["ProvenanceFacts", "collect_provenance"]

# Column -> the library whose loaded version it shows.
_LOADED = {"cuda": "cudart", "cudnn": "cudnn", "nccl": "nccl"}


@dataclass(frozen=True, slots=True)
class ProvenanceFacts:
    """What an attempt ran; `body` is the newest provenance event of it, with what others knew better."""

    attempt: int
    body: Mapping[str, Any]


def collect_provenance(
    ordered: Sequence[RunEvent], writers: Mapping[str, WriterEvidence]
) -> tuple[ProvenanceFacts, ...]:
    """One for each attempt of which something was captured; `ordered` by time."""
    captures = [event for event in ordered if event.type == "provenance"]
    # Sorted is stable: the newest of rank 0 comes last. A capture has no rank; its parent has.
    captures.sort(key=lambda event: not _starter(writers[event.writer_id], writers).rank)
    newest = {writers[event.writer_id].attempt: event.body for event in captures}
    nodes: dict[int, dict[str, Mapping[str, Any]]] = {}
    for event in captures:
        nodes.setdefault(writers[event.writer_id].attempt, {})[event.node_id] = event.body
    return tuple(
        ProvenanceFacts(
            attempt,
            {**body, **_told_by_others(attempt, body, ordered, writers)}
            | {
                "reasons": [
                    *(body.get("reasons") or ()),
                    *node_differences(body, nodes[attempt]),
                    *_rank_differences(attempt, ordered, writers),
                ]
            },
        )
        for attempt, body in sorted(newest.items())
    )


def _told_by_others(
    attempt: int,
    body: Mapping[str, Any],
    ordered: Sequence[RunEvent],
    writers: Mapping[str, WriterEvidence],
) -> dict[str, Any]:
    of_attempt = [writer for writer in writers.values() if writer.attempt == attempt]
    runtime = [e for e in ordered if e.type == "runtime_seen" and writers[e.writer_id] in of_attempt]
    first = min((_order(writers[e.writer_id]) for e in runtime), default=None)
    own = [e.body for e in runtime if _order(writers[e.writer_id]) == first]
    libraries = _merged(own, "libraries")
    told: dict[str, Any] = {"libraries": libraries, "randomness": _merged(own, "randomness")}
    told |= {column: libraries[name] for column, name in _LOADED.items() if name in libraries}
    seen = [w.seen.body for w in sorted(of_attempt, key=_order) if w.seen]
    image = next((said for said in seen if said.get("image_digest")), None)
    if image is not None:
        told |= {"image_digest": image["image_digest"], "image_source": "runtime"}
        told["system"] = {**(body.get("system") or {}), "image.name": image.get("image_name") or ""}
    return told


def _rank_differences(
    attempt: int, ordered: Sequence[RunEvent], writers: Mapping[str, WriterEvidence]
) -> list[str]:
    last: dict[int, Mapping[str, Any]] = {}
    for event in ordered:
        writer = writers[event.writer_id]
        if event.type == "runtime_seen" and writer.attempt == attempt and writer.rank is not None:
            last[writer.rank] = event.body
    first = min(last, default=0)
    # Only what was looked at at the same time can be compared.
    stage = _stage(last.get(first, {}))
    return rank_differences(
        last.get(first, {}), {r: body for r, body in last.items() if _stage(body) == stage}
    )


def _stage(body: Mapping[str, Any]) -> str:
    return str(body.get("stage"))


def _starter(writer: WriterEvidence, writers: Mapping[str, WriterEvidence]) -> WriterEvidence:
    return writer if writer.started else writers.get(writer.parent or "", writer)


def _order(writer: WriterEvidence) -> tuple[int, int, str]:
    return (writer.rank or 0, writer.start_us, writer.writer_id)


def _merged(bodies: Iterable[Mapping[str, Any]], name: str) -> dict[str, str]:
    return {key: value for body in bodies for key, value in (body.get(name) or {}).items()}
