"""The manifest of real folders: what counts, what is not read again, and what is told."""

import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from trainledger.data.folder_listing import FileKey
from trainledger.data.folder_scan import FolderScan, Scanner, hash_file
from trainledger.data.path_selection import PathSelection
from trainledger.data.stat_cache import RACY_NS, StatCache, is_settled
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.tree_manifest import Child, walk_tree

# As if everything on disk had been there for long.
LATER_NS = 3600 * 10**9


class Scans:
    """Scans of folders with one cache; `nodes` by digest."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self.nodes: dict[str, bytes] = {}

    def scan(self, folder: Path, *, ahead_ns: int = LATER_NS) -> FolderScan:
        with StatCache(self._cache, "host") as cache:
            return Scanner(cache, self._store, started_ns=SystemClock().wall_ns() + ahead_ns).scan(
                os.fsencode(folder)
            )

    def content(self, folder: Path) -> dict[bytes, Child]:
        return dict(walk_tree(self.scan(folder).sha256, self.nodes.__getitem__))

    def _store(self, node: bytes) -> None:
        self.nodes[hashlib.sha256(node).hexdigest()] = node


@pytest.fixture
def scans(tmp_path: Path) -> Scans:
    return Scans(tmp_path / "cache.sqlite")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "train" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    for number in range(20):
        (folder / "train" / f"{number}.txt").write_text(f"file {number}")
    (folder / "train" / "deep" / "large").write_bytes(b"x" * (3 << 20))
    (folder / "script.sh").write_text("#!/bin/sh")
    (folder / "script.sh").chmod(0o755)
    (folder / "inside").symlink_to("train/1.txt")
    (folder / os.fsdecode(b"not \xff utf-8\n")).write_text("1")
    return folder


def test_manifest_holds_every_file_with_the_digest_of_its_bytes(scans: Scans, data: Path) -> None:
    content = scans.content(data)
    for path in (p for p in data.rglob("*") if p.is_file() and not p.is_symlink()):
        child = content[os.fsencode(path.relative_to(data))]
        assert child.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert child.size_bytes == path.stat().st_size
    assert content[b"script.sh"].type == "x" and content[b"train/1.txt"].type == "f"
    assert content[b"inside"] == Child(
        "l", 11, hashlib.sha256(b"train/1.txt").hexdigest(), b"inside", b"train/1.txt"
    )
    assert content[b"empty"].type == "d"
    scan = scans.scan(data)
    assert (scan.files, scan.size_bytes) == (
        23,
        sum(p.lstat().st_size for p in data.rglob("*") if p.is_file() and not p.is_symlink()),
    )
    assert scan.is_stable and not scan.is_partial and not scan.reasons


def test_a_copy_elsewhere_has_the_same_digest_and_a_rename_another(
    scans: Scans, data: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, symlinks=True)
    first = scans.scan(data).sha256
    assert scans.scan(copy).sha256 == first
    (copy / "train" / "1.txt").rename(copy / "train" / "one.txt")
    assert scans.scan(copy).sha256 != first


def test_unchanged_files_are_not_read_again(scans: Scans, data: Path) -> None:
    first = scans.scan(data)
    again = scans.scan(data)
    assert first.read_bytes == first.size_bytes and again.read_bytes == 0
    assert (again.sha256, again.files, again.size_bytes) == (first.sha256, first.files, first.size_bytes)
    (data / "train" / "7.txt").write_text("changed")
    changed = scans.scan(data)
    assert changed.read_bytes == len("changed") and changed.sha256 != first.sha256
    assert changed.sha256 == Scans(None).scan(data).sha256


def test_nodes_that_were_lost_are_stored_again_and_others_are_not_touched(data: Path, tmp_path: Path) -> None:
    stored: dict[str, bytes] = {}
    calls: list[bytes] = []

    def store(node: bytes) -> None:
        calls.append(node)
        stored[hashlib.sha256(node).hexdigest()] = node

    def scan() -> FolderScan:
        calls.clear()
        with StatCache(tmp_path / "cache.sqlite", "host") as cache:
            scanner = Scanner(
                cache, store, started_ns=SystemClock().wall_ns() + LATER_NS, is_stored=stored.__contains__
            )
            return scanner.scan(os.fsencode(data))

    first = scan()
    before = dict(stored)
    assert len(calls) == 4
    assert scan().sha256 == first.sha256 and stored == before
    # Folders with folders in them are put together anew; `empty` and `deep` are known and there.
    assert len(calls) == 2
    deep = next(
        child.sha256 for path, child in walk_tree(first.sha256, stored.__getitem__) if path.endswith(b"deep")
    )
    del stored[deep]
    assert scan().sha256 == first.sha256 and stored == before


@pytest.mark.parametrize(
    "how", ["rewritten with its times put back", "replaced by rename with the same times"]
)
def test_a_change_that_hides_its_times_is_seen(scans: Scans, data: Path, how: str) -> None:
    path = data / "train" / "3.txt"
    first, before = scans.scan(data), path.stat()
    if how.startswith("rewritten"):
        path.write_text("FILE 3")
    else:
        other = data.parent / "other"
        other.write_text("FILE 3")
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.rename(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert scans.scan(data).sha256 != first.sha256


def test_files_as_young_as_the_scan_are_read_again(scans: Scans, data: Path) -> None:
    scans.scan(data, ahead_ns=0)
    assert scans.scan(data, ahead_ns=0).read_bytes > 0
    key = FileKey(1, 2, 3, mtime_ns=100 * RACY_NS, ctime_ns=100 * RACY_NS, mode=0o644)
    assert not is_settled(key, started_ns=101 * RACY_NS)
    assert is_settled(key, started_ns=101 * RACY_NS + 1)


def test_cache_of_another_host_or_a_broken_one_is_not_used(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    first = Scans(path).scan(data)
    with StatCache(path, "another host") as cache:
        scan = Scanner(cache, lambda node: None, started_ns=SystemClock().wall_ns()).scan(os.fsencode(data))
    assert scan.read_bytes == first.size_bytes
    path.write_bytes(b"no database" * 1000)
    assert Scans(path).scan(data).sha256 == first.sha256


def test_what_is_no_file_or_leads_out_is_told(scans: Scans, data: Path) -> None:
    os.mkfifo(data / "pipe")
    (data / "out").symlink_to("/etc/hostname")
    scan = scans.scan(data)
    assert sorted(reason.split(":")[0] for reason in scan.reasons) == [
        "a link that leads out of the folder is not followed",
        "no file",
    ]
    assert not scan.is_partial


def test_what_cannot_be_read_makes_it_partial(scans: Scans, data: Path) -> None:
    hidden = data / "train" / "deep"
    top = os.fsencode(data)
    # Root reads everything, so the file goes away between the listing and the reading.
    scanner_saw = scans.scan(data).files

    class Vanishing(StatCache):
        def files(self, path: bytes) -> dict[bytes, tuple[FileKey, str]]:
            if path.endswith(b"deep"):
                (hidden / "large").unlink()
            return {}

    with Vanishing(None, "") as cache:
        scan = Scanner(cache, lambda node: None, started_ns=0).scan(top)
    assert scan.is_partial and not scan.is_stable and scan.files == scanner_saw - 1
    assert scan.size_bytes < 1000
    assert "cannot be read" in scan.reasons[0]


def test_a_file_that_changes_while_it_is_read_is_told_as_unstable(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"x" * (64 << 20))
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            with path.open("r+b") as file:
                file.write(os.urandom(8))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert not hash_file(os.fsencode(path)).is_stable
    finally:
        ended.set()
        writer.join()
    assert hash_file(os.fsencode(path)).is_stable


def test_only_what_is_selected_is_in_the_manifest_and_read(data: Path, tmp_path: Path) -> None:
    nodes: dict[str, bytes] = {}
    (data / "train" / "deep" / "1.txt").write_text("deep")

    def scan(selection: PathSelection) -> FolderScan:
        with StatCache(tmp_path / "cache.sqlite", f"host{selection.scope}") as cache:
            started_ns = SystemClock().wall_ns() + LATER_NS
            store = lambda node: nodes.__setitem__(hashlib.sha256(node).hexdigest(), node)  # noqa: E731
            return Scanner(cache, store, started_ns=started_ns, selection=selection).scan(os.fsencode(data))

    whole = scan(PathSelection())
    texts = PathSelection(("1*.txt",), ("deep",))
    found = scan(texts)
    paths = {path for path, _ in walk_tree(found.sha256, nodes.__getitem__)}
    assert paths == {b"train"} | {b"train/%d.txt" % n for n in (1, *range(10, 20))}
    assert (found.files, found.read_bytes) == (11, found.size_bytes) and not found.reasons
    assert scan(texts).read_bytes == 0 and scan(PathSelection()).sha256 == whole.sha256 != found.sha256
    (data / "train" / "7.txt").write_text("not selected")
    assert scan(texts).sha256 == found.sha256
