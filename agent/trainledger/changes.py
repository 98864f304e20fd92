"""`run.config` and `run.summary`: mappings whose changes are recorded as they are made."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from .values import setting_of, settings_of

__all__ = ["Change"]


class Change(MutableMapping[str, Any]):
    """`run.config` and `run.summary`: a mapping whose changes are recorded. Nested dicts join with /."""

    def __init__(self, record: Callable[[list[dict[str, Any]]], None], values: Mapping[Any, Any]) -> None:
        self._record = record
        self._values: dict[str, Any] = {str(key): value for key, value in values.items()}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value
        changed = settings_of({key: value}) if isinstance(value, Mapping) else [setting_of(str(key), value)]
        self._record(changed)

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)
