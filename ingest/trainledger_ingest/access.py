"""The guard in front of user SQL: what a person may send to the engine.

One SELECT over the product's views, `system.one` and number generators. The engine itself parses the text
(`EXPLAIN AST`, which runs nothing), and the tree is walked with allow lists: kinds of nodes, functions, table
functions, tables. What is not known is refused, so a new engine feature is closed until someone opens it.
`readonly=1` alone is no guard: scalar `file()` reads and `INTO OUTFILE` writes any file under it.

The guard is one of four layers: grants without file or network sources, a client with readonly and limits,
the engine's own class of the statement, and this walk. Limits: text of at most 100,000 characters.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trainledger_ingest.access_functions import EngineFunction, is_allowed_function
from trainledger_ingest.public_views import near_view
from trainledger_schemas.errors import UserQueryError

__all__ = ["SqlInspector", "Statement", "check_user_sql"]

SQL_CHARS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Statement:
    """What the engine says of a text without running it: is it read-only, and how many statements it has."""

    is_read_only: bool
    count: int


class SqlInspector(Protocol):
    """What the guard asks of an engine; nothing of it runs the user's text."""

    def classify(self, sql: str) -> Statement | None:
        """The class of the text, or None where the engine cannot tell (a server refuses several
        statements and INTO OUTFILE by itself)."""

    def explain_ast(self, sql: str, parameters: Mapping[str, object] | None) -> list[str]:
        """The lines of EXPLAIN AST, escaped as in TabSeparated. Raises UserQueryError for a syntax error."""

    def functions(self) -> Mapping[str, EngineFunction]:
        """Every function of the engine by its exact name."""

    def tables(self, database: str) -> frozenset[str]:
        """Every table and view that exists in `database`."""

    def databases(self) -> frozenset[str]:
        """Every database of the engine."""


def check_user_sql(
    sql: str,
    *,
    engine: SqlInspector,
    views: frozenset[str],
    database: str,
    parameters: Mapping[str, object] | None = None,
) -> None:
    """Return if `sql` is one SELECT over `views` of `database`; raise UserQueryError with one line if not.

    Blocks for about 4 ms (three small questions to the engine). `parameters` must be those that the query
    will run with, because `{name:Identifier}` can stand for a table."""
    _check_text(sql)
    statement = engine.classify(sql)
    if statement is not None and statement.count > 1:
        raise UserQueryError("only one statement at a time; send them one by one without ';' between")
    if statement is not None and statement.count == 1 and not statement.is_read_only:
        raise UserQueryError(
            "only SELECT is allowed: the tables are read-only here (also no INTO OUTFILE, SET, USE, KILL)"
        )
    lines = engine.explain_ast(sql, parameters)  # says where the syntax error is, if there is one
    if statement is not None and statement.count == 0:
        raise UserQueryError("this is no SQL statement; try: SELECT * FROM runs LIMIT 10")
    root = _parse_tree(lines)
    if root.kind not in _ROOT_KINDS:
        raise UserQueryError(_not_a_select(root.kind, views))
    walk = _Walk(
        functions=engine.functions(),
        views=views,
        internal=engine.tables(database) - views,
        databases=frozenset(name.lower() for name in engine.databases()) | _KNOWN_DATABASES,
        database=database,
        declared=_declared_names(sql),
    )
    walk.check(root)


_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def _check_text(sql: str) -> None:
    if not _COMMENT.sub("", sql).strip("; \t\r\n"):
        raise UserQueryError("the query is empty; try: SELECT * FROM runs LIMIT 10")
    if len(sql) > SQL_CHARS_MAX:
        raise UserQueryError(f"the query has {len(sql)} characters; at most {SQL_CHARS_MAX} are allowed")
    if "\x00" in sql:
        raise UserQueryError("the query contains a NUL character; remove it")


def _not_a_select(kind: str, views: frozenset[str]) -> str:
    if kind.startswith(("Describe", "Show", "Exists")):
        known = ", ".join(sorted(views))
        return f"only SELECT is allowed here, and DESCRIBE view in `trainledger sql`; the views are: {known}"
    if kind.startswith("Explain"):
        return "only SELECT is allowed; run the query itself without EXPLAIN"
    return f"only SELECT is allowed, not {kind}"


# -- the tree ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    kind: str
    text: str
    declared_children: int
    depth: int
    children: "list[_Node]" = field(default_factory=list)


_LINE = re.compile(r"^( *)([A-Za-z]\w*(?:::\w+)?)(.*?)(?: \(children (\d+)\))?$")
_ALIAS = re.compile(r" \(alias ([^()]*)\)$")
_PLAIN_NAME = re.compile(r"[\w.\- %#@+:]*")


def _parse_tree(lines: Sequence[str]) -> _Node:
    """The tree of EXPLAIN AST. Every node's announced number of children must be there, so that a name
    with a line break in it cannot hide or move a node."""
    root: _Node | None = None
    path: list[_Node] = []
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            raise _not_understood(line)
        node = _Node(match[2], match[3].strip(), int(match[4] or 0), len(match[1]))
        while path and path[-1].depth >= node.depth:
            path.pop()
        if path:
            if node.depth != path[-1].depth + 1:
                raise _not_understood(line)
            path[-1].children.append(node)
        elif root is None:
            root = node
        else:
            raise _not_understood(line)
        path.append(node)
    if root is None:
        raise UserQueryError("the query is empty; try: SELECT * FROM runs LIMIT 10")
    for node in _every_node(root):
        if len(node.children) != node.declared_children:
            raise _not_understood(node.kind)
    return root


def _every_node(node: _Node) -> Iterator[_Node]:
    yield node
    for child in node.children:
        yield from _every_node(child)


def _not_understood(line: str) -> UserQueryError:
    return UserQueryError(
        f"this form of query is not allowed (near {line.strip()[:60]!r}); leave out FORMAT, INTO and SETTINGS"
    )


# -- the walk ----------------------------------------------------------------------------------------

_ROOT_KINDS = frozenset({"SelectWithUnionQuery", "SelectIntersectExceptQuery"})
_PLAIN_KINDS = frozenset(
    {
        *_ROOT_KINDS,
        "ArrayJoin",
        "Asterisk",
        "ColumnsExceptTransformer",
        "ColumnsListMatcher",
        "ColumnsRegexpMatcher",
        "ColumnsReplaceTransformer",
        "ColumnsReplaceTransformer::Replacement",
        "ColumnsTransformerList",
        "ExpressionList",
        "InterpolateElement",
        "Literal",
        "OrderByElement",
        "QualifiedAsterisk",
        "QualifiedColumnsListMatcher",
        "QualifiedColumnsRegexpMatcher",
        "SampleRatio",
        "SelectQuery",
        "Subquery",
        "TableExpression",
        "TableJoin",
        "TablesInSelectQuery",
        "TablesInSelectQueryElement",
        "WindowDefinition",
        "WindowListElement",
        "WithElement",
    }
)
_KIND_HINTS = {
    "Set": "the SETTINGS clause is not allowed; leave it out",
    "ColumnsApplyTransformer": "APPLY is not allowed; name the columns",
    "QueryParameter": "the query has a parameter without a value; give one for each {name:Type}",
}
_TABLE_FUNCTIONS = frozenset(
    {
        "numbers",
        "numbers_mt",
        "generateseries",
        "generate_series",
        "primes",
    }
)
_KNOWN_DATABASES = frozenset({"system", "information_schema", "default"})
_IN_FUNCTIONS = re.compile(r"(?:global)?(?:not)?(?:null)?in(?:ignoreset)?", re.IGNORECASE)
_DECLARED = re.compile(
    r"([A-Za-z_]\w*|`[^`]+`|\"[^\"]+\")\s*(?:\([^()]*\)\s*)?\bAS\b\s*(?:\w+\s*)?\(", re.IGNORECASE
)


def _declared_names(sql: str) -> frozenset[str]:
    """Names that the text may declare as common table expressions (`name AS (`).

    Too many is harmless: such a name is accepted as a table only when no table bears it."""
    return frozenset(match.strip('`"') for match in _DECLARED.findall(sql))


@dataclass(frozen=True, slots=True)
class _Walk:
    functions: Mapping[str, EngineFunction]
    views: frozenset[str]
    internal: frozenset[str]
    databases: frozenset[str]
    database: str
    declared: frozenset[str]

    def check(self, node: _Node) -> None:
        if node.kind in _ROOT_KINDS:
            self._check_root(node)
        elif node.kind == "TableIdentifier":
            self._check_table(_name_of(node))
        elif node.kind == "Identifier":
            self._check_identifier(_name_of(node))
        elif node.kind == "Function":
            self._check_function(_name_of(node))
            self._check_in(node)
        elif node.kind not in _PLAIN_KINDS:
            raise UserQueryError(_KIND_HINTS.get(node.kind, f"{node.kind} is not allowed in a query"))
        for child in node.children:
            if node.kind == "TableExpression" and child.kind == "Function":
                self._check_table_function(_name_of(child))
                for inner in child.children:
                    self.check(inner)
            else:
                self.check(child)

    def _check_root(self, node: _Node) -> None:
        # A FORMAT or INTO OUTFILE clause stands behind the list of SELECTs as a further child.
        expected = 1 if node.kind == "SelectWithUnionQuery" else len(node.children)
        if any(child.kind == "Set" for child in node.children):
            raise UserQueryError(_KIND_HINTS["Set"])
        if len(node.children) != expected or any(
            child.kind in {"Identifier", "Literal"} for child in node.children
        ):
            raise UserQueryError(
                "FORMAT and INTO OUTFILE are not allowed; use --json, --csv or --parquet FILE"
            )

    def _check_table(self, name: str) -> None:
        if name in self.views or name == "system.one":
            return
        parts = name.split(".")
        if len(parts) == 2 and parts[0] == self.database and parts[1] in self.views:
            return
        if len(parts) == 1 and name in self.declared and name not in self.internal and "/" not in name:
            return
        raise UserQueryError(self._unknown_table(name))

    def _unknown_table(self, name: str) -> str:
        return f"no view named {name[:80]!r}; {near_view(name.rsplit('.', 1)[-1], self.views)}"

    def _check_identifier(self, name: str) -> None:
        if "/" in name or not _PLAIN_NAME.fullmatch(name):
            raise UserQueryError(f"the name {name[:80]!r} is not allowed here")
        parts = name.split(".")
        if len(parts) == 1:
            # `arrayMap(file, ...)`: a bare name can stand for a function.
            known = self._function(name)
            if known is not None and not is_allowed_function(name, known):
                raise UserQueryError(f"the name {name!r} stands for a function that is not allowed")
        elif parts[0] == self.database:
            if parts[1] not in self.views:
                raise UserQueryError(self._unknown_table(name))
        elif parts[0].lower() in self.databases and name != "system.one":
            raise UserQueryError(
                f"{name[:80]!r} lies in another database; only the product's views can be read"
            )

    def _check_function(self, name: str) -> None:
        if name in _SYNTAX_FUNCTIONS:
            return
        known = self._function(name)
        if known is None:
            raise UserQueryError(f"unknown function {name[:80]!r}")
        if not is_allowed_function(name, known):
            raise UserQueryError(f"the function {name!r} is not allowed")

    def _function(self, name: str) -> EngineFunction | None:
        return _find_function(name, self.functions)

    def _check_table_function(self, name: str) -> None:
        if name.lower() not in _TABLE_FUNCTIONS:
            raise UserQueryError(
                f"the table function {name[:80]!r} is not allowed; only numbers and generate_series are"
            )

    def _check_in(self, node: _Node) -> None:
        # `x IN name` reads the table `name`, although the tree shows a plain identifier.
        if not _IN_FUNCTIONS.fullmatch(_name_of(node)) or not node.children:
            return
        arguments = node.children[0].children
        if len(arguments) == 2 and arguments[1].kind == "Identifier":
            name = _name_of(arguments[1])
            if name in self.internal or ("." in name and name.split(".")[0] == self.database):
                self._check_table(name)


# Names that the tree shows as functions although the engine does not list them.
_SYNTAX_FUNCTIONS = frozenset({"lambda", "exists", "grouping", "untuple", "interval"})

_COMBINATORS = (
    "OrDefault",
    "OrNull",
    "SimpleState",
    "MergeState",
    "Distinct",
    "ForEach",
    "Resample",
    "ArgMin",
    "ArgMax",
    "State",
    "Merge",
    "Array",
    "Map",
    "If",
)


def _find_function(name: str, functions: Mapping[str, EngineFunction]) -> EngineFunction | None:
    """The engine's entry for `name`: as written, in any case where the engine ignores case, through
    its alias, or an aggregate with combinator endings such as `sumIf`."""
    found = functions.get(name) or functions.get(name.lower())
    if found is None:
        for ending in _COMBINATORS:
            if name.endswith(ending) and len(name) > len(ending):
                inner = _find_function(name[: -len(ending)], functions)
                if inner is not None and inner.is_aggregate:
                    return inner
        return None
    seen = 0
    while found.alias_to and seen < 5:
        target = functions.get(found.alias_to)
        if target is None:
            return None
        found, seen = target, seen + 1
    return found


def _name_of(node: _Node) -> str:
    return _ALIAS.sub("", node.text)
