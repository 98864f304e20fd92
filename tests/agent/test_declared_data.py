"""Datasets and artifacts of real trainings: what is on record at once, what the background adds, what is kept."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.polling import poll_until
from support.training import Training, user_folder
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.tree_manifest import walk_tree


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    yield Training(tmp_path)


def blobs_of(training: Training) -> FolderBlobs:
    return FolderBlobs(user_folder(training.journals) / "blobs")


def told(training: Training, event: str, stage: int) -> list[dict[str, Any]]:
    claims = [claim for journal in training.read() for claim in journal.claims_of(event)]
    return sorted((claim for claim in claims if claim["stage"] == stage), key=lambda claim: claim["at_us"])


def measured(training: Training, event: str, count: int = 1) -> list[dict[str, Any]]:
    """The claims of the background, once there are that many."""
    poll_until(lambda: len(told(training, event, 1)) >= count, deadline_s=60)
    return told(training, event, 1)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_keywords_of_other_libraries_are_told_and_the_artifact_is_kept(
    training: Training, tmp_path: Path
) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    done = training.run(
        """
        run.use_dataset("model.pt", nam="d"); run.log_artifact("model.pt", name="m", type="model")
        run.use_artifact("m:latest", typ=1); run.define_metric("loss", goal="min", step_metric="epoch")
        run.finish(exit_code=1)
        """
    )
    assert "use_dataset() has no argument 'nam'; did you mean 'name'?" in done.stderr
    assert "log_artifact() has no argument 'type'; it is ignored" in done.stderr
    assert "use_artifact() has no argument 'typ'; it is ignored" in done.stderr
    assert "define_metric() has no argument 'step_metric'; it is ignored" in done.stderr
    assert "finish() has no argument 'exit_code'; it is ignored" in done.stderr
    (claim,) = told(training, "artifact_logged", 0)
    assert claim["name"] == "m"


def test_a_folder_is_on_record_at_once_and_its_manifest_later(training: Training, tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "1.txt").write_text("one")
    (tmp_path / "train" / "2.txt").write_text("two")
    training.run("run.use_dataset('train', name='cifar', role='train')")
    (claim,) = told(training, "dataset_used", 0)
    assert (claim["name"], claim["kind"], claim["role"], claim["status"]) == (
        "cifar",
        "dataset",
        "train",
        "declared",
    )
    assert claim["uri"] == str(tmp_path / "train")
    (found,) = measured(training, "dataset_used")
    assert found["use_id"] == claim["use_id"] and found["at_us"] == claim["at_us"]
    assert (found["status"], found["files"], found["size_bytes"]) == ("complete", 2, 6)
    assert found["digest"] == f"sha256:{found['manifest_sha256']}"
    stored = {
        path: child.sha256 for path, child in walk_tree(found["manifest_sha256"], blobs_of(training).read)
    }
    assert stored[b"a/1.txt"] == hashlib.sha256(b"one").hexdigest()
    assert not blobs_of(training).has(stored[b"a/1.txt"])  # the bytes of data stay where they are


def test_a_file_has_the_digest_that_sha256sum_prints(training: Training, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"1,2\n")
    training.run("import pathlib; run.use_dataset(pathlib.Path('data.csv'), version='2024')")
    (found,) = measured(training, "dataset_used")
    assert (found["name"], found["version"], found["digest"]) == ("data.csv", "2024", sha256(b"1,2\n"))


def test_address_is_recorded_without_what_signs_it(training: Training) -> None:
    training.run(
        """
        run.use_dataset("s3://user:hunter22@bucket/key?versionId=abc123&X-Amz-Signature=c0ffee&X-Amz-Credential=me")
        run.use_dataset("https://example.org/data.tar?token=c0ffee")
        """
    )
    first, second = measured(training, "dataset_used", 2)
    assert (first["uri"], first["name"]) == ("s3://bucket/key?versionId=abc123", "key")
    assert (first["system"], first["reference"], first["is_fixed"]) == ("s3", "abc123", True)
    assert (second["uri"], second["status"]) == ("https://example.org/data.tar", "unmeasured")
    written = b"".join(p.read_bytes() for p in training.journals.rglob("*") if p.is_file())
    assert b"c0ffee" not in written and b"hunter22" not in written


def test_artifact_is_what_it_was_when_it_was_logged(training: Training, tmp_path: Path) -> None:
    training.run(
        """
        for epoch in range(3):
            with open("model.pt", "wb") as file:
                file.write(b"weights of %d" % epoch)
            run.log_artifact("model.pt", name="resnet", aliases="newest")
        with open("model.pt", "wb") as file:
            file.write(b"something else")
        """
    )
    found = measured(training, "artifact_logged", 3)
    assert [claim["digest"] for claim in found] == [sha256(b"weights of %d" % epoch) for epoch in range(3)]
    assert all(claim["is_stored"] and claim["status"] == "complete" for claim in found)
    assert found[0]["aliases"] == ["newest"] and found[0]["kind"] == "model"
    digest = found[1]["digest"].removeprefix("sha256:")
    assert blobs_of(training).read(digest) == b"weights of 1"
    held = blobs_of(training).folder / "held"
    poll_until(lambda: not any(held.iterdir()), deadline_s=60)


def test_the_same_bytes_are_stored_once(training: Training, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(os.urandom(1 << 20))
    for _ in range(2):
        training.run("run.log_artifact('model.pt')")
        poll_until(lambda: told(training, "artifact_logged", 1), deadline_s=60)
    found = measured(training, "artifact_logged", 2)
    assert [claim["new_bytes"] for claim in found] == [1 << 20, 0]
    assert len([p for p in (blobs_of(training).folder / "sha256").rglob("*") if p.is_file()]) == 1


LINKED = (
    "import trainledger.held_files as d\nd.COPIED_BYTES_MAX = 0\nd._clone = lambda source, target: False\n"
)


def test_a_large_file_is_held_by_a_link_while_the_training_replaces_it(
    training: Training, tmp_path: Path
) -> None:
    training.prelude = LINKED
    training.run(
        """
        import os
        open("model.pt", "wb").write(b"first")
        run.log_artifact("model.pt")
        open("next", "wb").write(b"second")
        os.replace("next", "model.pt")
        """
    )
    (found,) = measured(training, "artifact_logged")
    assert (found["digest"], found["is_stored"]) == (sha256(b"first"), True)


def test_a_linked_file_that_is_written_in_place_is_told_and_not_stored(
    training: Training, tmp_path: Path
) -> None:
    training.prelude = LINKED
    # The lock is what the background waits for: the training is certainly faster.
    training.run(
        """
        import fcntl, os
        folder = run._journal.folder.parent / "blobs"
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / "artifacts.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        open("model.pt", "wb").write(b"first")
        run.log_artifact("model.pt")
        open("model.pt", "wb").write(b"later")
        """
    )
    (found,) = measured(training, "artifact_logged")
    assert (found["digest"], found["is_stored"], found["status"]) == (None, False, "unstable")
    assert "in place" in found["reasons"][0]


def test_a_folder_is_kept_with_its_manifest(training: Training, tmp_path: Path) -> None:
    (tmp_path / "model" / "shards").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "shards" / "1").write_bytes(b"\1" * 1000)
    (tmp_path / "model" / "newest").symlink_to("shards/1")
    training.run("run.log_artifact('model', name='llm'); import shutil; shutil.rmtree('model')")
    (found,) = measured(training, "artifact_logged")
    assert (found["files"], found["size_bytes"], found["is_stored"]) == (2, 1002, True)
    blobs = blobs_of(training)
    content = dict(walk_tree(found["manifest_sha256"], blobs.read))
    assert blobs.read(content[b"shards/1"].sha256) == b"\1" * 1000
    assert content[b"newest"].target == b"shards/1"


def test_a_folder_that_holds_what_is_kept_is_not_kept(training: Training, tmp_path: Path) -> None:
    done = training.run(
        f"run.log_artifact({str(tmp_path)!r}, name='all'); run.log_artifact('/', name='disk')"
    )
    claims = told(training, "artifact_logged", 0)
    assert [claim["status"] for claim in claims] == ["unmeasured", "unmeasured"]
    assert "where artifacts are kept: name the folder that the run wrote" in claims[0]["reasons"][0]
    assert (
        "log_artifact of all: it holds" in done.stderr
        and not (user_folder(training.journals) / "blobs").exists()
    )


def test_nothing_that_is_passed_reaches_the_training(training: Training, tmp_path: Path) -> None:
    done = training.run(
        """
        class Odd:
            def __str__(self): raise RuntimeError("odd")
        run.use_dataset("no such folder", name="lost")
        run.use_dataset([1, 2, 3])
        run.use_dataset(Odd(), name=Odd())
        run.log_artifact(None)
        run.log_artifact("\\0", aliases=5)
        run.use_artifact("resnet:production")
        run.use_artifact(Odd())
        run.log({"x": 1})
        run.finish()
        run.use_dataset("late")
        print("done")
        """
    )
    assert done.stdout == "done\n" and done.returncode == 0
    assert "lost: there is no" in done.stderr and "Traceback" not in done.stderr
    claims = {claim["name"]: claim for claim in told(training, "dataset_used", 0)}
    assert claims["lost"]["status"] == "failed" and claims["list"]["status"] == "unmeasured"
    assert (claims["resnet"]["kind"], claims["resnet"]["version"]) == ("model", "production")


def test_a_table_is_described_at_once_and_patterns_choose_files(training: Training, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.jpg", "b.jpg", "notes.txt"):
        (tmp_path / "data" / name).write_text(name)
    done = training.run(
        """
        import pyarrow
        table = pyarrow.table({"x": [1, 2, 3], "name": ["a", "b", None]})
        run.use_dataset(table, name="table")
        run.use_dataset("data", include="*.jpg", exclude=["b*"])
        run.use_dataset("data", name="odd", include=5)
        """
    )
    assert done.returncode == 0 and "odd is not recorded: TypeError" in done.stderr
    claims = {claim["name"]: claim for claim in told(training, "dataset_used", 0)}
    table = claims["table"]
    assert (table["status"], table["rows"], table["columns"]) == ("complete", 3, ["x: int64", "name: string"])
    assert table["digest"].startswith("table-v1:") and not table["reasons"]
    (found,) = measured(training, "dataset_used")
    assert (found["files"], found["include"], found["exclude"]) == (1, ["*.jpg"], ["b*"])
    assert [path for path, _ in walk_tree(found["manifest_sha256"], blobs_of(training).read)] == [b"a.jpg"]


def test_call_starts_no_thread_and_leaves_no_child(training: Training, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"w")
    done = training.run(
        """
        import json, os, threading
        run.log_artifact("model.pt")
        run.use_dataset("model.pt")
        try:
            left = os.wait()
        except ChildProcessError:
            left = None
        print(json.dumps([left, threading.active_count()]))
        """
    )
    assert json.loads(done.stdout) == [None, 1]
    measured(training, "artifact_logged")


def test_disabled_run_reads_nothing(training: Training, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    training.run("run = trainledger.init(mode='disabled'); run.use_dataset('data'); run.log_artifact('data')")
    assert not training.journals.exists()


def test_finish_waits_for_artifacts_where_it_may_wait(training: Training, tmp_path: Path) -> None:
    training.run(
        """
        import threading, time
        open("model.pt", "wb").write(b"weights")
        run.log_artifact("model.pt")
        folder = run._journal.folder
        user = folder.parent

        def read():  # as an agent, which takes away what it has read
            found = []
            while not (found and all(b"is_stored" in segment.read_bytes() for segment in found)):
                found = [path for path in user.glob("*/*.tlj") if path.parent != folder]
                time.sleep(0.01)
            for segment in user.glob("*/*.tlj"):
                segment.rename(segment.with_suffix(".read"))

        thread = threading.Thread(target=read)
        thread.start()
        run.finish()
        assert not run._is_storing() and not list(user.glob("*/*.tlj"))
        thread.join()
        for segment in user.glob("*/*.read"):
            segment.rename(segment.with_suffix(".tlj"))
        """,
        TRAINLEDGER_FINISH_WAIT_S="60",
    )
    assert told(training, "artifact_logged", 1)[0]["is_stored"]


def test_what_a_killed_process_held_is_cleared_away_later(training: Training, tmp_path: Path) -> None:
    left = blobs_of(training).folder / "held" / "left"
    left.mkdir(parents=True)
    (left / "x").write_bytes(b"1")
    os.utime(left, (1, 1))
    user_folder(training.journals).chmod(0o700)
    (tmp_path / "model.pt").write_bytes(b"w")
    training.run("run.log_artifact('model.pt')")
    poll_until(lambda: not left.exists(), deadline_s=60)
