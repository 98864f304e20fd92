"""The grade is the worst of five columns; A needs a repetition."""

from dataclasses import replace
from typing import Any

import pytest

from trainledger_ingest.reproduce.grade import Facts, facts_of, judge

WHOLE: dict[str, Any] = {
    "commit": "c" * 40,
    "dirty": True,
    "snapshot_sha256": "0" * 64,
    "left_out": 0,
    "entry_point": "train.py",
    "packages": {"numpy": "2.0"},
    "python": "3.11.7 CPython",
    "argv": ["python", "train.py"],
    "cwd": "/work",
    "launcher": [],
    "variables": {},
}
SEEN = {"stage": "finish", "seed/PYTHONHASHSEED": "0", "seed/random": "3", "seed/numpy": "unused"}


def whole(**changes: Any) -> Facts:
    return facts_of(WHOLE | changes, parameters=("lr", "model/seed"), ranks=1)


def reading(*inputs: dict[str, Any]) -> Facts:
    known = {
        "kind": "dataset",
        "name": "cifar",
        "status": "complete",
        "digest": "sha256:1",
        "is_fixed": None,
        "uri": "/d",
    }
    return facts_of(WHOLE, parameters=(), ranks=1, inputs=[known | given for given in inputs])


@pytest.mark.parametrize(
    ("facts", "column", "letter", "word"),
    [
        (whole(), "code", "B", "with local changes"),
        (whole(left_out=2), "code", "C", "2 files"),
        (whole(entry_point="a/b.ipynb"), "code", "C", "notebook"),
        (whole(snapshot_sha256=None, dirty=False), "code", "C", "not stored"),
        (whole(snapshot_sha256=None), "code", "D", "lost"),
        (whole(snapshot_sha256=None, commit=None), "code", "E", "nothing"),
        (whole(), "environment", "C", "of 1 not the contents: numpy"),
        (whole(package_ids={"numpy": "0" * 64}), "environment", "B", "contents of 1 packages"),
        (
            whole(packages={"trainledger": "1", "numpy": "2"}, package_ids={"numpy": "0"}),
            "environment",
            "B",
            "2",
        ),
        (
            whole(package_sources={"numpy": "editable file:///work/src/numpy"}, code_root="/work"),
            "environment",
            "B",
            "contents",
        ),
        (
            whole(package_sources={"numpy": "editable file:///workshop"}, code_root="/work"),
            "environment",
            "C",
            "numpy",
        ),
        (
            whole(packages=dict.fromkeys("abcdef", "1"), package_ids={"a": "0"}),
            "environment",
            "C",
            "of 5 not the contents: b, c, d and 2",
        ),
        (whole(image_digest="sha256:" + "a" * 64, image_source="runtime"), "environment", "B", "sha256:aaaa"),
        (
            whole(
                package_ids={"numpy": "0"}, reasons=["code: x", "node n2 has other packages: numpy 1, not 2"]
            ),
            "environment",
            "C",
            "node n2 has other packages",
        ),
        (whole(image_digest="sha256:" + "a" * 64, image_source="declared"), "environment", "C", "numpy"),
        (whole(packages={}), "environment", "D", "not known"),
        (whole(packages={}, python=None), "environment", "E", "nothing"),
        (whole(), "command", "B", "working folder"),
        (whole(cwd=None), "command", "C", "folder"),
        (
            whole(variables={"OMPI_COMM_WORLD_SIZE": "4"}),
            "command",
            "C",
            "one of 4 ranks; what started them (mpirun)",
        ),
        (whole(variables={"WORLD_SIZE": "4"}, launcher=["torchrun", "train.py"]), "command", "B", ""),
        (whole(argv=[]), "command", "E", "no command"),
        (whole(), "randomness", "C", "model/seed"),
        (replace(whole(), seeds=()), "randomness", "D", "no seed"),
        *[
            (whole(randomness=SEEN | told), "randomness", letter, word)
            for told, letter, word in (
                ({}, "B", "model/seed, random 3; no other"),
                ({"stage": "init"}, "C", "what else"),
                ({"seed/numpy": "unknown"}, "C", "of numpy no seed"),
                ({"seed/numpy": "fresh 123"}, "C", "of numpy no seed"),
                ({"seed/torch": "67280421310721"}, "B", "no other"),
                ({"seed/PYTHONHASHSEED": "fresh"}, "C", "PYTHONHASHSEED=0"),
            )
        ],
        (
            replace(
                whole(randomness=SEEN | {"seed/random": "unused", "seed/torch": "67280421310721"}), seeds=()
            ),
            "randomness",
            "D",
            "trainledger.seed(0)",
        ),
        (whole(), "data", "B", "no input"),
        (reading({}), "data", "C", "cifar: its digest is known"),
        (reading({"is_fixed": True}), "data", "B", "never changes"),
        (reading({"is_fixed": True, "status": "unmeasured", "digest": None}), "data", "B", "never changes"),
        (reading({"is_fixed": True, "status": "partial"}), "data", "D", "partial"),
        (reading({"digest": None, "status": "unmeasured"}), "data", "D", "address"),
        (
            reading({"kind": "model", "uri": None, "digest": None, "status": "declared"}),
            "data",
            "C",
            "artifact",
        ),
        (reading({"kind": "model", "uri": None, "status": "declared"}), "data", "C", "by its name"),
        (reading({"kind": "model", "uri": None}), "data", "B", "by its digest"),
        (
            reading({"is_fixed": True}, {"name": "b"}, {"name": "a", "digest": None}),
            "data",
            "D",
            "a: only its name or address is known (3 inputs in all)",
        ),
    ],
)
def test_each_column_has_a_letter_and_a_reason(facts: Facts, column: str, letter: str, word: str) -> None:
    (opinion,) = (o for o in judge(facts).opinions if o.column == column)
    assert (opinion.letter, word in opinion.reason) == (letter, True), opinion


def test_the_grade_is_the_worst_column() -> None:
    assert judge(whole()).letter == "C"
    assert judge(whole(snapshot_sha256=None)).letter == "D"
    assert judge(whole(argv=[])).worst.column == "command"


def test_a_repetition_proves_the_randomness_and_not_the_environment() -> None:
    facts = replace(whole(), seeds=())
    assert (judge(facts).letter, judge(facts, is_repeated=True).letter) == ("D", "C")


def test_an_event_without_the_newer_fields_is_judged() -> None:
    old: dict[str, Any] = {"commit": None, "argv": [], "packages": {}}
    assert judge(facts_of(old, parameters=(), ranks=1)).letter == "E"
