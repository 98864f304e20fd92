"""A run that stands still in `show`: since when, and for which ranks the others wait. By the rule of the alerts."""

from collections.abc import Mapping
from typing import Any

from ..session import Session
from ..stall_alerts import StalledRuns, ranks_sentence, stall_sentence

__all__ = ["silence_facts"]

# As alerts have it where nothing else is set.
STALL_MINUTES = 10


def silence_facts(session: Session, run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nothing of a run that goes on or has ended. One of which a rank died is not `running`; the others may wait."""
    if run["state"] == "finished":
        return []
    rule = StalledRuns(session.query, session.views, minutes=STALL_MINUTES)
    found = [
        finding
        for finding in rule.findings(run["last_seen_at"])
        if str(finding.facts["run_id"]) == run["run_id"]
    ]
    ranks = [finding for finding in found if "rank" in finding.facts]
    facts = [("stands still", stall_sentence(finding)) for finding in found if finding not in ranks]
    return facts + ([("ranks stand still", ranks_sentence(ranks))] if ranks else [])
