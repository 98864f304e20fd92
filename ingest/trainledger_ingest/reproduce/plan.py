"""What a repetition will do, step by step, before anything is done. Pure."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.code_snapshot import CodeSnapshot
from trainledger_schemas.errors import UsageError

from .command import Command, Launching
from .container import image_reference
from .environment import HERE, IMAGE, UV, VENV
from .installed import Installed, compare_installed
from .launch_shape import NodePlace, command_on_node
from .requirements import is_here, read_requirements, usable_lock
from .run_facts import RunFacts

__all__ = [
    "FIRST_NODE",
    "Intent",
    "Step",
    "check_repeatable",
    "environment_steps",
    "node_calls",
    "plan_steps",
]

FIRST_NODE = "FIRST_NODE"
DIFFERENCES_TOLD_MAX = 10
IGNORED_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the plan; `is_exact` is False where the repetition may differ from the run."""

    step: str
    what: str
    is_exact: bool = True


def check_repeatable(facts: RunFacts) -> None:
    """Raise UsageError, with the reason, for a run whose code cannot be restored here."""
    provenance = facts.provenance
    if not provenance:
        raise UsageError(
            f"nothing is recorded of the code of run {facts.run_id}: the capture had not ended, or TRAINLEDGER_CAPTURE "
            "was off"
        )
    if provenance.get("snapshot_sha256") is None:
        why = (
            "; ".join(r for r in provenance.get("reasons") or () if r.startswith(("code", "stored")))
            or "not said"
        )
        raise UsageError(f"the code of run {facts.run_id} is not stored ({why}), so it cannot be restored")


def node_calls(run_id: str, repetition: str, nodes: int) -> list[str]:
    """What is to be typed on each node; FIRST_NODE stands for the name by which the others reach the first."""
    return [
        f"trainledger reproduce {run_id} --as {repetition} --node-rank {number} --master {FIRST_NODE}"
        for number in range(nodes)
    ]


@dataclass(frozen=True, slots=True)
class Intent:
    """What is going to be done. `environment`: here, venv, uv or image; `environment_steps`: what that means here.
    `free_bytes`: on the disk of the new folder."""

    facts: RunFacts
    snapshot: CodeSnapshot
    folder: str
    launching: Launching
    command: Command
    repetition: str
    environment: str = HERE
    environment_steps: tuple[Step, ...] = ()
    free_bytes: int | None = None

    @property
    def needs_nodes(self) -> bool:
        """Whether each of several nodes must be given a command, and it was not said which one this is."""
        shape, launching = self.launching.shape, self.launching
        is_one_here = launching.node is not None or launching.has_other_ranks
        return shape.is_one_a_node and shape.nodes > 1 and not is_one_here


def plan_steps(intent: Intent) -> list[Step]:
    """The steps in their order, with the grade and its reasons first."""
    facts, command, launching = intent.facts, intent.command, intent.launching
    judgement = facts.judgement
    steps = [Step("grade", f"{judgement.letter} ({judgement.worst.column}: {judgement.worst.reason})")]
    steps += [
        Step(f"  {opinion.column}", f"{opinion.letter}: {opinion.reason}", opinion.letter <= "B")
        for opinion in judgement.opinions
    ]
    steps.append(Step("time and disk", _estimate(intent)))
    steps += _restoring(intent.snapshot)
    steps.append(Step("into", intent.folder))
    steps += intent.environment_steps
    steps += [_input_step(given) for given in facts.inputs]
    steps += [
        Step("variable", f"{name}={value}" if value is not None else f"{name} is taken away")
        for name, value in sorted(command.variables.items())
    ]
    steps += [Step("note", note, is_exact=False) for note in command.notes]
    if launching.has_other_ranks:
        steps.append(
            Step("grade", "with another number of ranks, equal results do not prove the run", is_exact=False)
        )
    steps.append(Step("run in", command.cwd))
    if intent.needs_nodes:
        steps += _nodes(intent)
    else:
        steps.append(Step("run", shlex.join(command.argv)))
    return steps


def environment_steps(
    kind: str, provenance: Mapping[str, Any], installed: Installed | None, *, has_uv: bool
) -> list[Step]:
    """What an environment means: the differences that are known before anything is done."""
    python = str(provenance.get("python") or "an unknown interpreter")
    if kind == IMAGE:
        try:
            return [Step("environment", f"the image {image_reference(provenance)}, in a container")]
        except UsageError as error:
            return [Step("environment", str(error), is_exact=False)]
    if kind in (VENV, UV):
        return _new_environment(kind, provenance, python, has_uv=has_uv)
    if installed is None:
        return [
            Step(
                "environment", f"{python} as it is here; packages are compared after the run", is_exact=False
            )
        ]
    lines = list(compare_installed(provenance, installed))
    told = [Step("  differs", line, is_exact=False) for line in lines[:DIFFERENCES_TOLD_MAX]]
    if len(lines) > DIFFERENCES_TOLD_MAX:
        told.append(Step("  differs", f"and {len(lines) - DIFFERENCES_TOLD_MAX} more", is_exact=False))
    count = len(installed.versions)
    same = (
        "all as they were" if not lines else f"{len(lines)} differences; --environment venv makes a new one"
    )
    return [
        Step("environment", f"Python {installed.python} and {count} packages, as they are here: {same}"),
        *told,
    ]


def _new_environment(kind: str, provenance: Mapping[str, Any], python: str, *, has_uv: bool) -> list[Step]:
    lock = usable_lock(provenance, has_uv=has_uv)
    # What lies in the code is restored first; whether it is there is seen then.
    wanted = read_requirements(
        provenance, "", lambda path, sha256: not path.startswith("/") or is_here(path, sha256)
    )
    count = len({**wanted.pinned, **wanted.editable, **wanted.folders})
    what = f"the stored {lock}" if lock else f"{count} recorded packages"
    by = "" if kind == VENV else ", by uv" if has_uv else ", by uv, which is not in PATH"
    first = Step(
        "environment",
        f"a new virtual environment of Python {python.split()[0]}, from {what}{by}",
        is_exact=kind == VENV or has_uv,
    )
    return [first, *(Step("  differs", line, is_exact=False) for line in (*wanted.missing, *wanted.beside))]


def _estimate(intent: Intent) -> str:
    took = intent.facts.duration_s
    parts = [
        "the time of the run is not known" if took is None else f"the run took {took:.0f} s on its hardware"
    ]
    stored = sum(
        bundle.size_bytes for repository in intent.snapshot.repositories for bundle in repository.bundles
    )
    parts.append(f"stored code {_size(stored)}")
    outputs = intent.facts.output_bytes
    if outputs:
        parts.append(f"it wrote artifacts of {_size(outputs)}")
    if intent.free_bytes is not None:
        parts.append(f"free there: {_size(intent.free_bytes)}")
    return "; ".join(parts)


def _size(count: int) -> str:
    number, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.3g} {unit}"


def _input_step(given: Mapping[str, Any]) -> Step:
    digest, size = given.get("digest"), given.get("bytes")
    known = f", {_size(int(size))}" if size is not None else ""
    place = given.get("uri") or "an artifact of this ledger"
    check = "compared with what the run read, before it starts" if digest else "it cannot be checked"
    return Step("input", f"{given['name']}: {place}{known}: {check}", is_exact=digest is not None)


def _restoring(snapshot: CodeSnapshot) -> Iterator[Step]:
    for repository in snapshot.repositories:
        stored = sum(bundle.size_bytes for bundle in repository.bundles)
        parts = [f"{len(repository.bundles)} stored bundles, {stored} bytes"] if repository.bundles else []
        if repository.base or repository.vcs == "svn":
            places = " or ".join(url for _, url in repository.remotes)
            parts.append(f"{(repository.base or (str(repository.head),))[0][:12]} from {places}")
        name = repository.place or repository.path or "the outermost"
        yield Step("restore", f"{name} ({repository.vcs or 'folder'}): {'; '.join(parts)}")
    for item in snapshot.left_out:
        yield Step("left out", f"{item.path}: {item.why}", is_exact=False)
    ignored = [
        f"{repository.path}/{path}" if repository.path else path
        for repository in snapshot.repositories
        for path in repository.ignored
    ]
    if ignored:
        more = f" and {len(ignored) - IGNORED_SHOWN_MAX} more" if len(ignored) > IGNORED_SHOWN_MAX else ""
        shown = ", ".join(ignored[:IGNORED_SHOWN_MAX])
        yield Step("ignored", f"{shown}{more}: not stored; if the run reads it, --link PATH")
    missing = [item for repository in snapshot.repositories for item in repository.lfs if not item.is_stored]
    if missing:
        yield Step("restore", f"{len(missing)} files from Git LFS", is_exact=False)


def _nodes(intent: Intent) -> Iterator[Step]:
    """One command a node: what to type, and what that starts there."""
    shape, command = intent.launching.shape, intent.command
    yield Step(
        "nodes", f"{shape.nodes}; give --hosts A,B,... to start them all from here, or run this on each:"
    )
    for number, call in enumerate(node_calls(intent.facts.run_id, intent.repetition, shape.nodes)):
        yield Step(f"on node {number}", call)
        started = (
            f"MASTER_ADDR={FIRST_NODE} RANK={number * (shape.per_node or 1)}... {shlex.join(command.argv)}"
        )
        if shape.kind != "bare":
            node = NodePlace(number, shape.nodes, FIRST_NODE)
            started = shlex.join(command_on_node(command.argv, node, per_node=shape.per_node))
        yield Step("  runs", started)
