"""Who claims a part of the node, and whose claims cover processes that claim nothing themselves."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from trainledger_ingest.cost.node_events import Holder, Kind

__all__ = ["Claimant", "Claimants", "claimant"]

Claimant = tuple[Kind, str | None, str | None]
_Of = TypeVar("_Of")


def claimant(holder: Holder) -> Claimant:
    """Who claims: a run whatever its attempt or owner, else the owner's processes of that kind and account."""
    if holder.kind is Kind.RUN:
        return (holder.kind, holder.run_id, None)
    return (holder.kind, holder.owner, holder.account)


class Claimants(Generic[_Of]):
    """Who claims something, and what each of them claims (of several claims of one, the last).

    Processes without a run that are in a job are covered by the claims of that job: those with its account and owner.
    """

    def __init__(self, claims: Iterable[tuple[Holder, _Of]]) -> None:
        self._by_claimant: dict[Claimant, _Of] = {}
        self._by_job: dict[tuple[str, str | None], _Of] = {}
        for holder, of in claims:
            self._by_claimant[claimant(holder)] = of
            if holder.account is not None:
                self._by_job[holder.account, holder.owner] = of
                # A pod's processes without a run have no owner: the namespace is.
                self._by_job[holder.account, None] = of

    def find(self, holder: Holder) -> _Of | None:
        """What this holder claims, itself or as part of a job; None when it claims nothing."""
        found = self._by_claimant.get(claimant(holder))
        if found is None and holder.kind is Kind.UNTRACKED and holder.account is not None:
            found = self._by_job.get((holder.account, holder.owner))
        return found
