"""The environment variables that a run is described by: an allow-list of names, without secrets. Pure."""

from collections.abc import Mapping

from trainledger_schemas.result_variables import is_launch_variable, is_result_variable

from ..redaction import is_secret_name, redact

__all__ = ["describe_variables"]

VALUE_CHARS_MAX = 2000
VARIABLES_MAX = 300


def describe_variables(environ: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """The allowed variables, and how many of them were withheld because they look like secrets or are too long."""
    found: dict[str, str] = {}
    withheld = 0
    for name in sorted(environ):
        if not is_result_variable(name) and not is_launch_variable(name):
            continue
        value = environ[name]
        is_safe = (
            not is_secret_name(name)
            and redact(value) == value
            and redact(f"{name}={value}") == f"{name}={value}"
        )
        if is_safe and len(value) <= VALUE_CHARS_MAX and len(found) < VARIABLES_MAX:
            found[name] = value
        else:
            withheld += 1
    return found, withheld
