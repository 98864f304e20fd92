"""What a repetition will do, step by step, before anything is done. Pure."""

from dataclasses import dataclass

from trainledger_schemas.code_snapshot import CodeSnapshot
from trainledger_schemas.errors import UsageError

from .command import Command
from .run_facts import RunFacts

__all__ = ["Step", "check_repeatable", "plan_steps"]


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
    if facts.nodes > 1:
        raise UsageError(
            f"run {facts.run_id} ran on {facts.nodes} nodes; start its launcher by hand on as many: "
            f"{' '.join(provenance.get('launcher') or provenance.get('argv') or ())}"
        )


def plan_steps(facts: RunFacts, snapshot: CodeSnapshot, command: Command, folder: str) -> list[Step]:
    """The steps in their order, with the grade and its reasons first."""
    judgement = facts.judgement
    steps = [Step("grade", f"{judgement.letter} ({judgement.worst.column}: {judgement.worst.reason})")]
    steps += [
        Step(f"  {opinion.column}", f"{opinion.letter}: {opinion.reason}", opinion.letter <= "B")
        for opinion in judgement.opinions
    ]
    for repository in snapshot.repositories:
        stored = sum(bundle.size_bytes for bundle in repository.bundles)
        parts = [f"{len(repository.bundles)} stored bundles, {stored} bytes"] if repository.bundles else []
        if repository.base or repository.vcs == "svn":
            places = " or ".join(url for _, url in repository.remotes)
            parts.append(f"{(repository.base or (str(repository.head),))[0][:12]} from {places}")
        name = repository.path or "the outermost"
        steps.append(Step("restore", f"{name} ({repository.vcs or 'folder'}): {'; '.join(parts)}"))
    steps += [Step("left out", f"{item.path}: {item.why}", is_exact=False) for item in snapshot.left_out]
    ignored = [
        f"{repository.path}/{path}" if repository.path else path
        for repository in snapshot.repositories
        for path in repository.ignored
    ]
    if ignored:
        more = f" and {len(ignored) - IGNORED_SHOWN_MAX} more" if len(ignored) > IGNORED_SHOWN_MAX else ""
        shown = ", ".join(ignored[:IGNORED_SHOWN_MAX])
        steps.append(Step("ignored", f"{shown}{more}: not stored; if the run reads it, --link PATH"))
    missing = [item for repository in snapshot.repositories for item in repository.lfs if not item.is_stored]
    if missing:
        steps.append(Step("restore", f"{len(missing)} files from Git LFS", is_exact=False))
    steps.append(Step("into", folder))
    steps.append(
        Step(
            "environment",
            f"{facts.provenance.get('python')} as it is here; packages are compared after the run",
            is_exact=False,
        )
    )
    steps += [
        Step("variable", f"{name}={value}" if value is not None else f"{name} is taken away")
        for name, value in sorted(command.variables.items())
    ]
    steps += [Step("note", note, is_exact=False) for note in command.notes]
    steps.append(Step("run in", command.cwd))
    steps.append(Step("run", " ".join(command.argv)))
    return steps
