"""A period of UTC hours, cut at midnight: whole days are read from sums by day, the hours beside them from lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["PeriodPart", "days_condition", "period_condition", "period_parts"]

_TEXT = "%Y-%m-%d %H:%M:%S"
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PeriodPart:
    """Days [start, end) (`is_days`) or hours; None: open."""

    is_days: bool
    start: str | None
    end: str | None

    def condition(self) -> tuple[str, dict[str, object]]:
        """On column `day` or `usage_hour`, with its parameters."""
        if not self.is_days:
            return period_condition(self.start, self.end)
        conditions, parameters = ["1"], dict[str, object]()
        for name, sign, bound in (("start", ">=", self.start), ("end", "<", self.end)):
            if bound is not None:
                conditions.append(f"day {sign} toDate({{{name}:String}})")
                parameters[name] = bound[:10]
        return " AND ".join(conditions), parameters


def period_parts(start: str | None, end: str | None) -> Iterator[PeriodPart]:
    """The parts of [start, end) (UTC hours as text, None: open), the whole days first."""
    first, behind = (None if bound is None else datetime.strptime(bound, _TEXT) for bound in (start, end))
    day_first = None if first is None else _midnight(first + _DAY - timedelta(seconds=1))
    day_behind = None if behind is None else _midnight(behind)
    if day_first is not None and day_behind is not None and day_first >= day_behind:
        yield PeriodPart(False, start, end)
        return
    yield PeriodPart(True, _text(day_first), _text(day_behind))
    if day_first != first:
        yield PeriodPart(False, start, _text(day_first))
    if day_behind != behind:
        yield PeriodPart(False, _text(day_behind), end)


def period_condition(start: str | None, end: str | None) -> tuple[str, dict[str, object]]:
    """The condition on `usage_hour` of [start, end), UTC hours as text, None: open; and its parameters."""
    conditions, parameters = ["1"], dict[str, object]()
    if start is not None:
        conditions.append("usage_hour >= toDateTime({start:String}, 'UTC')")
        parameters["start"] = start
    if end is not None:
        conditions.append("usage_hour < toDateTime({end:String}, 'UTC')")
        parameters["end"] = end
    return " AND ".join(conditions), parameters


def days_condition(start: str | None, end: str | None) -> str:
    """The condition on `day` of all days that the hours of `period_condition` lie in, with its parameters."""
    conditions = ["1"]
    if start is not None:
        conditions.append("day >= toDate(toDateTime({start:String}, 'UTC'))")
    if end is not None:
        conditions.append("day <= toDate(toDateTime({end:String}, 'UTC'))")
    return " AND ".join(conditions)


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.strftime(_TEXT)
