"""Options that would have no effect, or fail late, are refused before anything is done."""

from pathlib import Path

import pytest

from trainledger_ingest.reproduce.told_options import check_data, check_folder, check_tolerances
from trainledger_schemas.errors import UsageError


def test_the_new_folder_is_new_or_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="not empty"):
        check_folder(tmp_path)


@pytest.mark.parametrize("old", ["/data", "/data/train", "/data/train/a", "/code/sub", "/etc/conf"])
def test_data_replaces_an_input_an_argument_or_a_part_of_the_code(old: str) -> None:
    told = {"argv": ["t.py", "--c=/etc/conf/x"], "code": "/code"}
    inputs = [
        {"name": "d", "uri": "/data/train/a"},
        {"name": "s3", "uri": "s3://b/k"},
        {"name": "a", "uri": None},
    ]
    check_data([(old, "/new")], inputs=inputs, **told)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no input below /dato.*: /data/train/a"):
        check_data([("/dato", "/new")], inputs=inputs, **told)  # type: ignore[arg-type]


def test_a_tolerance_is_of_a_metric_that_the_run_has() -> None:
    check_tolerances(["eval/*", "loss"], {"eval/acc", "loss"})
    with pytest.raises(UsageError, match=r"--tolerance lost: .* it has eval/acc, loss"):
        check_tolerances(["lost"], {"eval/acc", "loss"})
