"""Rebuilding the tables from the log, and checking that both agree.

`rebuild_generation` replays the whole log into the next generation of tables with a ledger of its own, compares
rows and checksums group by group (a run, a node ...), and only then turns the public views over. Bills of nodes are
compared too, but only told: a rebuild deals all hours anew under the rules of this release, so it may mend them. It
refuses a log that begins after the oldest range in the ledger: what retention removed cannot be replayed. Killed at
any moment, the views show the old tables as long as the new ones are not whole, and the next rebuild begins anew.
Statements of closed months are no projection: their rows are carried over, and must have the digest that the log says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.errors import RecoveryError
from trainledger_schemas.positions import TopicPartition

from .cost.rebuilt_money import compare_money
from .cost.statements import carry_statements, check_statements
from .derive import Derivation
from .session import Progress
from .sources.source import Source
from .storage.migrate import APPEND_TABLES, Schema, create_tables, create_views
from .storage.store import Store
from .told_drain import drain_and_tell
from .worker import Worker

__all__ = ["RebuildOutcome", "rebuild_generation", "verify_generation"]

# What must come out the same, without the place in the log: table -> (what groups its rows, the facts of a row).
_CHECKSUMS = {
    "points": ("run_id", "run_id, key, writer_id, step, at, value"),
    "text_points": ("run_id", "run_id, key, writer_id, step, at, text"),
    "log_lines": ("run_id", "run_id, writer_id, stream, line_no, at, text"),
    "run_events": ("run_id", "run_id, writer_id, type, at, body"),
    "node_events": ("node_id", "node_id, type, at, boot_id, producer_id, seq, body"),
    "hardware_stats": (
        "node_id",
        "node_id, device, name, start_at, end_at, minimum, mean, maximum, last, samples, quality",
    ),
    "run_usage_windows": (
        "run_id",
        "run_id, writer_id, node_id, start_at, end_at, cpu_us, memory_peak_bytes",
    ),
    "run_gpu_windows": (
        "run_id",
        "run_id, writer_id, node_id, device_id, part_id, start_at, end_at, observed_us, busy_us, "
        "memory_peak_bytes, energy_mj, quality",
    ),
    "admin_events": ("type", "type, at, body"),
}


@dataclass(frozen=True, slots=True)
class RebuildOutcome:
    """The schema that is current now, and a row of counts for each table."""

    schema: Schema
    rows: list[dict[str, Any]]


def rebuild_generation(
    store: Store,
    schema: Schema,
    *,
    source: Source,
    worker_for: Callable[[Schema, Derivation], Worker],
    before_switch: Callable[[Schema], None] = lambda _: None,
    progress: Progress | None = None,
) -> RebuildOutcome:
    """Replay into the next generation and switch to it; raises RecoveryError, with nothing changed, if they differ.

    `before_switch` fills what is not of the log, while both generations are there. `progress` is told now and then
    how many records of how many are replayed."""
    _refuse_a_cut_log(store, schema, source)
    number = _unused_number(store)
    _drop_all_but(store, schema)
    fresh = create_tables(store, generation=number)
    carry_statements(store, schema, fresh)
    derivation = Derivation(store, fresh.generation)
    worker = worker_for(fresh, derivation)
    try:
        drain_and_tell(worker, progress)
    finally:
        worker.close()
    derivation.catch_up()
    rows = [_compare(store, table, schema, fresh) for table in _CHECKSUMS]
    if any(row["groups_that_differ"] for row in rows):
        differing = ", ".join(row["table"] for row in rows if row["groups_that_differ"])
        raise RecoveryError(
            f"the tables rebuilt from the log differ from the current ones in {differing}: the views stay on "
            f"{schema.generation}, and {fresh.generation} is kept until the next rebuild for comparison"
        )
    check_statements(store, fresh)
    rows += compare_money(store, schema, fresh)
    before_switch(fresh)
    create_views(store, fresh)
    _drop_all_but(store, fresh)
    return RebuildOutcome(fresh, rows)


def verify_generation(store: Store, schema: Schema, source: Source) -> list[dict[str, Any]]:
    """A row a partition: where the log begins and ends, what the ledger holds, and rows without a ledger entry."""
    ledger = _by_partition(
        store,
        "SELECT topic, partition, min(start) AS first, max(end) AS last, sum(arraySum(row_counts)) AS counted, "
        f"sum(lost_ranges) AS lost FROM {schema.generation}.ingest_ledger GROUP BY topic, partition",
    )
    counts = " UNION ALL ".join(
        f"SELECT toString(topic) AS topic, partition, count() AS n FROM {schema.tables.name(table)} "
        "GROUP BY topic, partition"
        for table in APPEND_TABLES
    )
    stored = _by_partition(
        store, f"SELECT topic, partition, sum(n) AS stored FROM ({counts}) GROUP BY topic, partition"
    )
    rows = []
    for partition in sorted(source.assignment()):
        known, end = ledger.get(partition, {}), source.end(partition)
        in_tables = stored.get(partition, {}).get("stored", 0)
        rows.append(
            {
                "topic": partition.topic,
                "partition": partition.partition,
                "log_begin": source.begin(partition),
                "log_end": end,
                "ledger_end": known.get("last", 0),
                "rows_in_ledger": known.get("counted", 0),
                "rows_in_tables": in_tables,
                "reported_losses": known.get("lost", 0),
                "ok": known.get("last", 0) >= end and known.get("counted", 0) == in_tables,
            }
        )
    return rows


def _by_partition(store: Store, sql: str) -> dict[TopicPartition, dict[str, int]]:
    return {
        TopicPartition(str(row.pop("topic")), int(str(row.pop("partition")))): {
            name: int(str(value)) for name, value in row.items()
        }
        for row in store.rows(sql)
    }


def _unused_number(store: Store) -> int:
    """A number that no generation ever had: the intents of a killed rebuild must not be taken for ours."""
    rows = store.rows(
        f"SELECT max(number) AS highest FROM (SELECT generation AS number FROM {store.database}.schema_migrations "
        "UNION ALL SELECT toUInt32(extract(name, '[0-9]+$')) FROM system.databases "
        "WHERE match(name, {pattern:String}))",
        {"pattern": _pattern(store)},
    )
    return int(str(rows[0]["highest"])) + 1


def _pattern(store: Store) -> str:
    return f"^{store.database}_g[0-9]+$"


def _drop_all_but(store: Store, schema: Schema) -> None:
    """Remove every other generation, those too that a killed rebuild left behind."""
    found = store.rows(
        "SELECT name FROM system.databases WHERE match(name, {pattern:String}) AND name != {current:String}",
        {"pattern": _pattern(store), "current": schema.generation},
    )
    for row in found:
        store.command(f"DROP DATABASE IF EXISTS {row['name']} SYNC")


def _refuse_a_cut_log(store: Store, schema: Schema, source: Source) -> None:
    oldest = _by_partition(
        store,
        f"SELECT topic, partition, min(start) AS first FROM {schema.generation}.ingest_ledger "
        "GROUP BY topic, partition",
    )
    for partition in sorted(source.assignment()):
        begin, first = source.begin(partition), oldest.get(partition, {}).get("first")
        if first is not None and begin > first:
            raise RecoveryError(
                f"{partition.topic} begins at {begin}, but the tables hold records from {first} on: a rebuild would "
                "lose them; put the missing segments of the log back, or keep the tables as they are"
            )


def _compare(store: Store, table: str, old: Schema, new: Schema) -> dict[str, Any]:
    group, facts = _CHECKSUMS[table]
    sums = f"SELECT {group}, count() AS n, sum(cityHash64({facts})) AS c FROM {{name}} GROUP BY {group}"
    rows = store.rows(
        f"SELECT sum(o.n) AS n_before, sum(f.n) AS n_after, countIf(o.n != f.n OR o.c != f.c) AS differ "
        f"FROM ({sums.format(name=old.tables.name(table))}) AS o "
        f"FULL JOIN ({sums.format(name=new.tables.name(table))}) AS f ON f.{group} = o.{group}"
    )[0]
    return {
        "table": table,
        "rows_before": int(str(rows["n_before"])),
        "rows_after": int(str(rows["n_after"])),
        "groups_that_differ": int(str(rows["differ"])),
    }
