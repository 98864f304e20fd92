"""What is wrong with a row of a CSV file that the reader takes without a word."""

from collections.abc import Mapping
from typing import Any

from trainledger_schemas.errors import UsageError

__all__ = ["refuse_cells_beyond"]


def refuse_cells_beyond(where: str, row: Mapping[Any, Any]) -> None:
    """Raises UsageError for a row with more cells than the header has: of 1,08 without quotes only the 1 would count.

    `row`: of a csv.DictReader, which has the cells beyond under None."""
    beyond = row.get(None)
    if beyond is not None:
        raise UsageError(
            f"{where}: {len(beyond)} more than the header has columns; a number has a point and no comma, and text "
            "with a comma stands in quotes"
        )
