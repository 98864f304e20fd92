"""The reservations of this node's pods, as long as the kubelet's last answer can be believed.

What a silent kubelet said counts for as long as a node may be silent (90 s). After that nobody knows who holds its
devices; it is read again when the kubelet is back.
"""

import logging
from collections.abc import Sequence

from trainledger.node.kubernetes.kubelet_watch import KubeletWatch
from trainledger.node.kubernetes.places import KubeletPlaces
from trainledger.node.kubernetes.pod_reservations import count_replicas, reserve
from trainledger.node.reservations import NodeView, Reservation
from trainledger_schemas.clock import Clock
from trainledger_schemas.structured_log import Repeats, say

__all__ = ["BELIEVED_S", "KubernetesReservations"]

BELIEVED_S = 90
STRANGERS_SAID_MAX = 8


class KubernetesReservations:
    """A `ReservationSource`: what pods hold, by the kubelet."""

    def __init__(
        self, clock: Clock, places: KubeletPlaces | None = None, *, watch: KubeletWatch | None = None
    ) -> None:
        self._clock = clock
        self._watch = watch or KubeletWatch(clock, places or KubeletPlaces())
        self._replicas: dict[str, int] = {}
        self._repeats = Repeats(clock, 3600.0)

    def read(self, view: NodeView) -> Sequence[Reservation]:
        """See the protocol; never waits."""
        look = self._watch.latest()
        if look is None or self._clock.monotonic_ns() - look.at_ns > BELIEVED_S * 10**9:
            return []
        self._replicas = count_replicas(look.resources, self._replicas)
        found = reserve(look, view, self._replicas)
        # GPUs of the node are not known before the driver's first answer.
        if view.devices:
            for stranger in found.strangers[:STRANGERS_SAID_MAX]:
                if self._repeats.is_due(stranger):
                    say(
                        logging.WARNING, "a pod holds a GPU that the agent does not see", {"device": stranger}
                    )
        return found.reservations

    def close(self) -> None:
        """Stop asking the kubelet."""
        self._watch.close()
