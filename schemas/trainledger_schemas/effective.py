"""Settings as they are in effect, as rows for a person: name, value, unit, and where the value comes from.

A field that its class keeps out of `repr` may hold a secret and is never shown, only whether it is set.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

__all__ = ["EffectiveSetting", "effective_settings"]

_UNITS = {
    "s": "s",
    "ms": "ms",
    "bytes": "bytes",
    "mib": "MiB",
    "points": "rows",
    "rows": "rows",
    "records": "records",
    "share": "share of a core",
    "threads": "threads",
}
_BOUNDS = frozenset({"max", "min"})


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting; `source` is the environment variable that gave it, or "default"."""

    name: str
    value: str
    unit: str
    source: str


def effective_settings(
    part: str, settings: object, *, environ: Mapping[str, str], variables: Mapping[str, str]
) -> list[EffectiveSetting]:
    """A row a field of a settings dataclass or named tuple, named `part.field`; nested ones need their own call.

    `variables`: the environment variable of a field, where it has one. Raises TypeError for any other object."""
    rows = []
    for name, value, is_secret in _fields(settings):
        if is_dataclass(value):
            continue
        variable = variables.get(name, "")
        source = variable if environ.get(variable, "").strip() else "default"
        shown = ("(set, not shown)" if value else "(not set)") if is_secret else _text(value)
        unit = "" if isinstance(value, bool) or value in (None, "") else _unit(name)
        rows.append(EffectiveSetting(f"{part}.{name}", shown, unit, source))
    return rows


def _fields(settings: object) -> Iterator[tuple[str, Any, bool]]:
    """Name, value, and whether `repr` keeps it secret."""
    if is_dataclass(settings) and not isinstance(settings, type):
        for item in fields(settings):
            yield item.name, getattr(settings, item.name), not item.repr
    elif isinstance(settings, tuple) and hasattr(settings, "_asdict"):
        text = repr(settings)
        for name, value in settings._asdict().items():
            yield name, value, f"{name}={value!r}" not in text
    else:
        raise TypeError(f"{settings!r} holds no settings")


def _text(value: Any) -> str:
    if value is None or value == "":
        return "(not set)"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "(none)"
    return str(value)


def _unit(name: str) -> str:
    words = [word for word in name.split("_") if word not in _BOUNDS]
    if words[0] == "records":
        return _UNITS["records"]
    return _UNITS.get(words[-1], "")
