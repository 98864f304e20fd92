"""How long it takes from the digest of a file to its runs, models and aliases, among 10 million manifest entries.

The entries go into the tables by SQL, as `ManifestIndex` writes them: versions of FOLDERS folders with 1,000 files
each. The events of RUNS runs that read them and write models, and the aliases of these, are rows of `run_events`; a
tenth of the runs starts from such a model. The question is the one of `trainledger admin data find`, without the
start of its process; each time for another file.
"""

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.tables import Views
from bench.workspace import environment, temporary_folder, timed
from trainledger_ingest.file_lookup import find_file
from trainledger_ingest.settings import IngestSettings
from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_ingest.storage.migrate import migrate
from trainledger_ingest.storage.opening import open_tables
from trainledger_schemas.blobs import SeveralBlobs

ENTRIES, QUICK_ENTRIES = 10_000_000, 200_000
FILES_A_FOLDER = 1_000
FOLDERS = 100
RUNS, QUICK_RUNS = 1_000, 50
ROWS_AT_ONCE = 1_000_000
ASKED = 15
BAR_MS = 300


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Fill in one process, ask in another."""
    entries, runs = (QUICK_ENTRIES, QUICK_RUNS) if quick else (ENTRIES, RUNS)
    with temporary_folder() as folder:
        env, home = environment(folder), folder / "home"
        program = [sys.executable, "-m", "bench.file_lookup"]
        filled = timed([*program, "fill", str(home), str(entries), str(runs)], env)
        asked = timed([*program, "ask", str(home), str(entries), str(runs)], env)
        answer: dict[str, Any] = json.loads(asked.output.splitlines()[-1])
        size_mb = sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 1e6
    yield {
        "case": "a file's digest to its versions, runs, models and aliases (what `admin data find` asks)",
        "data": f"{entries} manifest entries by SQL, {runs} runs, 2 or 3 inputs and outputs each",
        **answer,
        "fill_s": round(filled.wall_s, 1),
        "fill_cpu_s": round(filled.cpu_s, 1),
        "peak_mb": round(max(filled.peak_mb, asked.peak_mb)),
        "disk_mb": round(size_mb),
        "bars": {"warm_ms": BAR_MS, "cold_ms": BAR_MS},
        "met": answer["warm_ms"] < BAR_MS and answer["cold_ms"] < BAR_MS,
    }


def fill(store: ChdbStore, entries: int, runs: int) -> dict[str, Any]:
    """Manifests, marks and events."""
    generation = migrate(store).generation
    folders = entries // FILES_A_FOLDER
    for begin in range(0, entries, ROWS_AT_ONCE):
        store.command(
            f"INSERT INTO {generation}.manifest_entries SELECT SHA256(concat('file ', toString(number))), false, "
            f"SHA256(concat('folder ', toString(intDiv(number, {FILES_A_FOLDER})))), "
            f"concat('image_', leftPad(toString(number % {FILES_A_FOLDER}), 6, '0'), '.jpg') "
            f"FROM numbers({begin}, {min(ROWS_AT_ONCE, entries - begin)})"
        )
    store.command(
        f"INSERT INTO {generation}.manifest_entries SELECT SHA256(concat('folder ', toString(number))), true, "
        f"SHA256(concat('top ', toString(intDiv(number, {FOLDERS})))), toString(number) FROM numbers({folders})"
    )
    for kind, count in (("folder", folders), ("top", folders // FOLDERS)):
        store.command(
            f"INSERT INTO {generation}.manifest_folders SELECT SHA256(concat('{kind} ', toString(number))) "
            f"FROM numbers({count})"
        )
    store.command(
        f"INSERT INTO {generation}.run_states (run_id, version, project, name, team, user, state, last_event_at) "
        "SELECT toUUID(concat('00000000-0000-0000-0000-', leftPad(lower(hex(number)), 12, '0'))), 1, "
        f"'vision', concat('run', toString(number)), 'red', 'ann', 'finished', now64(6) FROM numbers({runs})"
    )
    rows = [row for run in range(runs) for row in events_of(run, folders // FOLDERS)]
    store.insert(f"{generation}.run_events", pa.Table.from_pylist(rows, schema=_EVENTS))
    return {}


_EVENTS = pa.schema(
    [
        ("month", pa.uint32()),
        ("run_id", pa.binary(16)),
        ("type", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("body", pa.string()),
        ("topic", pa.string()),
        ("offset", pa.uint64()),
    ]
)


def events_of(run: int, versions: int) -> Iterator[dict[str, Any]]:
    """A run reads a version and writes a model; each tenth starts from a model of the run before."""
    top = digest("top", run % versions)
    facts: list[tuple[str, dict[str, Any]]] = [
        ("dataset_used", {"use_id": f"d{run}", "kind": "dataset", "name": "images", "digest": f"sha256:{top}",
                          "manifest_sha256": top, "uri": "/data"}),
        ("artifact_logged", {"artifact_id": f"m{run}", "kind": "model", "name": "resnet", "uri": "/m.pt",
                             "digest": f"sha256:{digest('model', run)}", "is_stored": True,
                             "aliases": ["production"] if run % 50 == 0 else []}),
    ]  # fmt: skip
    if run % 10 == 9:
        facts.append(("dataset_used", {"use_id": f"s{run}", "kind": "model", "name": "resnet", "uri": "/m.pt",
                                       "digest": f"sha256:{digest('model', run - 1)}"}))  # fmt: skip
    for number, (event, body) in enumerate(facts):
        yield {
            "month": 202610,
            "run_id": run.to_bytes(16, "big"),
            "type": event,
            "at": 1_790_000_000_000_000 + run * 1_000_000 + number,
            "body": json.dumps(body | {"stage": 1, "status": "complete", "reasons": []}),
            "topic": "trainledger.runs",
            "offset": run * 3 + number,
        }


def digest(kind: str, number: int) -> str:
    """SHA-256 of a thing of this bar."""
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()


def ask(store: ChdbStore, entries: int, runs: int) -> dict[str, Any]:
    """Milliseconds of the question: the first in this process, and the median of those after it."""
    views: Any = Views(store)
    versions = entries // FILES_A_FOLDER // FOLDERS
    times, found = [], 0
    cpu_s = time.process_time()
    for number in range(ASKED):
        file = (number * 7_654_321 + 12_345) % entries
        started = time.perf_counter()
        uses = find_file(views, digest("file", file), blobs=SeveralBlobs(()))
        times.append((time.perf_counter() - started) * 1000)
        version = file // FILES_A_FOLDER // FOLDERS
        direct = {row["run"] for row in uses.rows if not row["through"]}
        if direct != {f"run{run}" for run in range(runs) if run % versions == version} or uses.unseen:
            raise RuntimeError(
                f"file {file} is said to be in {sorted(direct)}, and not looked into: {uses.unseen}"
            )
        found += len(uses.rows)
    return {
        "rows": round(found / ASKED, 1),
        "cold_ms": round(times[0], 1),
        "warm_ms": round(statistics.median(times[1:]), 1),
        "cpu_ms": round(1000 * (time.process_time() - cpu_s) / ASKED, 1),
    }


def main(name: str, home: Path, entries: int, runs: int) -> None:
    """Run one of both programs on the tables of a home and print what it found."""
    store = open_tables(IngestSettings.from_env({}, home=home))
    try:
        answer = {"fill": fill, "ask": ask}[name](store, entries, runs)
    finally:
        store.close()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
