"""What a call of the training asks to be measured or stored; UTF-8 JSON on stdin:

run_id, parent_journal   UUID text
uid_folder               <node folder>/<uid>: where a journal of its own is made, and where the blobs are
append_by_write          true where journals are appended by write calls
claim                    the claim that the training has appended, of stage 0
path                     hexadecimal digits of the bytes of a path, or null
where                    an address such as s3://bucket/key, or null
held                     null, or {"folder": where the bytes are kept, "linked": [[path, inode, bytes, mtime ns]]}
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_bytes

__all__ = ["DataRequest", "Held", "Linked", "parse_request"]


@dataclass(frozen=True, slots=True)
class Linked:
    """A file that is held by a hard link: `path` below the held folder, and how it was when it was linked."""

    path: bytes
    inode: int
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that the training set aside: `<folder>/x` stands for the path."""

    folder: Path
    linked: tuple[Linked, ...]


@dataclass(frozen=True, slots=True)
class DataRequest:
    """See the module."""

    run_id: bytes
    parent_journal: bytes
    uid_folder: Path
    append_by_write: bool
    claim: dict[str, Any]
    path: Path | None
    where: str | None
    held: Held | None


def parse_request(text: bytes) -> DataRequest:
    """Read a request; raises UsageError when it is none."""
    try:
        told: dict[str, Any] = json.loads(text)
        held = told.get("held")
        path = told.get("path")
        return DataRequest(
            run_id=id_bytes(told["run_id"]),
            parent_journal=id_bytes(told["parent_journal"]),
            uid_folder=Path(told["uid_folder"]),
            append_by_write=bool(told.get("append_by_write")),
            claim=dict(told["claim"]),
            path=None if path is None else Path(os.fsdecode(bytes.fromhex(path))),
            where=told.get("where"),
            held=None if held is None else _held(held),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"not a request: {error!r}; the SDK writes it") from error


def _held(told: dict[str, Any]) -> Held:
    linked = (Linked(bytes.fromhex(p), int(i), int(s), int(m)) for p, i, s, m in told["linked"])
    return Held(Path(told["folder"]), tuple(linked))
