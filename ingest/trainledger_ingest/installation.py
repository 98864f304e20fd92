"""Whether each part of an installation works, for `doctor`: every finding says how to mend it.

Looks and changes nothing, but that a ClickHouse database which is missing is made, as every command does. Blocks for
about 5 s for a broker and 10 s for a server that do not answer.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from trainledger_schemas.blob_address import parse_blob_address
from trainledger_schemas.clock import Clock
from trainledger_schemas.effective import EffectiveSetting, effective_settings
from trainledger_schemas.errors import TrainledgerError
from trainledger_schemas.kafka_address import parse_kafka_address

from .alert_channels import SMTP, WEBHOOK, alert_channels
from .home_lock import HomeLock
from .ingest_settings import KafkaSourceSettings, WorkerSettings
from .settings import IngestSettings
from .storage.store import UserLimits
from .tables_place import are_fed_by_kafka

__all__ = ["BrokerLook", "Check", "NodeSide", "check_installation", "ingest_settings", "needed_extras"]

FREE_BYTES_MIN = 1 << 30
CLOCK_SKEW_S_MAX = 5.0
# 2025 and 2100: before and after any time at which this runs.
WALL_S_MIN, WALL_S_MAX = 1_735_689_600, 4_102_444_800
_COMES_WITH_TYPER = "rich"
_EXTRAS = {
    "agent": ("fastavro", "kafka-python", "psutil", "numpy"),
    "server": ("clickhouse-connect", "pyarrow", "rich"),
    "embedded": ("chdb-core",),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One part: `state` is ok, notice or broken; `mend` says what to do, empty where nothing is to be done."""

    part: str
    state: str
    detail: str
    mend: str = ""

    def as_row(self) -> dict[str, Any]:
        """For JSON."""
        return {"part": self.part, "state": self.state, "detail": self.detail, "mend": self.mend}


class BrokerLook(Protocol):
    """What is seen of a Kafka cluster."""

    @property
    def brokers(self) -> int: ...
    @property
    def missing(self) -> tuple[str, ...]: ...
    @property
    def differences(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class NodeSide:
    """What the node's side tells, asked through the composition root: see `node_side`."""

    settings: Callable[[], list[EffectiveSetting]]
    warnings: Callable[[], tuple[str, ...]]
    reader: Callable[[Path], str | None]
    stalling_disk: Callable[[Path], str | None]
    gpus: Callable[[], tuple[bool, str]]
    broker: Callable[[str], BrokerLook]
    kubelet: Callable[[], tuple[bool, str] | None]
    unsent: Callable[[Path], tuple[bool, str] | None]


def check_installation(settings: IngestSettings, node: NodeSide, *, clock: Clock) -> list[Check]:
    """Look at packages, settings, folders, clock, who is at work, and the servers that are set."""
    return [
        Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}"),
        *_packages(settings),
        *(Check("environment", "notice", text, "correct or unset the variable") for text in node.warnings()),
        *_folder("TRAINLEDGER_HOME", settings.home, node),
        *_folder("TRAINLEDGER_DIR", settings.node_folder, node),
        _looked("journals", lambda: _journals(settings, node)),
        _looked("home", lambda: _home(settings)),
        _gpus(node),
        *_kubelet(node),
        _looked("clock", lambda: _clock(settings, clock)),
        *_kafka(settings, node),
        *_clickhouse(settings, clock),
        _blobs(settings),
        *_unsent(settings, node),
        _alerts(os.environ),
    ]


def ingest_settings(settings: IngestSettings, environ: Mapping[str, str]) -> list[EffectiveSetting]:
    """The settings of the analysis side in effect, secrets left out."""
    variables = {
        "home": "TRAINLEDGER_HOME",
        "node_folder": "TRAINLEDGER_DIR",
        "kafka": "TRAINLEDGER_KAFKA",
        "clickhouse": "TRAINLEDGER_CLICKHOUSE",
        "blobs": "TRAINLEDGER_BLOBS",
        "engine_memory_bytes": "TRAINLEDGER_ENGINE_MEMORY_MB",
        "alert_stall_minutes": "TRAINLEDGER_ALERT_STALL_MINUTES",
        "alert_idle_gpu_minutes": "TRAINLEDGER_ALERT_IDLE_GPU_MINUTES",
        "currency": "TRAINLEDGER_CURRENCY",
    }
    source = KafkaSourceSettings("(TRAINLEDGER_KAFKA)", "(--group)-(generation of the tables)")
    rows = effective_settings("ingest", settings, environ=environ, variables=variables)
    rows += effective_settings("ingest.worker", WorkerSettings(), environ=environ, variables={})
    rows += effective_settings("ingest.kafka", source, environ=environ, variables={})
    rows += effective_settings("sql.limits", UserLimits(), environ=environ, variables={})
    return rows


def _packages(settings: IngestSettings) -> Iterator[Check]:
    yield _package_check("trainledger", {"trainledger": _version("trainledger")}, "", is_needed=True)
    found = {extra: {name: _version(name) for name in names} for extra, names in _EXTRAS.items()}
    needed = needed_extras(found, settings)
    for extra, packages in found.items():
        yield _package_check(f"extra {extra}", packages, f"[{extra}]", is_needed=extra in needed)


def needed_extras(found: Mapping[str, dict[str, str | None]], settings: IngestSettings) -> frozenset[str]:
    """The extras that this machine cannot do without; `found`: their packages with the versions installed. Pure.

    A machine with no package of the tables is a node's: its agent is all that it runs.
    """
    needed = {"agent"} if settings.kafka is not None else set()
    of_tables = found["server"] | found["embedded"]
    if any(installed for name, installed in of_tables.items() if name != _COMES_WITH_TYPER):
        # Without a server the tables are embedded and need the engine.
        needed |= {"server"} | ({"embedded"} if settings.clickhouse is None else set())
    elif settings.clickhouse is not None:
        needed.add("server")
    return frozenset(needed or {"agent"})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _package_check(part: str, packages: Mapping[str, str | None], extra: str, *, is_needed: bool) -> Check:
    missing = [package for package, installed in packages.items() if installed is None]
    if not missing:
        return Check(part, "ok", ", ".join(f"{package} {found}" for package, found in packages.items()))
    state = "broken" if is_needed else "notice"
    return Check(part, state, f"not installed: {', '.join(missing)}", f'pip install "trainledger{extra}"')


def _looked(part: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except OSError as error:
        mend = "give this user the right to use it, or run this as the user it belongs to"
        return Check(part, "broken", f"{error.filename}: {error.strerror}", mend)


def _folder(part: str, path: Path, node: NodeSide) -> Iterator[Check]:
    there = path
    while not os.access(there, os.F_OK) and there != there.parent:
        there = there.parent
    mend = f"give this user the right to write {there}, or set {part} to a folder that it can write"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Check(part, "broken", f"{path} cannot be written", mend)
        return
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        yield Check(part, "broken", f"{path}: {error.strerror}", mend)
        return
    size = f"{free / 2**30:.1f} GiB free" + ("" if there == path else "; made when it is needed")
    if free < FREE_BYTES_MIN:
        yield Check(part, "notice", f"{path}, {size}", f"free some space on the disk of {there}")
    else:
        yield Check(part, "ok", f"{path}, {size}")
    if kind := node.stalling_disk(path):
        mend = f"set {part} to a folder on a local disk"
        yield Check(part, "notice", f"{path} is on a network file system ({kind}), which can stall", mend)


def _journals(settings: IngestSettings, node: NodeSide) -> Check:
    reader = node.reader(settings.node_folder)
    if reader is not None:
        return Check("journals", "ok", f"read by {reader}")
    return Check(
        "journals",
        "notice",
        "no agent reads them: trainings have no cost, and their points wait for the next command",
        "start `trainledger up` (or `trainledger agent` on a cluster's node) before training",
    )


def _home(settings: IngestSettings) -> Check:
    source = "Kafka, by `trainledger ingest`" if are_fed_by_kafka(settings.home) else "the spool of this home"
    tables = f"tables filled from {source}" if settings.tables.is_dir() else "no tables yet"
    owner = HomeLock.owner_kind(settings.home) if settings.home.is_dir() else None
    return Check("home", "ok", f"{tables}; in use by {owner or 'nobody'}")


def _gpus(node: NodeSide) -> Check:
    try:
        are_measured, detail = node.gpus()
    except ModuleNotFoundError as error:
        are_measured, detail = False, f"{error.name} is not installed"
    if are_measured:
        return Check("gpus", "ok", detail)
    mend = "until this is mended, GPUs count as unknown: see that `nvidia-smi -L` or `amd-smi list` names them to you"
    return Check("gpus", "notice", detail, mend)


def _kubelet(node: NodeSide) -> Iterator[Check]:
    seen = node.kubelet()
    if seen is not None:
        answers, detail = seen
        mend = "until it answers, pods hold no GPU by their reservation, and who is seen on one shares it"
        yield Check("kubelet", "ok", detail) if answers else Check("kubelet", "notice", detail, mend)


def _clock(settings: IngestSettings, clock: Clock) -> Check:
    now_s = clock.wall_ns() / 1e9
    mend = "set the clock, and keep it by NTP (timedatectl set-ntp true)"
    if not WALL_S_MIN <= now_s <= WALL_S_MAX:
        return Check("clock", "broken", f"it says {now_s:.0f} s since 1970", mend)
    newest_s = max((path.stat().st_mtime for path in (settings.home / "spool").glob("*.json")), default=now_s)
    if newest_s - now_s > CLOCK_SKEW_S_MAX:
        behind = f"it is {newest_s - now_s:.0f} s behind what was written in {settings.home} before"
        return Check("clock", "broken", behind, mend)
    return Check("clock", "ok", "agrees with what was written here before")


def _kafka(settings: IngestSettings, node: NodeSide) -> Iterator[Check]:
    if settings.kafka is None:
        yield Check("kafka", "ok", "TRAINLEDGER_KAFKA is not set: the log is the spool of this node")
        return
    try:
        where = parse_kafka_address(settings.kafka).bootstrap
        seen = node.broker(settings.kafka)
    except ModuleNotFoundError as error:
        yield Check("kafka", "broken", f"{error.name} is not installed", 'pip install "trainledger[agent]"')
        return
    except TrainledgerError as error:
        mend = "start the broker, or correct TRAINLEDGER_KAFKA (host:port, or sasl_ssl://user:password@host:port)"
        yield Check("kafka", "broken", str(error), mend)
        return
    yield Check("kafka", "ok", f"{seen.brokers} brokers at {where}")
    if seen.missing:
        yield Check(
            "topics", "broken", f"missing: {', '.join(seen.missing)}", "run `trainledger admin topics`"
        )
    elif seen.differences:
        mend = "set the topics' configuration by Kafka's tools; a partition count is fixed for ever"
        yield Check("topics", "notice", "; ".join(seen.differences), mend)
    else:
        yield Check("topics", "ok", "all there, as they must be")


def _blobs(settings: IngestSettings) -> Check:
    if settings.blobs is None:
        return Check(
            "blobs", "ok", "TRAINLEDGER_BLOBS is not set: they lie beside the journals of each machine"
        )
    try:
        # Loaded here: the client of S3 takes 0.3 s.
        from trainledger_schemas.s3_objects import S3Objects

        objects = S3Objects(parse_blob_address(settings.blobs))
        if objects.probe():
            return Check("blobs", "ok", f"{objects.place} answers, and heeds conditional puts")
    except TrainledgerError as error:
        mend = "see that the store answers and that the credentials may get, put, list and delete there"
        return Check("blobs", "broken", str(error), mend)
    return Check(
        "blobs",
        "notice",
        f"{objects.place} answers, and ignores If-None-Match: each blob is looked for before it is sent",
        "nothing must be done; a newer version of the store saves a request a blob",
    )


def _unsent(settings: IngestSettings, node: NodeSide) -> Iterator[Check]:
    told = None if settings.blobs is None else node.unsent(settings.home)
    if told is not None:
        is_well, detail = told
        mend = (
            "see that an agent runs here (`trainledger up` or `agent`), or send it by `trainledger sync`; with an "
            "error: what it says, with the credentials of whoever runs the agent"
        )
        yield Check("to send", "ok", detail) if is_well else Check("to send", "notice", detail, mend)


def _alerts(environ: Mapping[str, str]) -> Check:
    # Nothing is sent, and of a URL, which is a secret itself, nothing is shown.
    try:
        channels = alert_channels(environ)
    except TrainledgerError as error:
        return Check("alerts", "broken", str(error), "correct or unset the variable")
    if not channels:
        return Check(
            "alerts", "ok", f"{WEBHOOK} and {SMTP} are not set: nobody is told of budgets or trouble"
        )
    named = " and ".join(name for name in (WEBHOOK, SMTP) if environ.get(name))
    return Check("alerts", "ok", f"budgets and trouble are told through {named} (set, not shown)")


def _clickhouse(settings: IngestSettings, clock: Clock) -> Iterator[Check]:
    if settings.clickhouse is None:
        yield Check("clickhouse", "ok", "TRAINLEDGER_CLICKHOUSE is not set: tables are embedded")
        return
    try:
        # Loaded here: `doctor` must work where only the agent is installed.
        from .storage.migrate import migration_state
        from .storage.opening import open_server

        store = open_server(settings.clickhouse)
        try:
            (row,) = store.rows("SELECT version() AS version, toUnixTimestamp64Micro(now64(6)) AS at_us")
            applied, missing = migration_state(store)
        finally:
            store.close()
    except ModuleNotFoundError as error:
        yield Check(
            "clickhouse", "broken", f"{error.name} is not installed", 'pip install "trainledger[server]"'
        )
        return
    except TrainledgerError as error:
        mend = "start the server, or correct TRAINLEDGER_CLICKHOUSE (http(s)://user:password@host:port)"
        yield Check("clickhouse", "broken", str(error), mend)
        return
    yield Check("clickhouse", "ok", f"version {row['version']} answers")
    skew_s = abs(int(str(row["at_us"])) / 1e6 - clock.wall_ns() / 1e9)
    if skew_s > CLOCK_SKEW_S_MAX:
        mend = "keep both clocks by NTP; bills go by the node's clock"
        yield Check("clock", "broken", f"it differs from the server's by {skew_s:.0f} s", mend)
    if missing:
        mend = "run `trainledger admin migrate`"
        yield Check("migrations", "broken", f"{applied} applied, missing: {', '.join(missing)}", mend)
    else:
        yield Check("migrations", "ok", f"all {applied} applied")
