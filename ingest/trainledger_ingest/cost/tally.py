"""What is gathered while a node-hour is dealt: shares held, shares held but unused, and the evidence."""

from trainledger_ingest.cost.node_events import HOST, Holder
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
        self._host_terms: dict[int, dict[Holder, int]] = {}

    def host_terms(self, denominator: int) -> dict[Holder, int]:
        """The running sums of measured CPU time over one denominator; the hot loop updates them itself."""
        return self._host_terms.setdefault(denominator, {})

    def note(self, key: LineKey, evidence: str) -> None:
        """Add evidence to a line; empty evidence is none."""
        if evidence:
            self._evidence.setdefault(key, set()).add(evidence)

    def evidence(self, key: LineKey) -> str:
        """All evidence of a line, sorted, joined by `; `."""
        return "; ".join(sorted(self._evidence.get(key, ())))

    def settle(self) -> None:
        """Move the running sums of measured CPU time into `held`; a second call changes nothing."""
        for denominator, terms in self._host_terms.items():
            for holder, numerator in terms.items():
                key = LineKey(holder, HOST)
                self.held.add(key, numerator, denominator)
                self.note(key, "cpu time")
        self._host_terms.clear()
