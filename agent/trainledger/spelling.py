"""The nearest known name for a misspelt one, for messages that say how to mend it."""

from collections.abc import Iterable

__all__ = ["edit_distance", "nearest_name"]


def edit_distance(left: str, right: str) -> int:
    """Levenshtein distance: insertions, deletions and replacements that turn one text into the other."""
    previous = list(range(len(right) + 1))
    for row, left_char in enumerate(left, 1):
        current = [row]
        for column, right_char in enumerate(right, 1):
            cost = 0 if left_char == right_char else 1
            current.append(min(current[-1] + 1, previous[column] + 1, previous[column - 1] + cost))
        previous = current
    return previous[-1]


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name with the least distance, or None when all are too far to be meant."""
    ranked = sorted((edit_distance(name.lower()[:64], other.lower()), other) for other in known)
    if ranked and ranked[0][0] <= max(2, len(name) // 2):
        return ranked[0][1]
    return None
