"""`admin budget`: limits of what a month may cost, and how far they are."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from trainledger_schemas.errors import UsageError

from ..cost.budgets import (
    SCOPES,
    Budget,
    BudgetState,
    budget_nano,
    later_budgets,
    read_budget_states,
    read_budgets,
)
from ..cost.money import currency_code, exact_text, minor_text, nano_of
from ..reports.near_names import unknown_name
from ..reports.times import parse_month
from ..session import Session
from .opening import session, utc_now
from .options import Json
from .output import cell_text, print_json, print_table, stderr_line

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Limits of what a team, project or experiment may cost in a month."
)

Team = Annotated[str | None, typer.Option(help="A team.")]
Project = Annotated[str | None, typer.Option(help="A project.")]
Experiment = Annotated[str | None, typer.Option(help="An experiment.")]
FromMonth = Annotated[
    str | None, typer.Option("--from", help="First month, as in 2026-11; default this one.")
]
Note = Annotated[str | None, typer.Option(help="Why.")]


@app.command("set")
def set_budget(
    month_usd: Annotated[str | None, typer.Option(help="US dollars a month.")] = None,
    month_amount: Annotated[str | None, typer.Option(help="An amount a month, with --currency.")] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217, for --month-amount.")] = "USD",
    team: Team = None,
    project: Project = None,
    experiment: Experiment = None,
    hard: Annotated[
        bool, typer.Option("--hard", help="More must not be spent: alerts and `budget check` say so.")
    ] = False,
    start: FromMonth = None,
    note: Note = None,
) -> None:
    """Set a budget from a month on; alerts at 50, 80 and 100 % go where TRAINLEDGER_ALERT_WEBHOOK and _SMTP say."""
    if (month_usd is None) == (month_amount is None) or (month_usd is not None and currency != "USD"):
        raise UsageError("give either --month-usd X, or --month-amount X with --currency")
    nano = budget_nano(month_usd if month_usd is not None else month_amount or "")
    fields = _fields(team, project, experiment, start) | {
        "nano_a_month": str(nano), "currency": currency_code(currency), "hard": hard, "note": note,
    }  # fmt: skip
    with session() as opened:
        opened.append_admin("budget_set", fields)
        hint = unknown_name(opened, str(fields["scope"]), str(fields["name"]))
    if hint:
        stderr_line(hint)
    kind = "hard budget" if hard else "budget"
    amount = exact_text(nano, currency)
    typer.echo(
        f"{fields['scope']} {cell_text(fields['name'])}: {kind} of {amount} {currency} a month "
        f"from {fields['from_month']}"
    )


@app.command("rm")
def remove_budget(
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "USD",
    team: Team = None,
    project: Project = None,
    experiment: Experiment = None,
    start: FromMonth = None,
    note: Note = None,
) -> None:
    """Take a budget away from a month on."""
    fields = _fields(team, project, experiment, start) | {
        "nano_a_month": None, "currency": currency_code(currency), "hard": False, "note": note,
    }  # fmt: skip
    with session() as opened:
        _check_is_set(opened, fields)
        opened.append_admin("budget_set", fields)
    typer.echo(
        f"{fields['scope']} {cell_text(fields['name'])}: no budget in {currency} from {fields['from_month']}"
    )


@app.command("ls")
def list_budgets(
    month: Annotated[str | None, typer.Option(help="As in 2026-11; default this one.")] = None,
    as_json: Json = False,
) -> None:
    """Month to date against each budget, the burn rate of the last seven days, and the forecast at the month's end."""
    now = utc_now()
    first, behind = parse_month(month or f"{now:%Y-%m}")
    with session() as opened:
        states = read_budget_states(opened.query, opened.views, first=first, behind=behind, now=now)
        later = later_budgets(read_budgets(opened.query, opened.views), f"{first:%Y-%m}")
    if as_json:
        print_json([state.as_row() for state in states])
        return
    if not states:
        typer.echo(
            "no budget counts in this month; set one with `trainledger admin budget set --team T --month-usd X`"
        )
        _print_later(later)
        return
    columns = ("", "name", "budget", "spent", "share", "a day", "forecast", "currency", "kind", "state")
    print_table(
        columns, (_cells(state) for state in states), right=("budget", "spent", "share", "a day", "forecast")
    )
    _print_left_out(states)
    _print_later(later)


@app.command("check")
def check_budgets(
    team: Team = None, project: Project = None, experiment: Experiment = None, as_json: Json = False
) -> None:
    """Whether more may be spent: exit status 1 where a hard budget of this month is used up; for scripts."""
    asked = {scope: name for scope, name in zip(SCOPES, (team, project, experiment), strict=True) if name}
    if not asked:
        raise UsageError("name whom it is about with --team, --project or --experiment")
    now = utc_now()
    first, behind = parse_month(f"{now:%Y-%m}")
    with session() as opened:
        states = [
            state
            for state in read_budget_states(opened.query, opened.views, first=first, behind=behind, now=now)
            if asked.get(state.budget.scope) == state.budget.name
        ]
    if as_json:
        print_json([state.as_row() for state in states])
    for state in states:
        is_refused = state.budget.is_hard and state.is_used_up
        if is_refused or not as_json:
            (stderr_line if is_refused else typer.echo)(_sentence(state))
    if not states and not as_json:
        typer.echo("no budget counts for it in this month")
    _print_left_out(states)
    if any(state.budget.is_hard and state.is_used_up for state in states):
        raise typer.Exit(1)


def _sentence(state: BudgetState) -> str:
    budget = state.budget
    spent = minor_text(nano_of(state.spent), budget.currency)
    limit = exact_text(nano_of(budget.a_month), budget.currency)
    kind = "hard budget" if budget.is_hard else "budget"
    return (
        f"{budget.scope} {cell_text(budget.name)}: {state.share * 100:.1f} % of its {kind} of {state.month} is used, "
        f"{spent} of {limit} {budget.currency}{'; nothing is left' if state.is_used_up else ''}"
    )


def _print_left_out(states: Iterable[BudgetState]) -> None:
    hours = {(s.budget.scope, s.budget.name): s.unpriced_hours for s in states if s.unpriced_hours}
    for (scope, name), without in hours.items():
        stderr_line(
            f"{scope} {cell_text(name)}: {without:.2f} hours of nodes without a price are in none of this; "
            "`trainledger price set` gives them one"
        )
    others = {(s.budget.scope, s.budget.name): s.elsewhere for s in states if s.elsewhere}
    for (scope, name), sums in others.items():
        amounts = ", ".join(f"{minor_text(nano_of(total), currency)} {currency}" for currency, total in sums)
        stderr_line(
            f"{scope} {cell_text(name)}: {amounts} is in none of this, because a budget counts its own currency; "
            f"`trainledger admin budget set --month-amount X --currency {sums[0][0]}` sets one in another"
        )


def _print_later(later: Iterable[Budget]) -> None:
    for budget in later:
        amount = exact_text(nano_of(budget.a_month), budget.currency)
        kind = "hard budget" if budget.is_hard else "budget"
        typer.echo(
            f"from {budget.from_month}: {budget.scope} {cell_text(budget.name)}, {kind} of {amount} {budget.currency} "
            "a month"
        )


def _check_is_set(opened: Session, fields: Mapping[str, Any]) -> None:
    if not opened.has_tables_open():
        return
    known = opened.query(
        f"SELECT 1 FROM {opened.views}.budgets WHERE scope = {{scope:String}} AND name = {{name:String}} "
        "AND currency = {currency:String} LIMIT 1",
        {name: fields[name] for name in ("scope", "name", "currency")},
    )
    if not known.num_rows:
        raise UsageError(
            f"no budget in {fields['currency']} was ever set for {fields['scope']} {fields['name']!r}; "
            "`trainledger admin budget ls` lists them"
        )


def _cells(state: BudgetState) -> list[str]:
    budget = state.budget
    amounts = (state.spent, state.burn_per_day, state.forecast)
    limit = exact_text(nano_of(budget.a_month), budget.currency)
    spent, day, forecast = ("-" if a is None else minor_text(nano_of(a), budget.currency) for a in amounts)
    share = f"{state.share * 100:.1f} %"
    kind = "hard" if budget.is_hard else "soft"
    amounts_shown = [limit, spent, share, day, forecast, budget.currency]
    return [budget.scope, cell_text(budget.name), *amounts_shown, kind, state.state]


def _fields(
    team: str | None, project: str | None, experiment: str | None, start: str | None
) -> dict[str, Any]:
    named = [
        (scope, name)
        for scope, name in zip(SCOPES, (team, project, experiment), strict=True)
        if name is not None
    ]
    if len(named) != 1 or not named[0][1].strip():
        raise UsageError("a budget is of one of --team, --project and --experiment")
    first, _ = parse_month(start or f"{utc_now():%Y-%m}")
    return {"scope": named[0][0], "name": named[0][1], "from_month": f"{first:%Y-%m}"}
