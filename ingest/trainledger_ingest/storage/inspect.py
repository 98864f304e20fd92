"""What both stores ask their engine for the guard of user SQL."""

from collections.abc import Iterable, Mapping

from trainledger_ingest.access_functions import EngineFunction

__all__ = ["FUNCTIONS_SQL", "engine_functions"]

FUNCTIONS_SQL = (
    "SELECT name, alias_to, categories, toBool(is_aggregate) AS is_aggregate, toBool(case_insensitive) AS any_case, "
    "toBool(origin = 'System') AS is_builtin FROM system.functions"
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
