"""What differs between a run and its repetition besides the results."""

from typing import Any

import pytest

from trainledger_ingest.reproduce.repetition import _deviations

RUN: dict[str, Any] = {
    "snapshot_id": "s",
    "python": "3.11.7 CPython",
    "packages": {"torch": "2.4.0", "numpy": "2.0"},
    "package_ids": {"torch": "1", "numpy": "2"},
    "cuda": "12.4",
}


@pytest.mark.parametrize(
    ("again", "told"),
    [
        ({}, []),
        ({"package_ids": {"torch": "3", "numpy": "2"}}, ["package torch: another build of 2.4.0"]),
        ({"package_ids": {}}, []),
        (
            {"packages": {"torch": "2.5.0", "numpy": "2.0"}, "package_ids": {"torch": "3", "numpy": "2"}},
            ["package torch: 2.4.0 then, 2.5.0 now"],
        ),
        ({"cuda": None, "nccl": "2.20.5"}, ["cuda: 12.4 then, none now", "nccl: none then, 2.20.5 now"]),
    ],
    ids=["same", "other build", "not known", "other version", "GPU stack"],
)
def test_packages_are_compared_by_version_and_by_content(again: dict[str, Any], told: list[str]) -> None:
    assert list(_deviations(RUN, RUN | again)) == told
