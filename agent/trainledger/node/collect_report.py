"""What one pass over the journals did, in numbers."""

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CollectReport"]


@dataclass(slots=True)
class CollectReport:
    """What a pass did. `refused`: folders and files that are not what they should be, left alone;
    `removed`: folders found missing for the first time that were still needed; `complete`: every journal had nothing
    more when it was looked at last."""

    journals_live: int = 0
    journals_read: int = 0
    journals_gone: int = 0
    events: int = 0
    points: int = 0
    bytes: int = 0
    claims_dropped: int = 0
    lost: int = 0
    torn: int = 0
    refused: int = 0
    removed: list[Path] = field(default_factory=list)
    complete: bool = True
