"""Which pods are on a node, from the files that a kubelet keeps, in a folder that looks like its own."""

from pathlib import Path

import pytest

from trainledger.node.kubernetes.pods import Pod, living_pods, pods_of

UID = "0a1b2c3d-1111-2222-3333-444455556666"
STATIC = "c86a0f4d3a7b41b2a8e5b1a1c2d3e4f5"


def test_folder_of_logs_names_the_pod_and_says_whether_it_began(tmp_path: Path) -> None:
    (tmp_path / f"ml_train-0_{UID}" / "main").mkdir(parents=True)
    (tmp_path / f"ml_train-0_{UID}" / "main" / "0.log").touch()
    (tmp_path / f"kube-system_etcd-n1_{STATIC}" / "etcd").mkdir(parents=True)
    (tmp_path / "something else").mkdir()
    (tmp_path / "a_b").touch()
    assert sorted(pods_of(tmp_path)) == [
        Pod("kube-system", "etcd-n1", STATIC, began=False),
        Pod("ml", "train-0", UID, began=True),
    ]
    assert pods_of(tmp_path / "none") == []


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice", id="systemd, guaranteed"),
        pytest.param(
            f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice",
            id="systemd, burstable",
        ),
        pytest.param(f"kubepods/pod{UID}", id="cgroupfs, guaranteed"),
        pytest.param(f"kubepods/besteffort/pod{UID}", id="cgroupfs, best effort"),
        pytest.param(
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
            f"kubelet-kubepods-burstable-pod{UID.replace('-', '_')}.slice",
            id="kind",
        ),
        pytest.param(f"memory/kubepods/burstable/pod{UID}", id="version 1"),
    ],
)
def test_pod_lives_while_it_has_a_control_group(tmp_path: Path, group: str) -> None:
    (tmp_path / group / "c1").mkdir(parents=True)
    assert living_pods(tmp_path) == frozenset({UID})


def test_static_pod_has_a_hash(tmp_path: Path) -> None:
    (tmp_path / "kubepods.slice/kubepods-burstable.slice" / f"kubepods-burstable-pod{STATIC}.slice").mkdir(
        parents=True
    )
    assert living_pods(tmp_path) == frozenset({STATIC})


def test_where_the_kubelets_groups_are_not_to_be_seen_nobody_is_said_to_be_dead(tmp_path: Path) -> None:
    (tmp_path / "system.slice").mkdir()
    assert living_pods(tmp_path) is None
