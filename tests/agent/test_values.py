"""What each kind of value and key becomes, read back from a journal with the agent's reader."""

import hashlib
import math
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.training import Journal, Recorder
from trainledger.notices import Notices
from trainledger.values import KEYS_A_CALL_MAX, convert, setting_of, settings_of, short_key

NAN, INF = math.nan, math.inf


class Tensor:
    """As torch has it: a scalar has no length, asking for it raises; a larger one refuses to be a float."""

    def __init__(self, *items: float, ndim: int = 0) -> None:
        self.items, self.ndim = items, ndim

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return len(self.items)

    def size(self) -> tuple[int, ...]:
        return (len(self.items),) if self.ndim else ()

    def numel(self) -> int:
        return len(self.items)

    def item(self) -> float:
        (value,) = self.items
        return value

    def __float__(self) -> float:
        if len(self.items) != 1:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self.items[0]


class TrainedTensor(Tensor):
    """One that takes part in training: torch warns at float(), and there are people who make warnings errors."""

    def __float__(self) -> float:
        raise UserWarning("Converting a tensor with requires_grad=True to a scalar")


class Level(IntEnum):
    HIGH = 3


class Color(StrEnum):
    RED = "red"


class Nasty:
    """Raises whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def _raise(self, *_: object) -> Any:
        raise self._error

    __float__ = __len__ = __str__ = __repr__ = __iter__ = __bool__ = __index__ = _raise

    def __getattr__(self, name: str) -> Any:
        raise self._error


class StrangeMapping(Mapping[Any, Any]):
    """A Mapping that is no dict."""

    def __init__(self, data: dict[Any, Any]) -> None:
        self._data = data

    def __getitem__(self, key: Any) -> Any:
        return self._data[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


class BrokenMapping(StrangeMapping):
    def items(self) -> Any:
        raise OSError("this mapping lies on a disk that is gone")


class UnnamedKey:
    def __str__(self) -> str:
        raise ZeroDivisionError


class Name(str):
    """A subclass that lies about what it is."""

    def __str__(self) -> str:
        return "'] or os.abort() or d['"

    __repr__ = __str__

    def encode(self, *_: Any) -> bytes:
        raise ValueError


def log_three_times(folder: Path, data: Any, *, by_write: bool = False) -> tuple[Journal, Notices]:
    """The third call goes by generated code where there is any."""
    recorder = Recorder(folder, by_write=by_write)
    for step in range(3):
        recorder.log(data, step)
    return recorder.end(), recorder.notices


NUMBERS: dict[str, tuple[Any, float]] = {
    "bool": (True, 1.0),
    "int": (7, 7.0),
    "int beyond 64 bits": (2**70 + 1, float(2**70)),
    "int of 53 bits and more": (2**53 + 1, float(2**53)),
    "float": (0.1, 0.1),
    "nan": (NAN, NAN),
    "inf": (INF, INF),
    "-inf": (-INF, -INF),
    "negative zero": (-0.0, -0.0),
    "beyond a double": (10**400, INF),
    "beyond a double, negative": (-(10**400), -INF),
    "numpy bool": (np.True_, 1.0),
    "int8": (np.int8(-3), -3.0),
    "uint8": (np.uint8(200), 200.0),
    "int16": (np.int16(-300), -300.0),
    "uint16": (np.uint16(60000), 60000.0),
    "int32": (np.int32(-70000), -70000.0),
    "uint32": (np.uint32(2**32 - 1), float(2**32 - 1)),
    "int64": (np.int64(-(2**62)), -float(2**62)),
    "uint64": (np.uint64(2**64 - 1), float(2**64)),
    "float16": (np.float16(0.1), float(np.float16(0.1))),
    "float32": (np.float32(0.1), float(np.float32(0.1))),
    "float64": (np.float64(0.1), 0.1),
    "longdouble": (np.longdouble(0.5), 0.5),
    "0-d array": (np.array(0.25), 0.25),
    "array of one": (np.array([[0.25]]), 0.25),
    "tensor": (Tensor(0.5), 0.5),
    "tensor of one": (Tensor(0.5, ndim=1), 0.5),
    "decimal": (Decimal("0.1"), 0.1),
    "fraction": (Fraction(1, 4), 0.25),
    "int enum": (Level.HIGH, 3.0),
}
SKIPPED: dict[str, Any] = {
    "whole array": np.zeros((3, 4)),
    "empty array": np.zeros(0),
    "array of objects": np.array([None]),
    "tensor": Tensor(1.0, 2.0, ndim=1),
    "complex": 1 + 2j,
    "set": {1, 2},
    "object": object(),
    "function": len,
    "type": int,
    "datetime64": np.datetime64("2026-01-01"),
    "raises ValueError": Nasty(ValueError()),
    "raises OSError": Nasty(OSError(5, "disk")),
    "raises TimeoutError": Nasty(TimeoutError()),
    "raises OverflowError": Nasty(OverflowError()),
    "raises StopIteration": Nasty(StopIteration()),
    "raises AssertionError": Nasty(AssertionError()),
    "raises MemoryError": Nasty(MemoryError()),
    "broken mapping": BrokenMapping({"a": 1}),
}
TEXTS: dict[str, tuple[Any, str]] = {
    "text": ("a", "a"),
    "empty text": ("", ""),
    "text enum": (Color.RED, "red"),
    "text of numpy": (np.str_("a"), "a"),
    "lying text": (Name("a"), "a"),
    "lone surrogate": ("\udc80", "\\udc80"),
    "zero byte": ("a\0b", "a\0b"),
    "bytes": (b"1", "1"),
    "bytes that are no text": (b"a\xff", "a\\xff"),
    "list": ([1, 2.5, None, "é"], '[1, 2.5, null, "é"]'),
    "tuple": ((1, (2,)), "[1, [2]]"),
    "list of scalars": ([np.float32(0.5), np.array(1)], "[0.5, 1]"),
    "list of strangers": ([{1}], '["{1}"]'),
    "list that raises": ([Nasty(OSError())], "<list>"),
    "a secret": ("see hf_" + "a" * 30, "see [redacted]"),
    "long text": ("x" * 50_000, "x" * 40_000 + "…"),
    "long text of many bytes": ("\U0001f600" * 50_000, "\U0001f600" * 16383 + "…"),
    "long text of escapes": ("\1" * 50_000, "\1" * 40_000 + "…"),
}


@pytest.mark.parametrize("by_write", [False, True], ids=["mmap", "write"])
@pytest.mark.parametrize("name", NUMBERS)
def test_number_is_the_same_by_both_ways(tmp_path: Path, name: str, by_write: bool) -> None:
    value, expected = NUMBERS[name]
    journal, _ = log_three_times(tmp_path, {"x": value, "y": 2.0}, by_write=by_write)
    assert [struct.pack("d", x) for x in journal.values("x")] == [struct.pack("d", expected)] * 3
    assert journal.values("y") == [2.0] * 3
    assert journal.is_sound()


@pytest.mark.parametrize("name", SKIPPED)
def test_what_is_no_number_is_skipped_counted_and_named_once(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, notices = log_three_times(tmp_path, {"x": SKIPPED[name], "y": 2.0})
    assert (journal.values("x"), journal.values("y")) == ([], [2.0] * 3)
    told = capsys.readouterr().err
    assert told.count("'x'") == 1 and told.count("\n") == 1, told
    if name in ("whole array", "empty array", "tensor"):
        assert "its mean" in told
    notices.sum_up()
    assert "not recorded: 3 " in capsys.readouterr().err


@pytest.mark.parametrize("name", SKIPPED)
def test_generated_code_skips_the_same_values(tmp_path: Path, name: str) -> None:
    recorder = Recorder(tmp_path)
    for step in range(5):
        recorder.log({"x": 1.0, "y": 2.0}, step)
    recorder.log({"x": SKIPPED[name], "y": 3.0}, 5)
    recorder.log({"x": 4.0, "y": 4.0}, 6)
    journal = recorder.end()
    assert (journal.values("x"), journal.values("y")) == ([1.0] * 5 + [4.0], [2.0] * 5 + [3.0, 4.0])


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_a_text_point_beside_the_numbers(tmp_path: Path, name: str) -> None:
    value, expected = TEXTS[name]
    journal, _ = log_three_times(tmp_path, {"x": value, "y": 2.0})
    assert journal.texts == [("x", step, expected) for step in range(3)]
    assert journal.points == [("y", step, 2.0) for step in range(3)]
    assert journal.is_sound()


def test_none_is_skipped_and_counted_but_not_told_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, notices = log_three_times(tmp_path, {"x": None, "y": 1.0})
    assert capsys.readouterr().err == ""
    assert journal.points == [("y", step, 1.0) for step in range(3)]
    notices.sum_up()
    assert capsys.readouterr().err == "trainledger: not recorded: 3 None values\n"


def test_int_beyond_a_double_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_three_times(tmp_path, {"x": 10**400, "y": 10**500})
    assert capsys.readouterr().err.count("infinity") == 1


KEYS: dict[str, tuple[Any, str]] = {
    "empty": ("", ""),
    "int": (1, "1"),
    "None": (None, "None"),
    "tuple": ((1, "a"), "(1, 'a')"),
    "emoji": ("\U0001f600", "\U0001f600"),
    "zero byte": ("a\0b", "a\0b"),
    "lone surrogate": ("a\udc80", "a\\udc80"),
    "quotes": ("'\"\\\n{}%s", "'\"\\\n{}%s"),
    "code": ("'] or __import__('os').abort() or d['", "'] or __import__('os').abort() or d['"),
    "lying subclass": (Name("a"), "a"),
    "raises": (UnnamedKey(), "<UnnamedKey>"),
    "1,024 bytes": ("é" * 512, "é" * 512),
}


@pytest.mark.parametrize("name", KEYS)
def test_key_of_any_kind_is_kept(tmp_path: Path, name: str) -> None:
    key, expected = KEYS[name]
    recorder = Recorder(tmp_path)
    for step in range(4):
        recorder.log({key: float(step), "t": "text"}, step)
        recorder.log({key: float(step)}, step)
    journal = recorder.end()
    assert journal.points == [(expected, step, float(step)) for step in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert journal.is_sound()


@pytest.mark.parametrize("tail", ["a", "é", "\U0001f600", "\udc80"], ids=ascii)
def test_long_keys_are_cut_and_stay_distinct(tmp_path: Path, tail: str) -> None:
    long = [tail * 2000 + end for end in ("1", "2")]
    journal, _ = log_three_times(tmp_path, {long[0]: 1.0, long[1]: 2.0})
    short = [key for key, step, _ in journal.points if step == 0]
    assert len(set(short)) == 2 and all(len(key.encode()) <= 1024 for key in short)
    for key, whole in zip(short, long, strict=True):
        mark = hashlib.sha256(whole.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        assert key.endswith("~" + mark)


def test_nested_keys_join_and_the_last_of_equal_keys_counts(tmp_path: Path) -> None:
    data = {
        "a": {"b": {1: 1.0}, "": 2.0},
        "a/c": 3.0,
        "e": {},
        "": {"": 4.0},
        "m": StrangeMapping({"k": 5.0}),
    }
    journal, _ = log_three_times(tmp_path, data | {"x": OrderedDict(y=6.0), "a/b/1": 7.0})
    expected = {"a/b/1": 7.0, "a/": 2.0, "a/c": 3.0, "/": 4.0, "m/k": 5.0, "x/y": 6.0}
    assert {key: value for key, step, value in journal.points if step == 2} == expected
    assert len(journal.points) == 3 * len(expected)


def test_a_dict_that_holds_itself_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data: dict[str, Any] = {"x": 1.0, "inner": {"y": 2.0}}
    data["self"] = data["inner"]["back"] = data
    journal, _ = log_three_times(tmp_path, data)
    assert journal.points == [
        (key, step, value) for step in range(3) for key, value in (("x", 1.0), ("inner/y", 2.0))
    ]
    assert capsys.readouterr().err.count("cannot be logged (dict)") == 2


def test_values_beyond_what_one_call_may_have_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(tmp_path)
    recorder.log({str(i): float(i) for i in range(KEYS_A_CALL_MAX + 1)}, 0)
    assert len(recorder.end().points) == KEYS_A_CALL_MAX
    assert f"more than {KEYS_A_CALL_MAX} values" in capsys.readouterr().err


def flat(data: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The oracle's own way through nested dicts."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def oracle(data: dict[Any, Any]) -> tuple[dict[str, bytes], dict[str, str]]:
    numbers: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for key, value in flat(data):
        name = key.encode("utf-8", "backslashreplace")
        if len(name) > 1024:
            cut = name[: 1024 - 17].decode("utf-8", "ignore")
            name = (cut + "~" + hashlib.sha256(name).hexdigest()[:16]).encode()
        if value is None:
            continue
        if isinstance(value, str):
            texts[name.decode()] = value.encode("utf-8", "backslashreplace").decode()
        else:
            try:
                number = float(value)
            except OverflowError:
                number = INF if value > 0 else -INF
            numbers[name.decode()] = struct.pack("d", number)
    return numbers, texts


ANY_TEXT = st.text(st.characters(), max_size=8)  # lone surrogates too
ANY_KEY = st.one_of(ANY_TEXT, st.sampled_from(["loss", "acc", "loss/a"]), st.integers(), st.booleans())
ANY_KEY |= st.builds(lambda text, n: text * n, ANY_TEXT, st.integers(1, 400))
ANY_NUMBER: st.SearchStrategy[Any] = st.one_of(
    st.floats(),
    st.integers(),
    st.booleans(),
    st.integers(10**300, 10**320).map(lambda n: -n),
    st.floats(width=32).map(lambda x: np.float32(x)),
    st.floats(width=16).map(lambda x: np.array(x)),
)
ANY_DATA = st.recursive(
    st.dictionaries(ANY_KEY, ANY_NUMBER | st.none() | ANY_TEXT, max_size=4),
    lambda inner: st.dictionaries(ANY_KEY, inner | ANY_NUMBER, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(ANY_DATA, st.integers(-(2**63), 2**63 - 1), st.integers(1, 4)), max_size=8))
@pytest.mark.parametrize("by_write", [False, True], ids=["mmap", "write"])
def test_what_is_read_back_is_what_the_oracle_says(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[dict[Any, Any], int, int]], by_write: bool
) -> None:
    recorder = Recorder(tmp_path_factory.mktemp("any"), by_write=by_write)
    expected_points, expected_texts = [], []
    for data, step, times in calls:
        numbers, texts = oracle(data)
        for _ in range(times):
            recorder.log(data, step)
            expected_points += [(key, step, raw) for key, raw in numbers.items()]
            expected_texts += [(key, step, text) for key, text in texts.items()]
    if not calls:
        return
    journal = recorder.end() if expected_points or expected_texts else None
    recorder.journal.close()
    if journal is not None:
        found = [(key, step, struct.pack("d", value)) for key, step, value in journal.points]
        assert sorted(found) == sorted(expected_points)
        assert journal.texts == expected_texts
        assert journal.is_sound()


@given(text=st.text(st.characters()) | st.builds(lambda t, n: t * n, ANY_TEXT, st.integers(1, 2000)))
def test_short_key_is_valid_short_and_stays(text: str) -> None:
    key = short_key(text)
    assert len(key.encode()) <= 1024 and short_key(key) == key


SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "text": ("a", {"value": "a"}),
    "int": (3, {"value": "3", "number": 3.0}),
    "float": (0.5, {"value": "0.5", "number": 0.5}),
    "nan": (NAN, {"value": "NaN"}),
    "inf": (-INF, {"value": "-Infinity"}),
    "bool": (True, {"value": "true", "number": 1.0}),
    "None": (None, {"value": "null"}),
    "list": ([1, "é"], {"value": '[1, "é"]'}),
    "numpy": (np.float64(0.5), {"value": "0.5", "number": 0.5}),
    "beyond a double": (10**400, {"value": "1" + "0" * 400}),
    "path": (Path("/a"), {"value": "\"PosixPath('/a')\""}),
    "raises": (Nasty(OSError()), {"value": "<Nasty>"}),
    "key in text": ("sk-" + "a" * 30, {"value": "[redacted]"}),
    "key in a list": (["api_key=abcdef"], {"value": '["api_key=[redacted]"]'}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_parameter_is_text_or_json_and_a_number_where_it_is_one(name: str) -> None:
    value, expected = SETTINGS[name]
    assert setting_of("k", value) == {"key": "k", **expected}


def test_parameters_under_secret_names_are_not_written() -> None:
    nested = {"db": {"password": "plain", "user": "u"}, "api_key": 12345, "max_tokens": 5}
    found = {entry["key"]: entry for entry in settings_of(nested)}
    assert found["db/password"] == {"key": "db/password", "value": "[redacted]"}
    assert found["api_key"] == {"key": "api_key", "value": "[redacted]"}
    assert found["max_tokens"]["number"] == 5.0 and found["db/user"]["value"] == "u"


def test_what_a_user_interrupts_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        convert({"a": 1.0, "x": Nasty(KeyboardInterrupt())}, Notices())


@pytest.mark.parametrize(
    "data", [None, 5, "text", [1.0], object(), BrokenMapping({})], ids=lambda data: type(data).__name__
)
def test_what_is_no_dict_is_refused(data: Any) -> None:
    with pytest.raises(TypeError):
        convert(data, Notices())


def test_a_tensor_that_takes_part_in_training_is_its_number(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for step in range(10):  # by the generated function too, from the third call on
        recorder.log({"loss": TrainedTensor(0.5 * step)}, step)
    assert recorder.end().values("loss") == [0.5 * step for step in range(10)]
