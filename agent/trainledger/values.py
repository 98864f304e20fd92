"""What a logged value becomes. Defined for everything, and never an exception in training.

float as it is; int the nearest double, beyond its range an infinity; bool 0 or 1; None skipped; anything with
`__float__` (numpy and torch scalars, 0-d arrays) its float; text and lists become text points; dicts are
flattened with "/"; whole arrays and what cannot be converted are skipped and named once on stderr.
Keys: text of any kind; other keys by str(); over KEY_BYTES_MAX bytes cut, with a hash of the whole.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from trainledger_schemas.journal import KEY_BYTES_MAX

from .notices import Notices

__all__ = ["Converted", "convert", "flatten", "setting_of", "settings_of", "short_key"]

DEPTH_MAX = 32
TEXT_CHARACTERS_MAX = 40_000


class Converted:
    """The numbers and the texts of one call, in order."""

    __slots__ = ("numbers", "texts")

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.texts: list[tuple[str, str]] = []


def flatten(data: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Any]]:
    """Pairs of key and value, nested keys joined with /."""
    for key, value in list(data.items()):
        name = prefix + (key if isinstance(key, str) else str(key))
        if isinstance(value, Mapping) and depth < DEPTH_MAX:
            yield from flatten(value, name + "/", depth + 1)
        else:
            yield name, value


def convert(data: Mapping[Any, Any], notices: Notices) -> Converted:
    """Numbers and texts of one call; what is left out is told once and counted."""
    result = Converted()
    for name, value in flatten(data):
        key = short_key(name)
        if value is None:
            notices.count("None values")
        elif isinstance(value, str):
            result.texts.append((key, _text(value)))
        elif isinstance(value, list | tuple):
            result.texts.append((key, _text(_json_text(value))))
        else:
            number = _number(key, value, notices)
            if number is not None:
                result.numbers[key] = number
    return result


def short_key(name: str) -> str:
    """A key that every format can hold: valid UTF-8 of at most KEY_BYTES_MAX bytes."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raw = name.encode("utf-8", "backslashreplace")  # lone surrogates, escaped
    if len(raw) <= KEY_BYTES_MAX:
        return raw.decode()
    mark = "~" + hashlib.sha256(raw).hexdigest()[:16]
    return raw[: KEY_BYTES_MAX - len(mark)].decode("utf-8", "ignore") + mark


def settings_of(values: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Parameters or summary values as entries of a claim."""
    return [setting_of(name, value) for name, value in flatten(values)]


def setting_of(name: str, value: Any) -> dict[str, Any]:
    """One entry: plain text for strings, JSON otherwise, and the number where it is one."""
    entry: dict[str, Any] = {
        "key": short_key(name),
        "value": _text(value if isinstance(value, str) else _json_text(value)),
    }
    if isinstance(value, bool | int | float) or hasattr(value, "__float__"):
        try:
            number = float(value)
        except Exception:  # a value of the user's may raise anything; it then has no number
            return entry
        if math.isfinite(number):
            entry["number"] = number
    return entry


def _number(key: str, value: Any, notices: Notices) -> float | None:
    try:
        if getattr(value, "ndim", 0) or (hasattr(value, "__len__") and len(value) > 1):
            notices.once(
                f"array {key}", f"{key!r} is a whole array: log a scalar, such as its mean; it is skipped"
            )
            notices.count("arrays")
            return None
        return float(value)
    except OverflowError:
        notices.once("overflow", f"{key!r} is beyond the range of a double: recorded as infinity")
        return math.inf if value > 0 else -math.inf
    except Exception as error:  # a value of the user's may raise anything; training must not notice
        notices.once(
            f"value {key}", f"{key!r} cannot be logged ({type(error).__name__}): log a number or text"
        )
        notices.count("values that are no numbers")
        return None


def _json_text(value: Any) -> str:
    try:
        return json.dumps(value, default=_plain)
    except Exception:  # an object whose repr or iteration raises
        return f"<{type(value).__name__}>"


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        try:
            return value.item()
        except (ValueError, TypeError, RuntimeError):
            return repr(value)
    return repr(value)


def _text(text: str) -> str:
    if len(text) > TEXT_CHARACTERS_MAX:
        text = text[:TEXT_CHARACTERS_MAX] + "…"
    return text.encode("utf-8", "backslashreplace").decode()
