"""What AWS answers, read exactly: one price or an error that names the candidates, and means of spot prices by the hour."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from support.aws_server import product
from support.cost_events import HOUR
from support.moto_server import MotoServer
from trainledger_ingest.aws_client import AwsPrices
from trainledger_ingest.cost.aws_nodes import plan_on_demand, plan_spot
from trainledger_ingest.cost.aws_prices import (
    ON_DEMAND,
    SPOT,
    Machine,
    OnDemandPrice,
    SpotChange,
    hourly_means,
    read_on_demand,
)
from trainledger_ingest.cost.node_events import HOUR_US
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.presence import PresenceMode, PresenceRule
from trainledger_ingest.cost.price_list import Listed
from trainledger_ingest.cost.prices import Price, PriceBook
from trainledger_ingest.cost.rented_nodes import has_price_by_hand, on_demand_start, rented_of
from trainledger_schemas.errors import (
    NotFoundError,
    RetryableSourceError,
    SettingsError,
    TrainledgerError,
    UsageError,
)

P5 = Machine("p5.48xlarge", "us-east-1")


def read(*products: dict[str, Any]) -> OnDemandPrice:
    return read_on_demand([json.dumps(item) for item in products], P5)


def test_the_one_sku_gives_its_price_from_text() -> None:
    assert read(product("AAA", "55.0400000000")) == OnDemandPrice(
        "AAA", 55_040_000_000, "USD", "2026-11-01T00:00:00Z"
    )
    assert read(product("CN", "0.1234567890", currency="CNY")).currency == "CNY"
    # As a float it would be 0.30000000000000004.
    assert read(product("AAA", "0.3000000010")).nano_per_hour == 300_000_001


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "none": ([], r"no on-demand price of p5.48xlarge \(Linux, Shared\) in us-east-1"),
    "two": (
        [product("AAA"), product("BBB", usagetype="UnusedBox:p5")],
        r"2 on-demand prices .*AAA \(usagetype BoxUsage:p5.48xlarge, .*BBB \(usagetype UnusedBox:p5",
    ),
    "many": ([product(f"S{n}") for n in range(12)], r"12 on-demand prices .* and 4 more\. Set the right one"),
    "by the second": ([product("AAA", unit="Seconds")], "prices by Seconds, not one by the hour"),
    "free": ([product("AAA", "0.0000000000")], "has the price 0"),
    "no number": ([product("AAA", "free")], "'free' is not a price"),
    "finer than can be billed": ([product("AAA", "0.00000000001")], "at most 9 decimals"),
}


@pytest.mark.parametrize(("products", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_one_price_by_the_hour_is_refused(products: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(TrainledgerError, match=message):
        read(*products)


def test_several_terms_or_currencies_of_a_sku_are_refused() -> None:
    two = product("AAA")
    two["terms"]["OnDemand"]["AAA.X"] = product("AAA")["terms"]["OnDemand"]["AAA.JRTCKXETXF"]
    with pytest.raises(UsageError, match="2 on-demand terms"):
        read(two)
    with pytest.raises(UsageError, match="0 on-demand terms with prices by none"):
        read(product("AAA") | {"terms": {}})
    mixed = product("AAA")
    (term,) = mixed["terms"]["OnDemand"].values()
    next(iter(term["priceDimensions"].values()))["pricePerUnit"]["CNY"] = "7"
    with pytest.raises(UsageError, match="2 currencies"):
        read(mixed)


TEN = datetime(2026, 11, 3, 10, tzinfo=UTC)
TEN_US = int(TEN.timestamp()) * 10**6
MINUTE_US = 60 * 10**6


def test_the_price_of_an_hour_is_the_mean_weighted_by_time() -> None:
    changes = [
        SpotChange.of_row(TEN - timedelta(hours=3), "3.0"),
        SpotChange.of_row(TEN + timedelta(minutes=15), "4.000000"),
        SpotChange.of_row(TEN + timedelta(minutes=45), "1.000001"),
    ]
    means = hourly_means(reversed(changes), TEN_US, TEN_US + 3 * HOUR_US)
    # 15 minutes at 3, 30 at 4, 15 at 1.000001.
    assert means == {
        TEN_US: 3_000_000_250,
        TEN_US + HOUR_US: 1_000_001_000,
        TEN_US + 2 * HOUR_US: 1_000_001_000,
    }


def test_an_hour_that_is_not_known_from_its_beginning_or_not_whole_has_no_mean() -> None:
    changes = [SpotChange(TEN_US + 1, 10**9)]
    assert hourly_means(changes, TEN_US, TEN_US + 2 * HOUR_US) == {TEN_US + HOUR_US: 10**9}
    assert hourly_means(changes, TEN_US + HOUR_US + 1, TEN_US + 3 * HOUR_US - 1) == {}
    assert hourly_means([], TEN_US, TEN_US + HOUR_US) == {}
    assert hourly_means([SpotChange(TEN_US, 7)], TEN_US, TEN_US + HOUR_US) == {TEN_US: 7}


@given(st.lists(st.tuples(st.integers(-(10**10), 10**10), st.integers(1, 10**15)), min_size=1, max_size=8))
def test_means_are_those_of_a_sum_over_every_stretch(points: list[tuple[int, int]]) -> None:
    changes = [SpotChange(TEN_US + at, nano) for at, nano in points]
    means = hourly_means(changes, TEN_US, TEN_US + 2 * HOUR_US)
    ordered = sorted(changes)
    for hour_us, mean in means.items():
        edges = sorted(
            {hour_us, hour_us + HOUR_US, *(c.at_us for c in changes if hour_us < c.at_us < hour_us + HOUR_US)}
        )
        exact = Fraction(0)
        for start_us, end_us in zip(edges, edges[1:], strict=False):
            exact += Fraction(
                [c for c in ordered if c.at_us <= start_us][-1].nano_per_hour * (end_us - start_us), HOUR_US
            )
        assert abs(mean - exact) <= Fraction(1, 2)


def listed(*prices: tuple[Price, str | None]) -> Listed:
    sources = {price.price_id: source for price, source in prices}
    return Listed((), PriceBook(price for price, _ in prices), sources)


def ids() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"id-{number}"


_IDS = ids()


def new_id() -> str:
    return next(_IDS)


BOOT = CostPolicy(PresenceRule(PresenceMode.BOOT))


def spot_plan(book: Listed, means: dict[int, int]) -> Any:
    return plan_spot(book, "spot-*", means, currency="USD", note="n", new_id=new_id)


def test_spot_hours_that_are_set_already_give_no_new_prices() -> None:
    means = {HOUR: 10, HOUR + HOUR_US: 10, HOUR + 2 * HOUR_US: 30}
    first = spot_plan(listed(), means)
    assert [(p["from_hour_us"], p["nano_per_hour"], p["presence"]) for p in first.prices] == [
        (HOUR, 10, "boot"), (HOUR + HOUR_US, 10, "boot"), (HOUR + 2 * HOUR_US, 30, "boot"),
    ]  # fmt: skip
    stored = listed(*((Price.from_fields(p | {"at_us": 1}), SPOT) for p in first.prices))
    again = spot_plan(stored, means)
    assert (again.prices, again.known, again.left) == ([], 3, 0)
    # AWS corrects an hour, and one more is over.
    more = spot_plan(stored, means | {HOUR + HOUR_US: 11, HOUR + 3 * HOUR_US: 5})
    assert [(p["from_hour_us"], p["nano_per_hour"]) for p in more.prices] == [
        (HOUR + HOUR_US, 11),
        (HOUR + 3 * HOUR_US, 5),
    ]


def test_a_price_by_hand_for_a_spot_hour_is_left_and_its_terms_are_kept_behind_it() -> None:
    policy = CostPolicy(PresenceRule(PresenceMode.OBSERVED), 200_000, (("H100", 4),))
    by_hand = Price("p", "spot-*", 99, "USD", HOUR, 1, policy)
    plan = spot_plan(listed((by_hand, None)), {HOUR: 10, HOUR + HOUR_US: 20})
    assert plan.left == 1
    (price,) = plan.prices
    assert (price["from_hour_us"], price["host_share_ppm"], price["device_weights"], price["presence"]) == (
        HOUR + HOUR_US, 200_000, {"H100": 4}, "observed",
    )  # fmt: skip


def test_an_on_demand_price_that_counts_already_is_not_set_again() -> None:
    found = OnDemandPrice("AAA", 10**9, "USD", "2026-11-01T00:00:00Z")

    def plan(book: Listed) -> Any:
        return plan_on_demand(book, "gpu-*", found, machine=P5, from_hour_us=HOUR, new_id=new_id)

    (price,) = plan(listed()).prices
    assert price["source"] == ON_DEMAND and "SKU AAA, in effect since 2026-11-01" in price["note"]
    stored = Price.from_fields(price | {"at_us": 1})
    assert plan(listed((stored, ON_DEMAND))).known == 1
    assert len(plan(listed((Price("o", "gpu-*", 10**9, "USD", HOUR, 1, BOOT), None))).prices) == 1


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> AwsPrices:
    """Clients with credentials that nobody takes."""
    for name, value in MotoServer.environment.items():
        monkeypatch.setenv(name, value)
    return AwsPrices()


def test_the_price_list_is_asked_with_the_filters_that_leave_one_sku_and_to_its_last_page(
    aws: AwsPrices,
) -> None:
    fields = {
        "instanceType": "p5.48xlarge", "regionCode": "eu-west-1", "operatingSystem": "Linux", "tenancy": "Shared",
        "preInstalledSw": "NA", "capacitystatus": "Used", "marketoption": "OnDemand",
    }  # fmt: skip
    asked = {
        "ServiceCode": "AmazonEC2",
        "Filters": [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()],
    }
    with Stubber(aws.client("pricing", "eu-central-1")) as stubber:
        stubber.add_response("get_products", {"PriceList": [], "NextToken": "t"}, asked)
        stubber.add_response(
            "get_products", {"PriceList": [json.dumps(product("AAA", "1.5"))]}, asked | {"NextToken": "t"}
        )
        found = aws.on_demand(Machine("p5.48xlarge", "eu-west-1"))
        stubber.assert_no_pending_responses()
    assert (found.sku, found.nano_per_hour) == ("AAA", 1_500_000_000)


def test_the_spot_history_is_read_to_its_last_page_and_of_one_zone(aws: AwsPrices) -> None:
    asked = {
        "StartTime": TEN, "EndTime": TEN + timedelta(hours=2), "InstanceTypes": ["p5.48xlarge"],
        "ProductDescriptions": ["Linux/UNIX"], "AvailabilityZoneId": "use1-az1",
    }  # fmt: skip
    row = {
        "InstanceType": "p5.48xlarge",
        "ProductDescription": "Linux/UNIX",
        "AvailabilityZone": "us-east-1d",
    }
    first = row | {
        "SpotPrice": "2.5",
        "Timestamp": TEN + timedelta(minutes=30),
        "AvailabilityZoneId": "use1-az1",
    }
    other = first | {"SpotPrice": "9.9", "AvailabilityZoneId": "use1-az2"}
    before = first | {"SpotPrice": "1.500000", "Timestamp": TEN - timedelta(days=2)}
    with Stubber(aws.client("ec2", "us-east-1")) as stubber:
        answer = {"SpotPriceHistory": [first, other], "NextToken": "t"}
        stubber.add_response("describe_spot_price_history", answer, asked)
        last = {"SpotPriceHistory": [before], "NextToken": ""}
        stubber.add_response("describe_spot_price_history", last, asked | {"NextToken": "t"})
        changes = aws.spot_changes(
            "p5.48xlarge", "us-east-1", zone="use1-az1", start_us=TEN_US, end_us=TEN_US + 2 * HOUR_US
        )
    assert hourly_means(changes, TEN_US, TEN_US + 2 * HOUR_US) == {
        TEN_US: 2 * 10**9,
        TEN_US + HOUR_US: 25 * 10**8,
    }


ERRORS: dict[str, tuple[str, type[TrainledgerError], str]] = {
    "not allowed": ("AccessDeniedException", RetryableSourceError, "may call pricing:GetProducts"),
    "wrong key": ("UnrecognizedClientException", RetryableSourceError, "check the credentials"),
    "wrong value": ("InvalidParameterException", UsageError, "check type, region and zone"),
}


@pytest.mark.parametrize(("code", "kind", "message"), ERRORS.values(), ids=ERRORS)
def test_refusals_of_aws_say_how_to_mend_them(
    aws: AwsPrices, code: str, kind: type[TrainledgerError], message: str
) -> None:
    with Stubber(aws.client("pricing", "us-east-1")) as stubber:
        stubber.add_client_error("get_products", code, "no")
        with pytest.raises(kind, match=message):
            aws.on_demand(P5)


def test_without_credentials_one_line_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="no AWS credentials; set AWS_ACCESS_KEY_ID"):
        AwsPrices().on_demand(P5)


def test_the_real_client_reads_the_spot_history_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in MotoServer.environment.items():
        monkeypatch.setenv(name, value)
    with MotoServer() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", server.endpoint)
        aws = AwsPrices()
        now_us = int(datetime.now(UTC).timestamp()) * 10**6
        span = {"start_us": now_us - HOUR_US, "end_us": now_us}
        changes = aws.spot_changes("m5.large", "us-east-1", zone="us-east-1b", **span)
        # It knows types and zones, and one price for all.
        assert [change.nano_per_hour for change in changes] == [10_000]
        assert aws.spot_changes("m5.large", "us-east-1", zone="us-east-1z", **span) == []


def test_a_machine_without_a_price_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        read()


def seen(
    node: str, *hours: tuple[int, int], kind: str = "p5.48xlarge", life: str = "spot", zone: str = "z"
) -> Any:
    return [
        {
            "node_id": node, "instance_id": f"i-{first}", "instance_type": kind, "life_cycle": life, "region": "r",
            "place": zone, "first": TEN + timedelta(hours=first, minutes=5), "last": TEN + timedelta(hours=last, minutes=5),
        }
        for first, last in hours
    ]  # fmt: skip


def test_a_node_on_two_machines_of_one_kind_is_one_stretch_and_another_kind_is_another() -> None:
    rows = [
        *seen("a", (0, 1), (3, 4)),
        *seen("a", (6, 7), kind="g5.xlarge"),
        *seen("b", (0, 0), life="on-demand"),
    ]
    found = [
        (
            node.node_id,
            node.instance_type,
            (node.first_hour_us - TEN_US) // HOUR_US,
            (node.behind_us - TEN_US) // HOUR_US,
        )
        for node in rented_of(rows)
    ]
    assert found == [("a", "p5.48xlarge", 0, 5), ("a", "g5.xlarge", 6, 8), ("b", "p5.48xlarge", 0, 1)]
    node = rented_of(rows)[0]
    assert not has_price_by_hand(listed(), node, (ON_DEMAND, SPOT))
    assert not has_price_by_hand(listed((Price("p", "a", 1, "USD", 0), SPOT)), node, (ON_DEMAND, SPOT))
    assert has_price_by_hand(listed((Price("p", "*", 1, "USD", 0), "file")), node, (ON_DEMAND, SPOT))


def test_a_price_that_aws_changed_counts_from_its_change_and_not_from_the_boot_on() -> None:
    (node,) = rented_of(seen("a", (0, 9), life="on-demand"))
    now_us = TEN_US + 9 * HOUR_US

    def start(rate: int, effective: str, *prices: tuple[int, int]) -> int:
        book = listed(
            *(
                (Price(str(n), "a", nano, "USD", TEN_US + hour * HOUR_US, n), ON_DEMAND)
                for n, (hour, nano) in enumerate(prices)
            )
        )
        found = OnDemandPrice("AAA", rate, "USD", effective)
        return (on_demand_start(book, node, found, now_hour_us=now_us) - TEN_US) // HOUR_US

    old = "2026-11-01T00:00:00Z"
    assert start(7, old) == 0 and start(7, old, (-5, 3)) == 0
    assert start(7, old, (0, 7)) == 0 and start(7, old, (0, 3), (4, 7)) == 4
    assert start(7, "2026-11-03T14:20:00Z", (0, 3)) == 5
    assert start(7, old, (0, 3)) == 9 and start(7, "some day", (0, 3)) == 9
