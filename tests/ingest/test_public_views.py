"""What is told of the public views is what the engine has of them."""

from support.ingest_store import unused_store
from trainledger_ingest.public_views import public_view_names, public_views
from trainledger_ingest.storage.migrate import migrate


def test_views_columns_types_and_comments_are_those_of_the_engine() -> None:
    store = unused_store()
    migrate(store)
    rows = store.rows(
        "SELECT table, name, type, comment FROM system.columns WHERE database = {d:String} "
        "AND table != 'schema_migrations' ORDER BY table, position",
        {"d": store.database},
    )
    made = [(row["table"], row["name"], row["type"], row["comment"]) for row in rows]
    assert made == [(v.name, c.name, c.type, c.comment) for v in public_views() for c in v.columns]
    assert {"runs", "run_io", "summary"} <= public_view_names()
    assert "io_facts" not in public_view_names()
