"""The variables of the SDK: what is read, what is refused, what is never shown."""

import os
from pathlib import Path

import pytest

from trainledger.settings import VARIABLES, Settings, set_variables


def read(**variables: str) -> Settings:
    return Settings.from_env(
        {f"TRAINLEDGER_{name}": value for name, value in variables.items()} | {"HOME": "/h"}
    )


def test_defaults() -> None:
    found = read()
    assert (found.dir, found.mode, found.capture, found.budget_mib, found.warnings) == (
        None,
        "on",
        True,
        None,
        (),
    )
    assert found.home == Path("/h/.local/state/trainledger")
    assert Settings.from_env({"XDG_STATE_HOME": "/s"}).home == Path("/s/trainledger")
    assert Settings.from_env({"XDG_STATE_HOME": "relative", "HOME": "/h"}).state_home == Path(
        "/h/.local/state"
    )


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("DIR", "/a/b", "dir", Path("/a/b")),
        ("DIR", "~no-such-user/x", "dir", Path.cwd() / "~no-such-user/x"),
        ("TAGS", " a, ,b ", "tags", ("a", "b")),
        ("MODE", "Disabled", "mode", "disabled"),
        *(("MODE", off, "mode", "disabled") for off in ("off", "OFF", "0", "false", "no", "none")),
        ("MODE", "1", "mode", "on"),
        ("FINISH_WAIT_S", "2.5", "finish_wait_s", 2.5),
        ("BUDGET_MIB", "7", "budget_mib", 7),
        ("CAPTURE", "off", "capture", False),
        ("ALLOW_NETWORK_DISK", "yes", "allow_network_disk", True),
        ("PROJECT", "  ", "project", None),
    ],
)
def test_value_is_read(name: str, value: str, field: str, expected: object) -> None:
    found = read(**{name: value})
    assert getattr(found, field) == expected and found.warnings == ()


@pytest.mark.parametrize(
    ("name", "value", "field", "default"),
    [
        ("MODE", "online", "mode", "on"),
        ("FINISH_WAIT_S", "soon", "finish_wait_s", 0.0),
        ("FINISH_WAIT_S", "nan", "finish_wait_s", 0.0),
        ("FINISH_WAIT_S", "9999", "finish_wait_s", 0.0),
        ("BUDGET_MIB", "0", "budget_mib", None),
        ("CAPTURE", "perhaps", "capture", True),
    ],
)
def test_value_out_of_range_warns_and_the_default_holds(
    name: str, value: str, field: str, default: object
) -> None:
    found = read(**{name: value})
    assert getattr(found, field) == default
    assert (
        len(found.warnings) == 1 and f"TRAINLEDGER_{name}" in found.warnings[0] and value in found.warnings[0]
    )


def test_unknown_name_warns_with_the_nearest() -> None:
    assert read(PROJEKT="p").warnings == (
        "TRAINLEDGER_PROJEKT is not a known setting; did you mean TRAINLEDGER_PROJECT?",
    )


def test_addresses_are_not_shown() -> None:
    found = read(KAFKA="u:password@host", CLICKHOUSE="http://u:password@host")
    assert found.kafka and found.clickhouse and "password" not in repr(found)


def test_user_without_a_home_stays_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it is for a user id without a name
    assert not Settings.from_env({}).state_home.is_absolute()


def test_every_variable_is_in_the_table_of_the_module() -> None:
    import trainledger.settings

    table = str(trainledger.settings.__doc__)
    assert all(name.removeprefix("TRAINLEDGER") in table.replace("TRAINLEDGER_", "_") for name in VARIABLES)


def test_variables_are_set_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINLEDGER_RUN_ID", "old")
    set_variables({"TRAINLEDGER_RUN_ID": "new", "TRAINLEDGER_PARENT": None})
    assert os.environ["TRAINLEDGER_RUN_ID"] == "new" and "TRAINLEDGER_PARENT" not in os.environ
    set_variables({"TRAINLEDGER_RUN_ID": None})
    assert "TRAINLEDGER_RUN_ID" not in os.environ
