"""`admin data`: get an artifact back, compare two versions, find a file in all of them."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from trainledger_schemas.blobs import sha256_of
from trainledger_schemas.errors import UsageError

from ..artifact_files import compare_versions, restore_artifact
from ..artifact_lookup import find_version
from ..file_lookup import find_file
from ..reports.section import shortened
from ..reproduce.blob_places import known_blobs
from .opening import read_settings, session
from .options import Json
from .output import cell_text, print_json, print_table, stderr_line

__all__ = ["app"]

_NAMES_SHOWN_MAX = 10
NAME_CHARACTERS_MAX = 40
_SHA256 = re.compile(r"[0-9a-f]{64}")

app = typer.Typer(no_args_is_help=True, help="Stored artifacts and manifests of datasets.")


@app.command()
def get(
    reference: Annotated[
        str, typer.Argument(metavar="NAME:VERSION", help="E.g. resnet:production or resnet:v3.")
    ],
    target: Annotated[Path, typer.Argument(help="A new file, or folder for an artifact that is one.")],
) -> None:
    """Write a stored artifact to a new file or folder; its digests are checked."""
    with session() as opened:
        version = find_version(opened, reference)
    for line in restore_artifact(version, target, blobs=known_blobs(read_settings())):
        stderr_line(line)
    typer.echo(f"{target} is {version.name}:{version.version}, {version.digest}")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="E.g. cifar:v1.")],
    new: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="E.g. cifar:v2.")],
    as_json: Json = False,
) -> None:
    """List the files that differ between two versions of a folder."""
    with session() as opened:
        versions = [find_version(opened, reference, also_inputs=True) for reference in (old, new)]
    changes = compare_versions(versions[0], versions[1], blobs=known_blobs(read_settings()))
    if as_json:
        print_json(
            [
                {"what": c.what, "path": _text(c.path), "old_path": _text(c.old_path) if c.old_path else None}
                for c in changes
            ]
        )
        return
    for change in changes:
        before = f"{_text(change.old_path)} -> " if change.old_path else ""
        typer.echo(f"{change.what:8} {before}{_text(change.path)}")
    counts = ", ".join(
        f"{sum(c.what == what for c in changes)} {what}"
        for what in ("added", "removed", "changed", "renamed")
    )
    stderr_line(counts if changes else "no difference")


@app.command()
def find(
    file: Annotated[
        str, typer.Argument(metavar="FILE|SHA256", help="A file, or what sha256sum prints of it.")
    ],
    as_json: Json = False,
) -> None:
    """Find a file by its bytes: the versions and runs that it is in, what was trained from it, the aliases of that."""
    sha256 = file.lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(sha256):
        try:
            sha256 = sha256_of(Path(file))
        except OSError as error:
            raise UsageError(
                f"{file} is neither a SHA-256 nor a file that can be read: {error.strerror}"
            ) from error
    with session() as opened:
        uses = find_file(opened, sha256, blobs=known_blobs(read_settings()))
    if uses.unseen:
        stderr_line(f"not looked into, their manifests are on other machines: {', '.join(uses.unseen)}")
    if uses.unhashed:
        shown = ", ".join(uses.unhashed[:_NAMES_SHOWN_MAX])
        more = (
            f" and {len(uses.unhashed) - _NAMES_SHOWN_MAX} more"
            if len(uses.unhashed) > _NAMES_SHOWN_MAX
            else ""
        )
        stderr_line(f"not hashed yet, so it may be in these too: {shown}{more}")
    if uses.is_cut:
        stderr_line("it is at more places than are listed; the versions and runs are all here")
    if as_json:
        print_json(uses.rows)
    elif uses.rows:
        print_table(
            ("run", "", "what", "path", "outputs of the run", "aliases"),
            (
                [cell_text(cell) for cell in (row["run"] or row["run_id"], *_use_cells(row))]
                for row in uses.rows
            ),
        )
    else:
        but = " that was hashed" if uses.unhashed else ""
        stderr_line(f"no version on record{but} holds this file")


def _use_cells(row: dict[str, Any]) -> list[str]:
    if row["through"]:
        path = f"came of {' > '.join(row['through'])}"
    else:
        path = ", ".join(row["paths"][:3]) or "the file itself"
    return [
        "reads" if row["direction"] == "in" else "writes",
        # The version is seen behind a long name too.
        f"{shortened(row['name'], NAME_CHARACTERS_MAX)}:{row['version'] or '?'}",
        path,
        ", ".join(row["outputs"]) or "-",
        ", ".join(row["aliases"]) or "-",
    ]


def _text(path: bytes) -> str:
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()
