"""The environment of a command, and the settings in it."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..settings import IngestSettings

__all__ = ["environment", "read_settings"]


def read_settings(home: Path | None = None) -> IngestSettings:
    """The settings of this call."""
    return IngestSettings.from_env(os.environ, home=home)


def environment() -> Mapping[str, str]:
    """The environment of this call."""
    return os.environ
