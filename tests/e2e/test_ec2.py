"""A node on EC2: the agent learns which machine it is, and one command prices it."""

from pathlib import Path

from support.aws_server import AwsServer, product
from support.installation import Installation
from support.metadata_server import MetadataServer
from support.polling import poll_until


def test_a_node_on_ec2_is_priced_by_its_own_type(tmp_path: Path) -> None:
    node = Installation(tmp_path)
    with MetadataServer() as metadata, AwsServer() as aws:
        node.environment |= {
            "TRAINLEDGER_EC2": "on",
            "TRAINLEDGER_NODE": "gpu-1",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        }
        aws.products = [product("AAA"), product("BBB", regionCode="eu-west-1")]
        auto = ("price", "aws", "--auto")
        with node.up():
            poll_until(lambda: bool(node.sql("SELECT 1 FROM node_instances")), deadline_s=60)
            (seen,) = node.sql("SELECT node_id, instance_type, life_cycle, zone_id, notice, cores FROM nodes")
            assert seen.pop("cores") > 0
            assert seen == {
                "node_id": "gpu-1", "instance_type": "p5.48xlarge", "life_cycle": "on-demand", "zone_id": "use1-az1",
                "notice": None,
            }  # fmt: skip
            (set_price,) = node.json(*auto, **aws.environment)
            assert (set_price["pattern"], set_price["nano_per_hour"]) == ("gpu-1", 98_320_000_000)
            assert node.json(*auto, **aws.environment) == []
            bills = node.sql("SELECT currency, count() AS n FROM node_hour_bills GROUP BY currency")
            assert [row["currency"] for row in bills] == ["USD"]
            assert node.command("price", "set", "--node", "gpu-1", "--usd-per-hour", "50").returncode == 0
            by_hand = node.command(*auto, **aws.environment)
        assert by_hand.returncode == 0 and "gpu-1: has a price that was set by hand" in by_hand.stderr
