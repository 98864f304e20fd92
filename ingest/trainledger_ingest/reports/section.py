"""A part of what `show` prints."""

from dataclasses import dataclass, replace

__all__ = ["CELL_CHARACTERS_MAX", "KEY_CHARACTERS_MAX", "Section", "shortened", "shortened_parts"]

# A longer name would push the columns behind it off every terminal.
KEY_CHARACTERS_MAX = 60
# A value may be longer: a command, an address, a reason.
CELL_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table of text cells; a narrow terminal may go without the `optional` columns, in this order."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()


def shortened(text: str, characters_max: int = KEY_CHARACTERS_MAX) -> str:
    """`text`, cut with an ellipsis where it is longer."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def shortened_parts(section: Section, characters_max: int = CELL_CHARACTERS_MAX) -> Section:
    """The section with no cell longer than that."""
    cells = tuple(tuple(shortened(cell, characters_max) for cell in row) for row in section.rows)
    return replace(section, rows=cells)
