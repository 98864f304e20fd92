"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Csv", "Json", "Parquet"]

Json = Annotated[bool, typer.Option("--json", help="One JSON array of objects.")]
Csv = Annotated[bool, typer.Option("--csv", help="Comma-separated values.")]
Parquet = Annotated[Path | None, typer.Option("--parquet", help="Write to this file.")]
