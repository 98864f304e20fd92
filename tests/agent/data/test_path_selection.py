"""Which paths of a folder count."""

import pytest

from trainledger.data.path_selection import PathSelection


@pytest.mark.parametrize(
    ("include", "exclude", "path", "counts"),
    [
        ((), (), b"a/b", True),
        (("*.jpg",), (), b"a/b.jpg", True),
        (("*.jpg",), (), b"a/b.JPG", False),
        (("train/*",), (), b"train/deep/b", True),
        (("train/*",), (), b"old/train/b", False),
        (("train",), (), b"old/train/b", True),
        (("./train/",), (), b"train/b", True),
        ((), ("*.tmp",), b"a/b.tmp", False),
        ((), ("a/*.tmp",), b"b/b.tmp", True),
        (("*.jpg",), ("bad_*",), b"bad_1.jpg", False),
        (("[ab].txt",), (), b"b.txt", True),
        (("*",), ("\udcff*",), b"\xff1", False),
    ],
)
def test_a_path_counts(include: tuple[str, ...], exclude: tuple[str, ...], path: bytes, counts: bool) -> None:
    assert PathSelection(include, exclude).takes(path) is counts


def test_excluded_folders_are_not_entered_and_scopes_differ() -> None:
    selection = PathSelection((), ("raw", "train/old"))
    entered = [
        folder for folder in (b"raw", b"a/raw", b"train/old", b"old", b"train") if selection.enters(folder)
    ]
    assert entered == [b"old", b"train"]
    assert not PathSelection() and PathSelection().scope == ""
    assert PathSelection(("a",)).scope != PathSelection((), ("a",)).scope
