"""Asking AWS for prices: the one place of this package that loads boto3 for them.

Credentials and profiles are those of boto3 (environment, ~/.aws, role of the machine); what may be asked is
`pricing:GetProducts` and `ec2:DescribeSpotPriceHistory`. Nothing is written there. Loading boto3 takes 0.3 s, so this
module is imported by the commands that need it. Endpoints follow AWS_ENDPOINT_URL_PRICING and AWS_ENDPOINT_URL_EC2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from trainledger_schemas.errors import RetryableSourceError, SettingsError, UsageError

from .cost.aws_prices import Machine, OnDemandPrice, SpotChange, read_on_demand

__all__ = ["AwsPrices"]

CONNECT_S = 5
READ_S = 30
ATTEMPTS_MAX = 3
LINUX = "Linux/UNIX"
# The price list is served in three regions.
_PRICING_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}


class AwsPrices:
    """Clients of one AWS account; made when they are first needed."""

    def __init__(self) -> None:
        """Raises SettingsError where boto3 is not installed."""
        try:
            import boto3
            from botocore.config import Config
        except ModuleNotFoundError as error:
            raise SettingsError(
                f'{error.name} is not installed, and AWS is asked with it: pip install "trainledger[agent]"'
            ) from error
        self._session = boto3.session.Session()
        self._config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"max_attempts": ATTEMPTS_MAX, "mode": "standard"},
            user_agent_extra="trainledger",
        )
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, region: str) -> Any:
        """The client of a service in a region, always the same one."""
        known = self._clients.get((service, region))
        if known is None:
            with _aws_errors(service, region):
                known = self._session.client(service, region_name=region, config=self._config)
            self._clients[service, region] = known
        return known

    def on_demand(self, machine: Machine) -> OnDemandPrice:
        """Today's price. Raises NotFoundError, UsageError where it is not one, RetryableSourceError."""
        region = _PRICING_REGIONS.get(machine.region.partition("-")[0], "us-east-1")
        pages = self.client("pricing", region).get_paginator("get_products")
        with _aws_errors("pricing:GetProducts", region):
            found = [
                text
                for page in pages.paginate(ServiceCode="AmazonEC2", Filters=machine.filters())
                for text in page["PriceList"]
            ]
        return read_on_demand(found, machine)

    def spot_changes(
        self, instance_type: str, region: str, *, zone: str, start_us: int, end_us: int
    ) -> list[SpotChange]:
        """Changes of the spot price of Linux machines in a zone (name as us-east-1a or id as use1-az1) between two
        times, and the last one before. Raises RetryableSourceError."""
        is_id = "-az" in zone
        where = {"AvailabilityZoneId" if is_id else "AvailabilityZone": zone}
        pages = self.client("ec2", region).get_paginator("describe_spot_price_history")
        with _aws_errors("ec2:DescribeSpotPriceHistory", region):
            rows = [
                row
                for page in pages.paginate(
                    StartTime=_moment(start_us),
                    EndTime=_moment(end_us),
                    InstanceTypes=[instance_type],
                    ProductDescriptions=[LINUX],
                    **where,
                )
                for row in page["SpotPriceHistory"]
            ]
        # A store that does not know the filter gives all zones: their prices must not be mixed.
        own = [
            row
            for row in rows
            if row.get("AvailabilityZoneId" if is_id else "AvailabilityZone", zone) == zone
        ]
        return [SpotChange.of_row(row["Timestamp"], str(row["SpotPrice"])) for row in own]


@contextmanager
def _aws_errors(doing: str, region: str) -> Iterator[None]:
    """Turn the client's errors into ours, with what to do."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise SettingsError(
            f"{doing} in {region}: no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
            f"or give the machine a role that may call {doing}"
        ) from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        told = str(error.response.get("Error", {}).get("Message", ""))[:300]
        if code in ("InvalidParameterValue", "InvalidParameterCombination", "InvalidParameterException"):
            raise UsageError(f"{doing} in {region}: {told}; check type, region and zone") from error
        raise RetryableSourceError(
            f"{doing} in {region}: AWS answers {code}: {told}; check the credentials and that they may call {doing}"
        ) from error
    except BotoCoreError as error:
        raise RetryableSourceError(
            f"{doing} in {region}: {str(error)[:300]}; check the region's name and that AWS can be reached from here"
        ) from error


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // 1_000_000, UTC)
