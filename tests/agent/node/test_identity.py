import json
import shutil
from pathlib import Path

from trainledger.node.identity import load_identity, machine_digest, write_durably


def test_producer_id_is_made_once_and_kept(tmp_path: Path) -> None:
    first = load_identity(tmp_path / "spool")
    again = load_identity(tmp_path / "spool")
    assert first == again
    assert len(first.producer_id) == 16


def test_copied_spool_is_another_producer(tmp_path: Path) -> None:
    original = load_identity(tmp_path / "spool")
    shutil.copytree(tmp_path / "spool", tmp_path / "copy")
    copy = load_identity(tmp_path / "copy")
    assert copy.producer_id != original.producer_id
    assert load_identity(tmp_path / "copy") == copy
    assert load_identity(tmp_path / "spool") == original


def test_spool_on_another_machine_is_another_producer(tmp_path: Path) -> None:
    here = load_identity(tmp_path, machine="one")
    there = load_identity(tmp_path, machine="two")
    assert here.producer_id != there.producer_id


def test_damaged_producer_file_gives_a_new_producer(tmp_path: Path) -> None:
    first = load_identity(tmp_path)
    for damage in (b"", b"{", b"[]", b"null", json.dumps({"producer_id": 7}).encode()):
        (tmp_path / "producer.json").write_bytes(damage)
        other = load_identity(tmp_path)
        assert other.producer_id != first.producer_id
        assert load_identity(tmp_path) == other


def test_node_id_is_the_host_name_unless_named(tmp_path: Path) -> None:
    unnamed = load_identity(tmp_path)
    assert unnamed.node_id == unnamed.host
    assert load_identity(tmp_path, node_id="node-7").node_id == "node-7"
    assert len(load_identity(tmp_path, node_id="x" * 1000).node_id) == 253


def test_machine_digest_hides_the_machine_id_and_differs_by_machine(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("0123456789abcdef0123456789abcdef\n")
    two.write_text("fedcba9876543210fedcba9876543210\n")
    assert machine_digest((one,)) != machine_digest((two,))
    assert "0123456789abcdef" not in machine_digest((one,))
    assert machine_digest((tmp_path / "missing",)) == machine_digest(())


def test_durable_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"a longer first content")
    write_durably(path, b"short")
    assert path.read_bytes() == b"short"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
