"""Settings of collecting: each with its unit, range, default and reason."""

from dataclasses import dataclass
from pathlib import Path

from trainledger_schemas.errors import SettingsError

from .container_images import CRI_SOCKETS, SOCKETS

__all__ = ["CollectorSettings"]


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """Limits of collecting.

    journal_bytes_max   256 KiB to 1 GiB, default 8 MiB: of one journal before the next has its turn.
    pass_bytes_max      1 MiB to 16 GiB, default 64 MiB: of all journals before the spool is fsynced.
    drain_s_max         1 to 3600, default 60: a writer that is faster than the reader cannot hold a drain.
    readers_max         16 to 100,000, default 2,000: journals whose shapes are kept in memory.
    empty_age_s_max     60 to 1e6, default 3600: a folder without a segment is removed when it is this old.
    held_max            0 to 100,000, default 128: folders of live writers kept open, with four descriptors
                        each: half of the 1,024 that a process usually may have.
    container_sockets   where container runtimes are asked for images by Docker's API.
    cri_sockets         where they are asked by that of Kubernetes, when none of the others knows the container.
    """

    journal_bytes_max: int = 8 << 20
    pass_bytes_max: int = 64 << 20
    drain_s_max: float = 60.0
    readers_max: int = 2_000
    empty_age_s_max: float = 3600.0
    held_max: int = 128
    container_sockets: tuple[Path, ...] = SOCKETS
    cri_sockets: tuple[Path, ...] = CRI_SOCKETS

    def __post_init__(self) -> None:
        for name, low, high in (
            ("journal_bytes_max", 256 << 10, 1 << 30),
            ("pass_bytes_max", 1 << 20, 16 << 30),
            ("drain_s_max", 1, 3600),
            ("readers_max", 16, 100_000),
            ("empty_age_s_max", 60, 1_000_000),
            ("held_max", 0, 100_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} is {getattr(self, name)}; allowed are {low} to {high}")
