"""Asks the kubelet on a thread of its own, so that one that is slow or hangs stalls nobody.

Each few seconds what the pods hold, and which pods there are; `latest` gives the last answer and never waits. On a node
without a kubelet there is no thread and no import of gRPC; its socket is looked for again each time that somebody asks.
"""

import logging
import threading
from dataclasses import dataclass

from trainledger.node.kubernetes.places import KubeletPlaces
from trainledger.node.kubernetes.pod_holdings import NodeResources
from trainledger.node.kubernetes.pods import Pod, living_pods, pods_of
from trainledger_schemas.clock import Clock
from trainledger_schemas.structured_log import Repeats, say

__all__ = ["KubeletLook", "KubeletWatch"]

INTERVAL_S = 5.0
CLOSE_WAIT_S = 1.0
REPEAT_S = 300.0


@dataclass(frozen=True, slots=True)
class KubeletLook:
    """What the node says of its pods. `resources`: what the kubelet said last, at the monotonic time `told_ns`; None
    before its first answer. `living`: uids of pods that have not ended, None: not known."""

    told_ns: int
    resources: NodeResources | None
    pods: tuple[Pod, ...] = ()
    living: frozenset[str] | None = None


class KubeletWatch:
    """The thread and its last answer; `latest` as often as wanted, at the end `close`."""

    def __init__(self, clock: Clock, places: KubeletPlaces, *, interval_s: float = INTERVAL_S) -> None:
        self._clock = clock
        self._places = places
        self._interval_s = interval_s
        self._look: KubeletLook | None = None
        self._repeats = Repeats(clock, REPEAT_S)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def latest(self) -> KubeletLook | None:
        """What is known, however old; None before the first round. Never waits."""
        if self._thread is None and not self._stop.is_set() and self.has_socket():
            self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
            self._thread.start()
        return self._look

    def has_socket(self) -> bool:
        """Whether there is a kubelet now, or one that left its socket behind."""
        return self._places.socket.exists()

    def turn(self) -> None:
        """One round of the thread: ask, and keep the answer. Blocks up to some seconds."""
        told_ns = self._clock.monotonic_ns()
        resources = self._ask()
        if resources is None and self._look is not None:
            told_ns, resources = self._look.told_ns, self._look.resources
        self._look = KubeletLook(
            told_ns=told_ns,
            resources=resources,
            pods=tuple(pods_of(self._places.logs)),
            living=living_pods(self._places.cgroups),
        )

    def close(self) -> None:
        """Stop asking. A call that hangs is left alone: its thread does not keep the process alive."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _ask(self) -> NodeResources | None:
        try:
            # Not at the top: gRPC costs 60 ms and 15 MB, on nodes with a kubelet alone.
            from trainledger.node.kubernetes.pod_resources import read_resources
            from trainledger.node.kubernetes.unix_calls import CallError
        except ImportError as error:
            self._complain("install trainledger[kubernetes]", f"{error}")
            return None
        try:
            return read_resources(self._places.socket)
        except CallError as error:
            mend = f"is {self._places.socket} the kubelet's, and may the agent connect to it?"
            self._complain(mend, f"{error}")
            return None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.turn()
            except Exception as error:
                # The edge of a thread that must outlive whatever a kubelet says: tell it, and ask again.
                self._complain("this is a fault of the agent", repr(error), error=error)
            self._stop.wait(self._interval_s)

    def _complain(self, mend: str, why: str, *, error: BaseException | None = None) -> None:
        if self._repeats.is_due(why):
            what = "the kubelet does not say what pods hold; asking again"
            say(logging.WARNING, what, {"why": why, "mend": mend}, error=error)
