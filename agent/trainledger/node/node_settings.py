"""Settings of the node agent: each with its unit, default, range and reason.

Built once in a composition root and passed down in parts. The environment is read by `trainledger.settings`
for the SDK and here for the agent; no other module of the agent asks it.

| variable | unit, range | default | why |
|---|---|---|---|
| TRAINLEDGER_NODE | text up to 253 characters | the host name | name of the node in events and bills |
| TRAINLEDGER_KAFKA | see `kafka_address` | none | where the spool is published; unset: embedded |
| TRAINLEDGER_BLOBS | see `blob_address` | none | where blobs are sent; unset: they lie beside the journals alone |
| TRAINLEDGER_BLOBS_LOCAL_MIB | MiB, 0 to 1,073,741,824 | none | see BlobSettings |
| TRAINLEDGER_BLOBS_AT_ONCE | requests, 1 to 64 | 16 | see BlobSettings |
| TRAINLEDGER_SCHEDULERS | slurm, kubernetes, limits; or none | all | whose reservations count (docs/cost.md) |
| TRAINLEDGER_KUBELET | folder | /var/lib/kubelet | the kubelet's `--root-dir`: its socket, the volumes of pods |
| TRAINLEDGER_EC2 | auto, on, off | auto | whether EC2 is asked what this machine is; see Ec2Settings |
| TRAINLEDGER_NVIDIA_DRIVER | file | /proc/driver/nvidia/version | says which driver is loaded |
| TRAINLEDGER_HOME, TRAINLEDGER_DIR | folders | as in `trainledger.settings` | spool and journals |
| ROCM_HOME, else ROCM_PATH | folder | /opt/rocm | where the library of AMD GPUs lies; as its own tools have it |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from trainledger.node.kubernetes.places import KubeletPlaces
from trainledger.placement import NODE_FOLDER
from trainledger.settings import Settings
from trainledger_schemas.blob_address import BlobAddress, parse_blob_address
from trainledger_schemas.errors import SettingsError
from trainledger_schemas.kafka_address import KafkaAddress, parse_kafka_address

__all__ = [
    "AgentSettings",
    "BlobSettings",
    "Ec2Settings",
    "KafkaSettings",
    "SamplingSettings",
    "SpoolSettings",
    "kubelet_places",
    "parse_kafka",
    "rocm_folder",
]

NODE_ID_CHARACTERS_MAX = 253
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

SCHEDULERS = ("slurm", "kubernetes", "limits")


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How often the node is measured.

    sample_interval_s   0.1 to 10, default 1: bills divide CPU time, and a process that ends between two
                        samples loses at most this much of its last part.
    window_s            1 to 60, default 10: one event a window; cost and the minute views need no finer one.
    scan_interval_s     1 to 10, default 2: least time between two full scans of /proc while writers live.
    scan_share_max      0.0001 to 0.1, default 0.003: share of a core that full scans may use; on a node with
                        thousands of processes they are made rarer, up to one a window.
    presence_interval_s 5 to 60, default 30: a node is away after 90 s without an event, so two may be lost.
    key_frame_s         30 to 3600, default 300: how often an unchanged allocation is said again.
    """

    sample_interval_s: float = 1.0
    window_s: float = 10.0
    scan_interval_s: float = 2.0
    scan_share_max: float = 0.003
    presence_interval_s: float = 30.0
    key_frame_s: float = 300.0

    def __post_init__(self) -> None:
        _in_range("sample_interval_s", self.sample_interval_s, 0.1, 10)
        _in_range("window_s", self.window_s, 1, 60)
        _in_range("scan_interval_s", self.scan_interval_s, 1, 10)
        _in_range("scan_share_max", self.scan_share_max, 0.0001, 0.1)
        _in_range("presence_interval_s", self.presence_interval_s, 5, 60)
        _in_range("key_frame_s", self.key_frame_s, 30, 3600)


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Limits of the spool.

    segment_bytes   64 KiB to 64 MiB, default 32 MiB: what is scanned after a crash, and the unit of removal.
    budget_bytes    4 segments to 1 PiB, default 8 GiB: bytes that nobody has read; above it, things go.
    """

    segment_bytes: int = 32 << 20
    budget_bytes: int = 8 << 30

    def __post_init__(self) -> None:
        _in_range("segment_bytes", self.segment_bytes, 64 << 10, 64 << 20)
        _in_range("budget_bytes", self.budget_bytes, 4 * self.segment_bytes, 1 << 50)


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where and how the spool is published.

    bootstrap           host:port, comma separated; required.
    security_protocol   PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; default PLAINTEXT.
    sasl_mechanism      for SASL_*: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; default SCRAM-SHA-512.
    sasl_username, sasl_password   for SASL_*; the password is never printed.
    ssl_cafile, ssl_certfile, ssl_keyfile   PEM files; empty: the system's authorities, no client certificate.
    in_flight_bytes_max 1 MiB to 256 MiB, default 16 MiB: the client bounds nothing itself, so a dead broker
                        would cost the agent all its memory.
    records_in_flight_max   100 to 1,000,000, default 10,000: each unacknowledged record costs about 1 kB more.
    batch_bytes_max     16 KiB to 4 MiB, default 256 KiB: one request's worth a partition.
    linger_ms           0 to 1000, default 20.
    request_timeout_ms  1000 to 60,000, default 5000: a frozen broker costs the client CPU until then.
    reconnect_backoff_ms_max   100 to 10,000, default 500: the client's own 30 s doubles every outage.
    metadata_age_ms_max 1000 to 600,000, default 60,000: how late a changed partition count is noticed.
    cursor_interval_s   0.05 to 60, default 1: how much is sent again after a crash.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    in_flight_bytes_max: int = 16 * 1024 * 1024
    records_in_flight_max: int = 10_000
    batch_bytes_max: int = 256 * 1024
    linger_ms: int = 20
    request_timeout_ms: int = 5000
    reconnect_backoff_ms_max: int = 500
    metadata_age_ms_max: int = 60_000
    cursor_interval_s: float = 1.0

    def __post_init__(self) -> None:
        self.address()
        _in_range("in_flight_bytes_max", self.in_flight_bytes_max, 1 << 20, 256 << 20)
        _in_range("records_in_flight_max", self.records_in_flight_max, 100, 1_000_000)
        _in_range("batch_bytes_max", self.batch_bytes_max, 16 << 10, 4 << 20)
        _in_range("linger_ms", self.linger_ms, 0, 1000)
        _in_range("request_timeout_ms", self.request_timeout_ms, 1000, 60_000)
        _in_range("reconnect_backoff_ms_max", self.reconnect_backoff_ms_max, 100, 10_000)
        _in_range("metadata_age_ms_max", self.metadata_age_ms_max, 1000, 600_000)
        _in_range("cursor_interval_s", self.cursor_interval_s, 0.05, 60)

    def address(self) -> KafkaAddress:
        """Where the brokers are and how to speak to them; raises SettingsError."""
        return KafkaAddress(**{item.name: getattr(self, item.name) for item in fields(KafkaAddress)})


@dataclass(frozen=True, slots=True)
class BlobSettings:
    """Where blobs are sent, and what stays here.

    address             required; TRAINLEDGER_BLOBS.
    local_bytes_max     0 to 1 PiB, None by default: of blobs that are in the store too, the agent keeps so many bytes
                        a user here, those used last. None: it removes nothing, because a copy here costs nobody
                        anything but the disk, and a training reads it without the network.
    at_once             1 to 64, default 16: blobs that are sent side by side. A request is 10 to 50 ms of waiting, and
                        1.5 ms of CPU, so more would only wait for `cpu_share_max`. TRAINLEDGER_BLOBS_AT_ONCE.
    cpu_share_max       0.02 to 8, default 0.4: of one core, what sending small blobs may take (about 330 a second), so
                        that measuring each second is never kept waiting. Above 1 MiB a blob is hashed and sent outside
                        the interpreter and does not count.
    retry_s_max         1 to 3600, default 60: longest wait between two tries while the store cannot be reached.
    free_interval_s     1 to 86,400, default 300: how often local copies are counted.
    """

    address: BlobAddress
    local_bytes_max: int | None = None
    at_once: int = 16
    cpu_share_max: float = 0.4
    retry_s_max: float = 60.0
    free_interval_s: float = 300.0

    def __post_init__(self) -> None:
        _in_range("TRAINLEDGER_BLOBS_LOCAL_MIB", (self.local_bytes_max or 0) / (1 << 20), 0, 1 << 30)
        _in_range("TRAINLEDGER_BLOBS_AT_ONCE", self.at_once, 1, 64)
        _in_range("cpu_share_max", self.cpu_share_max, 0.02, 8)
        _in_range("retry_s_max", self.retry_s_max, 1, 3600)
        _in_range("free_interval_s", self.free_interval_s, 1, 86_400)


@dataclass(frozen=True, slots=True)
class Ec2Settings:
    """How the node learns which rented machine it is.

    mode                auto, on or off, default auto: the metadata service is asked where firmware or hypervisor are
                        those of EC2; on: also where they cannot be seen. TRAINLEDGER_EC2; off too by AWS's own
                        AWS_EC2_METADATA_DISABLED=true.
    endpoint            http address, default http://169.254.169.254; AWS_EC2_METADATA_SERVICE_ENDPOINT.
    """

    mode: str = "auto"
    endpoint: str = "http://169.254.169.254"

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "on", "off"):
            raise SettingsError(f"TRAINLEDGER_EC2 is {self.mode!r}; it must be auto, on or off")


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the node agent as a whole is told.

    node_id             name of the node in events and bills; empty: the host name. TRAINLEDGER_NODE.
    home                holds the spool; TRAINLEDGER_HOME.
    node_folder         the journals to read: TRAINLEDGER_DIR, else the node's folder where an agent was
                        installed, else the user's. The same rule as where the SDK writes.
    sampling, spool, kafka     see above; kafka None: the spool is not published.
    blobs               see above; None: blobs lie beside the journals alone.
    schedulers          whose reservations hold parts of the node, of SCHEDULERS; TRAINLEDGER_SCHEDULERS. Without one,
                        who is in its jobs pays by presence and CPU time.
    kubelet             where the kubelet of this node keeps its files, if there is one; TRAINLEDGER_KUBELET.
    ec2                 see above.
    nvidia_driver       the file that says which driver of NVIDIA is loaded; TRAINLEDGER_NVIDIA_DRIVER.
    loop_interval_s     0.05 to 1, default 0.2: how often the loop wakes; spooled data is fsynced within it.
    poll_interval_s     0.1 to 10, default 1: how often journals are read. Shorter makes more, smaller events.
    lock_wait_s         0 to 600, default 30: how long to wait for a one-shot command to leave the folder.
    drop_interval_s     1 to 600, default 10: how often published segments are removed from the spool.
    """

    node_id: str = ""
    home: Path = Path("~/.local/state/trainledger")
    node_folder: Path = NODE_FOLDER
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    kafka: KafkaSettings | None = None
    blobs: BlobSettings | None = None
    schedulers: tuple[str, ...] = SCHEDULERS
    kubelet: KubeletPlaces = field(default_factory=KubeletPlaces)
    ec2: Ec2Settings = field(default_factory=Ec2Settings)
    nvidia_driver: Path = NVIDIA_DRIVER
    loop_interval_s: float = 0.2
    poll_interval_s: float = 1.0
    lock_wait_s: float = 30.0
    drop_interval_s: float = 10.0

    def __post_init__(self) -> None:
        if len(self.node_id) > NODE_ID_CHARACTERS_MAX:
            raise SettingsError(f"TRAINLEDGER_NODE is longer than {NODE_ID_CHARACTERS_MAX} characters")
        _in_range("loop_interval_s", self.loop_interval_s, 0.05, 1)
        _in_range("poll_interval_s", self.poll_interval_s, 0.1, 10)
        _in_range("lock_wait_s", self.lock_wait_s, 0, 600)
        _in_range("drop_interval_s", self.drop_interval_s, 1, 600)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "AgentSettings":
        """Read the environment (this process's by default); raises SettingsError for what cannot be used."""
        environ = os.environ if environ is None else environ
        shared = Settings.from_env(environ)
        users_own = shared.state_home / "trainledger" / "journals"
        return cls(
            node_id=environ.get("TRAINLEDGER_NODE", "").strip(),
            home=shared.home,
            node_folder=shared.dir or (NODE_FOLDER if NODE_FOLDER.is_dir() else users_own),
            kafka=parse_kafka(shared.kafka) if shared.kafka else None,
            blobs=_blobs(shared),
            schedulers=_schedulers(environ.get("TRAINLEDGER_SCHEDULERS")),
            kubelet=kubelet_places(environ),
            ec2=_ec2(environ),
            nvidia_driver=Path(environ.get("TRAINLEDGER_NVIDIA_DRIVER", "").strip() or NVIDIA_DRIVER),
        )


def rocm_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where ROCm is installed, by its own variables."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("ROCM_HOME") or environ.get("ROCM_PATH") or "/opt/rocm")


def kubelet_places(environ: Mapping[str, str]) -> KubeletPlaces:
    """Where the kubelet of this node keeps its files."""
    return KubeletPlaces(Path(environ.get("TRAINLEDGER_KUBELET", "").strip() or KubeletPlaces().folder))


def parse_kafka(text: str) -> KafkaSettings:
    """The address in `text` (see `trainledger_schemas.kafka_address`) with the default limits."""
    address = parse_kafka_address(text)
    return KafkaSettings(**{item.name: getattr(address, item.name) for item in fields(address)})


def _schedulers(text: str | None) -> tuple[str, ...]:
    if text is None or not text.strip():
        return SCHEDULERS
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if names == ("none",):
        return ()
    unknown = [name for name in names if name not in SCHEDULERS]
    if unknown:
        known = ", ".join(SCHEDULERS)
        raise SettingsError(f"TRAINLEDGER_SCHEDULERS names {unknown[0]!r}; give some of {known}, or none")
    return names


def _blobs(shared: Settings) -> BlobSettings | None:
    if shared.blobs is None:
        return None
    told: dict[str, int] = {}
    if shared.blobs_local_mib is not None:
        told["local_bytes_max"] = shared.blobs_local_mib << 20
    if shared.blobs_at_once is not None:
        told["at_once"] = shared.blobs_at_once
    return BlobSettings(parse_blob_address(shared.blobs), **told)


def _ec2(environ: Mapping[str, str]) -> Ec2Settings:
    mode = environ.get("TRAINLEDGER_EC2", "").strip().lower() or "auto"
    is_disabled = environ.get("AWS_EC2_METADATA_DISABLED", "").strip().lower() == "true"
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").strip()
    return Ec2Settings("off" if is_disabled and mode == "auto" else mode, endpoint or Ec2Settings().endpoint)


def _in_range(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise SettingsError(f"{name} is {value}; it must be between {lowest} and {highest}")
