"""What `doctor` says of the kubelet of a node."""

from support.fake_kubelet import FakeKubelet, short_folder
from trainledger.node.diagnosis import kubelet_seen


def test_kubelet_answers_or_why_it_does_not_is_told() -> None:
    with short_folder() as folder:
        fake = FakeKubelet(folder)
        fake.pod("ml/a", "GPU-1").pod("ml/b", "GPU-2")
        assert kubelet_seen(fake.places) == (
            True,
            f"2 pods hold devices, cores or memory; {fake.places.logs} is not here, so no run is found to be in a pod",
        )
        fake.folder("ml/a", "0a1b2c3d-1111-2222-3333-444455556666")
        assert kubelet_seen(fake.places) == (True, "2 pods hold devices, cores or memory")
        fake.listed = b"\x0a\xff\xff\xff\xff\x0fno"
        seen = kubelet_seen(fake.places)
        assert seen is not None and not seen[0] and "malformed" in seen[1]
        fake.close()
        assert kubelet_seen(fake.places) is None
