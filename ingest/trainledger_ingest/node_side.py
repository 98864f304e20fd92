"""What `doctor` asks of the node's side. A part of the composition root that needs no package of the tables."""

from collections.abc import Mapping

from trainledger.node import diagnosis
from trainledger.node.node_settings import kubelet_places
from trainledger_schemas.clock import SystemClock

from .installation import NodeSide

__all__ = ["node_side"]


def node_side(environ: Mapping[str, str]) -> NodeSide:
    """What `doctor` asks of the node's side."""
    return NodeSide(
        settings=lambda: diagnosis.node_settings(environ),
        warnings=lambda: diagnosis.settings_warnings(environ),
        reader=diagnosis.journal_reader,
        stalling_disk=diagnosis.stalling_disk,
        gpus=lambda: diagnosis.gpus_seen(SystemClock()),
        broker=diagnosis.broker_seen,
        kubelet=lambda: diagnosis.kubelet_seen(kubelet_places(environ)),
        unsent=lambda home: diagnosis.unsent_blobs(home, SystemClock()),
    )
