"""Budgets: month to date, burn rate and forecast against a calculation by hand; alerts once, whatever fails."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.filled_tables import FilledTables
from support.ingest_store import fresh_store
from support.mailbox import Mailbox
from support.webhook import Webhook
from trainledger_ingest.alert_channels import AlertChannel, alert_channels
from trainledger_ingest.budget_alerts import BudgetAlerts
from trainledger_ingest.cost.budgets import (
    Budget,
    BudgetState,
    budget_nano,
    current_budgets,
    judge_budget,
    later_budgets,
    read_budget_states,
)
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.errors import RetryableError, SettingsError, UsageError

S = 1_000_000
H = 3600 * S
FIRST, BEHIND = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def budget(amount: str = "1000", **more: Any) -> Budget:
    fields: dict[str, Any] = {"scope": "team", "name": "red", "currency": "USD", "is_hard": False}
    return Budget(a_month=Decimal(amount), from_month="2026-11", **(fields | more))


def test_the_forecast_goes_on_at_the_rate_of_the_last_seven_days() -> None:
    # 2 an hour for ten days, then 5 an hour for ten: 21 November, ten days left.
    hours = [(FIRST + n * HOUR, Decimal(2 if n < 240 else 5)) for n in range(480)]
    now = FIRST + 480 * HOUR
    state = judge_budget(budget("3000"), hours, first=FIRST, behind=BEHIND, now=now)
    assert (state.spent, state.burn_per_day, state.forecast) == (Decimal(1680), Decimal(120), Decimal(2880))
    assert (state.share, state.state) == (Decimal("0.56"), "within")
    early = judge_budget(budget("100"), hours[:3], first=FIRST, behind=BEHIND, now=FIRST + 3 * HOUR)
    assert (early.spent, early.burn_per_day, early.forecast) == (Decimal(6), Decimal(48), Decimal(1440))
    assert early.state == "will be over"
    over = judge_budget(budget("1600"), hours, first=FIRST, behind=BEHIND, now=BEHIND + 90 * HOUR)
    assert (over.state, over.forecast) == ("over", Decimal(1680))
    nothing = judge_budget(budget("0"), [], first=FIRST, behind=BEHIND, now=now)
    assert (nothing.is_used_up, nothing.share, nothing.state) == (True, Decimal(0), "within")
    exactly = judge_budget(budget("1680"), hours, first=FIRST, behind=BEHIND, now=now)
    assert (exactly.is_used_up, over.is_used_up, state.is_used_up) == (True, True, False)
    unborn = judge_budget(budget(), [], first=FIRST, behind=BEHIND, now=FIRST - HOUR)
    assert (unborn.spent, unborn.burn_per_day, unborn.forecast) == (Decimal(0), None, None)


@given(
    st.dictionaries(st.integers(0, 719), st.integers(0, 10**15), max_size=40),
    st.integers(1, 720 * 3600),
    st.data(),
)
def test_spent_and_forecast_are_those_of_fractions(costs: dict[int, int], passed_s: int, data: Any) -> None:
    del data
    now = FIRST + timedelta(seconds=passed_s)
    known = {n: nano for n, nano in costs.items() if FIRST + n * HOUR < now}
    hours = [(FIRST + n * HOUR, Decimal(nano).scaleb(-9)) for n, nano in known.items()]
    state = judge_budget(budget(), hours, first=FIRST, behind=BEHIND, now=now)
    window_s = min(passed_s, 7 * 86_400)
    burnt = sum(nano for n, nano in known.items() if (n + 1) * 3600 > passed_s - window_s)
    forecast = sum(known.values()) + Fraction(burnt * (720 * 3600 - passed_s), window_s)
    assert state.spent == Decimal(sum(known.values())).scaleb(-9)
    assert state.forecast is not None
    assert abs(Fraction(state.forecast) * 10**9 - forecast) <= Fraction(1, 2)


def row(name: str, amount: int | None, month: str, currency: str = "USD") -> dict[str, Any]:
    value = None if amount is None else Decimal(amount)
    return {
        "scope": "team", "name": name, "a_month": value, "currency": currency, "hard": False, "from_month": month,
    }  # fmt: skip


def test_the_budget_that_counts_is_the_one_of_the_latest_month_then_the_one_set_last() -> None:
    rows = [
        row("a", 1, "2026-11"), row("a", 9, "2026-12"), row("a", 2, "2026-11"), row("a", 3, "2026-10"),
        row("b", 4, "2026-10"), row("b", None, "2026-11"), row("b", 5, "2026-10", "EUR"),
    ]  # fmt: skip
    assert [(b.name, int(b.a_month)) for b in current_budgets(rows, "2026-11")] == [("a", 2), ("b", 5)]
    assert [(b.name, int(b.a_month)) for b in current_budgets(rows, "2026-10")] == [
        ("a", 3),
        ("b", 5),
        ("b", 4),
    ]
    assert [(b.name, int(b.a_month)) for b in current_budgets(rows, "2027-01")] == [("a", 9), ("b", 5)]
    assert [(b.name, b.from_month) for b in later_budgets(rows, "2026-10")] == [
        ("a", "2026-11"),
        ("a", "2026-12"),
    ]
    assert later_budgets(rows, "2026-12") == []
    assert budget_nano("2500000.5") == 2_500_000_500_000_000
    for wrong in ("-1", "NaN", "many", "0.0000000001", "1e13"):
        with pytest.raises(UsageError):
            budget_nano(wrong)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as server:
        yield server


@pytest.fixture
def mail() -> Iterator[Mailbox]:
    with Mailbox() as box:
        yield box


class Watched:
    """Tables of a team that spends 10 an hour from 1 November on, and alerts over them that may be made anew."""

    def __init__(self, folder: Path, channels: list[AlertChannel]) -> None:
        self.tables = FilledTables(fresh_store(), folder)
        self.channels = channels
        self.clock = ManualClock(wall_ns=int((FIRST + 8 * HOUR).timestamp()) * 10**9)
        self.begin_us = int(FIRST.timestamp()) * S
        self.tables.started(1, 11, self.begin_us, team="red", project="p")
        self.tables.price(1, self.begin_us, nano=10 * 10**9)

    def spend(self, first_hour: int, hours: int) -> None:
        for hour in range(first_hour, first_hour + hours):
            begin = self.begin_us + hour * H
            self.tables.alive(begin, begin + H, step_s=60)
            self.tables.usage(begin, begin + H, (1, 11), cores=4)
        self.tables.take_in()

    def limit(self, amount: int | None, *, hard: bool = False, currency: str = "USD") -> None:
        self.tables.event(
            "budget_set", self.begin_us, at_us=self.begin_us, scope="team", name="red", currency=currency, hard=hard,
            nano_a_month=None if amount is None else str(amount * 10**9), from_month="2026-11", set_by="t", note=None,
        )  # fmt: skip
        self.tables.take_in()

    def states(self) -> list[BudgetState]:
        session = self.tables.session
        return read_budget_states(
            session.query, session.views, first=FIRST, behind=BEHIND, now=FIRST + 8 * HOUR
        )

    def check(self) -> list[str]:
        """As a process that was just started does it."""
        alerts = BudgetAlerts(
            self.tables.session.query, self.tables.session.views, append=self.append, channels=self.channels,
            clock=self.clock,
        )  # fmt: skip
        return [alert.text for alert in alerts.check()]

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.tables.event(kind, self.begin_us, at_us=self.begin_us, set_by="t", **fields)
        self.tables.take_in()


def test_each_share_is_told_once_by_webhook_and_mail_across_restarts_and_failures(
    tmp_path: Path, hook: Webhook, mail: Mailbox
) -> None:
    channels = alert_channels(
        {
            "TRAINLEDGER_ALERT_WEBHOOK": hook.url,
            "TRAINLEDGER_ALERT_SMTP": mail.url,
        }
    )
    assert "secret" not in repr(channels)
    watched = Watched(tmp_path, channels)
    watched.limit(100, hard=True)
    watched.spend(0, 4)
    assert watched.check() == []
    # 50 % is crossed while the webhook is broken: the mail goes, and the webhook is told when it is back.
    watched.spend(4, 1)
    hook.is_broken = True
    which = "team red has used 50 % of .*; by webhook: the webhook of TRAINLEDGER_ALERT_WEBHOOK answered 500"
    with pytest.raises(RetryableError, match=which):
        watched.check()
    assert (len(hook.posted), len(mail.mails)) == (0, 1)
    hook.is_broken = False
    text = "team red has used 50 % of its hard budget of 2026-11: 50.00 of 100.00 USD, forecast 4500.00"
    assert watched.check() == [text] and watched.check() == []
    assert (len(hook.posted), len(mail.mails)) == (1, 1)
    (posted,) = hook.posted
    assert posted["text"] == text and posted["crossed_percent"] == 50 and posted["spent"] == "50.000000000"
    to, content = mail.mails[0]
    assert to == ["fin@x.org", "ops@x.org"]
    assert content["X-Trainledger-Alert"] == "budget team red USD 2026-11 50% of 100.000000000"
    # Two shares at once are one message, the higher; a larger budget is another one.
    watched.spend(5, 5)
    assert len(watched.check()) == 2 and watched.check() == []
    assert [p["crossed_percent"] for p in hook.posted] == [50, 100] and len(mail.mails) == 2
    posted_ids = [row["alert"] for row in watched.tables.rows("alerts") if row["channel"] == "webhook"]
    assert sorted(posted_ids) == sorted(p["id"] for p in hook.posted), (
        "view alerts has what was delivered, no more"
    )
    watched.limit(150)
    assert len(watched.check()) == 2
    assert hook.posted[-1]["crossed_percent"] == 50 and hook.posted[-1]["state"] == "will be over"
    watched.limit(None)
    assert watched.check() == []


def test_what_was_spent_in_a_currency_of_no_budget_is_told_beside_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, [])
    watched.limit(5, hard=True)
    watched.spend(0, 1)
    (state,) = watched.states()
    assert (state.spent, state.elsewhere, state.is_used_up) == (Decimal(10), (), True)
    watched.tables.price(2, watched.begin_us + 1, nano=4 * 10**9, currency="EUR")
    watched.tables.take_in()
    (state,) = watched.states()
    assert (state.spent, state.elsewhere, state.is_used_up) == (Decimal(0), (("EUR", Decimal(4)),), False)
    watched.limit(5, currency="EUR")
    assert [(s.budget.currency, s.spent, s.elsewhere) for s in watched.states()] == [
        ("EUR", Decimal(4), ()), ("USD", Decimal(0), ()),
    ]  # fmt: skip


def test_a_server_that_is_away_is_told_without_its_address(tmp_path: Path) -> None:
    channels = alert_channels(
        {
            "TRAINLEDGER_ALERT_WEBHOOK": "http://127.0.0.1:9/secret-token",
            "TRAINLEDGER_ALERT_SMTP": "smtp://user:secret@127.0.0.1:9?to=a@x.org",
        }
    )
    watched = Watched(tmp_path, channels)
    watched.limit(1)
    watched.spend(0, 1)
    with pytest.raises(RetryableError) as caught:
        watched.check()
    assert "secret" not in str(caught.value) and watched.tables.rows("alerts") == []


@pytest.mark.parametrize(
    "environ",
    [
        {"TRAINLEDGER_ALERT_WEBHOOK": "ftp://x"},
        {"TRAINLEDGER_ALERT_WEBHOOK": "https://"},
        {"TRAINLEDGER_ALERT_SMTP": "smtp://host"},
        {"TRAINLEDGER_ALERT_SMTP": "host?to=a@x"},
        {"TRAINLEDGER_ALERT_SMTP": "smtp://host:99999?to=a@x"},
    ],
    ids=["scheme", "no host", "nobody to tell", "no scheme", "port"],
)
def test_a_wrong_address_is_refused_at_the_start(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(environ))):
        alert_channels(environ)
