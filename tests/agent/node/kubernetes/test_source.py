"""The source of reservations beside kubelets that are slow, silent, restarted or not there."""

import logging
import threading
from collections.abc import Iterator

import pytest

from support.fake_kubelet import FakeKubelet, SteppedWatch, short_folder
from support.polling import poll_until
from trainledger.node.gpu import GpuDevice
from trainledger.node.kubernetes.kubelet_watch import KubeletWatch
from trainledger.node.kubernetes.source import BELIEVED_S, KubernetesReservations
from trainledger.node.reservations import JobKey, NodeView
from trainledger_schemas.clock import ManualClock, SystemClock

VIEW = NodeView((GpuDevice("GPU-a", "H100", None),))
UID = "0a1b2c3d-1111-2222-3333-444455556666"


@pytest.fixture
def kubelet() -> Iterator[FakeKubelet]:
    with short_folder() as folder:
        fake = FakeKubelet(folder)
        yield fake
        fake.close()


def labels(source: KubernetesReservations, view: NodeView = VIEW) -> list[str]:
    """Who holds a device, or `?kubelet` for one of which nobody can tell."""
    return [("" if item.is_known else "?") + item.label for item in source.read(view) if item.devices]


def stepped(kubelet: FakeKubelet, clock: ManualClock) -> tuple[KubernetesReservations, KubeletWatch]:
    """A source whose rounds the test turns itself."""
    watch = SteppedWatch(clock, kubelet.places)
    return KubernetesReservations(clock, watch=watch), watch


def test_thread_asks_and_reading_never_waits(kubelet: FakeKubelet) -> None:
    kubelet.pod("ml/a", "GPU-a", uid=UID)
    kubelet.hangs.set()
    source = KubernetesReservations(SystemClock(), kubelet.places)
    assert source.read(VIEW) == []
    poll_until(lambda: kubelet.server.calls, deadline_s=60)
    assert source.read(VIEW) == [], "the kubelet hangs, and nobody waits for it"
    assert "kubelet" in {thread.name for thread in threading.enumerate()}, "but a thread of its own"
    kubelet.hangs.clear()
    kubelet.go_on.set()
    assert poll_until(lambda: labels(source), deadline_s=60) == ["pod ml/a"]
    source.close()
    source.close()


def test_node_without_a_kubelet_has_no_thread() -> None:
    with short_folder() as folder:
        fake = FakeKubelet(folder)
        fake.close()
        watch = KubeletWatch(SystemClock(), fake.places)
        assert watch.latest() is None and watch._thread is None


def test_silent_kubelet_is_believed_for_a_while_and_heard_again_after_a_restart(
    kubelet: FakeKubelet, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    source, watch = stepped(kubelet, clock)
    kubelet.pod("ml/a", "GPU-a", uid=UID)
    watch.turn()
    assert labels(source) == ["pod ml/a"]
    kubelet.server.stop()
    kubelet.places.socket.touch()  # what a kubelet that died leaves behind
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.advance(BELIEVED_S / 3)
            watch.turn()
    assert len(caplog.records) == 1, "said once, not at each try"
    assert labels(source) == ["pod ml/a"]
    clock.advance(1)
    assert labels(source) == ["?kubelet"]
    (account,) = [item.account for item in source.read(VIEW) if item.is_known]
    assert account == "namespace:ml", "who pays for what is seen is known without the kubelet"
    kubelet.places.socket.unlink()
    kubelet.server.start()
    watch.turn()
    assert labels(source) == ["pod ml/a"]


def test_kubelet_that_never_answered_leaves_devices_to_presence_and_pods_to_their_namespaces(
    kubelet: FakeKubelet,
) -> None:
    kubelet.folder("ml/a", UID)
    kubelet.server.stop()
    source, watch = stepped(kubelet, ManualClock())
    watch.turn()
    assert [(item.account, item.devices) for item in source.read(VIEW)] == [("namespace:ml", ())]


def test_kubernetes_that_left_the_node_leaves_nothing_unknown(kubelet: FakeKubelet) -> None:
    clock = ManualClock()
    source, watch = stepped(kubelet, clock)
    kubelet.pod("ml/a", "GPU-a", uid=UID)
    watch.turn()
    kubelet.server.stop()
    clock.advance(BELIEVED_S + 1)
    watch.turn()
    assert source.read(VIEW) == []
    still = NodeView(VIEW.devices, {JobKey("kubernetes", UID): [(7, 1)]})
    assert labels(source, still) == ["?kubelet"]


def test_malformed_answer_changes_nothing(kubelet: FakeKubelet) -> None:
    source, watch = stepped(kubelet, ManualClock())
    kubelet.pod("ml/a", "GPU-a", uid=UID)
    watch.turn()
    kubelet.listed = b"\x0a\xff\xff\xff\xff\x0fno"
    watch.turn()
    assert labels(source) == ["pod ml/a"]


def test_pod_that_has_ended_is_no_longer_in_the_answer(kubelet: FakeKubelet) -> None:
    source, watch = stepped(kubelet, ManualClock())
    kubelet.pod("ml/a", "GPU-a", uid=UID)
    watch.turn()
    kubelet.gone(UID)
    watch.turn()
    assert labels(source) == []
