"""AWS's own protocols on a local port, for the real client: the price list (JSON 1.1) and the spot history (EC2 query).

The products are in the shape in which the price list gives them; pages are of two, so that a client that reads one page
alone is found out.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from support.local_server import LocalServer, QuietHandler

__all__ = ["AwsServer", "product"]

PAGE = 2


def product(sku: str, price: str = "98.3200000000", **changes: Any) -> dict[str, Any]:
    """An entry of the price list, of p5.48xlarge in us-east-1; `changes`: attributes, or unit, currency."""
    unit, currency = changes.pop("unit", "Hrs"), changes.pop("currency", "USD")
    attributes = {
        "instanceType": "p5.48xlarge", "regionCode": "us-east-1", "operatingSystem": "Linux", "tenancy": "Shared",
        "preInstalledSw": "NA", "capacitystatus": "Used", "marketoption": "OnDemand", "vcpu": "192",
        "memory": "2048 GiB", "location": "US East (N. Virginia)", "locationType": "AWS Region",
        "usagetype": "BoxUsage:p5.48xlarge", "operation": "RunInstances", "licenseModel": "No License required",
        "servicecode": "AmazonEC2", "instanceFamily": "GPU instance", "currentGeneration": "Yes",
    }  # fmt: skip
    term, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    dimension = {
        "unit": unit, "endRange": "Inf", "beginRange": "0", "appliesTo": [], "rateCode": rate,
        "description": f"${price} per On Demand Linux p5.48xlarge Instance Hour", "pricePerUnit": {currency: price},
    }  # fmt: skip
    return {
        "product": {"productFamily": "Compute Instance", "attributes": attributes | changes, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {
            "OnDemand": {
                term: {
                    "priceDimensions": {rate: dimension}, "sku": sku, "offerTermCode": "JRTCKXETXF",
                    "effectiveDate": "2026-11-01T00:00:00Z", "termAttributes": {},
                }
            }
        },
        "version": "20261120220000",
        "publicationDate": "2026-11-20T22:00:00Z",
    }  # fmt: skip


class AwsServer(LocalServer):
    """`products` and `spot` (time, price, zone) may be changed while it serves; a context manager."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.products: list[dict[str, Any]] = []
        self.spot: list[tuple[datetime, str, str]] = []
        self.asked: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """What makes the client ask here."""
        return {
            "AWS_ENDPOINT_URL_PRICING": self.url,
            "AWS_ENDPOINT_URL_EC2": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def get_products(self, wanted: dict[str, Any]) -> bytes:
        """The products that all filters match, from NextToken on."""
        filters = {item["Field"]: item["Value"] for item in wanted["Filters"]}
        found = [
            item
            for item in self.products
            if all(item["product"]["attributes"].get(name) == value for name, value in filters.items())
        ]
        page, token = _page(found, wanted.get("NextToken"))
        return json.dumps(
            {"FormatVersion": "aws_v1", "PriceList": [json.dumps(item) for item in page], "NextToken": token}
        ).encode()

    def spot_history(self, wanted: dict[str, str]) -> bytes:
        """Changes between StartTime and EndTime and the last one before, newest first, as the service gives them."""
        start, end = (datetime.fromisoformat(wanted[name]) for name in ("StartTime", "EndTime"))
        zone = wanted.get("AvailabilityZoneId") or wanted["AvailabilityZone"]
        own = sorted(item for item in self.spot if item[2] == zone and item[0] < end)
        before = [item for item in own if item[0] <= start][-1:]
        rows, token = _page(
            [*reversed([*before, *(item for item in own if item[0] > start)])], wanted.get("NextToken")
        )
        items = "".join(
            f"<item><instanceType>{wanted['InstanceType.1']}</instanceType><productDescription>Linux/UNIX"
            f"</productDescription><spotPrice>{price}</spotPrice><timestamp>{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
            f"</timestamp><availabilityZone>{place}</availabilityZone><availabilityZoneId>{place}</availabilityZoneId></item>"
            for at, price, place in rows
        )
        return (
            '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
            f"<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken>{token or ''}</nextToken>"
            "</DescribeSpotPriceHistoryResponse>"
        ).encode()


def _page(found: Sequence[Any], token: str | None) -> tuple[Sequence[Any], str | None]:
    first = int(token or 0)
    return found[first : first + PAGE], str(first + PAGE) if first + PAGE < len(found) else None


class _Handler(QuietHandler):
    server: AwsServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        target = self.headers.get("X-Amz-Target", "")
        if target.endswith("GetProducts"):
            self.server.asked.append("GetProducts")
            answer, kind = self.server.get_products(json.loads(body)), "application/x-amz-json-1.1"
        else:
            wanted = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            self.server.asked.append(wanted["Action"])
            answer, kind = self.server.spot_history(wanted), "text/xml"
        self.answer(200, answer, kind=kind)
