"""The reservations of this node's pods, as long as the kubelet's last answer can be believed.

What a silent kubelet said counts for as long as a node may be silent (90 s). After that nobody knows who holds the
devices that it gives away, and what is not seen in use is `unknown`; the namespaces of pods are known without it. Where
its socket is gone and no pod's process is left, Kubernetes has left the node.
"""

import logging
from collections.abc import Sequence

from trainledger.node.kubernetes.kubelet_watch import KubeletLook, KubeletWatch
from trainledger.node.kubernetes.places import KubeletPlaces
from trainledger.node.kubernetes.pod_reservations import SCHEDULER, count_replicas, reserve, unknown_devices
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
        if look is None:
            return []
        if look.resources is None:
            return reserve((), look, view, {}).reservations
        if self._clock.monotonic_ns() - look.told_ns > BELIEVED_S * 10**9:
            return self._without_kubelet(look, view)
        self._replicas = count_replicas(look.resources, self._replicas)
        found = reserve(look.resources.pods, look, view, self._replicas)
        # GPUs of the node are not known before the driver's first answer.
        if view.devices:
            for stranger in found.strangers[:STRANGERS_SAID_MAX]:
                if self._repeats.is_due(stranger):
                    say(
                        logging.WARNING, "a pod holds a GPU that the agent does not see", {"device": stranger}
                    )
        return found.reservations

    def _without_kubelet(self, look: KubeletLook, view: NodeView) -> Sequence[Reservation]:
        if not self._watch.has_socket() and not any(job.scheduler == SCHEDULER for job in view.processes):
            return []
        return [*reserve((), look, view, {}).reservations, unknown_devices(look, view)]

    def close(self) -> None:
        """Stop asking the kubelet."""
        self._watch.close()
