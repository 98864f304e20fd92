"""Paths of a file in trees that share folders."""

import hashlib

from trainledger_ingest.file_lookup import paths_in
from trainledger_schemas.tree_manifest import Child, encode_node


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_found_at_all_its_places_and_each_folder_is_read_once() -> None:
    wanted, nodes, reads = digest_of(b"wanted"), dict[str, bytes](), list[str]()

    def add(*children: Child) -> str:
        node = encode_node(children)
        nodes[digest_of(node)] = node
        return digest_of(node)

    def read(sha256: str) -> bytes:
        reads.append(sha256)
        return nodes[sha256]

    link = Child(
        "l", 6, wanted, b"link", b"wanted"
    )  # a link whose target's digest is the same is no such file
    shared = add(Child("f", 6, wanted, b"a"), Child("f", 1, digest_of(b"b"), b"b"), link)
    empty = add()
    top = add(
        Child("d", 7, shared, b"x"),
        Child("d", 7, shared, b"y"),
        Child("x", 6, wanted, b"z"),
        Child("d", 0, empty, b"e"),
    )
    known: dict[str, list[bytes]] = {}
    assert sorted(paths_in(top, wanted, read, known=known)) == [b"x/a", b"y/a", b"z"]
    other = add(Child("d", 7, shared, b"only"))
    assert paths_in(other, wanted, read, known=known) == [b"only/a"]
    assert sorted(reads) == sorted({top, shared, empty, other})
    assert paths_in(top, digest_of(b"nowhere"), read, known={}) == []
