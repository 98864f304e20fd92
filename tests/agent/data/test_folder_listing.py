"""Listings of real folders: both ways to read them say the same, and a fingerprint changes with every change."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainledger.data import bulk_stat
from trainledger.data.bulk_stat import key_of
from trainledger.data.folder_listing import fingerprint_of, fingerprints_of, list_folder

WAYS = ["statx", "one by one"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs with the statx of libc, and as where there is none."""
    if request.param == "one by one":
        monkeypatch.setattr(bulk_stat, "_statx", lambda: None)
    return str(request.param)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    for number in range(50):
        (folder / f"{number}").write_bytes(b"x" * number)
    (folder / os.fsdecode(b"not \xff utf-8\n")).write_text("1")
    return folder


def test_a_listing_has_what_lstat_says_of_each_file(way: str, data: Path) -> None:
    listing = list_folder(os.fsencode(data))
    assert listing.folders == [b"inner"] and not listing.links and not listing.others
    files = {os.fsencode(path.name): key_of(path.lstat()) for path in data.iterdir() if path.is_file()}
    assert dict(listing.files) == files and listing.files == sorted(listing.files)
    assert listing.fingerprint == fingerprint_of(os.fsencode(data)) is not None
    assert (bulk_stat.read_stats(os.fsencode(data)).buffer is not None) == (way == "statx")


def rewrite(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"y" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "same size and times": lambda data: rewrite(data / "7"),
    "mode": lambda data: (data / "7").chmod(0o755),
    "renamed": lambda data: (data / "7").rename(data / "seven"),
    "removed": lambda data: (data / "7").unlink(),
    "added": lambda data: (data / "new").write_bytes(b""),
    "folder added": lambda data: (data / "other").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_changes_with(way: str, data: Path, change: str) -> None:
    before = fingerprint_of(os.fsencode(data))
    assert fingerprint_of(os.fsencode(data)) == before
    CHANGES[change](data)
    assert fingerprint_of(os.fsencode(data)) != before


def test_links_and_pipes_leave_no_fingerprint(way: str, data: Path) -> None:
    (data / "link").symlink_to("7")
    listing = list_folder(os.fsencode(data))
    assert listing.links == [b"link"] and listing.fingerprint is None
    (data / "link").unlink()
    os.mkfifo(data / "pipe")
    listing = list_folder(os.fsencode(data))
    assert listing.others == [b"pipe"] and listing.fingerprint is None
    with pytest.raises(FileNotFoundError):
        list_folder(os.fsencode(data / "nowhere"))
    assert fingerprint_of(os.fsencode(data / "nowhere")) is None


# A process of its own: a fork needs one without threads.
SHARED = """
import os, sys
from trainledger.data import folder_listing
folder_listing.os.sched_getaffinity = lambda pid: {0, 1}
paths = sorted(os.fsencode(path) for path in sys.argv[1:])
alone = folder_listing.fingerprints_of(paths, files=0)
forked = []
fork = os.fork
def count():
    child = fork()
    forked.append(child)
    return child
os.fork = count
for _ in range(20):
    assert folder_listing.fingerprints_of(paths, files=10**6) == alone
assert len(forked) == 20
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print(len(alone), sum(found is None for found in alone.values()))
"""


def test_a_second_process_finds_the_same_and_is_gone_afterwards(tmp_path: Path) -> None:
    folders = [tmp_path / f"{number}" for number in range(40)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "file").write_text(f"{number}")
    folders[3].joinpath("link").symlink_to("x")
    (folders[37] / "link").symlink_to("x")
    done = subprocess.run(
        [sys.executable, "-c", SHARED, *map(str, folders), str(tmp_path / "nowhere")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "41 3\n", done.stderr
    assert fingerprints_of([], files=0) == {}
