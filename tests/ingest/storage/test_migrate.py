"""Tables and views are made once, again after a crash, and turned over to another generation whole."""

from collections.abc import Mapping

import pytest

from support.ingest_store import Crash, FaultyStore, unused_store
from trainledger_ingest.public_views import public_view_names
from trainledger_ingest.storage.migrate import (
    APPEND_TABLES,
    create_tables,
    create_views,
    current_generation,
    migrate,
)
from trainledger_ingest.storage.store import Store


def tables_of(store: Store, database: str) -> set[str]:
    rows = store.rows("SELECT name FROM system.tables WHERE database = {d:String}", {"d": database})
    return {str(row["name"]) for row in rows}


class DyingStore(FaultyStore):
    """Dies before its n-th command."""

    def __init__(self, inner: Store, *, command: int) -> None:
        super().__init__(inner)
        self.left = command

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1
        super().command(sql, parameters)


def test_migrating_twice_is_migrating_once() -> None:
    store = unused_store()
    schema = migrate(store)
    assert (schema.generation, schema.views_database, schema.number) == (
        f"{store.database}_g1",
        store.database,
        1,
    )
    assert set(APPEND_TABLES) | {"ingest_ledger", "topic_partitions"} <= tables_of(store, schema.generation)
    before = store.rows(f"SELECT name FROM {store.database}.schema_migrations ORDER BY name")
    assert migrate(store) == schema
    assert store.rows(f"SELECT name FROM {store.database}.schema_migrations ORDER BY name") == before


def test_every_public_view_can_be_read() -> None:
    store = unused_store()
    schema = migrate(store)
    made = tables_of(store, store.database) - {"schema_migrations"}
    assert {"runs", "metrics", "cost_lines"} <= made == public_view_names()
    for view in sorted(made):
        assert store.rows(f"SELECT * FROM {schema.views_database}.{view} LIMIT 1") == []


@pytest.mark.parametrize("command", [0, 1, 2, 3, 8, 20, 25, 30, 40])
def test_a_crash_at_any_statement_is_mended_by_the_next_call(command: int) -> None:
    store = unused_store()
    try:
        migrate(DyingStore(store, command=command))
    except Crash:
        pass
    schema = migrate(store)
    assert set(APPEND_TABLES) <= tables_of(store, schema.generation)
    assert current_generation(store) == 1


def test_views_stay_on_their_generation_until_they_are_turned_over() -> None:
    store = unused_store()
    first = migrate(store)
    second = create_tables(store, generation=2)
    assert current_generation(store) == 1
    store.command(
        f"INSERT INTO {second.tables.name('log_lines')} (month, text) SELECT 202311, 'from the rebuild'"
    )
    assert store.rows(f"SELECT text FROM {first.views_database}.logs") == []
    create_views(store, second)
    assert current_generation(store) == 2
    assert store.rows(f"SELECT text FROM {first.views_database}.logs") == [{"text": "from the rebuild"}]
    assert migrate(store) == second
    assert migrate(store, generation=1) == first
    assert current_generation(store) == 1


class CountingStore(FaultyStore):
    """Counts the views that are made."""

    made = 0

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        self.made += sql.startswith("CREATE OR REPLACE VIEW")
        super().command(sql, parameters)


def test_views_are_made_again_only_when_they_are_not_just_those_wanted() -> None:
    store = CountingStore(unused_store())
    schema = migrate(store)
    first, store.made = store.made, 0
    migrate(store)
    assert (first > len(public_view_names()) - 1, store.made) == (True, 0)
    store.inner.command(f"DROP VIEW {schema.views_database}.runs")
    migrate(store)
    assert store.made == first
    store.inner.command(
        f"INSERT INTO {store.database}.schema_migrations SELECT 1, 'views of another version', now64(6, 'UTC')"
    )
    migrate(store)
    assert store.made == 2 * first


def test_a_crash_between_two_views_is_seen_by_the_version_before_it() -> None:
    store = unused_store()
    migrate(store)
    store.command(
        f"INSERT INTO {store.database}.schema_migrations SELECT 1, 'views of another version', now64(6, 'UTC')"
    )
    statements_before_views = 3
    with pytest.raises(Crash):
        migrate(DyingStore(store, command=statements_before_views + 5))
    counting = CountingStore(store)
    migrate(counting)
    assert counting.made
