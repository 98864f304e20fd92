"""Who produces events here: the node, its boot, and the producer id of one spool.

Every event carries (producer id, seq), and a reader drops what it has seen under that pair. Two spools with
one producer id would give the same seq to different events, and the second of them would be dropped as a
repeat. So the producer id is made once for a spool and bound to where the spool lies: to the machine's id and
to the spool folder's inode. A spool that was copied or restored, on the same machine or to another, is another
producer. A new producer id never does harm: events already spooled carry the old one inside.

File `<spool>/producer.json`: {"producer_id": UUID text, "machine": digest, "folder": inode}. The machine id is
kept as a digest alone, since systemd asks that it is not passed on.
"""

import hashlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from trainledger_schemas.clock import read_boot_id
from trainledger_schemas.ids import IdSource, id_bytes, id_text, random_id

__all__ = ["NodeIdentity", "load_identity", "machine_digest", "write_durably"]

PRODUCER_FILE = "producer.json"
MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
NODE_ID_CHARACTERS_MAX = 253


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What the envelope of every event of a spool says about its origin."""

    node_id: str
    producer_id: bytes
    boot_id: bytes
    host: str


def load_identity(
    spool: Path, *, node_id: str = "", machine: str | None = None, ids: IdSource = random_id
) -> NodeIdentity:
    """The identity for `spool` (made when missing), with a producer id that is durable when this returns.

    `node_id` empty: the host name. `machine` overrides the machine's digest. Repeating it is harmless. Call it
    as the one owner of the spool. Raises OSError when the folder cannot be written.
    """
    spool.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname() or "localhost"
    bound_to: dict[str, str | int] = {
        "machine": machine_digest() if machine is None else machine,
        "folder": spool.stat().st_ino,
    }
    producer_id = _stored_producer(spool / PRODUCER_FILE, bound_to)
    if producer_id is None:
        producer_id = ids()
        record = {"producer_id": id_text(producer_id), **bound_to}
        write_durably(spool / PRODUCER_FILE, json.dumps(record).encode())
    return NodeIdentity((node_id or host)[:NODE_ID_CHARACTERS_MAX], producer_id, read_boot_id(), host)


def machine_digest(files: tuple[Path, ...] = MACHINE_ID_FILES) -> str:
    """A digest of the machine's id; of the host name where there is none (as in most containers)."""
    for path in files:
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text and text != "uninitialized":
            return _digest(f"machine-id {text}")
    return _digest(f"host {socket.gethostname()}")


def write_durably(path: Path, data: bytes) -> None:
    """Replace the file at `path` as a whole: after a crash it is the old one or the new one, and on disk."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _stored_producer(path: Path, bound_to: dict[str, str | int]) -> bytes | None:
    """The producer id in the file, or None when there is none that belongs to this very spool."""
    try:
        record = json.loads(path.read_bytes())
        if {name: record.get(name) for name in bound_to} != bound_to:
            return None
        return id_bytes(record["producer_id"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # a damaged file: a new producer id is always safe


def _digest(text: str) -> str:
    return hashlib.sha256(f"trainledger producer, {text}".encode()).hexdigest()[:32]
