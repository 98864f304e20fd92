"""A hint for a name that nothing bears so far: it may be mistyped, or meant for what is to come."""

import difflib

from trainledger_schemas.errors import TrainledgerError

from ..session import Session

__all__ = ["unknown_name"]

NAMES_MAX = 10_000
NAMED_MAX = 3
# Where a name can be known from, as views have it.
_SEEN = {
    "project": ("SELECT toNullable(project) AS name FROM {views}.runs",),
    "experiment": ("SELECT toNullable(experiment) AS name FROM {views}.runs",),
    "group": ("SELECT toNullable(run_group) AS name FROM {views}.runs",),
    "team": (
        "SELECT toNullable(team) AS name FROM {views}.runs",
        "SELECT toNullable(arrayJoin(teams)) AS name FROM {views}.owners",
        "SELECT team AS name FROM {views}.cost_lines",
    ),
    "user": (
        "SELECT toNullable(user) AS name FROM {views}.runs",
        "SELECT toNullable(owner) AS name FROM {views}.cost_lines",
        "SELECT owner AS name FROM {views}.reservations",
    ),
    # With their kind, `account:ml`, as the lines of the bill have them.
    "account": (
        "SELECT account AS name FROM {views}.cost_lines WHERE startsWith(account, 'account:')",
        "SELECT account AS name FROM {views}.reservations WHERE startsWith(account, 'account:')",
    ),
    "namespace": (
        "SELECT account AS name FROM {views}.cost_lines WHERE startsWith(account, 'namespace:')",
        "SELECT account AS name FROM {views}.reservations WHERE startsWith(account, 'namespace:')",
    ),
}


def unknown_name(session: Session, what: str, name: str) -> str | None:
    """A sentence if no run, owner or line of a bill has this project, experiment, group, team, user, account:NAME or
    namespace:NAME; None if one has, and where the tables are not open or cannot be asked."""
    if not session.has_tables_open():
        return None
    sources = " UNION ALL ".join(
        f"SELECT assumeNotNull(name) AS name FROM ({source.format(views=session.views)}) WHERE name != ''"
        for source in _SEEN[what]
    )
    try:
        rows = session.query(f"SELECT DISTINCT name FROM ({sources}) LIMIT {NAMES_MAX}").to_pylist()
    except TrainledgerError:
        return None
    known = sorted(str(row["name"]) for row in rows)
    if not known or name in known:
        return None
    near = difflib.get_close_matches(name, known, NAMED_MAX)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {_listed(known)}"
    return f"no {what} was ever called {name!r}; {hint}"


def _listed(known: list[str]) -> str:
    return ", ".join(known[:5]) + (" ..." if len(known) > 5 else "")
