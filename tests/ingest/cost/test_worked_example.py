"""The worked example of docs/cost.md: a shared GPU node for an hour, every number in the document."""

import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

from support.cost_events import HOUR, Script, claim, run, seen_on
from trainledger_ingest.cost.money import cents, format_minor, largest_remainder
from trainledger_ingest.cost.node_events import AllocationHolder, Device, Holder, Kind
from trainledger_ingest.cost.node_hour import NodeHour, deal_node_hour
from trainledger_ingest.cost.node_stream import NodeStream
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.price_book import read_price_book
from trainledger_ingest.cost.prices import Price

DOCUMENT = Path(__file__).parents[3] / "docs" / "cost.md"
PRICE_NANO = 10 * 10**9
EXACT = {
    "A": Fraction("2.5"),
    "B": Fraction("0.3125"),
    "C": Fraction("0.9375"),
    "D": Fraction("1.25") * Fraction(5, 6),
    "E": Fraction("0.3125") * Fraction(2, 3),
    "F": Fraction("0.65625"),
    "G": Fraction("0.46875"),
    "K": Fraction("0.25"),
    "idle": Fraction("3.5625"),
    "system": Fraction("0.0625"),
}
A, B, C, D, E, F, G, K = (run(name) for name in "ABCDEFGK")


def holders_at(minute: int, *, f_ends: int = 25, g_ends: int = 30) -> list[AllocationHolder]:
    """Who holds what in a minute of the hour."""
    held = [claim("device:0", A), claim("host", A, 16, 64), claim("host", K, 16, 64)]
    held.append(claim("host", Holder(Kind.SYSTEM), 4, 64))
    if minute < 30:
        held += [claim("device:1", B, 1, 4), claim("host", B, 4, 64)]
    if minute >= 15:
        held += [claim("device:1", C, 2, 4), claim("host", C, 8, 64)]
    if minute < 50:
        held += [claim("device:2", D, 4, 8), claim("host", D, 8, 64)]
    if minute >= 20:
        held += [claim("device:2", E, 1, 8), claim("host", E, 2, 64)]
    if minute < f_ends:
        held.append(seen_on("device:3", F))
    if 10 <= minute < g_ends:
        held.append(seen_on("device:3", G))
    return held


def shared_node(*, f_ends: int = 25, g_ends: int = 30) -> NodeHour:
    script = Script(cores=64).alive(0, 3600).devices(0, *(Device(str(number)) for number in range(4)))
    for minute in range(0, 60, 5):
        script.allocation(minute * 60, *holders_at(minute, f_ends=f_ends, g_ends=g_ends))
    script.windows(0, 3600)
    return deal_node_hour(NodeStream("gpu-1", tuple(script.events)), HOUR, CostPolicy())


def priced(hour: NodeHour) -> dict[str, int]:
    """Nano amounts by holder."""
    costs = largest_remainder(PRICE_NANO, [line.held_share for line in hour.lines], range(len(hour.lines)))
    sums: Counter[str] = Counter()
    for line, cost in zip(hour.lines, costs, strict=True):
        sums[line.run_id or str(line.kind)] += cost
    return dict(sums)


def test_each_holder_pays_what_its_claims_and_presence_say() -> None:
    costs = priced(shared_node())
    assert sum(EXACT.values()) == 10
    assert costs.keys() == EXACT.keys()
    assert sum(costs.values()) == PRICE_NANO
    for name, exact in EXACT.items():
        assert abs(Fraction(costs[name], 10**9) - exact) < Fraction(8, 10**9), name


def test_the_cents_in_the_document_are_those_posted_and_sum_to_the_bill() -> None:
    costs = priced(shared_node())
    names = sorted(costs)
    posted = dict(zip(names, cents([costs[name] for name in names], names), strict=True))
    assert sum(posted.values()) == 1000
    rows = re.findall(
        r"^\| (\w+) \|.*\| ([\d.]+) \| \*\*([\d.]+)\*\* \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    assert {name for name, _, _ in rows} == posted.keys()
    for name, exact, cent in rows:
        assert cent == format_minor(posted[name], 2)
        assert exact == f"{float(EXACT[name]):.6f}"


def test_a_run_that_ended_earlier_than_believed_pays_less_and_its_neighbour_more() -> None:
    before, after = priced(shared_node()), priced(shared_node(f_ends=20))
    assert (after["F"], after["G"]) == (562_500_000, 562_500_000)
    changed = {name for name in before if abs(before[name] - after[name]) > 8}
    assert changed == {"F", "G"}


H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


def book_of_two_models() -> Price:
    """The price book of the section on two models, as `price load` reads it."""
    (book,) = re.findall(
        r"```toml\n(\[\[price\]\]\nnode = \"mixed-1\".*?)```", DOCUMENT.read_text(), re.DOTALL
    )
    (fields,) = read_price_book(book, new_id=lambda: "p")
    return Price.from_fields(fields | {"at_us": 0})


def test_two_models_in_one_node_cost_what_their_weights_say() -> None:
    price = book_of_two_models()
    models = {"a": A100, "b": A100, "h": H100, "i": H100}
    script = Script().alive(0, 3600).devices(0, *(Device(uuid, model) for uuid, model in models.items()))
    # A holds an H100 for the hour, B an A100 for half of it; C and D are on the other H100, which nobody claimed.
    for minute in range(0, 60, 5):
        held = [claim("device:h", A), seen_on("device:i", C), seen_on("device:i", D)]
        script.allocation(minute * 60, *held, *([claim("device:a", B)] if minute < 30 else []))
    script.windows(0, 3600)
    hour = deal_node_hour(NodeStream("mixed-1", tuple(script.events)), HOUR, price.policy)
    bill = price.bill_nano(hour.presence_us)
    costs = largest_remainder(bill, [line.held_share for line in hour.lines], range(len(hour.lines)))
    found: Counter[str] = Counter()
    for line, cost in zip(hour.lines, costs, strict=True):
        found[line.run_id or str(line.kind)] += cost
    # 90 % of 16.00 over weights 2 x 1 + 2 x 3; the host's 1.60 and the rest of the A100s are idle.
    assert found == {
        "A": 5_400_000_000, "B": 900_000_000, "C": 2_700_000_000, "D": 2_700_000_000, "idle": 4_300_000_000,
    }  # fmt: skip
    rows = re.findall(r"^\| (\w+) \| [^|]*weight[^|]* \| ([\d.]+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert {name: format_minor(found[name] // 10**7, 2) for name in found} == dict(rows)
    equal = deal_node_hour(NodeStream("mixed-1", tuple(script.events)), HOUR, CostPolicy())
    shares = {line.run_id: line.held_share for line in equal.lines}
    assert shares["A"] * 16 == equal.presence_us * 10**6 * Fraction("3.6")
