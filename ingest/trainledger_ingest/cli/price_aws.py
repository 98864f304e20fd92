"""`price aws` and `price aws-spot`: prices of nodes as AWS charges for the machines they are."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from trainledger_schemas.errors import NotFoundError, UsageError
from trainledger_schemas.ids import id_text, random_id

from ..cost.aws_nodes import Planned, plan_on_demand, plan_spot, whole_hours
from ..cost.aws_prices import ON_DEMAND, SPOT, Machine, OnDemandPrice, hourly_means, spot_currency
from ..cost.node_events import HOUR_US, hour_of
from ..cost.price_list import Listed, read_listed
from ..cost.rented_nodes import RentedNode, has_price_by_hand, on_demand_start, read_rented
from ..reports.times import parse_time
from ..session import Session
from .opening import session, utc_now
from .options import Json
from .output import cell_text, stderr_line
from .prices import From, append_prices, hour_text, micros, say_set, say_unmatched, start_hour

if TYPE_CHECKING:
    from ..aws_client import AwsPrices

__all__ = ["add_aws"]

HISTORY_US = 90 * 24 * HOUR_US
SHOWN_MAX = 20

Type = Annotated[str | None, typer.Option("--instance-type", help="As p5.48xlarge.")]
Region = Annotated[str | None, typer.Option(help="As us-east-1.")]
Node = Annotated[str | None, typer.Option(help="Node name; * and ? stand for any.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be set, and set nothing.")]


def add_aws(app: typer.Typer) -> None:
    """Add the commands to `price`."""
    app.command("aws", help="Set the on-demand price that AWS charges for a machine.")(price_aws)
    app.command("aws-spot", help="Set the mean spot price of each UTC hour that is over.")(price_aws_spot)


def price_aws(
    node: Node = None,
    instance_type: Type = None,
    region: Region = None,
    start: From = None,
    operating_system: Annotated[str, typer.Option("--os", help="As the price list names it.")] = "Linux",
    tenancy: Annotated[str, typer.Option(help="Shared, Dedicated or Host.")] = "Shared",
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Every node that its agent saw on EC2, by its own type, zone and life cycle, spot too.",
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Today's price, the only one that AWS tells, from --from on; its SKU and since when it is in effect are noted."""
    if auto:
        if node is not None or instance_type is not None or region is not None:
            raise UsageError("--auto knows node, type and region from the agents: leave them out")
        _price_all(start, operating_system, tenancy, dry_run=dry_run, as_json=as_json)
        return
    if node is None or instance_type is None or region is None:
        raise UsageError("say what is priced: --node PATTERN --instance-type TYPE --region REGION, or --auto")
    from_us = start_hour(start)
    machine = Machine(instance_type, region, operating_system, tenancy)
    found = _aws().on_demand(machine)
    with session() as opened:
        plan = plan_on_demand(
            read_listed(opened), node, found, machine=machine, from_hour_us=from_us, new_id=_new_id
        )
        _carry_out(opened, plan, dry_run=dry_run, as_json=as_json)


def price_aws_spot(
    node: Node = None,
    instance_type: Type = None,
    region: Region = None,
    zone: Annotated[
        str | None,
        typer.Option(
            help="Availability zone: us-east-1a, or its id, which is the same in all accounts: use1-az1."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First UTC hour, at most 90 days ago; default 1d ago.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="The UTC hour behind the last one; default now.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Prices differ by zone, so each zone needs a node pattern of its own. Repeat it as often as you like: hours that
    have their price already are left."""
    if node is None or instance_type is None or region is None or zone is None:
        raise UsageError(
            "say what is priced: --node PATTERN --instance-type TYPE --region REGION --zone ZONE"
        )
    hours = _spot_hours(start, end)
    with session() as opened:
        plan = _plan_zone(_aws(), read_listed(opened), [(node, hours)], (instance_type, region, zone))
        _carry_out(opened, plan, dry_run=dry_run, as_json=as_json)


def _price_all(
    start: str | None, operating_system: str, tenancy: str, *, dry_run: bool, as_json: bool
) -> None:
    """Price each node that was seen on EC2 since --from (default 1d ago), from the hour in which it came on."""
    now = utc_now()
    since = max(parse_time(start or "1d", now=now), now - timedelta(microseconds=HISTORY_US))
    with session() as opened:
        listed = read_listed(opened)
        nodes = read_rented(opened, since=since)
        if not nodes:
            stderr_line(
                f"no agent saw a node on EC2 since {since:%Y-%m-%d}; view `nodes` has what they saw; in a container "
                "they need a hop limit of 2"
            )
        by_hand = [node for node in nodes if has_price_by_hand(listed, node, (ON_DEMAND, SPOT))]
        for node in by_hand:
            stderr_line(f"{cell_text(node.node_id)}: has a price that was set by hand, left as it is")
        wanted = [node for node in nodes if node not in by_hand]
        aws, plan = _aws(), Planned()
        found = _todays_prices(aws, wanted, operating_system, tenancy)
        plan.add(_plan_rented(listed, wanted, found, now_hour_us=hour_of(micros(now))))
        plan.add(_plan_rented_spot(aws, listed, wanted, since_us=micros(since), now_us=micros(now)))
        for node in wanted:
            if node.life_cycle not in ("on-demand", "spot"):
                stderr_line(
                    f"{cell_text(node.node_id)}: {node.life_cycle or 'unknown life cycle'} has no public price; "
                    "set it with `trainledger price set`"
                )
        _carry_out(opened, plan, dry_run=dry_run, as_json=as_json)
    if any(price is None for _, price in found.values()):
        raise typer.Exit(1)


_Found = dict[tuple[str, str], tuple[Machine, OnDemandPrice | None]]


def _todays_prices(
    aws: "AwsPrices", nodes: Sequence[RentedNode], operating_system: str, tenancy: str
) -> _Found:
    """The price of each kind of machine on demand, by type and region; a line for each that has none."""
    found: _Found = {}
    for node in nodes:
        kind = (node.instance_type, node.region)
        if node.life_cycle != "on-demand" or kind in found:
            continue
        machine = Machine(*kind, operating_system, tenancy)
        try:
            found[kind] = machine, aws.on_demand(machine)
        except (NotFoundError, UsageError) as error:
            # The other nodes get theirs; the command ends with 1.
            stderr_line(str(error))
            found[kind] = machine, None
    return found


def _plan_rented(listed: Listed, nodes: Sequence[RentedNode], found: _Found, *, now_hour_us: int) -> Planned:
    plan = Planned()
    for node in nodes:
        machine, price = found.get((node.instance_type, node.region), (None, None))
        if node.life_cycle == "on-demand" and machine is not None and price is not None:
            plan.add(
                plan_on_demand(
                    listed,
                    node.node_id,
                    price,
                    machine=machine,
                    from_hour_us=on_demand_start(listed, node, price, now_hour_us=now_hour_us),
                    new_id=_new_id,
                )
            )
    return plan


def _plan_rented_spot(
    aws: "AwsPrices", listed: Listed, nodes: Sequence[RentedNode], *, since_us: int, now_us: int
) -> Planned:
    plan = Planned()
    zones: dict[tuple[str, str, str], list[tuple[str, tuple[int, int]]]] = {}
    for node in nodes:
        hours = whole_hours(
            max(node.first_hour_us, since_us - since_us % HOUR_US), min(node.behind_us, now_us)
        )
        if node.life_cycle == "spot" and hours[0] < hours[1]:
            place = (node.instance_type, node.region, node.zone)
            zones.setdefault(place, []).append((node.node_id, hours))
    for place, patterns in zones.items():
        plan.add(_plan_zone(aws, listed, patterns, place))
    return plan


def _spot_hours(start: str | None, end: str | None) -> tuple[int, int]:
    """The hours that are over in what was asked for; a line for what is left out."""
    now = utc_now()
    now_us = micros(now)
    first_us = micros(parse_time(start or "1d", now=now))
    behind_us = min(micros(parse_time(end, now=now)) if end is not None else now_us, now_us)
    first_us, behind_us = whole_hours(first_us - first_us % HOUR_US, behind_us)
    if first_us < now_us - HISTORY_US:
        raise UsageError(f"AWS keeps 90 days of spot prices: --from {start} lies before that")
    if first_us >= behind_us:
        raise UsageError(
            "no hour of that time is over: the price of an hour is known when it has ended, at "
            f"{hour_text(first_us + HOUR_US)} UTC"
        )
    return first_us, behind_us


def _plan_zone(
    aws: "AwsPrices",
    listed: Listed,
    patterns: Sequence[tuple[str, tuple[int, int]]],
    place: tuple[str, str, str],
) -> Planned:
    """Plans for patterns with their hours, all in one zone: AWS is asked once."""
    instance_type, region, zone = place
    first_us, behind_us = min(hours[0] for _, hours in patterns), max(hours[1] for _, hours in patterns)
    changes = aws.spot_changes(instance_type, region, zone=zone, start_us=first_us, end_us=behind_us)
    note = f"AWS spot: {instance_type} (Linux) in {zone}, mean of the hour"
    plan = Planned()
    for pattern, (start_us, end_us) in patterns:
        means = hourly_means(changes, start_us, end_us)
        unknown = (end_us - start_us) // HOUR_US - len(means)
        if unknown:
            stderr_line(
                f"{cell_text(pattern)}: {unknown} of {(end_us - start_us) // HOUR_US} hours have no spot price of "
                f"{instance_type} in {zone}; check the type and the zone"
            )
        plan.add(plan_spot(listed, pattern, means, currency=spot_currency(region), note=note, new_id=_new_id))
    return plan


def _carry_out(opened: Session, plan: Planned, *, dry_run: bool, as_json: bool) -> None:
    if plan.prices and not dry_run:
        append_prices(opened, plan.prices)
        say_unmatched(opened, [str(fields["pattern"]) for fields in plan.prices])
    if plan.left:
        stderr_line(f"{plan.left} hours have a price that was set by hand and is left as it is")
    if as_json:
        say_set(plan.prices, as_json=True)
        return
    say_set(plan.prices[:SHOWN_MAX], as_json=False)
    for line in _summary(plan, dry_run=dry_run):
        typer.echo(line)


def _summary(plan: Planned, *, dry_run: bool) -> Iterator[str]:
    if len(plan.prices) > SHOWN_MAX:
        yield f"and {len(plan.prices) - SHOWN_MAX} more"
    yield from dict.fromkeys(str(fields["note"]) for fields in plan.prices)
    if plan.known:
        yield f"{plan.known} set before and unchanged"
    if dry_run:
        yield "nothing was set (--dry-run)"


def _aws() -> "AwsPrices":
    # Loaded here: boto3 costs 0.3 s, and no other command of this group needs it.
    from ..aws_client import AwsPrices

    return AwsPrices()


def _new_id() -> str:
    return id_text(random_id())
