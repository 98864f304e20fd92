"""Whether each part of an installation works, for `doctor`."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .home_lock import HomeLock
from .settings import IngestSettings

__all__ = ["Check", "check_installation"]

FREE_BYTES_MIN = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One part: `state` is ok, notice or broken."""

    part: str
    state: str
    detail: str

    def as_row(self) -> dict[str, Any]:
        """For JSON."""
        return {"part": self.part, "state": self.state, "detail": self.detail}


def check_installation(settings: IngestSettings) -> list[Check]:
    """Look at settings, folders and packages; starts nothing and changes nothing but making the home folder."""
    return list(_checks(settings))


def _checks(settings: IngestSettings) -> Iterator[Check]:
    yield Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")
    for package in ("trainledger", "chdb-core", "clickhouse-connect", "pyarrow", "kafka-python", "psutil"):
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "notice", "not installed")
    yield Check("TRAINLEDGER_HOME", *_folder(settings.home))
    yield Check("TRAINLEDGER_DIR", *_folder(settings.node_folder))
    yield Check("TRAINLEDGER_KAFKA", "ok", settings.kafka or "not set: embedded")
    yield Check("TRAINLEDGER_CLICKHOUSE", "ok", "set" if settings.clickhouse else "not set: embedded")
    owner = HomeLock.owner_kind(settings.home)
    yield Check(
        "owner of the home",
        "ok" if owner else "notice",
        owner or "nobody: start `trainledger up` to see cost",
    )


def _folder(path: os.PathLike[str]) -> tuple[str, str]:
    try:
        os.makedirs(path, exist_ok=True)
        free = shutil.disk_usage(path).free
    except OSError as error:
        return "broken", f"{path}: {error.strerror}"
    if not os.access(path, os.W_OK):
        return "broken", f"{path} cannot be written"
    return ("ok" if free > FREE_BYTES_MIN else "notice"), f"{path}, {free / 2**30:.1f} GiB free"
