"""Blobs in S3: the agent sends them, and another machine repeats a run and gets its model from there alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.installation import Installation
from support.moto_server import MotoServer
from support.polling import poll_until
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.s3_objects import S3Objects
from trainledger_schemas.shared_blobs import SharedBlobs, register_uploader

TRAIN = """
import trainledger
with trainledger.init(project="p", name="train") as run:
    run.log({"loss": 0.5})
    open("model.pt", "wb").write(b"weights" * 1000)
    run.log_artifact("model.pt", name="resnet")
"""


@pytest.fixture
def server() -> Iterator[MotoServer]:
    with MotoServer() as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, server: MotoServer) -> Installation:
    installed = Installation(tmp_path)
    installed.environment |= server.environment | {"TRAINLEDGER_BLOBS": server.setting("team/ledger")}
    return installed


def kept(node: Installation) -> list[dict[str, Any]]:
    return node.sql(
        "SELECT r.kind AS kind, p.place AS place, p.blobs AS blobs, p.missing AS missing FROM blob_places AS p "
        "JOIN blob_references AS r ON r.sha256 = p.sha256 AND r.run_id = p.run_id ORDER BY kind"
    )


def test_what_a_run_named_is_had_on_another_machine(node: Installation, tmp_path: Path) -> None:
    with node.up():
        assert node.script(TRAIN).returncode == 0
        poll_until(
            lambda: {row["kind"] for row in kept(node)} >= {"file", "snapshot"}, deadline_s=60, pause_s=0.5
        )
    assert {(row["place"], row["missing"]) for row in kept(node)} == {("s3://blobs/team/ledger", 0)}
    shutil.rmtree(node.journals)  # as on another machine: the tables are known, the blobs are not here
    got = node.command("admin", "data", "get", "resnet:v1", "got")
    assert got.returncode == 0, got.stderr
    assert (tmp_path / "got").read_bytes() == b"weights" * 1000
    alone = node.command("admin", "data", "get", "resnet:v1", "again", TRAINLEDGER_BLOBS="")
    assert alone.returncode == 1 and "TRAINLEDGER_BLOBS" in alone.stderr
    (result,) = node.json("reproduce", "train", "--yes")
    assert (result["outcome"], result["points"]) == ("identical", 1)


def place_of(rows: list[dict[str, Any]], word: str) -> dict[str, Any]:
    return next(row for row in rows if word in row["place"])


def test_garbage_goes_here_and_there_and_what_runs_name_stays(node: Installation, server: MotoServer) -> None:
    with node.up():
        assert node.script(TRAIN).returncode == 0
        poll_until(
            lambda: {row["kind"] for row in kept(node)} >= {"file", "snapshot"}, deadline_s=60, pause_s=0.5
        )
        (folder,) = node.journals.glob("*/blobs")
        local = FolderBlobs(folder)
        garbage = local.put(b"nobody names it")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment.items():
                patch.setenv(name, value)
            objects = S3Objects(server.address("team/ledger"))
            shared = SharedBlobs(objects)
            shared.put(b"nobody names it")
            named = [item.name for item in objects.names("sha256/") if not item.name.endswith(garbage.sha256)]

            looked = node.json("admin", "gc", "--grace", "0")
            assert [(row["condemned"], row["deleted"]) for row in looked] == [(1, 0), (1, 0)]
            assert place_of(looked, "s3://")["kept"] == len(named)
            node.json("admin", "gc", "--delete", "--grace", "0")
            assert shared.has(garbage.sha256) and local.has(garbage.sha256), (
                "condemned first, removed the next time"
            )
            gone = node.json("admin", "gc", "--delete", "--grace", "0")
            assert [(row["deleted"], row["deleted_bytes"]) for row in gone] == [(1, 15), (1, 15)]
            assert not shared.has(garbage.sha256) and not local.has(garbage.sha256)
            assert [item.name for item in objects.names("sha256/")] == named
            told = node.command("admin", "gc")
            assert told.returncode == 0 and "s3://blobs/team/ledger" in told.stdout

            shared.put(b"of another ledger")
            register_uploader(objects, "00000000-0000-4000-8000-000000000001", "elsewhere")
            refused = node.command("admin", "gc", "--delete", "--grace", "0")
            assert refused.returncode == 1 and "00000000-0000-4000-8000-000000000001" in refused.stderr
            assert len(list(objects.names("condemned/"))) == 1
    assert node.command("admin", "data", "get", "resnet:v1", "got").returncode == 0


def test_blobs_whose_runs_another_home_knows_are_left_alone(node: Installation) -> None:
    alone = {"TRAINLEDGER_BLOBS": ""}
    assert node.script(TRAIN, **alone).returncode == 0
    poll_until(lambda: len(list(node.journals.glob("*/*/*.tlj"))) >= 3)
    assert node.command("sync", **alone).returncode == 0
    (known,) = node.json("admin", "gc", "--grace", "0", **alone)
    assert known["kept"] >= 2 and known["notes"] == []
    (other,) = node.json(
        "admin", "gc", "--delete", "--grace", "0", TRAINLEDGER_HOME=str(node.folder / "new"), **alone
    )
    assert (other["kept"], other["condemned"], other["deleted"]) == (0, 0, 0)
    assert "another home" in other["notes"][0]


def test_without_up_sync_sends_blobs(node: Installation, server: MotoServer) -> None:
    assert node.script(TRAIN).returncode == 0
    poll_until(lambda: len(list(node.journals.glob("*/*/*.tlj"))) >= 3)
    assert node.command("sync").returncode == 0
    assert {row["kind"] for row in kept(node)} >= {"file", "snapshot"}
    server.kill()
    assert node.script(TRAIN).returncode == 0
    poll_until(lambda: len(list(node.journals.glob("*/*/*.tlj"))) >= 3)
    late = node.command("sync")
    assert late.returncode == 0 and "blobs are not all in s3://blobs/team/ledger" in late.stderr
