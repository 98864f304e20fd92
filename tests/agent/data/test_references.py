"""Versions of other systems, recognised in files and addresses as these systems write them."""

import json
import subprocess
from pathlib import Path

import pytest

from trainledger.data.git_reference import git_reference
from trainledger.data.references import Reference, find_reference
from trainledger_schemas.clock import SystemClock

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=trunk")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("where", "system", "version", "is_fixed"),
    [
        ("s3://b/k?versionId=abc", "s3", "abc", True),
        ("s3://b/k?versionId=null", "s3", None, False),
        ("s3://b/k", "s3", None, False),
        ("gs://b/k#123", "gcs", "123", True),
        (f"lakefs://repo/{COMMIT}/p", "lakefs", COMMIT, True),
        ("lakefs://repo/main/p", "lakefs", "main", False),
        (f"hf://datasets/org/name@{COMMIT}", "huggingface", COMMIT, True),
        ("hf://datasets/org/name@main", "huggingface", "main", False),
        ("https://example.org/x", None, None, False),
    ],
)
def test_address_tells_its_version(
    where: str, system: str | None, version: str | None, is_fixed: bool
) -> None:
    found = find_reference(None, where)
    assert (found.system, found.version, found.is_fixed) == (system, version, is_fixed)
    assert found.is_fixed or found.reasons


def test_pointer_of_git_lfs_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12\n")
    found = find_reference(path, None)
    assert (found.system, found.version) == ("lfs", f"sha256:{'a' * 64}")
    assert "git lfs pull" in found.reasons[0]


def test_output_of_dvc_is_found_by_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data.dvc").write_text(
        "outs:\n- md5: 1111\n  size: 1\n  hash: md5\n  path: other\n"
        "- md5: f7a1b2.dir\n  size: 14445097\n  nfiles: 2800\n  hash: md5\n  path: data\n"
    )
    assert find_reference(tmp_path / "data", None) == Reference("dvc", "md5:f7a1b2.dir", is_fixed=True)
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 1111\n  path: other\n")
    assert find_reference(tmp_path / "data", None).system is None


def test_output_of_a_pipeline_of_dvc_is_found_in_its_lock_file(tmp_path: Path) -> None:
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    (tmp_path / "project" / "data" / "prepared").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  x:\n    outs:\n    - path: project/data\n      md5: beyond\n"
    )
    (tmp_path / "project" / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  prepare:\n    cmd: python prepare.py\n    deps:\n    - path: data/raw\n"
        "      hash: md5\n      md5: aaaa.dir\n      size: 10\n    params:\n      params.yaml:\n        split:\n"
        "        - 0.8\n        - 0.2\n    outs:\n    - path: data/prepared\n      hash: md5\n"
        "      md5: '4c0b1e.dir'\n      size: 9\n      nfiles: 2\n  train:\n    cmd: python train.py\n    outs:\n"
        "    - path: model.pkl\n      md5: cccc\n"
    )
    data = tmp_path / "project" / "data"
    assert find_reference(data / "prepared", None) == Reference("dvc", "md5:4c0b1e.dir", is_fixed=True)
    assert find_reference(data / "raw", None) == Reference("dvc", "md5:aaaa.dir", is_fixed=True)
    # What lies above the project's own folder is another project's.
    assert find_reference(data, None).system is None


def test_newest_version_of_a_delta_table(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    for version in (0, 9, 10):
        (tmp_path / "_delta_log" / f"{version:020}.json").touch()
    (tmp_path / "_delta_log" / "00000000000000000099.checkpoint.parquet").touch()
    assert find_reference(tmp_path, None) == Reference("delta", "10", is_fixed=True)


def test_current_snapshot_of_an_iceberg_table(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    for number, snapshot in ((9, 111), (10, 222)):
        text = json.dumps({"current-snapshot-id": snapshot, "table-uuid": "u"})
        (tmp_path / "metadata" / f"{number:05}-abc.metadata.json").write_text(text)
    assert find_reference(tmp_path, None) == Reference("iceberg", "222", is_fixed=True)


def test_snapshot_of_the_hub_is_told_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "datasets--org--name" / "snapshots" / COMMIT / "data"
    folder.mkdir(parents=True)
    assert find_reference(folder, None) == Reference("huggingface", f"org/name@{COMMIT}", is_fixed=True)


def test_git_knows_a_committed_path_until_it_changes(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    data = tmp_path / "data"
    data.mkdir()
    (data / "1.csv").write_text("1")
    assert git_reference(data, clock=SystemClock()) is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "data")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_reference(data, clock=SystemClock()) == Reference("git", f"{commit}:data", is_fixed=True)
    (tmp_path / "other").write_text("not in the data")
    found = git_reference(data / "1.csv", clock=SystemClock())
    assert found == Reference("git", f"{commit}:data/1.csv", is_fixed=True)
    assert git_reference(tmp_path / "other", clock=SystemClock()) is None
    (data / "2.csv").write_text("new")
    found = git_reference(data, clock=SystemClock())
    assert found is not None and not found.is_fixed and found.reasons


def test_no_repository_is_no_trouble(tmp_path: Path) -> None:
    assert git_reference(tmp_path, clock=SystemClock()) is None
