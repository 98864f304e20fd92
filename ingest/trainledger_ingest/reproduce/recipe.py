"""A recipe: all that another machine needs to repeat a run, in one file. It has no tables and no blobs of the run.

    tar, uncompressed:  recipe.json          what is recorded of the run
                        blobs/<64 digits>    code (bundles, patches of large files), manifests of its inputs

Guarantees: a blob that comes out has the digest of its name; nothing is written outside of the folder that is given.
A recipe is read from a stream too, and ends where the stream may go on. Limits: bytes of datasets are not in it.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from trainledger_schemas.blobs import BlobSource, FolderBlobs
from trainledger_schemas.code_snapshot import CodeSnapshot
from trainledger_schemas.errors import CorruptDataError, NotFoundError
from trainledger_schemas.tree_manifest import walk_tree

from .notebook import NotebookCells
from .run_facts import RunFacts

__all__ = ["is_recipe", "read_recipe", "write_recipe"]

FORMAT = 1
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_BLOCK_BYTES = 1 << 20
_FACTS_BYTES_MAX = 64 << 20


def is_recipe(path: Path) -> bool:
    """Whether a file is one, by its first entry."""
    try:
        with path.open("rb") as file:
            return file.read(11) == b"recipe.json"
    except OSError:
        return False


def write_recipe(
    facts: RunFacts, snapshot: CodeSnapshot, cells: NotebookCells | None, *, blobs: BlobSource, target: Path
) -> None:
    """Write a new file of mode 0600; raises FileExistsError, or NotFoundError for a blob that is nowhere."""
    with target.open("xb") as file:
        target.chmod(0o600)
        with tarfile.open(fileobj=file, mode="w") as archive:
            rows = None if cells is None else [dict(row) for row in cells.rows]
            body = {"format": FORMAT, "facts": asdict(facts), "cells": rows}
            told = json.dumps(body, default=str).encode()
            archive.addfile(_entry("recipe.json", len(told)), io.BytesIO(told))
            for sha256 in dict.fromkeys(_blobs_of(facts, snapshot, blobs)):
                data = blobs.read(sha256)
                archive.addfile(_entry(f"blobs/{sha256}", len(data)), io.BytesIO(data))


def read_recipe(source: IO[bytes], folder: Path) -> tuple[RunFacts, NotebookCells | None, FolderBlobs]:
    """Read one, with the cells of a notebook; its blobs go below `folder`. Raises CorruptDataError for what is none."""
    store = FolderBlobs(folder / "blobs")
    facts: RunFacts | None = None
    cells: NotebookCells | None = None
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isfile() else None
                name = _BLOB.fullmatch(entry.name)
                if content is None or (name is None and entry.name != "recipe.json"):
                    raise CorruptDataError(f"not a recipe: it holds {entry.name[:100]!r}")
                if name is not None:
                    _take(content, name[1], store)
                elif entry.size <= _FACTS_BYTES_MAX:
                    told = json.loads(content.read())
                    facts, rows = _facts(told), told.get("cells")
                    cells = None if rows is None else NotebookCells(facts.run_id, tuple(rows))
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise CorruptDataError(
            f"not a recipe: {error}; make it with `trainledger reproduce RUN --pack FILE`"
        ) from error
    if facts is None:
        raise CorruptDataError("not a recipe: it says nothing of a run")
    return facts, cells, store


def _blobs_of(facts: RunFacts, snapshot: CodeSnapshot, blobs: BlobSource) -> Iterator[str]:
    yield str(facts.provenance["snapshot_sha256"])
    for repository in snapshot.repositories:
        yield from (bundle.sha256 for bundle in repository.bundles)
        yield from (item.sha256 for item in repository.lfs if blobs.has(item.sha256))
    lock = facts.provenance.get("lock_sha256")
    if lock is not None and blobs.has(lock):
        yield lock
    for given in facts.inputs:
        top = given.get("manifest_sha256")
        if top is None or not blobs.has(top):
            continue
        yield top
        try:
            yield from (child.sha256 for _, child in walk_tree(top, blobs.read) if child.type == "d")
        except NotFoundError:
            continue  # an input whose list is not whole can be told from its digest alone


def _take(content: IO[bytes], sha256: str, store: FolderBlobs) -> None:
    if store.has(sha256):
        return
    digest = hashlib.sha256()
    with store.workspace() as folder:
        path = folder / sha256
        with path.open("xb") as sink:
            while block := content.read(_BLOCK_BYTES):
                digest.update(block)
                sink.write(block)
        if digest.hexdigest() != sha256:
            raise CorruptDataError(f"the recipe is damaged: blob {sha256} has other bytes; make it again")
        store.adopt(path, sha256)


def _facts(told: Mapping[str, Any]) -> RunFacts:
    if told["format"] != FORMAT:
        raise CorruptDataError(
            f"the recipe has format {told['format']}, this version reads {FORMAT}; install a newer one"
        )
    known = {field.name for field in fields(RunFacts)}
    plain = {name: value for name, value in told["facts"].items() if name in known}
    for name in ("parameters", "tags", "inputs", "outputs"):
        plain[name] = tuple(plain[name])
    return RunFacts(**plain)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry
