"""Manifests: what is in a digest, what is not, and what two of them differ in."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainledger_schemas.errors import CorruptDataError
from trainledger_schemas.tree_manifest import (
    EMPTY_FOLDER,
    Change,
    Child,
    compare_trees,
    encode_node,
    parse_node,
    walk_tree,
)

Tree = dict[bytes, "bytes | Tree"]
NAMES = st.binary(min_size=1, max_size=6).filter(lambda name: b"/" not in name and b"\0" not in name)
TREES = st.recursive(
    st.binary(max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
).map(lambda tree: tree if isinstance(tree, dict) else {b"only": tree})


class Nodes:
    """Nodes by digest, made from trees of plain dicts: bytes are files, dicts folders."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.read_count = 0

    def add(self, tree: Tree) -> str:
        children = []
        for name, item in tree.items():
            if isinstance(item, dict):
                children.append(Child("d", 0, self.add(item), name))
            else:
                children.append(Child("f", len(item), hashlib.sha256(item).hexdigest(), name))
        node = encode_node(children)
        digest = hashlib.sha256(node).hexdigest()
        self.stored[digest] = node
        return digest

    def read(self, digest: str) -> bytes:
        self.read_count += 1
        return self.stored[digest]


def files(tree: Tree, prefix: bytes = b"") -> dict[bytes, bytes | None]:
    """Files by path; empty folders with None."""
    found: dict[bytes, bytes | None] = {}
    for name, item in tree.items():
        if isinstance(item, dict) and item:
            found |= files(item, prefix + name + b"/")
        else:
            found[prefix + name] = None if isinstance(item, dict) else item
    return found


@given(TREES)
def test_digest_is_a_function_of_names_and_bytes_whatever_their_order(tree: Tree) -> None:
    nodes = Nodes()
    turned = dict(reversed(tree.items()))
    assert nodes.add(tree) == nodes.add(turned)
    top = nodes.add(tree)
    shown = {path for path, child in walk_tree(top, nodes.read) if child.type != "d"}
    assert shown == {path for path, data in files(tree).items() if data is not None}


@given(TREES, TREES)
@example({b"a": b""}, {b"a": {}})
@example({b"a": {}, b"b": b"data"}, {b"a": b"data"})
def test_differences_turn_one_tree_into_the_other(old: Tree, new: Tree) -> None:
    nodes = Nodes()
    before, after = files(old), files(new)
    changes = compare_trees(nodes.add(old), nodes.add(new), nodes.read)
    for change in changes:
        if change.what == "removed":
            del before[change.path]
    for change in changes:
        if change.what == "renamed":
            assert before.pop(change.old_path) == after[change.path]
            before[change.path] = after[change.path]
    for change in changes:
        if change.what in ("added", "changed"):
            before[change.path] = after[change.path]
    assert before == after
    assert changes == sorted(changes, key=lambda change: (change.path, change.what != "removed"))
    assert (changes == []) == (files(old) == files(new))


def test_a_moved_file_is_told_as_renamed_and_an_empty_one_is_not() -> None:
    nodes = Nodes()
    old = nodes.add({b"a": b"data", b"empty": b"", b"d": {b"same": b"1"}})
    new = nodes.add({b"b": {b"a": b"data"}, b"none": b"", b"d": {b"same": b"1"}})
    assert compare_trees(old, new, nodes.read) == [
        Change("renamed", b"b/a", b"a"),
        Change("removed", b"empty"),
        Change("added", b"none"),
    ]


def test_equal_folders_are_not_read() -> None:
    nodes = Nodes()
    large: Tree = {b"%d" % i: {b"x": b"%d" % i} for i in range(50)}
    old, new = nodes.add({b"large": large, b"a": b"1"}), nodes.add({b"large": large, b"a": b"2"})
    assert compare_trees(old, new, nodes.read) == [Change("changed", b"a")]
    assert nodes.read_count == 2


def test_type_bit_and_target_are_in_the_digest_and_an_empty_folder_has_its_own() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    nodes = [
        encode_node([Child(kind, 1, digest, b"n", target)])
        for kind, target in (("f", b""), ("x", b""), ("d", b""), ("l", b"a"), ("l", b"b"))
    ]
    assert len({hashlib.sha256(node).hexdigest() for node in nodes}) == len(nodes)
    assert [parse_node(node)[0].target for node in nodes] == [b"", b"", b"", b"a", b"b"]
    assert hashlib.sha256(encode_node([])).hexdigest() == EMPTY_FOLDER


@pytest.mark.parametrize(
    "node",
    [
        b"",
        b"tree",
        encode_node([Child("f", 1, "0" * 64, b"name")])[:-1],
        encode_node([]) + b"f 1 00 name\0",
        encode_node([]) + b"q 1 " + b"0" * 64 + b" name\0",
        encode_node([]) + b"f 1 " + b"0" * 64 + b" ../name\0",
        encode_node([]) + b"l 1 " + b"0" * 64 + b" name\0",
    ],
    ids=[
        "nothing",
        "other",
        "cut",
        "short digest",
        "unknown type",
        "path out of the folder",
        "link without target",
    ],
)
def test_damaged_nodes_are_refused(node: bytes) -> None:
    with pytest.raises(CorruptDataError):
        parse_node(node)
