"""Bodies of claims: bounded, redacted, and as the schemas have them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainledger.capture import Program, start_capture
from trainledger.claims import (
    claim_of_error,
    exit_claim,
    run_identity,
    settings_claim,
    split_settings,
    started_claim,
    traceback_text,
)
from trainledger.identity import Membership
from trainledger.journal import json_bytes
from trainledger.launch import Launch
from trainledger.node.coerce import coerce_claim
from trainledger.notices import NOTICES_MAX, Notices
from trainledger.segment import VITAL_BYTES
from trainledger.settings import Settings
from trainledger.values import settings_of
from trainledger_schemas.journal import CLAIM, pack_control

MEMBERSHIP = Membership(b"r" * 16, "new", b"p" * 16)


def error_of(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "claim",
    [
        started_claim(run_identity(Settings(), {}), MEMBERSHIP, Launch(), {"a": {"b": 1}}),
        started_claim(
            run_identity(Settings(), {"project": "p", "name": "n"}, ["t"]),
            MEMBERSHIP,
            Launch("torchrun", 1, 1, 2, 3, "k"),
            {},
        ),
        exit_claim("failed", "exception", message="m", code=1),
        exit_claim("killed", "exception", signal=2),
        settings_claim("params_changed", settings_of({"a": 1})),
        settings_claim("summary_set", settings_of({"a": float("nan")})),
    ],
    ids=lambda claim: claim["type"],
)
def test_claim_fits_its_schema_and_loses_nothing_in_it(claim: dict[str, Any]) -> None:
    found = coerce_claim(json.loads(json_bytes(claim)), at_us=0)
    assert found is not None and found[0] == claim["type"]
    for name, value in claim.items():
        if name != "type" and value is not None:
            assert found[1][name] not in (None, [], {}) or value == [], name
    assert set(found[1]) == set(claim) - {"type"}


NASTY = ["a", "é", "\U0001f600", "\1", '"\\', "\udc80", "\n", "\u2028"]


@pytest.mark.parametrize("character", NASTY, ids=ascii)
def test_end_of_a_run_fits_in_what_is_kept_free_for_it(character: str) -> None:
    message = traceback_text(ValueError, error_of(character * 100_000 + "the end"), None)
    assert message.endswith("the end")
    record = pack_control(
        CLAIM, json_bytes(exit_claim("failed", "exception", message=message)), step=0, wall_ns=0
    )
    assert len(record) <= VITAL_BYTES


@pytest.mark.parametrize("character", NASTY, ids=ascii)
def test_settings_are_split_into_claims_that_fit(character: str) -> None:
    given = settings_of({f"{character * 500}{i}": character * 60_000 for i in range(20)} | {"small": 1})
    parts = split_settings(given)
    assert [entry for part in parts for entry in part] == given and all(parts)
    for part in parts:
        pack_control(CLAIM, json_bytes(settings_claim("params_changed", part)), step=0, wall_ns=0)
    assert split_settings([]) == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SystemExit(), "finished", 0),
        (SystemExit(0), "finished", 0),
        (SystemExit(3), "failed", 3),
        (SystemExit("text"), "failed", 1),
        (ValueError("x"), "failed", None),
        (KeyboardInterrupt(), "killed", None),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "failed", None),
    ],
    ids=repr,
)
def test_exception_says_how_the_run_ended(error: BaseException, status: str, code: int | None) -> None:
    claim = claim_of_error(type(error), error, None)
    assert (claim["status"], claim["exit_code"]) == (status, code)


def test_names_and_tags_are_cut_and_made_text() -> None:
    identity = run_identity(Settings(team="t", tags=("env",)), {"project": "p" * 900, "name": 5}, None)
    assert (len(identity["project"]), identity["name"], identity["team"], identity["tags"]) == (
        500,
        "5",
        "t",
        ["env"],
    )
    assert run_identity(Settings(), {}, ("a", 1))["tags"] == ["a", "1"]
    assert run_identity(Settings(), {}, "a, b")["tags"] == ["a, b"]


def test_project_is_the_repository_around_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repo" / "src").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repo" / "src")
    assert run_identity(Settings(), {})["project"] == "src"
    (tmp_path / "repo" / ".git").write_text("gitdir: elsewhere")
    assert run_identity(Settings(), {})["project"] == "repo"


def test_notices_are_said_once_each_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    notices = Notices()
    for i in range(NOTICES_MAX + 50):
        notices.once(f"about {i}", f"text {i}")
        notices.once(f"about {i}", "again")
    told = capsys.readouterr().err.splitlines()
    assert (
        len(told) == NOTICES_MAX + 1
        and "nothing more is said" in told[-1]
        and not any("again" in t for t in told)
    )
    notices.count("b things")
    notices.count("b things")
    notices.count("a things")
    notices.sum_up()
    notices.sum_up()
    assert capsys.readouterr().err == "trainledger: not recorded: 1 a things, 2 b things\n"


def test_capture_that_cannot_start_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> bool:
        return start_capture(b"r" * 16, b"j" * 16, tmp_path, append_by_write=False, program=Program([], None))

    for executable in ("", None):
        monkeypatch.setattr(sys, "executable", executable)
        assert not start()
    monkeypatch.undo()
    code = (
        "import os, tempfile, pathlib; from trainledger.capture import Program, start_capture;"
        "os.chdir(d := tempfile.mkdtemp()); os.rmdir(d);"
        "print(start_capture(b'r'*16, b'j'*16, pathlib.Path('/'), append_by_write=False, program=Program([], None)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
