"""What people pass to `init`, checked before anything is changed."""

from collections.abc import Mapping
from typing import Any

from .identity import check_resume

__all__ = ["INIT_ARGUMENTS", "check_arguments"]

INIT_ARGUMENTS = ("project", "experiment", "team", "name", "config", "tags", "group", "resume", "mode")


def check_arguments(
    *, names: Mapping[str, Any], config: Any, tags: Any, resume: Any, mode: Any
) -> dict[Any, Any]:
    """`config` as a dict. Raises TypeError or ValueError for what an argument cannot be."""
    for name, value in names.items():
        if isinstance(value, Mapping | list | tuple | set | bytes):
            raise TypeError(f"{name} is a {type(value).__name__}; give text")
    if mode not in (None, "on", "disabled"):
        raise ValueError(f"mode {mode!r} is neither 'on' nor 'disabled'")
    if tags is not None and not isinstance(tags, str):
        try:
            iter(tags)
        except TypeError:
            raise TypeError(f"tags is a {type(tags).__name__}; give text or a list of texts") from None
    check_resume(resume)
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise TypeError(f"config is a {type(config).__name__}; give a dict, such as vars(args)")
    try:
        return {str(key): value for key, value in config.items()}
    except Exception as error:  # a mapping or a key of the user's
        raise TypeError(f"config cannot be read ({type(error).__name__}); give a dict") from error
