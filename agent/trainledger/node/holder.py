"""Who holds a part of the node, as the agent sees it."""

from dataclasses import dataclass

__all__ = ["Holder"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who processes belong to: a run's process tree, an owner without a run, or the system.

    `account` is that of the job they are in (`account:NAME`, `namespace:NAME`), None outside of one."""

    kind: str
    run_id: bytes | None = None
    writer_id: bytes | None = None
    uid: int | None = None
    account: str | None = None

    def order(self) -> tuple[str, bytes, bytes, int, str]:
        """A sort key."""
        uid = -1 if self.uid is None else self.uid
        return (self.kind, self.run_id or b"", self.writer_id or b"", uid, self.account or "")
