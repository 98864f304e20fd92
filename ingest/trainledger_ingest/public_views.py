"""The views that the product promises to people, read from the SQL files that make them.

A view is public when its file makes it in the database of views; what a file makes in a generation is internal.
Each column has a comment that says what it is, with its unit.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .storage.migrate import sql_files

__all__ = ["Column", "View", "public_view_names", "public_views"]

_VIEW = re.compile(r"^CREATE OR REPLACE VIEW \{views\}\.(\w+) \(\n(.*?)\n\) AS$", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^  (\w+) (.+) COMMENT '((?:[^']|'')*)',?$")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view; `type` is the engine's."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class View:
    """A public view."""

    name: str
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


def _views_of(text: str) -> Iterator[View]:
    for name, body in _VIEW.findall(text):
        matches = (_COLUMN.match(line) for line in body.splitlines())
        yield View(name, tuple(Column(m[1], m[2], m[3].replace("''", "'")) for m in matches if m))
