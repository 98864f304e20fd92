"""From a model in production to what made it and back, with real trainings, the real command, and a rebuild."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from support.installation import Installation
from support.polling import poll_until

TRAIN = """
import os, trainledger
with trainledger.init(project="p", name="train", config={"seed": 1}) as run:
    run.use_dataset("data", name="cifar", role="train")
    os.makedirs("model/shards", exist_ok=True)
    open("model/shards/1", "wb").write(b"weights")
    open("model/run.sh", "w").write("#!/bin/sh")
    os.chmod("model/run.sh", 0o755)
    run.log_artifact("model", name="resnet", aliases=["best"])
"""
SERVE = """
import trainledger
with trainledger.init(project="p", name="serve") as run:
    path = run.use_artifact("resnet:production")
    print(open(f"{path}/shards/1").read(), run.use_artifact("nothing:v1"))
"""
TUNE = """
import trainledger
with trainledger.init(project="p", name="tune") as run:
    run.use_dataset("data", name="cifar")
"""


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    (tmp_path / "data").mkdir()
    for number in range(3):
        (tmp_path / "data" / f"{number}.txt").write_text(f"image {number}")
    installed = Installation(tmp_path)
    with installed.up():
        yield installed


def complete(installation: Installation, run: str) -> bool:
    rows = installation.sql(
        f"SELECT i.status AS status FROM run_io AS i JOIN runs AS r ON r.run_id = i.run_id WHERE r.name = '{run}'"
    )
    return bool(rows) and all(row["status"] == "complete" for row in rows)


def test_from_production_to_its_origin_and_back(installation: Installation, tmp_path: Path) -> None:
    assert installation.script(TRAIN).returncode == 0
    poll_until(lambda: complete(installation, "train"), deadline_s=60)
    done = installation.command("admin", "alias", "set", "resnet:best", "production", "--note", "it is good")
    assert done.returncode == 0 and "resnet:production is v1" in done.stdout, done.stderr
    refused = installation.command("admin", "alias", "set", "resnet:best", "v7")
    assert refused.returncode == 2 and "'v7' is no alias" in refused.stderr
    served = installation.script(SERVE)
    assert served.stdout == "weights None\n", served.stderr
    assert "nothing:v1: recorded by name" in served.stderr
    (origin,) = installation.json("show", "resnet:production")
    assert origin["name"] == "train"
    shown = installation.command("show", "train").stdout
    assert "dataset cifar:v1 (train)" in shown and "best, production; read by serve" in shown
    assert "written by train" in installation.command("show", "serve").stdout

    (tmp_path / "data" / "0.txt").rename(tmp_path / "data" / "zero.txt")
    (tmp_path / "data" / "1.txt").write_text("changed")
    assert installation.script(TUNE).returncode == 0
    poll_until(lambda: complete(installation, "tune"), deadline_s=60)
    assert installation.json("admin", "data", "diff", "cifar:v1", "cifar:v2") == [
        {"what": "changed", "path": "1.txt", "old_path": None},
        {"what": "renamed", "path": "zero.txt", "old_path": "0.txt"},
    ]
    differs = {row["what"] for row in installation.json("compare", "train", "tune")}
    assert {"input", "output"} <= differs

    back = installation.command("admin", "data", "get", "resnet:production", "got")
    assert back.returncode == 0, back.stderr
    assert (tmp_path / "got" / "shards" / "1").read_bytes() == b"weights"
    assert (tmp_path / "got" / "run.sh").stat().st_mode & 0o111
    no_bytes = installation.command("admin", "data", "get", "cifar:v1", "cifar")
    assert no_bytes.returncode == 1 and "'cifar' is a dataset" in no_bytes.stderr
    by_name = installation.command("show", "resnet")
    assert by_name.returncode == 0 and "newest version of resnet" in by_name.stderr
    again = installation.command("admin", "data", "get", "resnet:production", "got")
    assert again.returncode == 2 and "exists" in again.stderr

    found = installation.json("admin", "data", "find", "data/zero.txt")
    assert [(row["run"], row["version"], row["paths"], row["through"], row["aliases"]) for row in found] == [
        ("train", "v1", ["0.txt"], [], ["resnet:best", "resnet:production"]),
        ("tune", "v2", ["zero.txt"], [], []),
        ("serve", "v1", [], ["resnet:v1"], ["resnet:best", "resnet:production"]),
    ]
    assert found[0]["outputs"] == ["resnet:v1"]
    # The tables have the manifests soon: they answer alone, where no blobs are seen, before and after a rebuild.
    asked = ("admin", "data", "find", sha256(b"image 0").hexdigest())
    seen_nowhere = {"TRAINLEDGER_DIR": str(tmp_path / "elsewhere")}
    poll_until(lambda: installation.json(*asked, **seen_nowhere) == found, deadline_s=30)

    queries = ("SELECT * FROM run_io ORDER BY ALL", "SELECT * FROM model_aliases ORDER BY ALL")
    before = [installation.sql(query) for query in queries]
    assert installation.command("admin", "rebuild").returncode == 0
    assert [installation.sql(query) for query in queries] == before
    assert installation.json(*asked, **seen_nowhere) == found
    assert installation.command("admin", "alias", "rm", "resnet:production").returncode == 0
    missing = installation.command("show", "resnet:production")
    assert missing.returncode == 1 and "it has v1 and the aliases best" in missing.stderr
    assert [row["alias"] for row in installation.json("admin", "alias", "ls")] == ["best"]
