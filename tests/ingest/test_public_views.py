"""What is told of the public views is what the engine has of them."""

import pytest

from support.ingest_store import unused_store
from support.views_page import PAGE, views_page
from trainledger_ingest.public_views import answer_about_views, public_view_names, public_views
from trainledger_ingest.storage.migrate import migrate
from trainledger_schemas.errors import UserQueryError


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


def test_every_view_says_what_one_row_is() -> None:
    assert [view.name for view in public_views() if not view.one_row] == []


def test_the_page_of_the_views_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == views_page(), "run `make docs`"


@pytest.mark.parametrize("sql", ["SHOW TABLES", " show views ; ", "SHOW\nTABLES"])
def test_the_views_are_listed_with_what_a_row_is(sql: str) -> None:
    told = answer_about_views(sql)
    assert told is not None
    assert {"view": "runs", "one row": "a run", "columns": 23} in told.to_pylist()
    assert set(told["view"].to_pylist()) == public_view_names()


@pytest.mark.parametrize(
    "sql",
    ["DESCRIBE params", "desc trainledger.params;", "Describe Table `params`", "SHOW COLUMNS FROM params"],
)
def test_a_view_is_described_with_its_comments(sql: str) -> None:
    told = answer_about_views(sql)
    assert told is not None
    assert told.to_pylist()[0] == {"name": "run_id", "type": "UUID", "comment": "the run"}
    assert told.num_rows == 7


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "DESCRIBE (SELECT 1)", "SHOW TABLES FROM system", "SHOW DATABASES", "DESCRIBE system.users"],
)
def test_other_statements_are_left_to_the_guard(sql: str) -> None:
    assert answer_about_views(sql) is None


def test_an_unknown_view_is_refused_with_a_near_one() -> None:
    with pytest.raises(UserQueryError, match="no view named 'run'; did you mean runs"):
        answer_about_views("DESCRIBE run")
    with pytest.raises(UserQueryError, match=f"the views are: {min(public_view_names())}, "):
        answer_about_views("DESCRIBE schema_migrations")
