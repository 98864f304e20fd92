"""The lock of a home folder: one owner, who says who it is.

A POSIX record lock on `<home>/home.lock`: the kernel frees it at any death, so it is never stale. The file
holds JSON {"pid", "kind"} for whoever is turned away.
"""

import fcntl
import json
import os
from pathlib import Path

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import HomeLockedError, SettingsError

__all__ = ["STAYING_KINDS", "HomeLock"]

# Owners that stay: who would be one of them is refused at once instead of waiting.
STAYING_KINDS = frozenset({"up", "ingest"})

POLL_S = 0.05


class HomeLock:
    """Held until `release` or the end of the process. Never open the lock file twice in one process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @property
    def held(self) -> bool:
        """Whether this process still has the home."""
        return self._descriptor is not None

    @classmethod
    def acquire(cls, home: Path, *, kind: str, wait_s: float, clock: Clock) -> "HomeLock":
        """Take the lock, waiting up to `wait_s` for another owner; raises HomeLockedError naming it.

        One that stays is not waited for by one that would stay."""
        descriptor = _open(home)
        deadline_ns = clock.monotonic_ns() + int(wait_s * 1e9)
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                owner = _owner(descriptor)
                both_stay = kind in STAYING_KINDS and owner.get("kind") in STAYING_KINDS
                if both_stay or clock.monotonic_ns() >= deadline_ns:
                    pid = owner.get("pid")
                    os.close(descriptor)
                    raise HomeLockedError(
                        f"{home} is in use by process {owner.get('pid', 'unknown')} "
                        f"({owner.get('kind', 'unknown')}); stop it, or give another folder with TRAINLEDGER_HOME",
                        pid=pid if isinstance(pid, int) else None,
                        kind=str(owner.get("kind", "unknown")),
                    ) from None
                clock.sleep(POLL_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "kind": kind}).encode(), 0)
        return cls(descriptor)

    @staticmethod
    def owner_kind(home: Path) -> str | None:
        """What kind of process holds the home now (up, one-shot ...), or None if nobody does."""
        descriptor = _open(home)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return str(_owner(descriptor).get("kind", "unknown"))
        finally:
            os.close(descriptor)
        return None

    def release(self) -> None:
        """Let the home go. A second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(home: Path) -> int:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(home / "home.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"the home folder {home} cannot be used: {error}; set TRAINLEDGER_HOME to one you can write"
        ) from error


def _owner(descriptor: int) -> dict[str, object]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
