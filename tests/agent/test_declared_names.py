"""What must not be opened, and what cannot be a name or an alias, of data that a training names."""

import os
from pathlib import Path
from typing import Any

import pytest

from support.training import Training
from trainledger.data.folder_scan import hash_file
from trainledger.readable_files import why_not_read
from trainledger_schemas.version_names import is_alias


def claims_of(training: Training, event: str) -> list[dict[str, Any]]:
    found = [claim for journal in training.read() for claim in journal.claims_of(event)]
    return sorted(found, key=lambda claim: claim["at_us"])


def test_pipes_devices_and_files_of_the_kernel_are_recorded_and_not_opened(tmp_path: Path) -> None:
    training = Training(tmp_path)
    done = training.run(
        """
        import os, socket
        os.mkfifo("pipe")
        pipe = os.open("pipe", os.O_RDWR)
        os.write(pipe, b"12345")
        socket.socket(socket.AF_UNIX).bind("socket")
        for call in (run.use_dataset, run.log_artifact):
            for path in ("pipe", "socket", "/dev/zero", "/proc/self", "/proc/self/maps", "/sys/kernel"):
                call(path)
        run.finish()
        assert os.read(pipe, 100) == b"12345"
        """
    )
    for event in ("dataset_used", "artifact_logged"):
        claims = claims_of(training, event)
        # No claim of the background: nothing was started that could open them.
        assert [(claim["status"], claim["stage"]) for claim in claims] == [("unmeasured", 0)] * 6
        assert claims[0]["reasons"][0].startswith("a pipe is not read")
        assert claims[5]["reasons"][0].startswith("files below /sys")
    assert "a device is not read" in done.stderr


def test_reader_opens_regular_files_alone_and_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(pipe, b"12345")
    for path in (os.fsencode(tmp_path / "pipe"), b"/dev/zero"):
        with pytest.raises(OSError, match="no regular file"):
            hash_file(path)
    assert os.read(pipe, 100) == b"12345"
    os.close(pipe)
    with pytest.raises(OSError, match="more bytes than its size"):
        hash_file(b"/proc/%d/maps" % os.getpid())
    assert why_not_read(str(tmp_path)) is None
    (tmp_path / "link").symlink_to("/proc/self/maps")
    assert why_not_read(str(tmp_path / "link")) is not None


def test_names_and_aliases_can_be_asked_for(tmp_path: Path) -> None:
    training = Training(tmp_path)
    (tmp_path / "m.pt").write_bytes(b"weights")
    done = training.run(
        """
        for _ in range(2):
            run.log_artifact("m.pt", name="net:big", aliases=["best", "v3", "", "a:b", "a/b", "latest", 5, "v3a"])
        run.use_dataset("m.pt", name="a:b")
        run.use_dataset(None)
        run.use_dataset("")
        run.log_artifact(None)
        for reference in ("", None, ":v3"):
            assert run.use_artifact(reference) is None
        """
    )
    claim = claims_of(training, "artifact_logged")[0]
    assert (claim["name"], claim["aliases"]) == ("net-big", ["best", "v3a"])
    assert {claim["name"] for claim in claims_of(training, "dataset_used")} == {"a-b"}
    lines = done.stderr.splitlines()
    assert sum("'net:big' has a colon" in line for line in lines) == 1
    assert sum("alias 'v3' is left out" in line for line in lines) == 1
    for call in ("use_dataset was given nothing", "log_artifact was given nothing", "names no artifact"):
        assert sum(call in line for line in lines) == 1


@pytest.mark.parametrize("alias", ["v3", "", " ", "a:b", "a/b", "latest", None, 3])
def test_no_alias(alias: Any) -> None:
    assert not is_alias(alias) and is_alias("v3.1") and is_alias("production")
