"""Rules that stand in several views, each written once: SQL has no macro for a part of a SELECT.

In a file of `views/` a rule is named in braces, with what differs between its places behind a colon; `fill_parts` puts
it in. What it reads of the query around it is said at each.
"""

import re

__all__ = ["fill_parts"]

_PARTS = {
    # Who pays, as set by `admin owner set`: an account before an owner. An account of which nothing is said is a team.
    # Of a line `l`, its run `r` and the terms `o`; behind the colon: which terms t count, of which the last is taken.
    # Columns behind it may ask for that `term` and its `teams`.
    "paying_team": """if(empty((if(empty((arrayLast(t -> {}, o.terms) AS term).4) AND l.account IS NOT NULL,
    [assumeNotNull(substring(l.account, position(l.account, ':') + 1))], term.4) AS teams)) OR
    has(teams, ifNull(r.team, '')), r.team, toNullable(teams[1]))""",
    # Each unit of money has one reason. Of columns kind, outcome and use.
    "why_and_is_waste": """multiIf(kind IN ('idle', 'system', 'unknown'), kind,
    ifNull(outcome, '') IN ('failed', 'killed', 'crashed', 'retried'), assumeNotNull(outcome), use) AS why,
  if(why = 'unknown', NULL, why NOT IN ('used', 'system')) AS is_waste""",
}
_NAMED = re.compile(r"\{(" + "|".join(_PARTS) + r")(?:: ([^}]+))?\}")


def fill_parts(text: str) -> str:
    """The text of a file of views with the rules that it names in their places."""
    return _NAMED.sub(lambda named: _PARTS[named[1]].format(named[2]), text)
