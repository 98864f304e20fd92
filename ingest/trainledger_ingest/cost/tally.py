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

    def add(self, other: "Tally") -> None:
        """Add all that another one holds."""
        for mine, theirs in (
            (self.held, other.held),
            (self.unused, other.unused),
            (self.unseen, other.unseen),
        ):
            mine.take(theirs)
        for key, evidence in other._evidence.items():
            self._evidence.setdefault(key, set()).update(evidence)

    def copy_use(self, other: "Tally", key: LineKey, told: LineKey) -> None:
        """Add what another one says of the use of a line to the line `told`."""
        for mine, theirs in ((self.unused, other.unused), (self.unseen, other.unseen)):
            numerator, denominator = theirs.sum_of(key)
            mine.add(told, numerator, denominator)
        for text in other._evidence.get(key, ()):
            self.note(told, text)

    def evidence(self, key: LineKey) -> str:
        """All evidence of a line, sorted, joined by `; `."""
        return "; ".join(sorted(self._evidence.get(key, ())))
