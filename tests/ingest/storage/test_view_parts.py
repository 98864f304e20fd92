"""Rules that stand in several views."""

from trainledger_ingest.storage.migrate import sql_files
from trainledger_ingest.storage.view_parts import fill_parts


def test_a_rule_is_put_in_with_what_differs_between_its_places() -> None:
    filled = fill_parts("SELECT {paying_team: t.1 <= l.hour} AS team, {why_and_is_waste} FROM {views}.x")
    assert "arrayLast(t -> t.1 <= l.hour, o.terms)" in filled and "AS is_waste FROM {views}.x" in filled


def test_the_rules_stand_nowhere_else() -> None:
    texts = [entry.read_text(encoding="utf-8") for entry in sql_files("views")]
    assert sum(text.count("{paying_team: ") for text in texts) == 3
    assert sum(text.count("{why_and_is_waste}") for text in texts) == 2
    assert not any(
        "term.4) AS teams" in text or "'killed', 'crashed', 'retried'), " in text for text in texts
    )
