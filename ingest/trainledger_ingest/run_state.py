"""How a run stands: a pure function of the evidence, whatever the order in which it arrived.

For each deciding process the strongest evidence counts:

    explicit finish or exception  >  exit code or signal seen by the wrapper  >  exit without a visible status
    >  the agent saw the process gone  >  nothing: running

and over the processes of the newest attempt: any failed > killed > crashed > running > finished; of several ranks
the reason names the first one that ended so. Rank 0 speaks for its launch where ranks say different things. Children of
a local process end as `ended` and never decide: they always leave without a word. `lost` is not decided here
but when somebody looks (view runs), because it depends on the present.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .run_evidence import RunEvent, WriterEvidence, assign_attempts, collect_writers
from .run_provenance import ProvenanceFacts, collect_provenance

__all__ = [
    "Goal",
    "RunPicture",
    "RunState",
    "SettingChange",
    "WriterState",
    "judge_run",
]

# The agent looks for processes each second, on a busy machine more rarely.
SEEN_LATE_US_MAX = 5_000_000
_WORST_FIRST = ("failed", "killed", "crashed", "running", "finished")
_STATUSES = frozenset({"finished", "failed", "killed"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state and the evidence for it."""

    state: str
    reason: str
    ended_us: int | None = None


@dataclass(frozen=True, slots=True)
class WriterState:
    """One process of a run."""

    evidence: WriterEvidence
    state: str
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One value that a parameter or a key of the summary had; `ordinal` orders changes of one microsecond."""

    key: str
    set_at_us: int
    ordinal: int
    value: str
    number: float | None
    attempt: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """How a metric is to be read: min, max or None."""

    key: str
    goal: str | None


@dataclass(frozen=True, slots=True)
class RunState:
    """One row of the run table; see the comments of view runs."""

    project: str
    experiment: str | None
    name: str | None
    team: str | None
    user: str | None
    group: str | None
    tags: tuple[str, ...]
    parent_run: str | None
    state: str
    reason: str
    attempts: int
    ranks: int
    nodes: int
    started_us: int | None
    ended_us: int | None
    last_us: int


@dataclass(frozen=True, slots=True)
class RunPicture:
    """Everything that the events of topic runs say of one run. `version` grows with the events."""

    run_id: str
    version: int
    run: RunState
    writers: tuple[WriterState, ...]
    params: tuple[SettingChange, ...]
    goals: tuple[Goal, ...]
    provenance: tuple[ProvenanceFacts, ...]
    inputs: tuple[Mapping[str, Any], ...] = ()
    summary: tuple[SettingChange, ...] = ()


def judge_run(run_id: str, events: Sequence[RunEvent], *, version: int | None = None) -> RunPicture:
    """Compute the picture of one run from all its events (at least one).

    `version`: of a run that processes were moved to or from; else behind its newest event."""
    writers = collect_writers(events)
    attempts = assign_attempts(writers)
    states = tuple(
        _writer_state(writer)
        for writer in sorted(writers.values(), key=lambda w: (w.start_us, w.writer_id))
        if writer.role != "capture"
    )
    newest = [s.evidence for s in states if s.evidence.attempt == attempts]
    verdict = _judge_attempt(newest, writers)
    ordered = sorted(events, key=lambda e: (e.at_us, e.offset))
    return RunPicture(
        run_id=run_id,
        version=max(event.offset for event in events) + 1 if version is None else version,
        run=_run_state(states, newest, verdict, attempts, _last_us(events)),
        writers=states,
        params=_setting_changes(ordered, writers, _PARAM_FIELDS),
        goals=tuple(_goals(ordered)),
        provenance=collect_provenance(ordered, writers),
        inputs=_inputs(ordered),
        summary=_setting_changes(ordered, writers, _SUMMARY_FIELDS),
    )


def _last_us(events: Sequence[RunEvent]) -> int:
    """When the run was heard of last; the agent's keeping of its blobs, perhaps days later, is no sign of it."""
    return max(
        (e.at_us for e in events if e.type != "blobs_stored"), default=min(event.at_us for event in events)
    )


def _judge_attempt(newest: Iterable[WriterEvidence], writers: Mapping[str, WriterEvidence]) -> Verdict:
    trainers = _trainers(newest)
    verdicts = [_judge_writer(w, writers.get(w.parent or "")) for w in trainers]
    if not verdicts:
        return Verdict("running", "seen by the agent, no start event yet")
    state = next(s for s in _WORST_FIRST if any(v.state == s for v in verdicts))
    matching = [(v, w) for v, w in zip(verdicts, trainers, strict=True) if v.state == state]
    first, writer = min(matching, key=_ended_first)
    reason = first.reason
    if state not in ("running", "finished") and len({w.rank for w in trainers}) > 1:
        reason = f"{writer.place}: {reason}{_others(matching)}"
        cause, causer = min(zip(verdicts, trainers, strict=True), key=_ended_first)
        if causer is not writer and cause.state != "finished":
            reason = f"first {causer.place}: {cause.reason}; then {reason}"
    ends = [v.ended_us for v in verdicts]
    ended_us = None if None in ends else max(end for end in ends if end is not None)
    return Verdict(state, reason, None if state == "running" else ended_us)


def _ended_first(ended: tuple[Verdict, WriterEvidence]) -> tuple[bool, int, int, str]:
    """Sorts ranks by who ended first; one that left without a word did so before the agent saw it."""
    verdict, writer = ended
    late_us = 0 if writer.exits else SEEN_LATE_US_MAX
    end_us = verdict.ended_us or 0
    return verdict.state in ("running", "finished"), end_us - late_us, writer.rank or 0, writer.writer_id


def _others(matching: Sequence[tuple[Verdict, WriterEvidence]]) -> str:
    count = len({writer.rank for _, writer in matching}) - 1
    return f" ({count} more {'rank' if count == 1 else 'ranks'} {matching[0][0].state})" if count else ""


def _trainers(newest: Iterable[WriterEvidence]) -> list[WriterEvidence]:
    """The processes whose ends decide: trainings, and wrappers where there is no other word of their rank."""
    deciding = [w for w in newest if w.decides]
    trainings = [w for w in deciding if w.role != "wrapper"]
    ranks = {w.rank for w in trainings}
    wrappers = [w for w in deciding if w.role == "wrapper" and w.rank not in ranks]
    return trainings + [w for w in wrappers if not trainings or w.rank is not None]


def _judge_writer(writer: WriterEvidence, parent: WriterEvidence | None) -> Verdict:
    for event in writer.exits:
        if event.body.get("cause") in ("finish", "exception") or writer.role == "wrapper":
            return _exit_verdict(event)
    wrapper = parent if parent is not None and parent.role == "wrapper" else None
    if wrapper is not None and wrapper.exits and (writer.gone or writer.exits):
        return _exit_verdict(wrapper.exits[-1])
    if writer.exits:
        return _exit_verdict(writer.exits[-1])
    if writer.gone:
        return Verdict("crashed", _gone_reason(writer.gone), writer.gone.at_us)
    return Verdict("running", "no evidence of an end")


def _exit_verdict(event: RunEvent) -> Verdict:
    status = str(event.body.get("status"))
    state = status if status in _STATUSES else "failed"
    code, signal, message = event.body.get("exit_code"), event.body.get("signal"), event.body.get("message")
    parts = [str(event.body.get("cause"))]
    if code is not None:
        parts.append(f"exit code {code}")
    if signal is not None:
        parts.append(f"signal {signal}")
    if message:
        parts.append(str(message))
    return Verdict(state, ": ".join(parts), event.at_us)


def _gone_reason(gone: RunEvent) -> str:
    if gone.body.get("evidence") == "other_boot":
        return "the node was restarted while the process ran"
    if gone.body.get("evidence") == "journal_removed":
        return (
            "the process is gone; its journal was removed by somebody else, so its last points may be missing"
        )
    return "the process is gone and left no exit record"


def _writer_state(writer: WriterEvidence) -> WriterState:
    last = writer.exits[-1] if writer.exits else None
    if not writer.decides:
        state = "ended" if writer.exits or writer.gone else "running"
    elif last is not None:
        state = str(last.body.get("status")) if last.body.get("status") in _STATUSES else "failed"
    else:
        state = "crashed" if writer.gone else "running"
    exit_code = last.body.get("exit_code") if last else None
    signal = last.body.get("signal") if last else None
    return WriterState(writer, state, exit_code, signal)


def _run_state(
    states: Sequence[WriterState],
    newest: Sequence[WriterEvidence],
    verdict: Verdict,
    attempts: int,
    last_us: int,
) -> RunState:
    starters = [s.evidence for s in states if s.evidence.decides]
    starts = [w.started.body for w in sorted(starters, key=lambda w: not _leads(w)) if w.started]
    # The SDK takes over what the wrapper was told, so its word is the more exact of the two.
    ordered = [b for b in starts if b.get("role") != "wrapper"] + [
        b for b in starts if b.get("role") == "wrapper"
    ]
    return RunState(
        project=str(_first(ordered, "project") or ""),
        experiment=_first(ordered, "experiment"),
        name=_first(ordered, "name"),
        team=_first(ordered, "team"),
        user=_first(ordered, "user"),
        group=_first(ordered, "group"),
        tags=tuple(dict.fromkeys(tag for body in ordered for tag in body.get("tags") or ())),
        parent_run=_first(ordered, "parent_run"),
        state=verdict.state,
        reason=verdict.reason,
        attempts=attempts,
        ranks=len({w.rank for w in _trainers(newest)}) or 1,
        nodes=len({w.node_id for w in newest}) or 1,
        started_us=min((s.evidence.start_us for s in states), default=None),
        ended_us=verdict.ended_us,
        last_us=last_us,
    )


def _leads(writer: WriterEvidence) -> bool:
    """Whether it is rank 0, or a single process."""
    return not writer.rank


def _first(bodies: Iterable[Mapping[str, Any]], name: str) -> Any:
    return next((body[name] for body in bodies if body.get(name) not in (None, "")), None)


# Event type -> its field with the settings.
_PARAM_FIELDS = {"run_started": "config", "params_changed": "changes"}
_SUMMARY_FIELDS = {"summary_set": "changes"}


def _setting_changes(
    ordered: Sequence[RunEvent], writers: Mapping[str, WriterEvidence], fields: Mapping[str, str]
) -> tuple[SettingChange, ...]:
    rows: list[tuple[RunEvent, Mapping[str, Any]]] = []
    for event in ordered:
        changes = fields.get(event.type)
        if changes:
            rows.extend((event, setting) for setting in event.body.get(changes) or ())
    newest: dict[str, int] = {}
    for leads in (False, True):
        for index, (event, setting) in enumerate(rows):
            if _leads(writers[event.writer_id]) is leads:
                newest[setting["key"]] = index
    return tuple(
        SettingChange(
            key=setting["key"],
            set_at_us=event.at_us,
            ordinal=event.offset & 0xFFFFFFFF,
            value=setting["value"],
            number=setting.get("number"),
            attempt=writers[event.writer_id].attempt,
            is_current=newest[setting["key"]] == index,
        )
        for index, (event, setting) in enumerate(rows)
    )


def _goals(ordered: Iterable[RunEvent]) -> Iterable[Goal]:
    goals = {e.body["key"]: e.body.get("goal") for e in ordered if e.type == "metric_defined"}
    return (Goal(key, goal) for key, goal in goals.items())


def _inputs(ordered: Iterable[RunEvent]) -> tuple[Mapping[str, Any], ...]:
    """The last word on each use: that of the highest stage."""
    uses: dict[str, Mapping[str, Any]] = {}
    for event in ordered:
        if event.type == "dataset_used":
            known = uses.get(event.body["use_id"])
            if known is None or event.body.get("stage", 0) >= known.get("stage", 0):
                uses[event.body["use_id"]] = event.body
    return tuple(uses.values())
