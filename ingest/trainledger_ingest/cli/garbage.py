"""`admin gc`: remove blobs that no run, alias or open upload names any more."""

from typing import Annotated

import typer

from trainledger_schemas.blob_address import parse_blob_address
from trainledger_schemas.clock import SystemClock

from ..garbage.collection import collect
from ..garbage.report import DAY_US, GRACE_DAYS, Amount, Policy, Report
from ..reproduce.blob_places import blob_folders, known_blobs
from ..settings import IngestSettings
from .opening import read_settings, session
from .options import Json
from .output import print_json, print_table, stderr_line

__all__ = ["gc"]

_COLUMNS = ("kept", "young", "condemned", "expired", "deleted")


def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Condemn and remove; without it only look and count.")
    ] = False,
    grace: Annotated[
        float, typer.Option(min=0.0, max=3650.0, metavar="DAYS", help="How long a condemned blob stays.")
    ] = GRACE_DAYS,
    as_json: Json = False,
) -> None:
    """Remove stored artifacts and code that nothing names any more: first condemned, removed DAYS later.

    Without --delete it shows what it would do. What a run that is not retracted, an alias or an upload under way names
    is never removed."""
    settings = read_settings()
    now_us = SystemClock().wall_ns() // 1000
    policy = Policy(now_us, round(grace * DAY_US), deletes=delete)
    objects = None
    if settings.blobs is not None:
        # Loaded here: the client of S3 takes 0.3 s.
        from trainledger_schemas.s3_objects import S3Objects

        objects = S3Objects(parse_blob_address(settings.blobs))
        if delete:
            objects.probe()
    reports = collect(
        session,
        folders=blob_folders(settings),
        known=known_blobs(settings),
        objects=objects,
        policy=policy,
    )
    if as_json:
        print_json(report.as_row() for report in reports)
        return
    _print(reports, settings, deletes=delete)


def _print(reports: list[Report], settings: IngestSettings, *, deletes: bool) -> None:
    rows = [[report.place, *(_cell(getattr(report, name)) for name in _COLUMNS)] for report in reports]
    if rows:
        print_table(("place", *_COLUMNS), rows)
    else:
        stderr_line(f"no blobs of this user below {settings.node_folder}, and TRAINLEDGER_BLOBS is not set")
    for report in reports:
        if report.copied.blobs:
            stderr_line(f"{report.place}: {_cell(report.copied)} are named again and kept under a new name")
        if report.uploads:
            stderr_line(f"{report.place}: {report.uploads} uploads that nobody ended are given up")
        for note in report.notes:
            stderr_line(f"{report.place}: {note}")
    if not deletes and any(report.condemned.blobs or report.expired.blobs for report in reports):
        stderr_line("nothing was changed; --delete condemns, and removes what was condemned long enough ago")


def _cell(amount: Amount) -> str:
    return f"{amount.blobs} ({amount.size_bytes / 1e6:.1f} MB)" if amount.blobs else "-"
