"""Journals in volumes of pods, in a folder tree like the kubelet's: real journals, real processes, a real spool."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from support.journals import IDENTITY, JournalFile, live_process, open_spool, read_points, read_records
from trainledger.node.kubernetes.pod_journals import VOLUME, PodJournals, open_journals
from trainledger_schemas.clock import SystemClock, read_boot_id
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.ids import id_text

UID = "0a1b2c3d-1111-2222-3333-444455556666"
REAL = replace(IDENTITY, boot_id=read_boot_id())


class Node:
    """A node with a folder of its own and the kubelet's folder of pods."""

    def __init__(self, folder: Path) -> None:
        self.journals, self.pods = folder / "journals", folder / "kubelet" / "pods"
        self.journals.mkdir()
        self.pods.mkdir(parents=True)
        self.home = folder / "home"

    def volume(self, uid: str = UID, name: str = VOLUME) -> Path:
        """An emptyDir of a pod."""
        folder = self.pods / uid / "volumes" / "kubernetes.io~empty-dir" / name
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def agent(self) -> Iterator[PodJournals]:
        spool = open_spool(self.home / "spool")
        journals = open_journals(self.journals, spool, clock=SystemClock(), identity=REAL, pods=self.pods)
        try:
            yield journals
        finally:
            journals.close()
            spool.close()

    def points(self) -> int:
        return len(read_points(self.home / "spool"))

    def events(self, kind: str) -> list[dict[str, object]]:
        return [record for name, record in read_records(self.home / "spool", TOPIC_RUNS) if name == kind]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def train(volume: Path, code: str) -> "subprocess.Popen[str]":
    """A training with the real SDK, whose pod has the volume mounted."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(volume),
        "TRAINLEDGER_DIR": str(volume),
        "TRAINLEDGER_CAPTURE": "off",
    }
    program = f"import sys, trainledger\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def reader_seen_from(volume: Path) -> str:
    program = f"from pathlib import Path; from trainledger.placement import reader_of; print(reader_of(Path({str(volume)!r})))"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_training_in_a_pod_is_read_to_its_end_beside_one_of_the_node(node: Node) -> None:
    volume = node.volume()
    node.volume("0a1b2c3d-1111-2222-3333-444455557777", "scratch")
    JournalFile(node.journals, run_id=bytes([2]) * 16, journal_id=bytes([2]) * 16).rows(5)
    code = "run = trainledger.init(project='p')\nfor n in range(20): run.log({'x': n})\nprint('logged', flush=True)\nsys.stdin.readline()\nrun.finish()"
    with node.agent() as journals, train(volume, code) as process:
        assert process.stdout is not None and process.stdout.readline() == "logged\n"
        journals.collect()
        assert journals.folders() == [volume]
        assert [writer.pid for writer in journals.live_writers()] == [process.pid]
        process.communicate("\n", timeout=60)
        report = journals.collect(drain=True)
        assert report.journals_gone >= 1 and report.removed == []
        assert node.points() == 20 + 2 * 5
        (ended,) = [item for item in node.events("writer_gone") if item["writer_id"] != bytes([2]) * 16]
        assert ended["exit_seen"] is True
        assert not list(volume.glob("*/*/*.tlj")), "what is safe in the spool is removed from the volume"
        shutil.rmtree(node.pods / UID)
        journals.collect()
        assert journals.folders() == []


def test_volume_that_the_kubelet_removes_is_read_on_and_its_writers_end_is_told(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    volume = node.volume()
    lock = volume / str(os.geteuid()) / id_text(bytes([1]) * 16) / "writer.lock"
    journal = JournalFile(volume, run_id=bytes([1]) * 16, journal_id=bytes([1]) * 16, boot_id=read_boot_id())
    journal.rows(3)
    with live_process(lock), node.agent() as journals:
        journals.collect()
        shutil.rmtree(node.pods / UID)
        report = journals.collect()
        assert len(report.removed) == 1 and journals.folders() == [volume]
    with node.agent() as journals:
        # The agent was restarted, the volume is gone, the process too.
        with caplog.at_level(logging.WARNING):
            journals.collect(drain=True)
        journals.collect()
        assert journals.folders() == []
        assert [item["evidence"] for item in node.events("writer_gone")] == ["journal_removed"]
        assert node.points() == 2 * 3
        assert not volume.exists()


def test_pod_that_reads_its_own_journals_is_left_alone(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    volume = node.volume()
    JournalFile(volume, run_id=bytes([1]) * 16, journal_id=bytes([1]) * 16).rows(3)
    program = (
        "import sys\nfrom pathlib import Path\nfrom trainledger.node.reader_lock import acquire\n"
        f"lock = acquire(Path({str(volume)!r}), 'up', home=Path('/'), wait_s=0)\n"
        "print('locked', flush=True)\nsys.stdin.readline()"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", program], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with reader, node.agent() as journals, caplog.at_level(logging.WARNING):
        assert reader.stdout is not None and reader.stdout.readline() == "locked\n"
        journals.collect()
        journals.collect()
        assert node.points() == 0 and journals.folders() == []
        assert len(caplog.records) == 1, "said once"
        reader.communicate("\n", timeout=60)
        journals.collect(drain=True)
        assert node.points() == 2 * 3


def test_what_a_pod_puts_into_its_volume_cannot_lead_the_agent_elsewhere(node: Node, tmp_path: Path) -> None:
    volume = node.volume()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("x")
    (volume / str(os.geteuid())).symlink_to(elsewhere)
    (volume / "reader.lock").symlink_to(elsewhere / "secret")
    with node.agent() as journals:
        journals.collect()
        assert (elsewhere / "secret").read_text() == "x" and node.points() == 0
    (volume / "reader.lock").unlink()
    with node.agent() as journals:
        assert journals.collect().refused == 1
    assert os.listdir(elsewhere) == ["secret"]


def test_volume_is_locked_while_it_is_read_and_free_afterwards(node: Node) -> None:
    volume = node.volume()
    with node.agent() as journals:
        journals.collect()
        # Asked by another process, as a training does: this one holds the lock and would not see it.
        assert reader_seen_from(volume) == f"agent, pid {os.getpid()}"
    assert reader_seen_from(volume) == "None"
