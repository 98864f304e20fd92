"""What `reproduce` can be told, and what was told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trainledger_schemas.errors import UsageError

from ..reproduce.environment import HERE, KINDS
from ..reproduce.inputs import PathMapping
from ..reproduce.launch_shape import DEFAULT_PORT
from ..reproduce.results import Tolerance

__all__ = [
    "Accept",
    "As",
    "Atol",
    "Choice",
    "CommandLine",
    "Compare",
    "Data",
    "Environment",
    "Hosts",
    "Ignore",
    "Into",
    "Link",
    "Margin",
    "Master",
    "NodeRank",
    "Pack",
    "Plan",
    "Ranks",
    "RemoteShell",
    "Repeats",
    "Rtol",
    "RunName",
    "ToleranceOf",
    "Yes",
    "address_of",
    "environment_of",
    "limits_of",
]

RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Id, the unique beginning of one, name, or a recipe's file.")
]
CommandLine = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- CMD ...", help="Run this instead of the recorded command."),
]
Plan = Annotated[bool, typer.Option("--plan", help="Only show what would be done.")]


def _folder(text: str) -> Path:
    # As a path, an empty text is the working folder.
    if not text.strip():
        raise typer.BadParameter("it is empty; give the name of a new folder")
    return Path(text)


Into = Annotated[
    Path | None,
    typer.Option(
        parser=_folder,
        metavar="FOLDER",
        help="The new folder, with --repeats for folders 1, 2 ...; default below the home folder.",
    ),
]
Link = Annotated[
    list[str] | None,
    typer.Option(help="Link this path of the original folder, e.g. ignored data, into the new one."),
]
Data = Annotated[
    list[str] | None,
    typer.Option(metavar="OLD=NEW", help="The run's path OLD is NEW here; it is compared first."),
]
Environment = Annotated[
    str,
    typer.Option(
        metavar="here|venv|uv|image", help="Run with what is here, a new environment, or the image."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before stored code is run.")]
Accept = Annotated[bool, typer.Option("--accept-differences", help="Run although files or inputs differ.")]
Rtol = Annotated[float, typer.Option(min=0.0, help="Relative tolerance of results.")]
Atol = Annotated[float, typer.Option(min=0.0, help="Absolute tolerance of results.")]
ToleranceOf = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=RTOL[,ATOL]", help="Another tolerance for metrics."),
]
Ignore = Annotated[list[str] | None, typer.Option(help="Metrics that are not compared.")]
Ranks = Annotated[
    int | None, typer.Option(min=1, help="Another number of ranks, on one node; no proof of the run.")
]
Hosts = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Start a node on each of these machines, the first is rank 0."),
]
RemoteShell = Annotated[
    str,
    typer.Option("--rsh", help="How a command is run on another machine, given its name and the command."),
]
NodeRank = Annotated[int | None, typer.Option(min=0, help="Be this node of a repetition over several.")]
As = Annotated[
    str | None, typer.Option("--as", metavar="ID", help="Id of the repetition: the same on all its nodes.")
]
Master = Annotated[
    str | None, typer.Option(metavar="HOST[:PORT]", help="Where the first node is reached by the others.")
]
Pack = Annotated[
    Path | None, typer.Option(help="Write all that another machine needs to repeat the run to this file.")
]
Repeats = Annotated[
    int, typer.Option(min=1, max=100, help="Repeat so many times; from 3 on results are tested.")
]
Margin = Annotated[
    float, typer.Option(min=0.0, help="How far means may lie apart to be equivalent, of the run's mean.")
]
Compare = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Run nothing: compare with this run; recorded if it is a repetition."),
]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was told, checked."""

    into: Path | None
    links: tuple[str, ...]
    ignored: tuple[str, ...]
    limits: Tolerance
    accepts_differences: bool
    as_json: bool
    ranks: int | None = None
    node_rank: int | None = None
    repetition: str | None = None
    master: str | None = None
    hosts: tuple[str, ...] = ()
    shell: str = "ssh"
    environment: str = HERE
    data: tuple[PathMapping, ...] = ()
    margin: float = 0.01


def limits_of(rtol: float, atol: float, special: list[str] | None) -> Tolerance:
    """The tolerances; raises UsageError for one that makes no sense."""
    return Tolerance(rtol, atol, tuple(_tolerance(text) for text in special or ()))


def environment_of(text: str) -> str:
    """The kind of environment; raises UsageError."""
    if text not in KINDS:
        raise UsageError(f"--environment {text!r}: write {', '.join(KINDS)}")
    return text


def address_of(text: str) -> tuple[str, int]:
    """Host and port; an address of IPv6 with a port stands in brackets. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return text.strip("[]"), DEFAULT_PORT
    if not port.isdecimal() or not 0 < int(port) < 1 << 16 or not host:
        raise UsageError(f"--master {text!r}: write HOST or HOST:PORT")
    return host.strip("[]"), int(port)


def _tolerance(text: str) -> tuple[str, float, float | None]:
    key, equals, value = text.rpartition("=")
    parts = value.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = [-1.0]
    if not equals or not key or len(numbers) > 2 or not all(number >= 0 for number in numbers):
        raise UsageError(f"--tolerance {text!r}: write METRIC=RTOL or METRIC=RTOL,ATOL, e.g. eval/loss=1e-3")
    return key, numbers[0], numbers[1] if len(numbers) > 1 else None
