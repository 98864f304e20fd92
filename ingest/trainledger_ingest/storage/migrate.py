"""Creates and upgrades the tables and the public views.

The tables live in a database of their generation, `<database>_g1`; a rebuild fills `<database>_g2` and then
turns the views, which live in `<database>`, over to it. Numbered files in `migrations/` are applied once to
each generation and recorded in `<database>.schema_migrations`; the files in `views/` are applied in the order
of their names whenever the views are not just those that they make. Statements end with `;` at the end of a line.

A crash anywhere is mended by the next call: what is not recorded is applied again, and CREATE TABLE does
nothing where the table exists (later migrations must say IF EXISTS or IF NOT EXISTS themselves).
"""

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from trainledger_schemas.errors import FatalStoreError

from .store import Store
from .view_parts import fill_parts

__all__ = [
    "APPEND_TABLES",
    "HOMED_TABLES",
    "Schema",
    "Tables",
    "create_tables",
    "create_views",
    "current_generation",
    "migrate",
    "migration_state",
    "show_moved",
    "sql_files",
]

APPEND_TABLES = (
    "points",
    "text_points",
    "log_lines",
    "run_events",
    "node_events",
    "hardware_stats",
    "run_usage_windows",
    "run_gpu_windows",
    "admin_events",
    "dead_letters",
)

# What processes tell: where a process may be moved to another run, the views read these through `moved_views`.
HOMED_TABLES = (
    "points",
    "text_points",
    "log_lines",
    "run_events",
    "run_usage_windows",
    "run_gpu_windows",
    "progress_samples",
    "point_sums",
)

# Tokens older than this many inserts are forgotten; a table gets one insert a partition and second at most.
DEDUPLICATION_WINDOW = 10_000
_VIEWS_MARK = "views"
_VIEWS_MADE = "views "
_TABLE_SETTINGS = {
    "fsync_after_insert": 1,
    "fsync_part_directory": 1,
    # Parts that a merge replaced are kept until the merged one is surely on disk.
    "old_parts_lifetime": 480,
    "min_rows_to_fsync_after_merge": 1,
    "min_compressed_bytes_to_fsync_after_merge": 1,
    "lightweight_mutation_projection_mode": "'rebuild'",
}


@dataclass(frozen=True, slots=True)
class Tables:
    """Qualified names of the tables of one generation."""

    generation: str

    def name(self, table: str) -> str:
        """`table` with its database."""
        return f"{self.generation}.{table}"


@dataclass(frozen=True, slots=True)
class Schema:
    """Databases: `generation` holds the tables, `views_database` the public views."""

    generation: str
    views_database: str

    @property
    def number(self) -> int:
        """The number of the generation."""
        return int(self.generation.rsplit("_g", 1)[1])

    @property
    def tables(self) -> Tables:
        """Names of the tables."""
        return Tables(self.generation)


def migrate(store: Store, *, generation: int | None = None) -> Schema:
    """Bring tables and views of a generation (default: the current one) up to date. Idempotent.

    With a number, the public views are turned over to that generation. Raises FatalStoreError when a statement
    is refused."""
    number = generation or current_generation(store)
    schema = create_tables(store, generation=number)
    create_views(store, schema)
    return schema


def current_generation(store: Store) -> int:
    """The generation that the public views show; 1 before the first migration."""
    _prepare(store)
    rows = store.rows(
        f"SELECT argMax(generation, applied_at) AS number, count() AS n "
        f"FROM {store.database}.schema_migrations WHERE name = {{mark:String}}",
        {"mark": _VIEWS_MARK},
    )
    return int(str(rows[0]["number"])) if int(str(rows[0]["n"])) else 1


def migration_state(store: Store) -> tuple[int, tuple[str, ...]]:
    """How many migrations the current generation has, and the names of those it lacks; changes nothing."""
    wanted = [entry.name for entry in sql_files("migrations")]
    found = store.rows(
        "SELECT 1 AS found FROM system.tables WHERE database = {d:String} AND name = 'schema_migrations'",
        {"d": store.database},
    )
    if not found:
        return 0, tuple(wanted)
    rows = store.rows(
        f"SELECT name FROM {store.database}.schema_migrations WHERE generation = {{g:UInt32}}",
        {"g": current_generation(store)},
    )
    done = {str(row["name"]) for row in rows}
    return sum(name in done for name in wanted), tuple(name for name in wanted if name not in done)


def create_tables(store: Store, *, generation: int) -> Schema:
    """Create or upgrade the tables of a generation; the views stay as they are."""
    _prepare(store)
    schema = Schema(f"{store.database}_g{generation}", store.database)
    store.command(f"CREATE DATABASE IF NOT EXISTS {schema.generation}")
    done = {
        str(row["name"])
        for row in store.rows(
            f"SELECT name FROM {store.database}.schema_migrations WHERE generation = {{g:UInt32}}",
            {"g": generation},
        )
    }
    for entry in sql_files("migrations"):
        if entry.name not in done:
            for statement in _statements(entry, schema, _settings_text(store)):
                store.command(re.sub(r"\ACREATE TABLE (?!IF\b)", "CREATE TABLE IF NOT EXISTS ", statement))
            _record(store, generation, entry.name)
    return schema


def create_views(store: Store, schema: Schema, *, is_moved: bool = False) -> None:
    """(Re)create the public views over a generation, unless just these are there: a hundred statements are slow.

    `is_moved`: a process is about to be moved to another run, see `show_moved`."""
    statements = _view_statements(schema, is_moved=is_moved or _has_moved(store, schema.generation))
    made = _VIEWS_MADE + hashlib.sha256("\n".join(statements).encode()).hexdigest()[:16]
    public = sum(text.startswith(f"CREATE OR REPLACE VIEW {schema.views_database}.") for text in statements)
    if _views_made(store, schema) != (made, public):
        # A crash in the middle must not leave the mark of the views from before.
        _record(store, schema.number, _VIEWS_MADE)
        for statement in statements:
            store.command(statement)
        _record(store, schema.number, made)
    if current_generation(store) != schema.number or not _has_views_mark(store):
        _record(store, schema.number, _VIEWS_MARK)


def show_moved(store: Store, generation: str) -> None:
    """To be called before a process is moved to another run: from then on the views ask where each belongs.

    Does nothing in a generation that is not shown yet; `create_views` makes the right ones when it is."""
    schema = Schema(generation, store.database)
    if current_generation(store) == schema.number:
        create_views(store, schema, is_moved=True)


def _has_moved(store: Store, generation: str) -> bool:
    return bool(store.rows(f"SELECT 1 AS found FROM {generation}.writer_homes LIMIT 1"))


def _view_statements(schema: Schema, *, is_moved: bool) -> list[str]:
    homed = f"{schema.generation}.homed_" if is_moved else f"{schema.generation}."
    entries = sql_files("views") + (sql_files("moved_views") if is_moved else [])
    return [
        text.replace("{homed}", homed).replace("{table}", table)
        for entry in sorted(entries, key=lambda entry: entry.name)
        for text in _statements(entry, schema, "")
        for table in (HOMED_TABLES if "{table}" in text else ("",))
    ]


def _views_made(store: Store, schema: Schema) -> tuple[str, int]:
    # The mark of the last creation, of whatever generation, and how many views there are.
    [row] = store.rows(
        f"SELECT (SELECT argMax(name, applied_at) FROM {store.database}.schema_migrations "
        "WHERE startsWith(name, {made:String})) AS mark, "
        "(SELECT count() FROM system.tables WHERE database = {views:String} AND engine = 'View') AS views",
        {"made": _VIEWS_MADE, "views": schema.views_database},
    )
    return str(row["mark"]), int(str(row["views"]))


def _prepare(store: Store) -> None:
    store.command(f"CREATE DATABASE IF NOT EXISTS {store.database}")
    store.command(
        f"CREATE TABLE IF NOT EXISTS {store.database}.schema_migrations "
        "(generation UInt32, name String, applied_at DateTime64(6, 'UTC')) ENGINE = MergeTree "
        f"ORDER BY (generation, name) SETTINGS {_settings_text(store)}"
    )


def _record(store: Store, generation: int, name: str) -> None:
    store.command(
        f"INSERT INTO {store.database}.schema_migrations "
        "SELECT {g:UInt32}, {name:String}, now64(6, 'UTC')",
        {"g": generation, "name": name},
    )


def _has_views_mark(store: Store) -> bool:
    return bool(
        store.rows(
            f"SELECT 1 AS found FROM {store.database}.schema_migrations WHERE name = {{mark:String}} LIMIT 1",
            {"mark": _VIEWS_MARK},
        )
    )


def _settings_text(store: Store) -> str:
    # Without a token an identical block would be dropped by its content, so the window is 0 where there are none.
    window = DEDUPLICATION_WINDOW if store.capabilities.insert_tokens else 0
    pairs = {**_TABLE_SETTINGS, "non_replicated_deduplication_window": window}
    return ", ".join(f"{name} = {value}" for name, value in pairs.items())


def sql_files(folder: str) -> list[Traversable]:
    """The files of `migrations`, `views` or `moved_views` in the order in which they are applied."""
    found = [
        entry
        for entry in (resources.files("trainledger_ingest.storage") / folder).iterdir()
        if entry.name.endswith(".sql")
    ]
    if not found:
        raise FatalStoreError(f"the package has no SQL files in storage/{folder}; install it again")
    return sorted(found, key=lambda entry: entry.name)


def _statements(entry: Traversable, schema: Schema, settings: str) -> list[str]:
    text = fill_parts(entry.read_text(encoding="utf-8"))
    for placeholder, value in (
        ("{generation}", schema.generation),
        ("{views}", schema.views_database),
        ("{table_settings}", settings),
    ):
        text = text.replace(placeholder, value)
    parts = [re.sub(r"(?m)^--.*\n?", "", part).strip() for part in re.split(r"(?m);[ \t]*$", text)]
    return [part for part in parts if part]
