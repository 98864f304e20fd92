"""What `trainledger doctor` asks of the node's side: settings of SDK and agent in effect, who reads journals, GPUs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from trainledger.node.blob_backlog import unsent
from trainledger.node.daemon import spool_folder
from trainledger.node.gpu_vendors import VENDORS, Vendor
from trainledger.node.kubernetes.places import KubeletPlaces
from trainledger.node.node_settings import AgentSettings
from trainledger.placement import NETWORK, filesystem_type, reader_of
from trainledger.settings import PREFIX, Settings
from trainledger_schemas.clock import Clock
from trainledger_schemas.effective import EffectiveSetting, effective_settings
from trainledger_schemas.kafka_address import KafkaAddress

if TYPE_CHECKING:
    from trainledger.node.kafka_client import BrokerView

__all__ = [
    "broker_seen",
    "gpus_seen",
    "journal_reader",
    "kubelet_seen",
    "node_settings",
    "settings_warnings",
    "stalling_disk",
    "unsent_blobs",
]

UNSENT_S_MAX = 600.0

_AGENT_VARIABLES = {
    "node_id": "TRAINLEDGER_NODE",
    "home": "TRAINLEDGER_HOME",
    "node_folder": "TRAINLEDGER_DIR",
    "schedulers": "TRAINLEDGER_SCHEDULERS",
    "nvidia_driver": "TRAINLEDGER_NVIDIA_DRIVER",
}


def node_settings(environ: Mapping[str, str]) -> list[EffectiveSetting]:
    """All settings of SDK and agent, secrets left out. Raises SettingsError for what cannot be used."""
    sdk = Settings.from_env(environ)
    names = {name: PREFIX + name.upper() for name in Settings._fields} | {"state_home": "XDG_STATE_HOME"}
    rows = effective_settings("sdk", sdk, environ=environ, variables=names)
    rows = [row for row in rows if row.name != "sdk.warnings"]  # findings, not settings
    agent = AgentSettings.from_env(environ)
    rows += effective_settings("agent", agent, environ=environ, variables=_AGENT_VARIABLES)
    told = {"folder": "TRAINLEDGER_KUBELET"}
    rows += effective_settings("agent.kubelet", agent.kubelet, environ=environ, variables=told)
    told = {"mode": "TRAINLEDGER_EC2", "endpoint": "AWS_EC2_METADATA_SERVICE_ENDPOINT"}
    rows += effective_settings("agent.ec2", agent.ec2, environ=environ, variables=told)
    rows += effective_settings("agent.sampling", agent.sampling, environ=environ, variables={})
    rows += effective_settings("agent.spool", agent.spool, environ=environ, variables={})
    if agent.blobs is not None:
        told = {
            "local_bytes_max": "TRAINLEDGER_BLOBS_LOCAL_MIB",
            "at_once": "TRAINLEDGER_BLOBS_AT_ONCE",
        }
        place = dict.fromkeys(("bucket", "prefix", "endpoint", "region"), "TRAINLEDGER_BLOBS")
        rows += effective_settings("agent.blobs", agent.blobs.address, environ=environ, variables=place)
        rows += effective_settings("agent.blobs", agent.blobs, environ=environ, variables=told)
    if agent.kafka is not None:
        address = {item.name: "TRAINLEDGER_KAFKA" for item in fields(KafkaAddress)}
        rows += effective_settings("agent.kafka", agent.kafka, environ=environ, variables=address)
    return rows


def settings_warnings(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with the environment and was passed over: unknown names, values out of range."""
    return Settings.from_env(environ).warnings


def journal_reader(node_folder: Path) -> str | None:
    """Who reads this node folder now, as words for a person, or None."""
    return reader_of(node_folder)


def stalling_disk(path: Path) -> str | None:
    """The type of the network file system that holds `path`; None on a local disk."""
    kind = filesystem_type(path)
    return kind if kind in NETWORK else None


def gpus_seen(clock: Clock) -> tuple[bool, str]:
    """Whether this node's GPUs can be measured (True without a driver: there are none), and what is there."""
    found = [_seen(vendor, clock) for vendor in VENDORS if vendor.is_there()]
    if not found:
        return True, "no GPU driver"
    return all(is_well for is_well, _ in found), "; ".join(what for _, what in found)


def _seen(vendor: Vendor, clock: Clock) -> tuple[bool, str]:
    reader = vendor.open(clock)
    if isinstance(reader, str):
        return False, reader
    try:
        devices = reader.devices()
    finally:
        reader.close()
    models = Counter(device.model for device in devices)
    listed = ", ".join(f"{number} x {model}" for model, number in sorted(models.items()))
    driver = next((device.driver for device in devices if device.driver), "unknown")
    return bool(devices), f"{listed or 'a driver that shows no GPU'}; driver {driver}"


def broker_seen(kafka: str) -> "BrokerView":
    """What the brokers of TRAINLEDGER_KAFKA answer; raises as `look_at_broker`."""
    # Loaded here: the Kafka client costs 0.3 s.
    from trainledger.node.kafka_client import look_at_broker

    return look_at_broker(kafka)


def kubelet_seen(places: KubeletPlaces) -> tuple[bool, str] | None:
    """Whether the kubelet of this node tells what pods hold, and what it says; None on a node without one."""
    if not places.socket.exists():
        return None
    try:
        from trainledger.node.kubernetes.pod_resources import read_resources
        from trainledger.node.kubernetes.unix_calls import CallError
    except ImportError as error:
        return False, f'{error.name} is not installed: pip install "trainledger[kubernetes]"'
    try:
        told = read_resources(places.socket)
    except CallError as error:
        return False, f"{places.socket}: {error}"
    logs = "" if places.logs.is_dir() else f"; {places.logs} is not here, so no run is found to be in a pod"
    return True, f"{len(told.pods)} pods hold devices, cores or memory{logs}"


def unsent_blobs(home: Path, clock: Clock) -> tuple[bool, str] | None:
    """Whether blobs are sent to the store of all machines as they come, and what waits; None without a spool here."""
    spool = spool_folder(home)
    if not spool.is_dir():
        return None
    try:
        told = unsent(spool)
    except OSError as error:
        return False, f"{error.filename}: {error.strerror}"
    pending, age_s = told.pending, told.pending.age_s(clock)
    waits = (
        f"{pending.events} records name what is not sent yet: {pending.files} files of artifacts, "
        f"{pending.size_bytes / 2**20:.1f} MiB, the oldest for {age_s / 60:.0f} min"
        if pending.events
        else "nothing waits"
    )
    if told.since_us is not None:
        since_min = max(0.0, clock.wall_ns() / 1e9 - told.since_us / 1e6) / 60
        return False, f"{waits}; for {since_min:.0f} min sending has failed: {told.why}"
    return age_s < UNSENT_S_MAX, waits
