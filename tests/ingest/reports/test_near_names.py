"""A name is unknown only if no run, reservation or line of a bill bears it."""

from collections.abc import Iterator

import pytest

from support.filled_tables import FilledTables
from support.ingest_store import fresh_store
from support.random_cluster import BEGIN_US, S
from trainledger_ingest.reports.near_names import unknown_name


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """A job of eve for account ml, which a node nobody watches has; one of a pod of namespace web; and a run of ann."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("names"))
    tables.started(1, 11, BEGIN_US, team="red")
    for number, (owner, account) in enumerate((("eve", "account:ml"), (None, "namespace:web"))):
        tables.event(
            "reservation", BEGIN_US, node="node-1", reservation_id=str(number), source="sacct", cluster="c", job="7",
            owner=owner, account=account, start_us=BEGIN_US, end_us=BEGIN_US + 600 * S, is_over=True,
            read_us=BEGIN_US, state="COMPLETED", restarts=0, partition=None, qos=None, cpu_milli=1000,
            device_milli=0, memory_bytes=None, node_cores=4, node_devices=None, set_by="t",
        )  # fmt: skip
    tables.alive(BEGIN_US, BEGIN_US + 600 * S)
    tables.price(1, BEGIN_US, nano=36_000_000_000)
    tables.take_in()
    yield tables


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("account", "account:ml"),
        ("namespace", "namespace:web"),
        ("user", "eve"),
        ("user", "ann"),
        ("team", "ml"),
        ("team", "red"),
    ],
)
def test_who_was_imported_or_billed_is_known(tables: FilledTables, what: str, name: str) -> None:
    assert unknown_name(tables.session, what, name) is None


@pytest.mark.parametrize(
    ("what", "name", "told"),
    [
        ("account", "account:mi", "no account was ever called 'account:mi'; did you mean 'account:ml'?"),
        ("namespace", "namespace:x", "no namespace was ever called 'namespace:x'; "),
        ("team", "m", "no team was ever called 'm'; "),
    ],
)
def test_what_nobody_bears_is_told(tables: FilledTables, what: str, name: str, told: str) -> None:
    assert (unknown_name(tables.session, what, name) or "").startswith(told)
