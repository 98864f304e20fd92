"""`run.config` and `run.summary`: mappings whose changes are recorded as they are made."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from .interruption import is_from_handler
from .spelling import nearest_name
from .values import settings_of

__all__ = ["Change"]


class Change(MutableMapping[str, Any]):
    """A mapping whose changes are recorded. Nested dicts join with /, keys that are no text become text.

    Any value is kept as it is given and recorded as plain text for strings, JSON otherwise (see `values`); a
    change never raises for its value. `update` is one record. Deleting a key is not recorded.

    Keys can be read and set as attributes too, `config.lr = 3`, but those named as a method (`items`) are only set so.
    """

    _record: Callable[[list[dict[str, Any]]], None]
    _values: dict[str, Any]

    def __init__(self, record: Callable[[list[dict[str, Any]]], None], values: Mapping[Any, Any]) -> None:
        object.__setattr__(self, "_record", record)
        object.__setattr__(self, "_values", {str(key): value for key, value in values.items()})

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is no attribute, and by copy and pickle before there are any values.
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        nearest = nearest_name(name, map(str, values))
        raise AttributeError(
            f"there is no key {name!r}" + (f"; did you mean {nearest!r}?" if nearest else "")
        )

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delattr__(self, name: str) -> None:
        if name not in self._values:
            raise AttributeError(f"there is no key {name!r}")
        del self._values[name]

    def update(self, *arguments: Any, **named: Any) -> None:
        """As dict.update; all of it is recorded at once."""
        given = {str(key): value for key, value in dict(*arguments, **named).items()}
        self._values.update(given)
        try:
            changes = settings_of(given)
        except Exception as error:  # a value of the user's; training must not notice
            if is_from_handler(error):
                raise
            changes = []
        if changes:
            self._record(changes)

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)
