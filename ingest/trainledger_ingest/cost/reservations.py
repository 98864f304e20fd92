"""What a scheduler's records say that jobs had of a node, where nobody on the node itself said more.

Such a reservation ranks below all that was seen on the node: it takes only what would be idle or unknown, and never
more than the job had. What its owner was seen to hold or use counts towards it first, so nobody pays twice. In each
time in which nothing changed (a frame), of the host and of all devices together:

    rest = reserved - what its owner holds by claim, presence or CPU time, never below 0

Rests beyond what is free are scaled down together; what is unknown goes before what is idle. The records do not say
which devices a job had: its rest is spread over what is free of them. Of one job the newest word counts: that it is
over, else the longest time, else what was read last.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from trainledger_ingest.cost.frames import Frame
from trainledger_ingest.cost.node_events import HOST, Device, Holder, Kind, Reservation, device_resource
from trainledger_ingest.cost.policy import WHOLE_PPM
from trainledger_ingest.cost.share_sum import LineKey
from trainledger_ingest.cost.tally import Tally

__all__ = ["current_reservations", "give_reserved"]

_MILLI = 1000


class _Rest(NamedTuple):
    """What a job's owner still has to be given: `amount` of the host (1 is all of it), or of devices."""

    holder: Holder
    amount: Fraction
    evidence: str


class _Free(NamedTuple):
    """A part of a resource that nobody was seen to hold: `fraction` of it, where all of it is `whole` shares."""

    key: LineKey
    fraction: Fraction
    whole: Fraction


def current_reservations(events: Iterable[Reservation]) -> list[Reservation]:
    """Of each job the word that counts, in order of their ids."""
    newest: dict[str, Reservation] = {}
    for event in events:
        known = newest.get(event.reservation_id)
        if known is None or _rank(event) > _rank(known):
            newest[event.reservation_id] = event
    return [item for _, item in sorted(newest.items()) if item.end_us > item.start_us]


def _rank(event: Reservation) -> tuple[bool, int, int, str, int]:
    return (event.is_over, 0 if event.is_over else event.end_us, event.read_us, event.producer_id, event.seq)


def give_reserved(frame: Frame, seen: Tally, *, host_ppm: int, cores: int | None) -> Tally:
    """What `seen` holds of one frame, with what its jobs had and nobody was seen to hold given to them.

    `cores`: of the node as it tells itself, for jobs whose scheduler does not say."""
    accounts = _accounts_of(frame.facts.reserved)
    given = Tally()
    numerators, denominator = seen.held.total()
    held = {key: Fraction(numerator, denominator) for key, numerator in numerators.items()}
    host = {HOST: Fraction(host_ppm * frame.duration_us)}
    devices = _device_shares(frame.facts.devices, WHOLE_PPM - host_ppm, frame.duration_us)
    parts = [
        (host, [_host_part(item, cores) for item in frame.facts.reserved]),
        (devices, [Fraction(item.device_milli, _MILLI) for item in frame.facts.reserved]),
    ]
    for wholes, amounts in parts:
        rests = _rests(frame.facts.reserved, amounts, _seen_by_payer(held, wholes))
        for kind in (Kind.UNKNOWN, Kind.IDLE):
            free = _free_parts(held, wholes, kind)
            rests = _take(free, rests, held, given)
    for key, amount in held.items():
        told = LineKey(_named(key.holder, accounts), key.resource)
        given.held.add(told, amount.numerator, amount.denominator)
        given.copy_use(seen, key, told)
    return given


def _take(
    free: Sequence[_Free], rests: Sequence[_Rest], held: dict[LineKey, Fraction], given: Tally
) -> list[_Rest]:
    """Move rests from what is free to those they belong to; what is still wanted then."""
    wanted = sum((rest.amount for rest in rests), Fraction(0))
    there = sum((part.fraction for part in free), Fraction(0))
    taken = min(wanted, there)
    if not taken:
        return list(rests)
    for part in free:
        for rest in rests:
            amount = part.whole * part.fraction * taken / there * rest.amount / wanted
            key = LineKey(rest.holder, part.key.resource)
            use = given.unseen if part.key.holder.kind is Kind.UNKNOWN else given.unused
            for sums in (given.held, use):
                sums.add(key, amount.numerator, amount.denominator)
            given.note(key, rest.evidence)
        held[part.key] -= part.whole * part.fraction * taken / there
        if not held[part.key]:
            del held[part.key]
    return [rest._replace(amount=rest.amount * (1 - taken / wanted)) for rest in rests]


def _free_parts(held: Mapping[LineKey, Fraction], wholes: Mapping[str, Fraction], kind: Kind) -> list[_Free]:
    keys = [LineKey(Holder(kind), resource) for resource in wholes]
    return [
        _Free(key, held[key] / wholes[key.resource], wholes[key.resource]) for key in keys if held.get(key)
    ]


def _device_shares(devices: Sequence[Device], pool_ppm: int, duration_us: int) -> dict[str, Fraction]:
    weights = sum(device.weight for device in devices)
    return {
        device_resource(device.uuid): Fraction(pool_ppm * device.weight * duration_us, weights)
        for device in devices
        if pool_ppm
    }


def _seen_by_payer(held: Mapping[LineKey, Fraction], wholes: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """How much of these resources each owner, and each account, was seen to hold."""
    seen: dict[str, Fraction] = {}
    for key, amount in held.items():
        if whole := wholes.get(key.resource):
            for payer in (key.holder.owner, key.holder.account):
                if payer is not None:
                    seen[payer] = seen.get(payer, Fraction(0)) + amount / whole
    return seen


def _accounts_of(reserved: Sequence[Reservation]) -> dict[str, str]:
    """The account of each owner whose jobs here are all of one."""
    found: dict[str, set[str | None]] = {}
    for item in reserved:
        if item.owner is not None:
            found.setdefault(item.owner, set()).add(item.account)
    sole = {owner: next(iter(accounts)) for owner, accounts in found.items() if len(accounts) == 1}
    return {owner: account for owner, account in sole.items() if account is not None}


def _named(holder: Holder, accounts: Mapping[str, str]) -> Holder:
    """The holder with the account of its owner's jobs, unless the node itself said one."""
    account = accounts.get(holder.owner or "")
    return holder if holder.account is not None or account is None else holder._replace(account=account)


def _rests(
    reserved: Sequence[Reservation], amounts: Sequence[Fraction], seen: Mapping[str, Fraction]
) -> list[_Rest]:
    """What is to be given to each owner and account beyond what it was `seen` to hold."""
    wanted: dict[Holder, Fraction] = {}
    evidence: dict[Holder, set[str]] = {}
    for item, amount in zip(reserved, amounts, strict=True):
        if amount:
            holder = Holder(Kind.UNTRACKED, owner=item.owner, account=item.account)
            wanted[holder] = wanted.get(holder, Fraction(0)) + amount
            evidence.setdefault(holder, set()).add(item.evidence)
    left = dict(seen)
    rests = []
    for holder in sorted(wanted, key=lambda item: (item.owner or "", item.account or "")):
        # A pod has no user: its namespace is.
        payer = holder.owner or holder.account or ""
        covered = min(left.get(payer, Fraction(0)), wanted[holder])
        left[payer] = left.get(payer, Fraction(0)) - covered
        rests.append(_Rest(holder, wanted[holder] - covered, "; ".join(sorted(evidence[holder]))))
    return [rest for rest in rests if rest.amount > 0]


def _host_part(item: Reservation, cores: int | None) -> Fraction:
    of = item.node_cores or cores
    return Fraction(0) if of is None else min(Fraction(1), Fraction(item.cpu_milli, _MILLI * of))
