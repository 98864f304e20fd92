"""Nothing is written outside of the folder."""

import os
from pathlib import Path

import pytest

from trainledger_ingest.reproduce.file_tree import FileTree
from trainledger_schemas.errors import CorruptDataError


@pytest.mark.parametrize(
    "path",
    [b"../x", b"a/../../x", b"/x", b".git/config", b"a/.GIT/hooks/x", b"", b"a//b", b"link/x", b".svn/wc.db"],
)
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: bytes) -> None:
    top = tmp_path / "top"
    top.mkdir()
    os.symlink(tmp_path, top / "link")
    with pytest.raises(CorruptDataError):
        FileTree(top).write(path, b"x", "100644")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["top"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("keep")
    top = tmp_path / "top"
    top.mkdir()
    os.symlink(tmp_path / "outside", top / "name")
    FileTree(top).write(b"name", b"new", "100755")
    assert (tmp_path / "outside").read_text() == "keep"
    assert FileTree(top).read(b"name") == ("100755", b"new")
