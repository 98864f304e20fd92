"""`reproduce`: repeat a run, or show how it would be repeated."""

import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import typer

from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import NotFoundError, TrainledgerError, UsageError

from ..reproduce.command import Command
from ..reproduce.container import (
    ENGINE_FAILED,
    Mounts,
    container_command,
    find_engine,
    image_reference,
)
from ..reproduce.environment import IMAGE
from ..reproduce.groups import compare_spread, read_groups
from ..reproduce.inputs import parse_mapping
from ..reproduce.launch_shape import LaunchShape
from ..reproduce.nodes import run_on_hosts
from ..reproduce.notebook import write_cells
from ..reproduce.plan import Intent, node_calls, plan_steps
from ..reproduce.recipe import is_recipe, write_recipe
from ..reproduce.repetition import (
    compare_runs,
    repetition_variables,
    run_again,
    run_command,
    when_in_tables,
)
from ..reproduce.restore import restored_places
from ..reproduce.results import SAME, read_metrics
from ..reproduce.run_facts import RunFacts, read_run_facts
from ..reproduce.subject import STDIN, Subject, open_subject
from ..reproduce.told_options import check_folder, check_tolerances
from ..run_lookup import find_run
from . import reproduce_options as options
from .opening import read_settings, session
from .options import Json
from .output import print_json, print_table, stderr_line
from .reproduce_intent import intend
from .reproduce_options import Choice, environment_of, limits_of
from .reproduce_outcome import Told, print_outcomes, record_outcome
from .reproduce_steps import Prepared, guard_over, prepare

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reproduce", help="Repeat a run in a new folder and compare the results.")(reproduce)


def reproduce(
    run: options.RunName,
    command: options.CommandLine = None,
    plan: options.Plan = False,
    into: options.Into = None,
    link: options.Link = None,
    yes: options.Yes = False,
    accept_differences: options.Accept = False,
    rtol: options.Rtol = 1e-5,
    atol: options.Atol = 0.0,
    tolerance: options.ToleranceOf = None,
    ignore: options.Ignore = None,
    ranks: options.Ranks = None,
    hosts: options.Hosts = None,
    rsh: options.RemoteShell = "ssh",
    node_rank: options.NodeRank = None,
    repetition: options.As = None,
    master: options.Master = None,
    pack: options.Pack = None,
    compare: options.Compare = None,
    environment: options.Environment = "here",
    data: options.Data = None,
    repeats: options.Repeats = 1,
    margin: options.Margin = 0.01,
    as_json: Json = False,
) -> None:
    """Plan, restore, run, compare."""
    limits = limits_of(rtol, atol, tolerance)
    names = tuple(name for name in (hosts or "").split(",") if name)
    choice = Choice(into, tuple(link or ()), tuple(ignore or ()), limits, accept_differences, as_json,
                    ranks, node_rank, repetition, master, names, rsh, environment_of(environment),
                    tuple(parse_mapping(text) for text in data or ()), margin)  # fmt: skip
    with ExitStack() as stack:
        if compare is not None:
            _compare_only(run, compare, choice)
            return
        subject = open_subject(run, read_settings(), opened=session, say=stderr_line, stack=stack)
        if pack is not None:
            _pack(subject, pack)
            return
        _check_tolerances(run, subject, choice)
        _repeat(subject, command or [], choice, only_plan=plan, yes=yes or run == STDIN, repeats=repeats)


def _check_tolerances(run: str, subject: Subject, choice: Choice) -> None:
    patterns = [pattern for pattern, _, _ in choice.limits.by_key]
    # A recipe does not hold the metrics.
    if patterns and run != STDIN and not is_recipe(Path(run)):
        with session() as opened:
            check_tolerances(patterns, read_metrics(opened, subject.facts.run_id))


def _repeat(
    subject: Subject, given: list[str], choice: Choice, *, only_plan: bool, yes: bool, repeats: int
) -> None:
    if repeats > 1 and choice.repetition is not None:
        raise UsageError("--as gives the id of one repetition; leave it away, or --repeats")
    if repeats > 1 and choice.into is not None:
        check_folder(choice.into)
    choices = [_numbered(choice, number) if repeats > 1 else choice for number in range(1, repeats + 1)]
    intent = intend(subject, given, choices[0])
    if only_plan or not choice.as_json:
        _print_plan(intent, as_json=choice.as_json)
    if only_plan:
        return
    _ask(intent.command, yes=yes)
    told = []
    for number, here in enumerate(choices):
        # Each in a folder of its own: none may find what another left.
        told += _carry_out(subject, intend(subject, given, here) if number else intent, given, here)
    _conclude(told, choice)


def _numbered(choice: Choice, number: int) -> Choice:
    """Of several repetitions each has a numbered folder in the one that was told."""
    return choice if choice.into is None else replace(choice, into=choice.into / str(number))


def _print_plan(intent: Intent, *, as_json: bool) -> None:
    steps = plan_steps(intent)
    if as_json:
        print_json({"step": s.step.strip(), "what": s.what, "is_exact": s.is_exact} for s in steps)
    else:
        print_table(
            ("step", "what"), [(s.step, s.what) for s in steps], title=f"plan for {intent.facts.run_id}"
        )


def _carry_out(subject: Subject, intent: Intent, given: list[str], choice: Choice) -> list[Told]:
    """Repeat and compare."""
    node, deviations = intent.launching.node, list[str]()
    if choice.hosts:
        status = _run_on_hosts(subject, intent, given, choice)
    elif intent.needs_nodes:
        calls = node_calls(subject.facts.run_id, intent.repetition, intent.launching.shape.nodes)
        raise UsageError(
            f"the run had {intent.launching.shape.nodes} nodes; name as many machines with --hosts, or type on each "
            "its own line:\n" + "\n".join(calls)
        )
    else:
        if choice.environment == IMAGE:
            # Before anything is restored.
            image_reference(subject.facts.provenance)
            find_engine(os.environ)
        prepared = prepare(subject, intent, choice)
        if subject.cells is not None and not given:
            # Beside the folder: in it, it would be code that the run did not have.
            write_cells(subject.cells, Path(f"{intent.folder}-cells.py"))
        status, deviations = _run_here(subject, intent, choice, prepared), prepared.deviations
    if subject.lifeline is not None or (node is not None and node.node_rank > 0):
        # The first node, or whoever started this one, compares.
        raise typer.Exit(status)
    return [_compare(intent, choice, status=status, deviations=deviations)]


def _run_here(subject: Subject, intent: Intent, choice: Choice, prepared: Prepared) -> int:
    guard = guard_over(prepared)
    if choice.environment == IMAGE:
        status = _run_in_container(subject, intent, choice, prepared)
    else:
        status = run_again(
            intent.command,
            told=_variables(intent, prepared),
            environ=os.environ,
            quiet_stdout=choice.as_json,
            lifeline=subject.lifeline,
        )
    written = [path for path in guard.changes() if not path.startswith(f"{intent.folder}/")]
    prepared.deviations += [f"{path} was changed while the repetition ran" for path in written]
    for path in written:
        stderr_line(f"{path}, which belongs to the run that is repeated, was changed meanwhile")
    return status


def _variables(intent: Intent, prepared: Prepared) -> dict[str, str]:
    varies = intent.command.is_given or intent.launching.has_other_ranks or bool(prepared.deviations)
    return repetition_variables(intent.facts, intent.repetition, is_true=not varies)


def _run_in_container(subject: Subject, intent: Intent, choice: Choice, prepared: Prepared) -> int:
    journals = read_settings().node_folder
    journals.mkdir(parents=True, exist_ok=True)
    told = _variables(intent, prepared) | {"TRAINLEDGER_DIR": str(journals)}
    mounts = Mounts(
        written=[
            intent.folder,
            str(journals),
            *restored_places(subject.snapshot, Path(intent.folder)).values(),
        ],
        read=[place for place in prepared.guarded if os.path.isabs(place) and os.path.exists(place)],
    )
    provenance = subject.facts.provenance
    engine, image = find_engine(os.environ), image_reference(provenance)
    argv = container_command(engine, image, intent.command, told=told, mounts=mounts)
    stderr_line(f"in a container: {shlex.join(argv)}")
    Path(intent.command.cwd).mkdir(parents=True, exist_ok=True)
    status = run_command(
        argv, cwd="/", environ=os.environ, quiet_stdout=choice.as_json, lifeline=subject.lifeline
    )
    if status == ENGINE_FAILED:
        raise TrainledgerError(
            f"--environment image: {engine.program} could not start {image}; what it says stands above"
        )
    return status


def _run_on_hosts(subject: Subject, intent: Intent, given: list[str], choice: Choice) -> int:
    shape = intent.launching.shape
    master = choice.master or choice.hosts[0]
    commands = []
    for number, host in enumerate(choice.hosts):
        words = [str(Path(sys.argv[0]).absolute()), "reproduce", STDIN, "--as", intent.repetition]
        words += ["--node-rank", str(number), "--master", master] if _is_over_nodes(shape, choice) else []
        words += ["--accept-differences"] if choice.accepts_differences else []
        words += ["--into", str(choice.into)] if choice.into is not None else []
        words += ["--ranks", str(choice.ranks)] if choice.ranks is not None else []
        words += ["--environment", choice.environment]
        words += [word for old, new in choice.data for word in ("--data", f"{old}={new}")]
        words += ["--", *given] if given else []
        commands.append((host, words))
    with tempfile.TemporaryDirectory(prefix="trainledger-recipe-") as folder:
        recipe = Path(folder) / "run.recipe"
        write_recipe(subject.facts, subject.snapshot, subject.cells, blobs=subject.blobs, target=recipe)
        statuses = run_on_hosts(commands, shell=choice.shell, recipe=recipe, say=stderr_line)
    for host, status in statuses.items():
        if status:
            stderr_line(f"{host} ended with {status}")
    return next((status for status in statuses.values() if status), 0)


def _is_over_nodes(shape: LaunchShape, choice: Choice) -> bool:
    return shape.is_one_a_node and shape.nodes > 1 and len(choice.hosts) > 1


def _compare(intent: Intent, choice: Choice, *, status: int, deviations: list[str]) -> Told:
    facts, launching = intent.facts, intent.launching
    ranks = launching.ranks or launching.shape.ranks
    again = when_in_tables(
        session, facts, intent.repetition, ranks=1 if status else ranks, clock=SystemClock()
    )
    if again is None:
        raise NotFoundError(
            f"the tables here do not know the repetition {intent.repetition} yet; once they have it: "
            f"trainledger reproduce {facts.run_id} --compare {intent.repetition}"
        )
    proves = not deviations and not launching.has_other_ranks and not intent.command.is_given
    return _compare_with(facts, again, choice, status=status, proves=proves, deviations=deviations)


def _compare_only(run: str, other: str, choice: Choice) -> None:
    with session() as opened:
        facts = read_run_facts(opened, find_run(opened, run, say=stderr_line))
        again = read_run_facts(opened, find_run(opened, other, say=stderr_line))
        if facts.run_id == again.run_id:
            raise UsageError(f"--compare {other}: that is run {facts.run_id} itself; give its repetition")
        metrics = {*read_metrics(opened, facts.run_id), *read_metrics(opened, again.run_id)}
    check_tolerances([pattern for pattern, _, _ in choice.limits.by_key], metrics)
    is_made_from = again.repeats == facts.run_id
    proves = is_made_from and again.is_true_repetition and again.ranks == facts.ranks
    told = _compare_with(
        facts, again, choice, status=int(again.state != "finished"), proves=proves, deviations=[]
    )
    if not is_made_from:
        # Nobody knows here what it was given: it stands for itself.
        stderr_line(f"{again.run_id} was not started by `reproduce {facts.run_id}`: nothing is recorded")
    _conclude([told], choice, is_recorded=is_made_from)


def _compare_with(
    facts: RunFacts, again: RunFacts, choice: Choice, *, status: int, proves: bool, deviations: list[str]
) -> Told:
    with session() as opened:
        compared = compare_runs(opened, facts, again, tolerance=choice.limits, ignored=choice.ignored)
    verdict = "failed" if status and facts.state == "finished" else compared.outcome.verdict
    differing = (*deviations, *compared.deviations)
    return Told(facts, again.run_id, verdict, compared, proves and compared.is_same_code, differing, status)


def _conclude(told: list[Told], choice: Choice, *, is_recorded: bool = True) -> None:
    """Test what scatters, record, print; raises TrainledgerError unless all are the same as far as can be shown."""
    if not told:
        return
    with session() as opened:
        if any(one.verdict == "different" for one in told):
            groups = read_groups(opened, told[0].facts)
            spread = compare_spread(
                groups, margin=choice.margin, tolerance=choice.limits, ignored=choice.ignored
            )
            told = [one.with_spread(spread) for one in told]
        for one in told if is_recorded else ():
            record_outcome(opened, one, choice.limits)
    print_outcomes(told, as_json=choice.as_json)
    bad = next((one for one in told if one.verdict not in SAME), None)
    if bad is not None:
        difference = bad.compared.outcome.first_difference
        raise TrainledgerError(
            f"the repetition {bad.repetition} of {bad.facts.run_id}: {bad.verdict}"
            + (f"; {difference}" if difference else "")
            + (f"; the command ended with {bad.status}" if bad.status else "")
        )


def _pack(subject: Subject, target: Path) -> None:
    try:
        write_recipe(subject.facts, subject.snapshot, subject.cells, blobs=subject.blobs, target=target)
    except FileExistsError as error:
        raise UsageError(f"--pack {target}: there is such a file; give a new name") from error
    stderr_line(
        f"{target} ({target.stat().st_size} bytes): trainledger reproduce {target} repeats the run anywhere"
    )


def _ask(command: Command, *, yes: bool) -> None:
    if yes:
        return
    if not os.isatty(0):
        raise UsageError(
            "this runs stored code: say --yes to do it without being asked, or --plan to look first"
        )
    typer.confirm(f"Run `{shlex.join(command.argv)}` in {command.cwd}?", abort=True)
