"""The settings of the analysis side, read once from the environment.

Every field: meaning, unit, default and why. The variables of the SDK and the agent are explained in
`trainledger.settings`; those read here have the same names and meanings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainledger_schemas.errors import SettingsError

__all__ = ["IngestSettings"]

SYSTEM_JOURNALS = Path("/var/lib/trainledger/journals")


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Where the folders and servers are, and how much memory the embedded engine may take."""

    home: Path
    """TRAINLEDGER_HOME: spool, log and tables; default $XDG_STATE_HOME/trainledger."""

    node_folder: Path
    """TRAINLEDGER_DIR: journals; default the node's folder if it can be written, else the user's."""

    kafka: str | None = field(repr=False)
    """TRAINLEDGER_KAFKA: bootstrap servers; unset = embedded. May hold a password: never shown."""

    clickhouse: str | None = field(repr=False)
    """TRAINLEDGER_CLICKHOUSE: URL of the server; unset = embedded tables. May hold a password: never shown."""

    blobs: str | None = field(default=None, repr=False)
    """TRAINLEDGER_BLOBS: where blobs lie for all machines, see `blob_address`; unset = beside the journals alone.
    It must hold no secret, and is not shown because by mistake it may."""

    engine_memory_bytes: int = 4 << 30
    """TRAINLEDGER_ENGINE_MEMORY_MB: most memory of the embedded engine, 512 to 1,048,576 MB; default 4096:
    a laptop's quarter, enough for merges of a hundred million points."""

    alert_stall_minutes: int = 10
    """TRAINLEDGER_ALERT_STALL_MINUTES: minutes without a step after which a living run is told as standing still,
    0 to 10,080; 0 = off; default 10: longer than most checkpoints and evaluations. Slow steps are waited for."""

    alert_idle_gpu_minutes: int = 30
    """TRAINLEDGER_ALERT_IDLE_GPU_MINUTES: minutes without use after which a GPU that is held or costs is told, 0 to
    1,380; 0 = off; default 30: longer than loading a model or building a container."""

    currency: str | None = None
    """TRAINLEDGER_CURRENCY: ISO 4217 code of the currency that `cost` reports in by default; unset = each amount in the
    currency of its price."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, home: Path | None = None) -> "IngestSettings":
        """Read and check; `home` (from a command's option) wins over the environment."""
        user_home = Path(environ.get("HOME") or "/root")
        state = Path(environ.get("XDG_STATE_HOME") or user_home / ".local" / "state") / "trainledger"
        given = environ.get("TRAINLEDGER_DIR")
        return cls(
            home=(home or Path(environ.get("TRAINLEDGER_HOME") or state)).absolute(),
            node_folder=Path(given).absolute() if given else _default_journals(state),
            kafka=environ.get("TRAINLEDGER_KAFKA") or None,
            clickhouse=environ.get("TRAINLEDGER_CLICKHOUSE") or None,
            blobs=environ.get("TRAINLEDGER_BLOBS", "").strip() or None,
            engine_memory_bytes=_megabytes(environ.get("TRAINLEDGER_ENGINE_MEMORY_MB")),
            alert_stall_minutes=_minutes(environ, "TRAINLEDGER_ALERT_STALL_MINUTES", 10, most=10_080),
            alert_idle_gpu_minutes=_minutes(environ, "TRAINLEDGER_ALERT_IDLE_GPU_MINUTES", 30, most=1_380),
            currency=_currency(environ),
        )

    def with_journals(self, folder: Path) -> "IngestSettings":
        """The same with another folder of journals."""
        return replace(self, node_folder=folder.absolute())

    @property
    def tables(self) -> Path:
        """The folder of the embedded tables."""
        return self.home / "tables"

    @property
    def api_socket(self) -> Path:
        """The socket on which `up` answers."""
        return self.home / "api.sock"


def _default_journals(state: Path) -> Path:
    # The same rule as where the SDK writes: the node's folder wherever an agent was installed.
    return SYSTEM_JOURNALS if SYSTEM_JOURNALS.is_dir() else state / "journals"


def _megabytes(text: str | None) -> int:
    if text is None:
        return 4 << 30
    if not text.isdecimal() or not 512 <= int(text) <= 1 << 20:
        raise SettingsError(
            f"TRAINLEDGER_ENGINE_MEMORY_MB is {text!r}; give a whole number of MB from 512 to 1048576"
        )
    return int(text) << 20


def _minutes(environ: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) > most:
        raise SettingsError(f"{name} is {text!r}; give a whole number of minutes from 0 (off) to {most}")
    return int(text)


def _currency(environ: Mapping[str, str]) -> str | None:
    text = environ.get("TRAINLEDGER_CURRENCY", "").strip()
    if text and not (len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()):
        raise SettingsError(
            f"TRAINLEDGER_CURRENCY is {text!r}; give three capital letters such as USD or EUR"
        )
    return text or None
