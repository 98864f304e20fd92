"""Bills and cents by the written rules, in Decimal, to hold the product's against; for a context of enough digits."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

from trainledger_ingest.cost.node_events import HOUR_US
from trainledger_ingest.cost.node_hour import NodeHour

__all__ = ["slow_cents", "slow_costs"]

NANO, CENT = Decimal("1E-9"), Decimal("0.01")


def slow_costs(hour: NodeHour, rate: Decimal) -> list[Decimal]:
    """The bill of an hour by largest remainder over its lines, in whole nano."""
    bill = (rate * hour.presence_us / HOUR_US).quantize(NANO, ROUND_HALF_UP)
    whole = sum(line.held_share for line in hour.lines)
    exact = [bill * line.held_share / whole for line in hour.lines]
    given = [part // NANO * NANO for part in exact]
    order = sorted(range(len(exact)), key=lambda place: (given[place] - exact[place], place))
    for place in order[: int((bill - sum(given)) / NANO)]:
        given[place] += NANO
    return given


def slow_cents(sums: Mapping[str, Decimal], names: Sequence[str]) -> dict[str, Decimal]:
    """Amounts in whole cents that sum to their total, half up, by largest remainder; ties in the order of `names`."""
    total = sum(sums.values(), Decimal(0)).quantize(CENT, ROUND_HALF_UP)
    floors = {name: sums[name] // CENT * CENT for name in names}
    order = sorted(names, key=lambda name: (floors[name] - sums[name], names.index(name)))
    left = int((total - sum(floors.values())) / CENT)
    return {name: floors[name] + (CENT if name in order[:left] else 0) for name in names}
