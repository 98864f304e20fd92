"""Where journals go: real folders, real mounts, real locks."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainledger.placement as placement
from support.training import small_disk
from trainledger.placement import Placement, choose_folder, filesystem_type, reader_of
from trainledger.settings import Settings

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="mounts, or gives folders away, for which one must be root"
)
UID = str(os.geteuid())


@pytest.fixture(autouse=True)
def no_node_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(placement, "NODE_FOLDER", tmp_path / "node")


def settings(folder: Path, **named: object) -> Settings:
    return Settings(state_home=folder / "state", **named)  # type: ignore[arg-type]  # fields of any type


def test_order_is_the_setting_then_the_node_folder_then_the_users(tmp_path: Path) -> None:
    state = tmp_path / "state" / "trainledger" / "journals" / UID
    assert choose_folder(settings(tmp_path)).folder == state
    (tmp_path / "node").mkdir()
    assert choose_folder(settings(tmp_path)).folder == tmp_path / "node" / UID
    assert choose_folder(settings(tmp_path, dir=tmp_path / "mine")).folder == tmp_path / "mine" / UID


def test_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    place = choose_folder(settings(tmp_path, dir=tmp_path / "a" / "b"))
    assert place.folder is not None and place.folder.stat().st_mode & 0o777 == 0o700
    assert place == choose_folder(settings(tmp_path, dir=tmp_path / "a" / "b")), "a second time finds it"
    assert place.reasons == () and place.reader is None


@pytest.mark.parametrize("trouble", ["a file", "a link", "a file in its place", "writable by others"])
def test_refused_place_is_a_reason_and_the_next_is_taken(tmp_path: Path, trouble: str) -> None:
    place = tmp_path / "place"
    if trouble == "a file":
        place.write_text("")
    else:
        place.mkdir()
    if trouble == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (place / UID).symlink_to(tmp_path / "elsewhere")
    if trouble == "a file in its place":
        (place / UID).write_text("")
    if trouble == "writable by others":
        (place / UID).mkdir()
        (place / UID).chmod(0o777)
    chosen = choose_folder(settings(tmp_path, dir=place))
    assert chosen.folder == tmp_path / "state" / "trainledger" / "journals" / UID
    assert len(chosen.reasons) == 1 and str(place) in chosen.reasons[0]


@needs_root
def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "place" / UID).mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / "place" / UID, 12345, 12345)
    assert "belongs to someone else" in choose_folder(settings(tmp_path, dir=tmp_path / "place")).reasons[0]


@needs_root
def test_read_only_place_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / UID).mkdir(mode=0o700)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        chosen = choose_folder(settings(tmp_path, dir=disk))
    assert chosen.folder is not None and str(disk) in chosen.reasons[0]


def test_place_that_failed_before_is_left_out(tmp_path: Path) -> None:
    mine = settings(tmp_path, dir=tmp_path / "mine")
    first = choose_folder(mine)
    assert first.folder is not None
    second = choose_folder(mine, {first.folder: "No space left"})
    assert second.folder is not None and second.folder != first.folder
    assert second.reasons == (f"{tmp_path / 'mine'} cannot be used: No space left",)
    assert choose_folder(mine, {first.folder: "a", second.folder: "b"}) == Placement(
        None,
        tuple(
            f"{folder.parent} cannot be used: {why}"
            for folder, why in ((first.folder, "a"), (second.folder, "b"))
        ),
    )


def test_user_without_a_home_is_told_what_to_set() -> None:
    chosen = choose_folder(Settings(state_home=Path("~/.local/state")))
    assert chosen.folder is None and "TRAINLEDGER_DIR" in chosen.reasons[0]


@needs_root
def test_type_of_the_file_system_decides_how_to_append(tmp_path: Path) -> None:
    with small_disk(tmp_path / "a disk\\with é") as disk:
        assert filesystem_type(disk / "not" / "there yet") == "tmpfs"
        (tmp_path / "link").symlink_to(disk)
        assert filesystem_type(tmp_path / "link" / "x") == "tmpfs"
        assert not choose_folder(settings(tmp_path, dir=disk)).append_by_write
        with small_disk(disk):  # a later mount covers an earlier one
            assert filesystem_type(disk) == "tmpfs"
    assert filesystem_type(Path("/proc/self")) == "proc"


def mounts(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(placement, "filesystem_type", lambda path: kind)


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "ceph", "fuse.sshfs", "cifs", "9p"])
def test_network_disk_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts(monkeypatch, kind)
    refused = choose_folder(settings(tmp_path))
    assert refused.folder is None and "TRAINLEDGER_ALLOW_NETWORK_DISK=1" in refused.reasons[0]
    assert kind in refused.reasons[0] and not (tmp_path / "state").exists()
    allowed = choose_folder(settings(tmp_path, allow_network_disk=True))
    assert allowed.folder is not None and allowed.append_by_write


@pytest.mark.parametrize(
    "kind", ["btrfs", "zfs", "fuse.mergerfs", "virtiofs", "unknown", "overlayfs-of-the-future"]
)
def test_file_system_that_was_not_measured_takes_write_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts(monkeypatch, kind)
    assert choose_folder(settings(tmp_path)).append_by_write


def test_interpreter_without_a_global_lock_takes_write_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert choose_folder(settings(tmp_path)).append_by_write


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A reader's lock that another process holds."""
    path = tmp_path / "reader.lock"
    path.write_text(json.dumps({"pid": 4711, "kind": "up"}))
    code = "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f,fcntl.LOCK_EX); print('on',flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"on\n"
        yield path
        process.kill()


def test_reader_is_named_while_it_holds_its_lock(tmp_path: Path, held: Path) -> None:
    assert reader_of(tmp_path) == "up, pid 4711"
    held.write_text("no JSON")
    assert str(reader_of(tmp_path)).startswith("pid ")


def test_lock_that_nobody_holds_is_no_reader_and_stays_free(tmp_path: Path) -> None:
    assert reader_of(tmp_path) is None
    (tmp_path / "reader.lock").write_text("{}")
    assert reader_of(tmp_path) is None
    with (tmp_path / "reader.lock").open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
