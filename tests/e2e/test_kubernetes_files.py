"""The manifests for Kubernetes: what they mount is what the code looks at, and the agent gets no more than it needs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainledger.launch import detect_launch
from trainledger.node.container_images import CRI_SOCKETS
from trainledger.node.kubernetes.places import KubeletPlaces
from trainledger.node.kubernetes.pod_journals import VOLUME
from trainledger.placement import NODE_FOLDER
from trainledger.settings import VARIABLES

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
PLACES = KubeletPlaces()


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    (daemon_set,) = documents("agent.yaml")
    assert daemon_set["kind"] == "DaemonSet"
    spec: dict[str, Any] = daemon_set["spec"]["template"]["spec"]
    return spec


def mounts(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of the first container by path, each with the volume's own description."""
    volumes = {item["name"]: item for item in spec["volumes"]}
    return {
        item["mountPath"]: {**item, "volume": volumes[item["name"]]}
        for item in spec["containers"][0]["volumeMounts"]
    }


def test_agent_sees_what_it_looks_at_under_the_same_paths_as_on_the_node(pod: dict[str, Any]) -> None:
    seen = mounts(pod)
    needed = (PLACES.socket.parent, PLACES.pods, PLACES.logs, PLACES.cgroups, NODE_FOLDER)
    for path in needed:
        assert seen[str(path)]["volume"]["hostPath"]["path"] == str(path)
    assert pod["hostPID"] is True
    assert seen[str(PLACES.pods)]["mountPropagation"] == "HostToContainer", (
        "volumes in memory are mounted later"
    )
    writable = {
        path for path, item in seen.items() if "hostPath" in item["volume"] and not item.get("readOnly")
    }
    assert writable == {str(NODE_FOLDER), str(NODE_FOLDER.parent / "home"), str(PLACES.pods)}


def test_agent_has_no_token_and_the_rights_of_the_unit_alone(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
        assert "privileged" not in context
    unit = (FOLDER.parent / "systemd" / "trainledger-agent.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet=")]
    given = {f"CAP_{name}" for name in pod["containers"][0]["securityContext"]["capabilities"]["add"]}
    assert given == set(line.partition("=")[2].split())


def test_runtimes_socket_is_given_knowingly_alone(pod: dict[str, Any]) -> None:
    paths = {item["hostPath"]["path"] for item in pod["volumes"] if "hostPath" in item}
    assert not paths & {str(path) for path in CRI_SOCKETS}
    text = (FOLDER / "agent.yaml").read_text()
    assert f"# - {{name: runtime, mountPath: {CRI_SOCKETS[0]}}}" in text


def test_settings_in_the_manifests_are_known(pod: dict[str, Any]) -> None:
    (_, job) = documents("job.yaml")
    containers = [*pod["containers"], *job["spec"]["template"]["spec"]["containers"]]
    names = {item["name"] for container in containers for item in container["env"]}
    ours = {name for name in names if name.startswith("TRAINLEDGER_")}
    assert {"TRAINLEDGER_NODE", "TRAINLEDGER_KAFKA", "TRAINLEDGER_SCOPE"} <= ours <= VARIABLES


def test_pods_of_the_example_write_where_the_agent_reads_and_are_one_run() -> None:
    service, job = documents("job.yaml")
    spec = job["spec"]["template"]["spec"]
    (mount,) = mounts(spec).values()
    assert (mount["mountPath"], mount["volume"]["name"]) == (
        str(NODE_FOLDER),
        VOLUME,
    ) and "emptyDir" in mount["volume"]
    assert service["metadata"]["name"] == spec["subdomain"], "train-0.train is a name in the cluster"
    options = dict(
        item[2:].split("=", 1) for item in spec["containers"][0]["command"] if item.startswith("--")
    )
    # What torchrun tells the workers of pods 0 and 1; Kubernetes gives both pods the same label.
    keys = {
        detect_launch(
            {
                "TRAINLEDGER_SCOPE": "5f3c-uid-of-the-job",
                "TORCHELASTIC_RUN_ID": "none",
                "MASTER_ADDR": options["master-addr"],
                "MASTER_PORT": options["master-port"],
                "RANK": str(8 * node),
                "WORLD_SIZE": "16",
                "LOCAL_RANK": "0",
                "LOCAL_WORLD_SIZE": options["nproc-per-node"],
            },
            parent=f"process of pod {node}",
        ).key
        for node in (0, 1)
    }
    assert len(keys) == 1 and None not in keys
