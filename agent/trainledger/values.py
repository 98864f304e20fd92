"""What a logged value becomes. Defined for everything, and never an exception in training.

| value | becomes |
|---|---|
| bool | 0 or 1 |
| int | the nearest double; beyond its range an infinity, told once |
| float | itself, NaN and infinities too |
| with `__float__` or `__index__`: numpy and torch scalars, 0-d arrays, Decimal, Fraction | its float |
| array or tensor of one element | that element's float |
| larger array or tensor | skipped, counted, and named once with a hint |
| None | skipped and counted |
| str, bytes (read as UTF-8) | a text point; cut at TEXT_CHARACTERS_MAX or TEXT_BYTES_MAX; secrets taken out |
| list, tuple | a text point of its JSON; what JSON does not know by its item() or repr() |
| dict or any Mapping | its pairs, keys joined with "/"; one inside itself, or DEPTH_MAX deep, is skipped |
| all else, and what raises when it is asked | skipped, counted, and named once |

Keys: text as it is, lone surrogates escaped; others by str(); over KEY_BYTES_MAX bytes cut, with a hash of the
whole, so that they stay distinct. Of values under one key in one call the last number and the last text count.
Of one call KEYS_A_CALL_MAX values are looked at; the rest is counted. A BaseException of a value (an interrupt)
and what a signal handler throws pass through to the user. Limit: struct.pack, which the generated functions use,
puts an error of its own in place of one that is thrown while a `__float__` written in Python runs.
"""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from trainledger_schemas.journal import KEY_BYTES_MAX

from .interruption import is_from_handler
from .notices import Notices
from .redaction import REDACTED, is_secret_name, redact

__all__ = ["Converted", "convert", "flatten", "setting_of", "settings_of", "short_key"]

DEPTH_MAX = 32
KEYS_A_CALL_MAX = 100_000
TEXT_CHARACTERS_MAX = 40_000
TEXT_BYTES_MAX = 64 << 10
# No form of a secret is shorter; most keys are.
SECRET_CHARACTERS_MIN = 12
# An item of a JSON list takes at least two characters ("0,"), so no more can be seen in the text.
_LIST_ITEMS_MAX = TEXT_CHARACTERS_MAX // 2


class Converted:
    """The numbers and the texts of one call, in order."""

    __slots__ = ("numbers", "texts")

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.texts: dict[str, str] = {}


def flatten(data: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Pairs of key and value, nested keys joined with /. Raises TypeError for what is no Mapping."""
    pairs = _pairs(data)
    if pairs is None:
        raise TypeError(f"{type(data).__name__} is no dict")
    return _flatten(pairs, "", (id(data),))


def convert(data: Mapping[Any, Any], notices: Notices) -> Converted:
    """Numbers and texts of one call; what is left out is told once and counted. TypeError if it is no Mapping."""
    result = Converted()
    pairs = flatten(data)
    for name, value in islice(pairs, KEYS_A_CALL_MAX):
        try:
            _convert_one(result, short_key(name), value, notices)
        except Exception as error:  # a value of the user's may raise anything when it is asked what it is
            _skip(name, value, error, notices)
    if next(pairs, None) is not None:
        notices.once(
            "keys", f"log() was given more than {KEYS_A_CALL_MAX} values at once: the rest is skipped"
        )
        notices.count("calls with too many values")
    return result


def short_key(name: str) -> str:
    """A key that every format can hold: valid UTF-8 of at most KEY_BYTES_MAX bytes, without secrets."""
    if len(name) >= SECRET_CHARACTERS_MIN:
        name = redact(name)
    raw = name.encode("utf-8", "backslashreplace")  # lone surrogates, escaped
    if len(raw) <= KEY_BYTES_MAX:
        return raw.decode()
    # Not at the top: it loads OpenSSL, 4 ms for what hardly any run needs.
    import hashlib

    mark = "~" + hashlib.sha256(raw).hexdigest()[:16]
    return raw[: KEY_BYTES_MAX - len(mark)].decode("utf-8", "ignore") + mark


def settings_of(values: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Parameters or summary values as entries of a claim; TypeError if it is no Mapping."""
    return [setting_of(name, value) for name, value in islice(flatten(values), KEYS_A_CALL_MAX)]


def setting_of(name: str, value: Any) -> dict[str, Any]:
    """One entry: plain text for strings, JSON otherwise, and the number where it is one. Secrets are taken out."""
    key = short_key(name)
    if is_secret_name(key.rpartition("/")[2]):
        return {"key": key, "value": REDACTED}
    entry: dict[str, Any] = {
        "key": key,
        "value": _text(str.__str__(value) if isinstance(value, str) else _json_text(value)),
    }
    try:
        if isinstance(value, bool | int | float) or hasattr(value, "__float__"):
            number = float(value)
            if math.isfinite(number):
                entry["number"] = number
    except Exception as error:  # a value of the user's may raise anything; it then has no number
        if is_from_handler(error):
            raise
    return entry


def _flatten(pairs: list[tuple[Any, Any]], prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in pairs:
        name = prefix + _name_of(key)
        # One that holds itself would never end.
        inner = None if id(value) in above or len(above) > DEPTH_MAX else _pairs(value)
        if inner is None:
            yield name, value
        else:
            yield from _flatten(inner, name + "/", (*above, id(value)))


def _pairs(value: Any) -> list[tuple[Any, Any]] | None:
    """The pairs of a Mapping; None for all else, and for one that cannot be read."""
    kind = type(value)
    if kind is float or kind is int or kind is str:
        return None
    try:
        return [(key, inner) for key, inner in value.items()] if isinstance(value, Mapping) else None
    except Exception as error:  # a mapping of the user's
        if is_from_handler(error):
            raise
        return None


def _name_of(key: Any) -> str:
    try:
        # An exact str: a subclass could bring code into what is made of it.
        return str.__str__(key) if isinstance(key, str) else str.__str__(str(key))
    except Exception as error:  # a key whose text raises
        if is_from_handler(error):
            raise
        return f"<{type(key).__name__}>"


def _convert_one(result: Converted, key: str, value: Any, notices: Notices) -> None:
    if value is None:
        notices.count("None values")
    elif isinstance(value, str):
        result.texts[key] = _text_point(key, str.__str__(value))
    elif isinstance(value, bytes | bytearray):
        result.texts[key] = _text_point(
            key, bytes(value[: 4 * TEXT_BYTES_MAX]).decode("utf-8", "backslashreplace")
        )
    elif isinstance(value, list | tuple):
        result.texts[key] = _text_point(key, _json_text(value))
    else:
        number = _number(key, value, notices)
        if number is not None:
            result.numbers[key] = number


def _number(key: str, value: Any, notices: Notices) -> float | None:
    try:
        ndim = getattr(value, "ndim", None)
        if ndim and (value.size != 1 if isinstance(value.size, int) else value.numel() != 1):
            hint = f"{key!r} is a whole array: log a scalar, such as its mean; it is skipped"
            notices.once(f"array {key}", hint)
            notices.count("arrays")
            return None
        if ndim is not None:
            # What arrays and tensors offer for it: a tensor that takes part in training warns at float().
            value = value.item()
        # x times two to the power of nothing: C's own conversion to a double, as struct.pack has it in the generated
        # functions of `shapes`, but with the exception that it met. float() would read bytes and arrays as text.
        return math.ldexp(value, 0)
    except OverflowError as error:
        if not isinstance(value, int):
            raise
        if is_from_handler(error):
            raise
        notices.once("overflow", f"{key!r} is beyond the range of a double: recorded as infinity")
        return math.inf if int.__gt__(value, 0) else -math.inf


def _skip(name: str, value: Any, error: Exception, notices: Notices) -> None:
    if is_from_handler(error):
        raise error
    what = type(value).__name__
    notices.once(
        f"value {name}", f"{name[:200]!r} cannot be logged ({what}): log a number or text; it is skipped"
    )
    notices.count("values that are no numbers")


def _json_text(value: Any) -> str:
    try:
        seen = value[:_LIST_ITEMS_MAX] if isinstance(value, list | tuple) else value
        return json.dumps(seen, default=_plain, ensure_ascii=False)
    except Exception as error:  # an object whose repr or iteration raises, or one that holds itself
        if is_from_handler(error):
            raise
        return f"<{type(value).__name__}>"


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        try:
            return value.item()
        except (ValueError, TypeError, RuntimeError):
            return repr(value)
    return repr(value)


def _text_point(key: str, text: str) -> str:
    return REDACTED if is_secret_name(key.rpartition("/")[2]) else _text(text)


def _text(text: str) -> str:
    """Valid UTF-8 of bounded length, without secrets; what is cut ends in an ellipsis."""
    # Twice the limit before the search, so that a secret is not cut in two where it would be seen.
    text = text[: 2 * TEXT_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()
    text = redact(text[: 2 * TEXT_CHARACTERS_MAX])
    raw = text[:TEXT_CHARACTERS_MAX].encode()
    if len(raw) > TEXT_BYTES_MAX or len(text) > TEXT_CHARACTERS_MAX:
        return raw[: TEXT_BYTES_MAX - 3].decode("utf-8", "ignore") + "…"
    return text
