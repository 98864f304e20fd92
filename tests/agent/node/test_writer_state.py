"""Who holds a writer's lock, seen from outside and without taking it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.journals import BOOT_ID, JournalFile, live_process
from trainledger.node.journal_folder import JournalFolder
from trainledger.node.writer_state import lock_holder, owner_name, probe_writer, read_cgroup
from trainledger.process_facts import read_process_facts
from trainledger_schemas.journal import SegmentHeader


def header_of(journal: JournalFile) -> SegmentHeader:
    return SegmentHeader.parse(journal.path.read_bytes())


def test_the_kernel_names_the_holder_of_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    assert lock_holder(fd) is None
    with live_process(path) as process:
        assert lock_holder(fd) == process.pid
        process.kill()
        process.wait()
        assert lock_holder(fd) is None
    os.close(fd)


def test_a_journal_of_another_user_that_names_our_own_process_is_not_believed(tmp_path: Path) -> None:
    facts = read_process_facts()
    journal = JournalFile(
        tmp_path, pid=facts.pid, start_ticks=facts.start_ticks, pid_namespace=facts.pid_namespace
    )
    with JournalFolder(tmp_path, os.geteuid(), journal.journal_id) as folder:
        assert probe_writer(folder, header_of(journal), boot_id=BOOT_ID).pid == os.getpid()
        folder.uid += 1
        assert not probe_writer(folder, header_of(journal), boot_id=BOOT_ID).alive


def test_an_unknown_boot_is_no_other_boot(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, boot_id=bytes(16))
    with (
        JournalFolder(tmp_path, os.geteuid(), journal.journal_id) as folder,
        live_process(journal.folder / "writer.lock"),
    ):
        assert probe_writer(folder, header_of(journal), boot_id=BOOT_ID).alive


def test_a_writer_in_another_pid_namespace_is_found_by_the_pid_that_we_see(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, pid=1, pid_namespace=4)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX);"
        "import os; print('held', os.getpid(), flush=True); sys.stdin.read()"
    )
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", code]
    with subprocess.Popen(
        [*command, str(journal.folder / "writer.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.xfail("this machine does not let a user make namespaces")
        assert line == b"held 1\n"
        with JournalFolder(tmp_path, os.geteuid(), journal.journal_id) as folder:
            state = probe_writer(folder, header_of(journal), boot_id=BOOT_ID)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert state.alive and [str(state.pid)] == children
        assert read_cgroup(state.pid) == read_cgroup(os.getpid())


def test_a_user_without_a_name_is_its_number() -> None:
    assert owner_name(3_999_999_999) == "3999999999"
    assert owner_name(0) == "root"
