"""Times as people give them on a command line, and durations as they read them."""

import re
from datetime import UTC, datetime, timedelta

from trainledger_schemas.errors import UsageError

__all__ = ["duration_text", "parse_month", "parse_time", "within_years"]

YEAR_MIN, YEAR_MAX = 1970, 2105
_AGO = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_time(text: str, *, now: datetime) -> datetime:
    """2026-11-25, 2026-11-25T10:00[:00][Z or offset], or an age before `now` as in 30m, 12h, 7d. UTC unless told.

    Raises UsageError for anything else.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            moment = now - timedelta(seconds=int(ago.group(1)) * _UNIT_S[ago.group(2)])
        else:
            moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is not a time; give 2026-11-25, 2026-11-25T10:00Z, or an age such as 12h or 7d"
        ) from None
    return within_years(moment, text)


def parse_month(text: str) -> tuple[datetime, datetime]:
    """The first moments of month `YYYY-MM` and of the next, UTC."""
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f"{text!r} is not a month; give one as in 2026-11") from None
    within_years(first, text)
    return first, (first + timedelta(days=32)).replace(day=1)


def within_years(moment: datetime, text: str) -> datetime:
    """`moment`, if the hours of the tables can hold it; they would show another one in its place."""
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise UsageError(f"{text!r} is not between the years {YEAR_MIN} and {YEAR_MAX}")
    return moment


def duration_text(seconds: float | None) -> str:
    """Seconds as 8.2 s, 3 min 20 s, 2 h 14 min or 5 d 3 h."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
