"""Rows of many shapes: which way they take must never be seen in what is read back."""

from collections import Counter as CountingDict
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.training import Recorder
from trainledger.shapes import DEFINITION_BYTES_MAX, SHAPES_MAX
from trainledger_schemas.journal import DEFINITION, HEADER_BYTES, control_body


@pytest.fixture(params=[False, True], ids=["mmap", "write"])
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, by_write=request.param)


def definitions(folder: Path) -> int:
    """How many definitions the newest segment has."""
    data = max(folder.glob("*.tlj")).read_bytes()
    place, found = HEADER_BYTES, 0
    while size := int.from_bytes(data[place : place + 2], "little") * 4 if place < len(data) else 0:
        if not int.from_bytes(data[place + 2 : place + 4], "little"):
            found += control_body(data[place : place + size])[0] == DEFINITION
        place += size
    return found


def test_rows_of_the_same_length_and_of_changing_order_keep_their_keys(recorder: Recorder) -> None:
    kinds: list[dict[str, float]] = [{"a": 1, "b": 2}, {"b": 3, "a": 4}, {"a": 5, "c": 6}, {"d": 7, "e": 8}]
    expected = []
    for step in range(40):
        row = kinds[step * 7 % 4]
        recorder.log(row, step)
        expected += [(key, step, float(value)) for key, value in row.items()]
    journal = recorder.end()
    assert journal.points == expected and journal.is_sound()


@pytest.mark.parametrize("kind", ["defaultdict", "Counter", "OrderedDict"])
def test_a_dict_that_has_every_key_is_not_taken_for_another_shape(recorder: Recorder, kind: str) -> None:
    for step in range(5):
        recorder.log({"loss": 1.0, "acc": 2.0}, step)
    other: dict[str, float] = {
        "defaultdict": defaultdict(float),
        "Counter": CountingDict(),
        "OrderedDict": OrderedDict(),
    }[kind]  # type: ignore[assignment]  # a Counter of floats
    other["f1"], other["auc"] = 3.0, 4.0
    for step in range(5, 9):
        recorder.log(other, step)
    assert list(other) == ["f1", "auc"], "log() must not change what it is given"
    assert recorder.end().points[10:] == [
        point for step in range(5, 9) for point in (("f1", step, 3.0), ("auc", step, 4.0))
    ]


@pytest.mark.parametrize("keys", [1, 20, 1500, 1501, 10_000, 30_000, 30_001, 40_000])
def test_rows_of_any_number_of_keys(recorder: Recorder, keys: int) -> None:
    for step in range(3):
        recorder.log({f"layer.{i}.weight.norm": i + step for i in range(keys)}, step)
    journal = recorder.end()
    assert journal.points == [
        (f"layer.{i}.weight.norm", step, float(i + step)) for step in range(3) for i in range(keys)
    ]
    assert journal.is_sound()


def test_rows_of_the_longest_keys(recorder: Recorder) -> None:
    keys = [f"{i:04}" + "\U0001f600" * 255 for i in range(1000)]
    for step in range(3):
        recorder.log(dict.fromkeys(keys, 1.0), step)
    journal = recorder.end()
    assert journal.points == [(key, step, 1.0) for step in range(3) for key in keys] and journal.is_sound()


def test_more_sets_of_keys_than_may_have_a_function(recorder: Recorder) -> None:
    expected = []
    for i in range(SHAPES_MAX + 50):
        for step in range(4):
            recorder.log({f"k{i}": float(i), "x": 0.0}, step)
            expected += [(f"k{i}", step, float(i)), ("x", step, 0.0)]
    journal = recorder.end()
    assert journal.points == expected and journal.is_sound()
    assert definitions(journal.folder) == SHAPES_MAX


def test_new_keys_in_each_call_define_nothing(recorder: Recorder) -> None:
    for i in range(3000):
        recorder.log({f"k{i}": 1.0}, i)
    journal = recorder.end()
    assert journal.points == [(f"k{i}", i, 1.0) for i in range(3000)]
    assert definitions(journal.folder) == 0


def test_definitions_stay_small_enough_to_stand_in_each_segment(recorder: Recorder) -> None:
    for i in range(20):
        row = {f"{i}-{n}" + "k" * 100: 1.0 for n in range(5000)}
        for step in range(3):
            recorder.log(row, step)
    journal = recorder.end()
    assert len(journal.points) == 20 * 3 * 5000 and journal.is_sound()
    assert max(journal.folder.glob("*.tlj")).stat().st_size < DEFINITION_BYTES_MAX * 4


STEPS: dict[str, tuple[Any, int]] = {
    "int": (5, 5),
    "negative": (-5, -5),
    "numpy": (np.int32(7), 7),
    "bool": (True, 1),
    "float": (3.9, 3),
    "text of digits": ("12", 12),
    "text": ("x", 0),
    "nan": (float("nan"), 0),
    "inf": (float("inf"), 0),
    "list": ([1], 0),
    "largest": (2**63 - 1, 2**63 - 1),
    "smallest": (-(2**63), -(2**63)),
    "beyond": (2**63, 2**63 - 1),
    "far below": (-(10**100), -(2**63)),
}


@pytest.mark.parametrize("name", STEPS)
def test_step_of_any_kind(recorder: Recorder, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    given, expected = STEPS[name]
    for _ in range(4):
        recorder.log({"x": 1.0}, given)
    journal = recorder.end()
    assert journal.points == [("x", expected, 1.0)] * 4
    is_told = name in ("float", "text", "nan", "inf", "list", "beyond", "far below")
    assert capsys.readouterr().err.count("step") == is_told


def test_step_that_is_a_float_of_a_whole_number_is_not_told(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.log({"x": 1.0}, np.float64(3.0))
    recorder.log({"x": 1.0}, 4.0)
    assert [step for _, step, _ in recorder.end().points] == [3, 4]
    assert capsys.readouterr().err == ""


def test_calls_without_a_step_are_counted(recorder: Recorder) -> None:
    for _ in range(3):
        recorder.log({"x": 1.0})
    recorder.log({"x": 2.0}, 99)
    recorder.log({"x": 3.0}, None)
    assert [step for _, step, _ in recorder.end().points] == [0, 1, 2, 99, 3]


class Strange:
    """Has a length and nothing else."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        if self._length < 0:
            raise OSError("no length")
        return self._length


class BadDict(dict[str, float]):
    def __getitem__(self, key: str) -> float:
        raise LookupError("not today")

    def items(self) -> Any:
        raise RuntimeError("nor tomorrow")


@pytest.mark.parametrize(
    "data",
    [None, 5, "ab", b"ab", [1.0, 2.0], {1, 2}, Strange(2), Strange(-1), BadDict(a=1, b=2), object(), dict],
    ids=lambda data: type(data).__name__,
)
def test_wrong_data_is_told_once_and_never_raises(
    recorder: Recorder, data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in range(4):
        recorder.log({"a": 1.0, "b": 2.0}, step)
        recorder.log(data, step)
        recorder.log({"c": 1.0, "d": 2.0}, step)
    journal = recorder.end()
    assert len(journal.points) == 16 and journal.is_sound()
    assert capsys.readouterr().err.count("\n") == 1
    recorder.notices.sum_up()
    assert "4 calls" in capsys.readouterr().err


def test_empty_dict_records_nothing(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        recorder.log({}, 0)
    recorder.log({"x": 1.0}, 1)
    assert recorder.end().points == [("x", 1, 1.0)]
    assert capsys.readouterr().err == ""


def test_value_that_logs_while_it_is_converted(recorder: Recorder) -> None:
    class Logging:
        def __float__(self) -> float:
            recorder.log({"inner": 1.0}, 7)
            return 2.0

    for step in range(10):
        recorder.log({"outer": Logging(), "x": 1.0}, step)
    journal = recorder.end()
    assert journal.is_sound()
    assert journal.values("outer") == [2.0] * 10 and journal.values("x") == [1.0] * 10
    # A value is converted anew when the first of two ways did not take it; never fewer than once a call.
    assert len(journal.values("inner")) >= 10


def test_interrupt_by_a_value_passes_and_leaves_the_journal_usable(recorder: Recorder) -> None:
    class Interrupting:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    for step in range(3):
        recorder.log({"x": 1.0, "y": 1.0}, step)
        with pytest.raises(KeyboardInterrupt):
            recorder.log({"x": 1.0, "y": Interrupting()}, step)
        with pytest.raises(KeyboardInterrupt):
            recorder.log({"z": Interrupting()}, step)
    recorder.log({"x": 2.0, "y": 2.0}, 3)
    journal = recorder.end()
    assert journal.values("x")[-1] == 2.0 and journal.is_sound()


def test_forgetting_clears_the_dicts_that_closures_hold(recorder: Recorder) -> None:
    for step in range(4):
        recorder.log({"x": 1.0}, step)
    held = recorder.rows.by_length
    assert held
    recorder.rows.forget()
    assert held is recorder.rows.by_length and not held
