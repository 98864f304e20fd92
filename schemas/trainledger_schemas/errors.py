"""All errors of trainledger, named for what the caller should do.

TrainledgerError
+-- UsageError                wrong arguments: say so, exit 2, change nothing
+-- SettingsError             a setting that cannot be used: say which and how to mend it
+-- RetryableError            the same call may work later
|   +-- RetryableStoreError   outcome unknown or refused for now: count, then retry
|   +-- RetryableSourceError  broker or file not reachable for now
+-- FatalError                stop here; going on would lose or double something
|   +-- FatalStoreError
|   +-- FatalSourceError
|   +-- RecoveryError         the tables and the ledger disagree: a person must look
|   +-- HomeLockedError       another process owns the folder (attributes `pid`, `kind`)
+-- CorruptDataError          bytes that do not check: set aside, go on behind them
|   +-- DeadLetterError       one record that cannot be understood
+-- NotFoundError             the named thing does not exist
+-- UserQueryError            a query of a user that is refused or failed (attributes `code`, `name`)
+-- InvariantError            a broken promise of our own code: a bug

Messages say what went wrong, where, and how to mend it; data travels in attributes.
"""

__all__ = [
    "CorruptDataError",
    "DeadLetterError",
    "FatalError",
    "FatalSourceError",
    "FatalStoreError",
    "HomeLockedError",
    "InvariantError",
    "NotFoundError",
    "RecoveryError",
    "RetryableError",
    "RetryableSourceError",
    "RetryableStoreError",
    "SettingsError",
    "TrainledgerError",
    "UsageError",
    "UserQueryError",
]


class TrainledgerError(Exception):
    """Base of all errors raised on purpose."""


class UsageError(TrainledgerError):
    """Wrong arguments: nothing was changed."""


class SettingsError(TrainledgerError):
    """A setting that cannot be used."""


class RetryableError(TrainledgerError):
    """The same call may work later."""


class RetryableStoreError(RetryableError):
    """A store call whose outcome is unknown, or that was refused for now; `code` and `name` are the engine's."""

    def __init__(self, message: str, *, code: int | None = None, name: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.name = name


class RetryableSourceError(RetryableError):
    """A source that cannot be reached for now."""


class FatalError(TrainledgerError):
    """Going on would lose or double something."""


class FatalStoreError(FatalError):
    """A store call that failed for good; `code` and `name` are the engine's, if it gave them."""

    def __init__(self, message: str, *, code: int | None = None, name: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.name = name


class FatalSourceError(FatalError):
    """A source whose history does not fit the ledger."""


class RecoveryError(FatalError):
    """Tables and ledger disagree in a way that no retry mends."""


class HomeLockedError(FatalError):
    """Another process owns the folder; `kind` is what it calls itself (up, agent, one-shot, ingest), if it does."""

    def __init__(self, message: str, *, pid: int | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.kind = kind


class CorruptDataError(TrainledgerError):
    """Bytes that do not check."""


class DeadLetterError(CorruptDataError):
    """One record that cannot be understood; `reason` is a short constant for counting."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotFoundError(TrainledgerError):
    """The named thing does not exist."""


class UserQueryError(TrainledgerError):
    """A query of a user that is refused or that failed."""

    def __init__(self, message: str, *, code: int | None = None, name: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.name = name


class InvariantError(TrainledgerError):
    """A promise of our own code is broken: a bug."""
