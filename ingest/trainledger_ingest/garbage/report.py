"""What a collection found and did, in counts and bytes."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["GRACE_DAYS", "Amount", "Policy", "Report"]

GRACE_DAYS = 7.0
DAY_US = 86_400 * 1_000_000


@dataclass(slots=True)
class Amount:
    """So many blobs of so many bytes."""

    blobs: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """One more."""
        self.blobs += 1
        self.size_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class Policy:
    """`grace_us`: how long a condemned blob stays; `now_us`: wall time, microseconds since 1970; `deletes`: whether
    anything is changed at all."""

    now_us: int
    grace_us: int
    deletes: bool

    @property
    def young_us(self) -> int:
        """What was written since is not condemned yet: its event may be on its way, and to condemn it costs a copy."""
        return self.now_us - min(self.grace_us, DAY_US)


@dataclass(slots=True)
class Report:
    """One place. kept: needed; condemned: not needed, now or before, and still in its grace; young: not needed yet
    and written within a day; expired: condemned for longer than the grace; deleted: of these; copied: needed again
    after they were condemned, kept under a new name. uploads: begun long ago, not ended, and given up."""

    place: str
    kept: Amount = field(default_factory=Amount)
    young: Amount = field(default_factory=Amount)
    condemned: Amount = field(default_factory=Amount)
    expired: Amount = field(default_factory=Amount)
    deleted: Amount = field(default_factory=Amount)
    copied: Amount = field(default_factory=Amount)
    uploads: int = 0
    notes: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """For JSON: an object with a count and bytes of each."""
        row: dict[str, Any] = {"place": self.place}
        for name in ("kept", "young", "condemned", "expired", "deleted", "copied"):
            amount: Amount = getattr(self, name)
            row |= {name: amount.blobs, f"{name}_bytes": amount.size_bytes}
        return row | {"uploads": self.uploads, "notes": list(self.notes)}
