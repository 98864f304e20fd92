"""What is gathered while a node-hour is dealt: shares held, shares held but unused, and the evidence."""

from trainledger_ingest.cost.share_sum import LineKey, ShareSum

__all__ = ["Tally"]


class Tally:
    """Exact sums by line.

    `held`: who pays. Of that, `unused`: measured as not used; `unseen`: its use was not measured.
    """

    def __init__(self) -> None:
        self.held = ShareSum()
        self.unused = ShareSum()
        self.unseen = ShareSum()
        self._evidence: dict[LineKey, set[str]] = {}

    def note(self, key: LineKey, evidence: str) -> None:
        """Add evidence to a line; empty evidence is none."""
        if evidence:
            self._evidence.setdefault(key, set()).add(evidence)

    def evidence(self, key: LineKey) -> str:
        """All evidence of a line, sorted, joined by `; `."""
        return "; ".join(sorted(self._evidence.get(key, ())))
