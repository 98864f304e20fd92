"""Rebuilding the tables from the log, and checking that both agree.

`rebuild_generation` replays the whole log into the next generation of tables with a ledger of its own, compares
rows and checksums run by run, and only then turns the public views over. It refuses a log that begins after the
oldest range in the ledger: what retention removed cannot be replayed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.errors import RecoveryError

from .derive import Derivation
from .sources.source import Source
from .storage.migrate import APPEND_TABLES, Schema, create_tables, create_views
from .storage.store import Store
from .worker import Worker

__all__ = ["RebuildOutcome", "rebuild_generation", "verify_generation"]

# What must come out the same: the facts of each run, without the place in the log.
_CHECKSUMS = {
    "points": "cityHash64(run_id, key, writer_id, step, at, value)",
    "text_points": "cityHash64(run_id, key, writer_id, step, at, text)",
    "log_lines": "cityHash64(run_id, writer_id, stream, line_no, at, text)",
    "run_events": "cityHash64(run_id, writer_id, type, at, body)",
}


@dataclass(frozen=True, slots=True)
class RebuildOutcome:
    """The schema that is current now, and a row of counts for each table."""

    schema: Schema
    rows: list[dict[str, Any]]


def rebuild_generation(
    store: Store, schema: Schema, *, source: Source, worker_for: Callable[[Schema, Derivation], Worker]
) -> RebuildOutcome:
    """Replay into the next generation and switch to it; raises RecoveryError, with nothing changed, if they differ."""
    _refuse_a_cut_log(store, schema, source)
    number = schema.number + 1
    store.command(f"DROP DATABASE IF EXISTS {store.database}_g{number}")
    store.command(
        f"ALTER TABLE {store.database}.schema_migrations DELETE WHERE generation = {number} SETTINGS mutations_sync = 2"
    )
    fresh = create_tables(store, generation=number)
    derivation = Derivation(store, fresh.generation)
    worker = worker_for(fresh, derivation)
    try:
        worker.drain()
    finally:
        worker.close()
    derivation.catch_up()
    rows = [_compare(store, table, schema, fresh) for table in _CHECKSUMS]
    if any(row["runs_that_differ"] for row in rows):
        raise RecoveryError(
            f"the rebuilt tables {fresh.generation} differ, the views stay on {schema.generation}: {rows}"
        )
    create_views(store, fresh)
    store.command(f"DROP DATABASE {schema.generation} SYNC")
    return RebuildOutcome(fresh, rows)


def verify_generation(store: Store, schema: Schema, source: Source) -> list[dict[str, Any]]:
    """A row a partition: where the log begins and ends, what the ledger holds, and rows without a ledger entry."""
    rows = []
    for partition in sorted(source.assignment()):
        ledger = store.rows(
            f"SELECT min(start) AS first, max(end) AS last, sum(arraySum(row_counts)) AS counted, "
            "sum(lost_ranges) AS lost "
            f"FROM {schema.generation}.ingest_ledger WHERE topic = {{t:String}} AND partition = {{p:UInt16}}",
            {"t": partition.topic, "p": partition.partition},
        )[0]
        stored = sum(
            int(
                str(
                    store.rows(
                        f"SELECT count() AS n FROM {schema.generation}.{table} WHERE topic = {{t:String}} "
                        "AND partition = {p:UInt16}",
                        {"t": partition.topic, "p": partition.partition},
                    )[0]["n"]
                )
            )
            for table in APPEND_TABLES
        )
        end = source.end(partition)
        rows.append(
            {
                "topic": partition.topic,
                "partition": partition.partition,
                "log_begin": source.begin(partition),
                "log_end": end,
                "ledger_end": ledger["last"],
                "rows_in_ledger": ledger["counted"],
                "rows_in_tables": stored,
                "reported_losses": ledger["lost"],
                "ok": int(str(ledger["last"] or 0)) >= end and int(str(ledger["counted"] or 0)) == stored,
            }
        )
    return rows


def _refuse_a_cut_log(store: Store, schema: Schema, source: Source) -> None:
    for partition in source.assignment():
        oldest = store.rows(
            f"SELECT count() AS n, min(start) AS first FROM {schema.generation}.ingest_ledger "
            "WHERE topic = {t:String} AND partition = {p:UInt16}",
            {"t": partition.topic, "p": partition.partition},
        )[0]
        if int(str(oldest["n"])) and source.begin(partition) > int(str(oldest["first"])):
            raise RecoveryError(
                f"{partition.topic} begins at {source.begin(partition)}, but the tables hold records from "
                f"{oldest['first']} on: a rebuild would lose them"
            )


def _compare(store: Store, table: str, old: Schema, new: Schema) -> dict[str, Any]:
    checksum = _CHECKSUMS[table]
    sums = "SELECT run_id, count() AS n, sum({c}) AS c FROM {g}.{t} GROUP BY run_id"
    rows = store.rows(
        f"SELECT sum(o.n) AS n_before, sum(f.n) AS n_after, countIf(o.n != f.n OR o.c != f.c) AS differ "
        f"FROM ({sums.format(c=checksum, g=old.generation, t=table)}) AS o "
        f"FULL JOIN ({sums.format(c=checksum, g=new.generation, t=table)}) AS f ON f.run_id = o.run_id"
    )[0]
    return {
        "table": table,
        "rows_before": int(str(rows["n_before"])),
        "rows_after": int(str(rows["n_after"])),
        "runs_that_differ": int(str(rows["differ"])),
    }
