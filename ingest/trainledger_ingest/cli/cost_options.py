"""The options of `cost`."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["By", "End", "Explain", "Focus", "FocusVersion", "Month", "Prices", "Start"]

By = Annotated[str, typer.Option(help="team, project, experiment, run, user, node, kind, day or outcome.")]
Start = Annotated[
    str | None,
    typer.Option("--from", help="First UTC hour: 2026-11-01, 2026-11-01T10:00, or an age such as 7d."),
]
End = Annotated[str | None, typer.Option("--to", help="The UTC hour behind the last one.")]
Month = Annotated[str | None, typer.Option(help="One month, as in 2026-11; a closed one as it was closed.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Why the newest bill of a closed month is not its statement.")
]
Focus = Annotated[
    Path | None, typer.Option(help="Write a FOCUS file (.csv or .parquet) of --month, or of --from and --to.")
]
FocusVersion = Annotated[str, typer.Option(help="1.4 or 1.2.")]
Prices = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="OLD.toml NEW.toml", help="The same hours under two price books."),
]
