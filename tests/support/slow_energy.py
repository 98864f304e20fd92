"""A slow second opinion on energy: every window of a random cluster by hand, in Fractions."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from support.ingest_events import HOUR_US
from support.random_cluster import RandomCluster

MJ_PER_KWH = 3_600_000_000


@dataclass(frozen=True)
class Factor:
    """As it was set; `place` counts up in the order of setting."""

    pattern: str
    from_us: int
    pue: Fraction | None
    grid: Fraction | None
    place: int


def factor_for(factors: Sequence[Factor], node: str, at_us: int) -> Factor | None:
    """The factor that counts: the exact name, the longest text before a wildcard, the latest beginning, the last set."""
    fitting = [factor for factor in factors if factor.from_us <= at_us and _fits(factor.pattern, node)]
    return max(fitting, key=lambda f: (_rank(f.pattern), f.from_us, f.place), default=None)


def _rank(pattern: str) -> int:
    places = [pattern.index(sign) for sign in "*?" if sign in pattern]
    return min(places) if places else 10**6


def _fits(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_fits(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _fits(pattern[1:], text[1:])


@dataclass
class SlowEnergy:
    """Millijoules (None: not measured), seconds, and kilograms of CO2e (None: not known)."""

    mj: int | None = None
    estimated_mj: int = 0
    observed_s: Fraction = Fraction(0)
    unknown_s: Fraction = Fraction(0)
    kg: Fraction | None = None


def slow_energy(
    cluster: RandomCluster, factors: Sequence[Factor]
) -> dict[tuple[int | None, str, int], SlowEnergy]:
    """(run or None for the rest, device, hour) -> its energy."""
    found: dict[tuple[int | None, str, int], SlowEnergy] = defaultdict(SlowEnergy)
    nodes: dict[str, str] = {}
    for run, _writer, gpu, start_us, _end_us, use in cluster.device_uses:
        row = found[run.number, gpu, start_us // HOUR_US]
        nodes[gpu] = run.node
        row.observed_s += Fraction(use["observed_us"], 10**6)
        if use["energy_mj"] is None:
            row.unknown_s += Fraction(use["observed_us"], 10**6)
            continue
        row.mj = (row.mj or 0) + use["energy_mj"]
        if use["quality"] != "exclusive":
            row.estimated_mj += use["energy_mj"]
    whole: dict[tuple[str, int], Fraction] = defaultdict(Fraction)
    for node, gpu, name, start_us, mean, samples in cluster.samples:
        if name == "energy_j":
            nodes[gpu] = node
            whole[gpu, start_us // HOUR_US] += Fraction(mean) * samples * 1000
    for (gpu, hour), mj in whole.items():
        of_runs = sum(
            row.mj or 0 for (run, device, at), row in found.items() if run and (device, at) == (gpu, hour)
        )
        found[None, gpu, hour] = SlowEnergy(max(0, int(mj) - of_runs))
    for (_, gpu, hour), row in found.items():
        factor = factor_for(factors, nodes[gpu], hour * HOUR_US)
        if row.mj is not None and factor and factor.pue is not None and factor.grid is not None:
            row.kg = Fraction(row.mj, MJ_PER_KWH) * factor.pue * factor.grid / 1000
    return dict(found)
