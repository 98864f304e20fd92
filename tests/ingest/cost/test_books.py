"""A node's bills from its first event to the statement and beyond: whatever comes late, costs anew or is closed, the
lines are the presence, the money is the bill, and the report is both to the cent.

Of the product only the pure parts: dealing, which hours events touch, prices, bills, differences of closed months,
reports. What the tables do with them is in test_cost_tables and test_statements.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from support.cost_events import HOUR, histories
from support.proving import cases
from support.slow_cost import slow_node_hour
from trainledger_ingest.cost.adjustments import Bill, EventRef, Owed, explain_difference
from trainledger_ingest.cost.money import minor_digits
from trainledger_ingest.cost.node_events import HOUR_US, NodeEvent
from trainledger_ingest.cost.node_hour import SHARES_PER_US, NodeHour, deal_node_hour
from trainledger_ingest.cost.node_stream import cut_stream, hours_touched
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.posting import posted_differences
from trainledger_ingest.cost.presence import PresenceMode, PresenceRule
from trainledger_ingest.cost.prices import Price, PriceBook
from trainledger_ingest.cost.pricing import bill_by_holder, priced_lines
from trainledger_ingest.cost.report import make_report

NODE = "node-1"
NOWHERE = EventRef("", 0, "")
POLICIES = (
    CostPolicy(),
    CostPolicy(),
    CostPolicy(host_share_ppm=333_333, device_weights=(("m", 7),)),
    CostPolicy(PresenceRule(PresenceMode.BOOT)),
)


@dataclass
class Books:
    """What tables would hold of one node: dealt hours, the price book, and statements of closed hours."""

    known: list[NodeEvent] = field(default_factory=list)
    prices: list[Price] = field(default_factory=list)
    hours: dict[int, NodeHour] = field(default_factory=dict)
    booked: dict[int, dict[Owed, int]] = field(default_factory=dict)
    posted: dict[int, Bill] = field(default_factory=dict)

    @property
    def book(self) -> PriceBook:
        return PriceBook(self.prices)

    def take_in(self, events: Sequence[NodeEvent]) -> None:
        """Events arrive: the hours that they touch are dealt anew, no others."""
        book, touched = self.book, set[int]()
        for policy in book.policies_of(NODE):
            touched |= hours_touched(events, known=self.known, policy=policy)
        self.known += events
        self.deal(touched)

    def set_price(self, price: Price) -> None:
        """A price: every hour that is known is dealt by the book as it is then, and those its rule makes."""
        self.prices.append(price)
        touched = set(self.hours)
        for policy in self.book.policies_of(NODE):
            touched |= hours_touched(self.known, policy=policy)
        self.deal(touched)

    def deal(self, hours: Iterable[int]) -> None:
        book = self.book
        for hour_us in hours:
            policy = book.policy_for(NODE, hour_us)
            stream = cut_stream(NODE, self.known, hour_us, policy=policy)
            self.hours[hour_us] = deal_node_hour(stream, hour_us, policy)

    def bill(self, hour_us: int) -> Bill:
        return bill_by_holder(self.hours[hour_us], self.book.price_for(NODE, hour_us), {})

    def close(self) -> None:
        """All hours known so far are closed, or what moved since the last closing is booked."""
        for hour_us in self.hours:
            if hour_us not in self.booked:
                self.booked[hour_us] = dict(self.bill(hour_us))
                self.posted[hour_us] = dict(self.bill(hour_us))
            else:
                for item in self.differences(hour_us):
                    owed = self.booked[hour_us]
                    owed[item.owed] = owed.get(item.owed, 0) + item.delta_nano

    def differences(self, hour_us: int) -> list[Any]:
        """Why the newest bill is not what was booked: late events first, under the rules of before, then the price."""
        before, now = self.booked[hour_us], self.bill(hour_us)
        stream = cut_stream(NODE, self.known, hour_us, policy=CostPolicy())
        late = bill_by_holder(
            deal_node_hour(stream, hour_us, CostPolicy()), self.book.price_for(NODE, hour_us), {}
        )
        return explain_difference(before, [("late", late, NOWHERE), ("price", now, NOWHERE)])


price_changes = st.builds(
    lambda nano, hour, policy, currency: (nano, hour, policy, currency),
    st.one_of(st.integers(0, 10**15), st.sampled_from((0, 1, 333, 10**10))),
    st.integers(-2, 3),
    st.sampled_from(POLICIES),
    st.sampled_from(("USD", "USD", "JPY", "KWD")),
)
steps = st.lists(st.one_of(st.just("events"), st.just("close"), price_changes), min_size=3, max_size=7)


@cases(60)
@given(histories(), steps, st.randoms(use_true_random=False))
def test_lines_are_presence_money_is_the_bill_and_the_report_is_both_whatever_happens(
    events: list[NodeEvent], what: list[Any], chance: Any
) -> None:
    books = Books()
    # Out of order, and some twice.
    arriving = [*events, *chance.sample(events, len(events) // 4)]
    chance.shuffle(arriving)
    batches = [arriving[place :: max(1, what.count("events"))] for place in range(what.count("events"))]
    for number, step in enumerate(what):
        if step == "events":
            books.take_in(batches.pop())
        elif step == "close":
            books.close()
        else:
            nano, hour, policy, currency = step
            books.set_price(
                Price(f"price-{number}", "*", nano, currency, HOUR + hour * HOUR_US, number, policy)
            )
    check_hours(books, chance)
    check_report(books)
    check_closed(books)


def check_hours(books: Books, chance: Any) -> None:
    """Each stored hour is that of the whole history, its lines are its presence and their money its bill; one hour is
    compared with the slow rules."""
    for hour_us, hour in books.hours.items():
        policy, price = books.book.policy_for(NODE, hour_us), books.book.price_for(NODE, hour_us)
        stream = cut_stream(NODE, books.known, hour_us, policy=policy)
        assert deal_node_hour(stream, hour_us, policy) == hour
        assert sum(line.held_share for line in hour.lines) == hour.presence_us * SHARES_PER_US
        if price is None:
            continue
        bill, costs = priced_lines(hour, price)
        with localcontext() as context:
            context.prec = 60
            exact = Decimal(price.nano_per_hour) * hour.presence_us / HOUR_US
            assert bill == int(exact.quantize(Decimal(1), ROUND_HALF_UP)) == sum(costs)
            for line, cost in zip(hour.lines, costs, strict=True):
                part = bill * Decimal(line.held_share) / max(1, hour.presence_us * SHARES_PER_US)
                assert abs(cost - part) < 1
    if books.hours:
        hour_us = chance.choice(sorted(books.hours))
        expected = slow_node_hour(books.known, hour_us, books.book.policy_for(NODE, hour_us))
        dealt = {
            (
                line.resource,
                str(line.kind),
                line.run_id,
                line.attempt,
                line.owner,
                line.account,
            ): line.held_share
            for line in books.hours[hour_us].lines
            if line.held_share
        }
        assert dealt == {key: share for key, share in expected.shares.items() if share}


def check_report(books: Books) -> None:
    """Rows by holder sum to totals, and totals are the bills of the hours, to the minor unit of each currency."""
    lines: list[dict[str, Any]] = []
    bills: dict[str, int] = {}
    for hour_us, hour in books.hours.items():
        price = books.book.price_for(NODE, hour_us)
        if price is not None:
            bills[price.currency] = bills.get(price.currency, 0) + price.bill_nano(hour.presence_us)
        for owed, nano in books.bill(hour_us).items():
            held = 0.0 if price else hour.presence_us / HOUR_US / max(1, len(books.bill(hour_us)))
            lines.append(
                {
                    "holder": owed.run_id,
                    "line_kind": owed.kind,
                    "money": owed.currency,
                    "total": Decimal(nano).scaleb(-9),
                    "unpriced": held,
                }
            )
    report = make_report(
        "run", lines, [{"money": c, "total": Decimal(n).scaleb(-9)} for c, n in bills.items()]
    )
    shown = {currency: total for currency, total in report.bills.items() if currency in report.totals}
    assert report.totals == shown
    for currency, total in report.totals.items():
        rows = [Decimal(row["cost"]) for row in report.rows if row["currency"] == currency]
        unit = Decimal(1).scaleb(-minor_digits(currency))
        with localcontext() as context:
            context.prec = 60
            assert sum(rows) == Decimal(total)
            assert Decimal(total) == Decimal(bills[currency]).scaleb(-9).quantize(unit, ROUND_HALF_UP)


def check_closed(books: Books) -> None:
    """What was booked and the differences since are the newest bill, holder by holder, and to the cent."""
    before: dict[str, int] = {}
    moved: dict[str, list[int]] = {}
    now: dict[str, int] = {}
    for hour_us, booked in books.booked.items():
        sums = dict(booked)
        for item in books.differences(hour_us):
            sums[item.owed] = sums.get(item.owed, 0) + item.delta_nano
            moved.setdefault(item.owed.currency, []).append(item.delta_nano)
        newest = {owed: nano for owed, nano in books.bill(hour_us).items() if owed.currency and nano}
        assert {owed: nano for owed, nano in sums.items() if owed.currency and nano} == newest
        for amounts, bill in ((before, booked), (now, newest)):
            for owed, nano in bill.items():
                if owed.currency is not None:
                    amounts[owed.currency] = amounts.get(owed.currency, 0) + nano
    for currency, deltas in moved.items():
        digits = minor_digits(currency)
        posted = posted_differences(before.get(currency, 0), deltas, digits=digits)
        with localcontext() as context:
            context.prec = 60
            old, new = (
                Decimal(amounts.get(currency, 0)).scaleb(digits - 9).quantize(Decimal(1), ROUND_HALF_UP)
                for amounts in (before, now)
            )
        assert old + sum(posted) == new
