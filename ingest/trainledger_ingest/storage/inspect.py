"""What both stores ask their engine for the guard of user SQL."""

import re
from collections.abc import Iterable, Mapping

from trainledger_ingest.access_functions import EngineFunction
from trainledger_ingest.storage.store import Store, user_error
from trainledger_schemas.errors import UserQueryError

__all__ = [
    "FUNCTIONS_SQL",
    "ast_lines",
    "database_names",
    "engine_functions",
    "explain_error",
    "explain_sql",
    "table_names",
]

_SYNTAX = re.compile(r"failed at position \d+ \((.*?)\)(?: \(line (\d+), col (\d+)\))?:", re.DOTALL)
_SYNTAX_ERROR = 62
_READONLY = 164

FUNCTIONS_SQL = (
    "SELECT name, alias_to, categories, toBool(is_aggregate) AS is_aggregate, "
    "toBool(case_insensitive) AS any_case, toBool(origin = 'System') AS is_builtin FROM system.functions"
)


def engine_functions(rows: Iterable[Mapping[str, object]]) -> dict[str, EngineFunction]:
    """The rows of FUNCTIONS_SQL by name; names that the engine takes in any case also in lower case."""
    found: dict[str, EngineFunction] = {}
    for row in rows:
        function = EngineFunction(
            name=str(row["name"]),
            alias_to=str(row["alias_to"]),
            category=str(row["categories"]).strip(),
            is_aggregate=bool(row["is_aggregate"]),
            is_builtin=bool(row["is_builtin"]),
        )
        found[function.name] = function
        if row["any_case"]:
            found.setdefault(function.name.lower(), function)
    return found


def table_names(store: Store, database: str) -> frozenset[str]:
    """The tables and views of a database, as the engine lists them now."""
    found = store.rows("SELECT name FROM system.tables WHERE database = {d:String}", {"d": database})
    return frozenset(str(row["name"]) for row in found)


def database_names(store: Store) -> frozenset[str]:
    """The engine's databases."""
    return frozenset(str(row["name"]) for row in store.rows("SELECT name FROM system.databases"))


def explain_sql(sql: str) -> str:
    """The question for the tree of `sql`; it runs nothing. The text stands on its own lines."""
    return f"EXPLAIN AST\n{sql.rstrip().rstrip(';')}"


def ast_lines(answer: bytes) -> list[str]:
    """The lines of the answer in TabSeparated: a line break inside a name stays escaped."""
    return [line for line in answer.decode("utf-8", "replace").split("\n") if line]


def explain_error(message: str, *, code: int | None, name: str | None) -> UserQueryError:
    """The error for a text that the engine could not parse, placed in the person's own lines."""
    if code == _READONLY:
        return UserQueryError("the SETTINGS clause is not allowed; leave it out", code=code, name=name)
    found = _SYNTAX.search(message)
    if code != _SYNTAX_ERROR or found is None:
        return user_error(message, code=code, name=name)
    where = "" if found[2] is None else f" in line {int(found[2]) - 1}, column {found[3]},"
    near = " ".join(found[1].split())[:60]
    return UserQueryError(f"syntax error{where} near {near!r}", code=code, name=name)
