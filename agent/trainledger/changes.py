"""`run.config` and `run.summary`: mappings whose changes are recorded as they are made."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from .interruption import is_from_handler
from .values import settings_of

__all__ = ["Change"]


class Change(MutableMapping[str, Any]):
    """A mapping whose changes are recorded. Nested dicts join with /, keys that are no text become text.

    Any value is kept as it is given and recorded as plain text for strings, JSON otherwise (see `values`); a
    change never raises for its value. `update` is one record. Deleting a key is not recorded.
    """

    def __init__(self, record: Callable[[list[dict[str, Any]]], None], values: Mapping[Any, Any]) -> None:
        self._record = record
        self._values: dict[str, Any] = {str(key): value for key, value in values.items()}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

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
