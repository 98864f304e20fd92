"""Settings in effect as rows: value, unit, source, and no secret."""

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from trainledger_schemas.effective import EffectiveSetting, effective_settings


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    wait_ms_max: int = 500
    records_in_flight_max: int = 10
    name: str = ""
    is_on: bool = True
    token: str = field(default="hush", repr=False)
    inner: Inner = field(default_factory=Inner)


class Pair(NamedTuple):
    home: str = "/x"
    address: str | None = "hush"

    def __repr__(self) -> str:
        return f"Pair(home={self.home!r})"


def test_rows_have_units_sources_and_no_secrets() -> None:
    rows = effective_settings("p", Outer(), environ={"WAIT": "500"}, variables={"wait_ms_max": "WAIT"})
    assert rows == [
        EffectiveSetting("p.wait_ms_max", "500", "ms", "WAIT"),
        EffectiveSetting("p.records_in_flight_max", "10", "records", "default"),
        EffectiveSetting("p.name", "(not set)", "", "default"),
        EffectiveSetting("p.is_on", "on", "", "default"),
        EffectiveSetting("p.token", "(set, not shown)", "", "default"),
    ]


def test_a_named_tuple_hides_what_its_repr_hides() -> None:
    rows = effective_settings("p", Pair(), environ={}, variables={})
    assert [row.value for row in rows] == ["/x", "(set, not shown)"]


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="no settings"):
        effective_settings("p", Outer, environ={}, variables={})
