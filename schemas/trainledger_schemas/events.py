"""The events: which there are, on which topic, keyed by what, and what a poison record does there.

Each class mirrors `avro/<name>.avsc` field by field (a test compares them); the files are the contract,
these types let mypy check the code that fills and reads them. Ids are 16 bytes, times are microseconds since
1970 UTC unless a name says otherwise.
"""

from dataclasses import dataclass
from typing import Any, TypedDict

__all__ = [
    "EVENT_TOPICS",
    "TOPICS",
    "TOPIC_ADMIN",
    "TOPIC_LOGS",
    "TOPIC_METRICS",
    "TOPIC_NODES",
    "TOPIC_RUNS",
    "AlertSent",
    "AliasSet",
    "Allocation",
    "ArtifactLogged",
    "BlobsStored",
    "Block",
    "BookPrice",
    "BudgetSet",
    "CellRun",
    "CurrencyRate",
    "CurrencyRatesSet",
    "DatasetUsed",
    "DeadSkipped",
    "Device",
    "DeviceUsage",
    "DeviceWindow",
    "Devices",
    "EnergyFactorSet",
    "Envelope",
    "Event",
    "Gap",
    "Hardware",
    "HardwareError",
    "Holder",
    "Instance",
    "LeftOutFile",
    "LogChunk",
    "LogEnd",
    "MetricDefined",
    "MetricsEvent",
    "NodePresent",
    "OwnerSet",
    "ParamsChanged",
    "PeriodClosed",
    "PeriodTotal",
    "PriceEnded",
    "PriceSet",
    "PricesSet",
    "ProcessUsage",
    "Provenance",
    "ReproductionResult",
    "Reservation",
    "RunExited",
    "RunStarted",
    "RuntimeSeen",
    "Setting",
    "SourceRange",
    "Stat",
    "SummarySet",
    "TextPoint",
    "TopicRule",
    "Usage",
    "Writer",
    "WriterDevices",
    "WriterGap",
    "WriterGone",
    "WriterSeen",
    "WritersMoved",
]

TOPIC_RUNS = "trainledger.runs"
TOPIC_METRICS = "trainledger.metrics"
TOPIC_LOGS = "trainledger.logs"
TOPIC_NODES = "trainledger.nodes"
TOPIC_ADMIN = "trainledger.admin"


@dataclass(frozen=True, slots=True)
class TopicRule:
    """How a topic is kept and read.

    `number` is the topic's number in spool frames; `partitions` the default at creation (fixed for ever by
    topic name); `poison_stops`: a record that cannot be understood stops the partition instead of becoming a
    dead letter; `durable`: fsynced at each append to the spool, and never dropped.
    """

    name: str
    number: int
    partitions: int
    poison_stops: bool
    durable: bool


TOPICS: dict[str, TopicRule] = {
    rule.name: rule
    for rule in (
        TopicRule(TOPIC_RUNS, 1, 4, poison_stops=True, durable=True),
        TopicRule(TOPIC_METRICS, 2, 12, poison_stops=False, durable=False),
        TopicRule(TOPIC_LOGS, 3, 4, poison_stops=False, durable=False),
        TopicRule(TOPIC_NODES, 4, 4, poison_stops=True, durable=True),
        TopicRule(TOPIC_ADMIN, 5, 1, poison_stops=True, durable=True),
    )
}

EVENT_TOPICS: dict[str, str] = {
    "run_started": TOPIC_RUNS,
    "params_changed": TOPIC_RUNS,
    "summary_set": TOPIC_RUNS,
    "metric_defined": TOPIC_RUNS,
    "provenance": TOPIC_RUNS,
    "runtime_seen": TOPIC_RUNS,
    "dataset_used": TOPIC_RUNS,
    "artifact_logged": TOPIC_RUNS,
    "blobs_stored": TOPIC_RUNS,
    "cell_run": TOPIC_RUNS,
    "run_exited": TOPIC_RUNS,
    "writer_gap": TOPIC_RUNS,
    "writer_seen": TOPIC_RUNS,
    "writer_devices": TOPIC_RUNS,
    "writer_gone": TOPIC_RUNS,
    "metrics": TOPIC_METRICS,
    "log_chunk": TOPIC_LOGS,
    "node_present": TOPIC_NODES,
    "devices": TOPIC_NODES,
    "allocation": TOPIC_NODES,
    "hardware": TOPIC_NODES,
    "process_usage": TOPIC_NODES,
    "gap": TOPIC_NODES,
    "hardware_error": TOPIC_NODES,
    "reservation": TOPIC_NODES,
    "price_set": TOPIC_ADMIN,
    "dead_skipped": TOPIC_ADMIN,
    "reproduction_result": TOPIC_ADMIN,
    "alias_set": TOPIC_ADMIN,
    "period_closed": TOPIC_ADMIN,
    "owner_set": TOPIC_ADMIN,
    "budget_set": TOPIC_ADMIN,
    "energy_factor_set": TOPIC_ADMIN,
    "alert_sent": TOPIC_ADMIN,
    "prices_set": TOPIC_ADMIN,
    "price_ended": TOPIC_ADMIN,
    "currency_rates_set": TOPIC_ADMIN,
    "writers_moved": TOPIC_ADMIN,
}


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event: its type's name and its fields (one of the classes below)."""

    type: str
    record: Any


class SourceRange(TypedDict):
    """The journal range an event carries."""

    journal_id: bytes
    prev_end: int
    start: int
    end: int


class Envelope(TypedDict):
    """Who appended an event, when, and from what."""

    producer_id: bytes
    seq: int
    node_id: str
    wall_us: int
    boot_id: bytes
    boot_us: int
    source: SourceRange | None


class Setting(TypedDict):
    """One parameter."""

    key: str
    value: str
    number: float | None


class RunStarted(TypedDict):
    """A process began to write for a run."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    parent_writer: bytes | None
    role: str
    joined: str
    project: str
    experiment: str | None
    team: str | None
    name: str | None
    group: str | None
    tags: list[str]
    parent_run: bytes | None
    user: str
    uid: int
    host: str
    pid: int
    start_ticks: int
    pid_namespace: int
    rank: int | None
    local_rank: int | None
    world_size: int | None
    launcher: str
    restart_hint: int | None
    argv: list[str]
    config: list[Setting]
    node_rank: int | None
    scope: str | None
    launch_id: str | None
    join: str | None
    scheduler_restart: int | None
    ordinal: int | None


class ParamsChanged(TypedDict):
    """Parameters were set or changed."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    changes: list[Setting]


class SummarySet(TypedDict):
    """Summary values were set by the user."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    changes: list[Setting]


class MetricDefined(TypedDict):
    """How a metric is to be read."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    key: str
    goal: str | None


class LeftOutFile(TypedDict):
    """A file of the code that is not stored."""

    path: str
    size_bytes: int | None
    sha256: str | None
    why: str


class Provenance(TypedDict):
    """What ran: code, command, environment."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    vcs: str | None
    repository: str | None
    commit: str | None
    branch: str | None
    dirty: bool | None
    entry_point: str | None
    argv: list[str]
    python: str | None
    packages: dict[str, str]
    os: str | None
    reasons: list[str]
    snapshot_id: str | None
    snapshot_sha256: str | None
    patch_sha256: str | None
    patch_bytes: int | None
    left_out: int | None
    left_out_files: list[LeftOutFile]
    code_root: str | None
    cwd: str | None
    launcher: list[str]
    variables: dict[str, str]
    program: str | None
    package_ids: dict[str, str]
    package_sources: dict[str, str]
    lock_sha256: str | None
    lock_files: dict[str, str]
    image_digest: str | None
    image_source: str | None
    driver: str | None
    cuda: str | None
    cudnn: str | None
    nccl: str | None
    system: dict[str, str]


class RuntimeSeen(TypedDict):
    """What only the training process itself can know of its environment."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    stage: str
    randomness: dict[str, str]
    libraries: dict[str, str]


class DatasetUsed(TypedDict):
    """A run reads a dataset, a model or a file."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    use_id: bytes
    stage: int
    kind: str
    name: str
    version: str | None
    role: str | None
    uri: str | None
    digest: str | None
    size_bytes: int | None
    files: int | None
    manifest_sha256: str | None
    status: str
    system: str | None
    reference: str | None
    is_fixed: bool | None
    reasons: list[str]
    rows: int | None
    columns: list[str]
    include: list[str]
    exclude: list[str]
    done_bytes: int | None
    expected_bytes: int | None


class ArtifactLogged(TypedDict):
    """A run wrote a model or a file that is kept."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    artifact_id: bytes
    stage: int
    kind: str
    name: str
    uri: str | None
    digest: str | None
    size_bytes: int | None
    files: int | None
    manifest_sha256: str | None
    status: str
    is_stored: bool
    new_bytes: int | None
    aliases: list[str]
    reasons: list[str]
    done_bytes: int | None
    expected_bytes: int | None


class BlobsStored(TypedDict):
    """The blobs that an event of a run names are kept in a store for all machines."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    sha256: str
    place: str
    blobs: int
    new_bytes: int
    missing: int
    reasons: list[str]


class CellRun(TypedDict):
    """A cell of a notebook was run; see `stage`."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    ordinal: int
    stage: int
    phase: str
    execution_count: int | None
    cell_id: str | None
    source: list[str]
    is_whole: bool
    status: str
    error: str | None


class RunExited(TypedDict):
    """A process ended, by its own word or its wrapper's."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    role: str
    status: str
    cause: str
    exit_code: int | None
    signal: int | None
    message: str | None
    cpu_us: int | None


class WriterGap(TypedDict):
    """Points that the journal could not take."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    rows: int
    points: int
    reason: str


class WriterSeen(TypedDict):
    """The agent saw the process of a journal."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    parent_writer: bytes | None
    pid: int
    uid: int
    owner: str
    start_ticks: int
    cgroup: str | None
    alive: bool
    image_digest: str | None
    image_name: str | None


class WriterDevices(TypedDict):
    """Which devices a process of a run was on so far; told when it becomes more."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    device_ids: list[str]
    named_ids: list[str]


class WriterGone(TypedDict):
    """The process of a journal is gone."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    at_us: int
    evidence: str
    exit_seen: bool


class Block(TypedDict):
    """Rows of one shape."""

    keys: list[str]
    step0: int
    wall0: int
    offset0: int
    step_delta: list[int]
    wall_delta: list[int]
    offset_delta: list[int]
    value: list[float]


class TextPoint(TypedDict):
    """One text point."""

    key: str
    step: int
    wall: int
    offset: int
    text: str


class MetricsEvent(TypedDict):
    """All points of one journal range, a block per shape."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    blocks: list[Block]
    texts: list[TextPoint]


class LogChunk(TypedDict):
    """Lines of output of one process and stream."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    stream: str
    first_line: int
    at_us: list[int]
    offset: list[int]
    text: list[str]


class Writer(TypedDict):
    """One live writer."""

    run_id: bytes
    writer_id: bytes


class Instance(TypedDict):
    """The machine that a node rents from a provider."""

    provider: str
    instance_id: str
    instance_type: str
    life_cycle: str
    region: str
    zone: str
    zone_id: str
    notice: str | None


class NodePresent(TypedDict):
    """The node is there; each 30 s, at start and at a clean stop."""

    envelope: Envelope
    at_us: int
    host: str
    cores: int
    memory_bytes: int
    agent_version: str
    leaving: bool
    busy_us: int | None
    writers: list[Writer]
    instance: Instance | None


class Device(TypedDict):
    """One accelerator."""

    device_id: str
    model: str
    memory_bytes: int
    mig_profile: str | None
    parent_id: str | None
    part_numerator: int
    part_denominator: int
    pci_bus_id: str | None
    driver: str | None
    problem: str | None


class Devices(TypedDict):
    """The accelerators of the node and their MIG instances; at start and on change."""

    envelope: Envelope
    at_us: int
    devices: list[Device]


class Holder(TypedDict):
    """One holder of a resource."""

    resource: str
    kind: str
    run_id: bytes | None
    writer_id: bytes | None
    owner: str | None
    numerator: int
    denominator: int
    evidence: str
    part_id: str
    part_numerator: int
    part_denominator: int
    account: str | None


class Allocation(TypedDict):
    """Who holds which share of which resource, from now on; on change and each 5 minutes."""

    envelope: Envelope
    at_us: int
    key_frame: bool
    holders: list[Holder]


class Stat(TypedDict):
    """One measurement of a window."""

    device: str
    name: str
    minimum: float
    mean: float
    maximum: float
    last: float
    samples: int
    quality: str


class Hardware(TypedDict):
    """Measurements of a window of about 10 s."""

    envelope: Envelope
    start_us: int
    end_us: int
    stats: list[Stat]


class DeviceUsage(TypedDict):
    """What one holder used of a device."""

    device_id: str
    part_id: str
    observed_us: int
    busy_us: int | None
    memory_peak_bytes: int | None
    energy_mj: int | None
    quality: str


class DeviceWindow(TypedDict):
    """A device or MIG instance as a whole in a window."""

    device_id: str
    part_id: str
    observed_us: int
    busy_us: int | None
    energy_mj: int | None


class Usage(TypedDict):
    """What one holder used."""

    kind: str
    run_id: bytes | None
    writer_id: bytes | None
    owner: str | None
    cpu_us: int
    memory_peak_bytes: int
    devices: list[DeviceUsage]
    account: str | None


class ProcessUsage(TypedDict):
    """CPU and device time by holder in a window; windows of a boot do not overlap."""

    envelope: Envelope
    start_us: int
    end_us: int
    cores: int
    usage: list[Usage]
    devices: list[DeviceWindow]


class Gap(TypedDict):
    """Something was not observed or not kept."""

    envelope: Envelope
    at_us: int
    start_us: int
    end_us: int
    what: str
    reason: str
    count: int


class HardwareError(TypedDict):
    """A fault of an accelerator that its driver reported."""

    envelope: Envelope
    at_us: int
    device_id: str
    error: str
    code: int | None
    count: int


class PriceSet(TypedDict):
    """A price of the price book."""

    envelope: Envelope
    at_us: int
    price_id: bytes
    pattern: str
    nano_per_hour: int
    currency: str
    from_hour_us: int
    presence: str
    owned_from_us: int | None
    owned_to_us: int | None
    host_share_ppm: int | None
    device_weights: dict[str, int]
    set_by: str
    note: str | None
    source: str | None


class BookPrice(TypedDict):
    """One of several prices that were set at once."""

    price_id: bytes
    pattern: str
    nano_per_hour: int
    currency: str
    from_hour_us: int
    presence: str
    owned_from_us: int | None
    owned_to_us: int | None
    host_share_ppm: int | None
    device_weights: dict[str, int]
    note: str | None
    source: str | None


class PricesSet(TypedDict):
    """Several prices of the price book, set at once."""

    envelope: Envelope
    at_us: int
    set_by: str
    prices: list[BookPrice]


class PriceEnded(TypedDict):
    """From an hour on, the price of a pattern counts no more."""

    envelope: Envelope
    at_us: int
    price_id: bytes
    pattern: str
    from_hour_us: int
    set_by: str
    note: str | None


class CurrencyRate(TypedDict):
    """What one unit of a currency is worth in another, from a UTC day on."""

    currency: str
    quoted_in: str
    nano_rate: int | None
    from_day_us: int
    note: str | None
    source: str | None


class CurrencyRatesSet(TypedDict):
    """Exchange rates, set at once."""

    envelope: Envelope
    at_us: int
    set_by: str
    rates: list[CurrencyRate]


class DeadSkipped(TypedDict):
    """A poison record was skipped by a person."""

    envelope: Envelope
    at_us: int
    topic: str
    partition: int
    offset: int
    reason: str
    set_by: str


class ReproductionResult(TypedDict):
    """A run was repeated, and the results of both were compared."""

    envelope: Envelope
    at_us: int
    run_id: bytes
    repetition: bytes
    outcome: str
    metrics: int
    points: int
    first_difference: str | None
    rtol: float
    atol: float
    hardware: str
    set_by: str
    proves: bool
    deviations: list[str]
    artifacts: int
    evidence: str | None


class AliasSet(TypedDict):
    """A person gave a name to a version of a model, or took it away."""

    envelope: Envelope
    at_us: int
    model: str
    alias: str
    digest: str | None
    run_id: bytes | None
    set_by: str
    note: str | None


class PeriodTotal(TypedDict):
    """Money in one currency, as exact decimal text."""

    currency: str
    amount: str


class LogEnd(TypedDict):
    """How far a partition was known."""

    topic: str
    partition: int
    end: int


class PeriodClosed(TypedDict):
    """A month was closed: its statement stands."""

    envelope: Envelope
    at_us: int
    statement_id: bytes
    period: str
    digest: str
    lines: int
    adjustments: int
    totals: list[PeriodTotal]
    adjusted: list[PeriodTotal]
    unpriced_hours: float
    positions: list[LogEnd]
    set_by: str
    note: str | None


class OwnerSet(TypedDict):
    """Which teams somebody belongs to, from an hour on."""

    envelope: Envelope
    at_us: int
    subject: str
    name: str
    teams: list[str]
    from_hour_us: int
    set_by: str
    note: str | None


class BudgetSet(TypedDict):
    """A limit of what a team, project or experiment may cost in a month."""

    envelope: Envelope
    at_us: int
    scope: str
    name: str
    nano_a_month: str | None
    currency: str
    hard: bool
    from_month: str
    set_by: str
    note: str | None


class EnergyFactorSet(TypedDict):
    """What a kilowatt-hour at the devices of some nodes comes to, from an hour on."""

    envelope: Envelope
    at_us: int
    pattern: str
    from_hour_us: int
    pue_micro: int | None
    grid_micro: int | None
    year: int | None
    source: str | None
    set_by: str
    note: str | None


class AlertSent(TypedDict):
    """An alert was delivered."""

    envelope: Envelope
    at_us: int
    alert: str
    channel: str
    set_by: str


class Reservation(TypedDict):
    """What one job had of one node, by the records of a scheduler."""

    envelope: Envelope
    node: str
    reservation_id: str
    source: str
    cluster: str
    job: str
    owner: str | None
    account: str | None
    start_us: int
    end_us: int
    is_over: bool
    read_us: int
    state: str
    restarts: int
    partition: str | None
    qos: str | None
    cpu_milli: int
    device_milli: int
    memory_bytes: int | None
    node_cores: int | None
    node_devices: int | None
    set_by: str


class WritersMoved(TypedDict):
    """A person said which run processes belong to."""

    envelope: Envelope
    at_us: int
    change_id: bytes
    from_run_id: bytes
    to_run_id: bytes
    writer_ids: list[bytes]
    undoes: bytes | None
    set_by: str
    note: str | None
