"""docs/views.md, written from the SQL files of the views: `PYTHONPATH=tests python -m support.views_page` (`make docs`)."""

from pathlib import Path

from trainledger_ingest.public_views import View, public_views

PAGE = Path(__file__).parents[2] / "docs" / "views.md"
HEAD = """# Views

What `trainledger sql` can read, in database `trainledger`; NULL is unknown, never zero. `trainledger sql "SHOW TABLES"`
lists the views, `trainledger sql "DESCRIBE runs"` the columns of one. Columns may be added; none is removed or given
another type without an entry in CHANGELOG.md.

Written by `make docs` from the files in `ingest/trainledger_ingest/storage/views/`; edit those.
"""


def views_page() -> str:
    """The text that the page must have."""
    return "\n".join([HEAD, *map(_section, public_views())])


def _section(view: View) -> str:
    rows = "\n".join(
        f"| `{column.name}` | `{column.type}` | {column.comment.replace('|', chr(92) + '|')} |"
        for column in view.columns
    )
    return f"## {view.name}\n\nOne row: {view.one_row}.\n\n| column | type | what |\n|---|---|---|\n{rows}\n"


if __name__ == "__main__":
    PAGE.write_text(views_page(), encoding="utf-8")
