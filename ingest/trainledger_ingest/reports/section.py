"""A part of what `show` prints."""

from dataclasses import dataclass

__all__ = ["KEY_CHARACTERS_MAX", "Section", "shortened"]

# A longer name would push the columns behind it off every terminal.
KEY_CHARACTERS_MAX = 60


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
