"""The views that the product promises to people, read from the SQL files that make them.

A view is public when its file makes it in the database of views; what a file makes in a generation is internal.
Each column has a comment that says what it is, with its unit; the line before a view says what one row is.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache

import pyarrow as pa

from trainledger_schemas.errors import UserQueryError

from .storage.migrate import sql_files

__all__ = ["Column", "View", "answer_about_views", "near_view", "public_view_names", "public_views"]

_VIEW = re.compile(
    r"^(?:-- One row: ([^\n]+)\.\n)?CREATE OR REPLACE VIEW \{views\}\.(\w+) \(\n(.*?)\n\) AS$",
    re.MULTILINE | re.DOTALL,
)
_COLUMN = re.compile(r"^  (\w+) (.+) COMMENT '((?:[^']|'')*)',?$")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view; `type` is the engine's."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class View:
    """A public view; `one_row` says what a row of it is."""

    name: str
    one_row: str
    columns: tuple[Column, ...]


@cache
def public_views() -> tuple[View, ...]:
    """All public views by name; the files are read once in a process."""
    found = [view for file in sql_files("views") for view in _views_of(file.read_text(encoding="utf-8"))]
    return tuple(sorted(found, key=lambda view: view.name))


@cache
def public_view_names() -> frozenset[str]:
    """Their names, without the database."""
    return frozenset(view.name for view in public_views())


def near_view(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is no view: the nearest one, or all."""
    near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"the views are: {', '.join(sorted(known))}"


_SHOW = re.compile(r"\s*SHOW\s+(?:TABLES|VIEWS)\s*;?\s*", re.IGNORECASE)
_DESCRIBE = re.compile(
    r"\s*(?:DESC(?:RIBE)?(?:\s+TABLE)?|SHOW\s+COLUMNS\s+(?:FROM|IN))\s+(?:trainledger\.)?`?(\w+)`?\s*;?\s*",
    re.IGNORECASE,
)


def answer_about_views(sql: str) -> pa.Table | None:
    """The answer to SHOW TABLES, DESCRIBE view and SHOW COLUMNS FROM view; None for any other text.

    No engine is asked. Raises UserQueryError for a view that is not there."""
    if _SHOW.fullmatch(sql):
        return pa.Table.from_pylist(
            [
                {"view": view.name, "one row": view.one_row, "columns": len(view.columns)}
                for view in public_views()
            ]
        )
    asked = _DESCRIBE.fullmatch(sql)
    if asked is None:
        return None
    for view in public_views():
        if view.name == asked[1].lower():
            return pa.Table.from_pylist([asdict(column) for column in view.columns])
    raise UserQueryError(f"no view named {asked[1][:80]!r}; {near_view(asked[1], public_view_names())}")


def _views_of(text: str) -> Iterator[View]:
    for one_row, name, body in _VIEW.findall(text):
        matches = (_COLUMN.match(line) for line in body.splitlines())
        yield View(name, one_row, tuple(Column(m[1], m[2], m[3].replace("''", "'")) for m in matches if m))
