"""From what a kubelet gave to pods to the bill: a real gRPC server, real processes, a fake GPU library, the real tables."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from support.burners import burning
from support.fake_kubelet import FakeKubelet, SteppedWatch, short_folder
from support.filled_tables import FilledTables
from support.gpu_node import Node, writer
from support.gpus import Machine
from support.ingest_store import fresh_store
from support.installation import BIN, Installation
from support.polling import poll_until
from trainledger.node.job_book import JobBook
from trainledger.node.kubernetes.source import KubernetesReservations
from trainledger.node.process_jobs import ProcessJobs
from trainledger_schemas.ids import id_text

S = 1_000_000
MINUTES = 4
TRAIN, NOTE, OVER = (f"0a1b2c3d-1111-2222-3333-44445555{n}" for n in ("6666", "7777", "8888"))


@pytest.fixture
def kubelet() -> Iterator[FakeKubelet]:
    with short_folder() as folder:
        fake = FakeKubelet(folder)
        yield fake
        fake.close()


def in_pod(proc: Path, pid: int, uid: str) -> None:
    """A control group of a process as an agent in another pod of the same node sees it."""
    (proc / str(pid)).mkdir(parents=True)
    group = f"/../../kubepods-burstable-pod{uid.replace('-', '_')}.slice/cri-containerd-{'a1' * 32}.scope"
    (proc / str(pid) / "cgroup").write_text(f"0::{group}\n")


def billed(node: Node, begin_us: int, folder: Path) -> FilledTables:
    """The tables with the events of a node that costs 36 an hour and was there for MINUTES."""
    tables = FilledTables(fresh_store(), folder)
    tables.alive(begin_us, begin_us + MINUTES * 60 * S)
    for name, fields in node.events:
        tables.event(name, int(str(fields.get("at_us", fields.get("end_us")))), **fields)
    tables.price(1, begin_us, nano=36_000_000_000)
    tables.take_in()
    return tables


def is_removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_pods_hold_what_the_kubelet_gave_them_and_their_namespaces_pay(
    machine: Machine, kubelet: FakeKubelet, tmp_path: Path
) -> None:
    whole, shared = machine.scenario.gpu(0), machine.scenario.gpu(1)
    machine.scenario.write()
    kubelet.give_away(whole, *(f"{shared}::{number}" for number in range(4)))
    kubelet.pod("ml/train-0", whole, uid=TRAIN)
    kubelet.pod("research/notebook", f"{shared}::2", uid=NOTE)
    kubelet.pod("ml/finished", f"{shared}::0")  # an old kubelet lists it until it is deleted
    kubelet.folder("ml/finished", OVER, lives=False)
    begin_us = machine.clock.wall_ns() // 1000
    watch = SteppedWatch(machine.clock, kubelet.places)
    jobs = JobBook(ProcessJobs(tmp_path / "proc"), [KubernetesReservations(machine.clock, watch=watch)])
    with burning("sys.stdin.readline()") as train:
        in_pod(tmp_path / "proc", train.pid, TRAIN)
        run = writer(train.pid)
        node = Node(machine, jobs=jobs)
        for _ in range(MINUTES * 6):
            watch.turn()
            node.turn(10, [run])
        node.flush([run])
        jobs.close()
    tables = billed(node, begin_us, tmp_path)
    (bill,) = tables.rows("node_bills")
    assert bill["difference"] == 0
    half = float(bill["bill"]) * 0.45
    lines = tables.rows("cost_lines", rest="WHERE resource != 'host'")
    (trained,) = [row for row in lines if row["kind"] == "run"]
    assert (str(trained["run_id"]), trained["resource"]) == (id_text(run.run_id), f"device:{whole}")
    assert (trained["team"], trained["payer_evidence"]) == ("ml", "pod namespace ml")
    assert float(trained["cost"]) == pytest.approx(half, rel=0.06)
    (noted,) = [row for row in lines if row["kind"] == "untracked"]
    assert (noted["account"], noted["team"]) == ("namespace:research", "research")
    assert "pod research/notebook" in noted["evidence"]
    assert float(noted["cost"]) == pytest.approx(half / 4, rel=0.06)
    idle = sum((row["cost"] for row in lines if row["kind"] == "idle"), Decimal(0))
    assert float(idle) == pytest.approx(half * 3 / 4, rel=0.1)


def test_device_of_a_silent_kubelet_is_its_pods_for_90_seconds_and_unknown_then(
    machine: Machine, kubelet: FakeKubelet, tmp_path: Path
) -> None:
    gpu = machine.scenario.gpu(0)
    machine.scenario.write()
    kubelet.give_away(gpu).pod("ml/train-0", gpu, uid=TRAIN)
    begin_us = machine.clock.wall_ns() // 1000
    watch = SteppedWatch(machine.clock, kubelet.places)
    source = KubernetesReservations(machine.clock, watch=watch)
    node = Node(machine, jobs=JobBook(ProcessJobs(tmp_path / "proc"), [source]))
    for turn in range(MINUTES * 6):
        if turn == 3:
            kubelet.server.stop()
            kubelet.places.socket.touch()
        watch.turn()
        node.turn(10)
    node.flush()
    tables = billed(node, begin_us, tmp_path)
    held = {
        row["kind"]: row["device_hours"] * 60
        for row in tables.rows("cost_lines", rest="WHERE resource != 'host'")
    }
    # Half a minute with the kubelet, 90 seconds in which it is believed, and steps of ten seconds.
    assert held["untracked"] == pytest.approx(2, abs=0.4)
    assert held["unknown"] == pytest.approx(MINUTES - held["untracked"], abs=0.3)
    assert tables.rows("node_bills")[0]["difference"] == 0


def test_run_in_a_pod_is_whole_although_its_volume_goes_at_its_end(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    pods = tmp_path / "kubelet" / "pods"
    volume = pods / TRAIN / "volumes" / "kubernetes.io~empty-dir" / "trainledger-journals"
    volume.mkdir(parents=True)
    environment = installation.environment | {"TRAINLEDGER_KUBELET": str(tmp_path / "kubelet")}
    script = installation.write_script(
        """
        import trainledger
        with trainledger.init(project="p") as run:
            for step in range(100):
                run.log({"loss": 1.0 / (step + 1)})
        print("last line")
        """
    )
    with subprocess.Popen(
        [str(BIN / "trainledger"), "agent"], env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE
    ) as agent:
        try:
            assert agent.stdout is not None and agent.stdout.readline().startswith("ready")
            done = subprocess.run(
                [str(BIN / "trainledger"), "run", "--name", "pod", "--", sys.executable, str(script)],
                env=environment | {"TRAINLEDGER_DIR": str(volume), "TRAINLEDGER_FINISH_WAIT_S": "100"},
                cwd=tmp_path, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            # As the kubelet does when the last container has ended. What captures the code may still be at work: here
            # nobody ends it with the pod.
            poll_until(lambda: is_removed(pods / TRAIN))
        finally:
            agent.terminate()
            assert agent.wait(60) == 0
    (run,) = installation.json("ls")
    assert (run["name"], run["state"]) == ("pod", "finished")
    assert installation.sql("SELECT count() AS n FROM metrics")[0]["n"] == 100
    assert "last line" in installation.command("logs", "pod").stdout


def test_pod_with_a_core_of_its_own_is_billed_to_its_namespace_and_a_silent_kubelet_is_no_harm(
    kubelet: FakeKubelet, tmp_path: Path
) -> None:
    kubelet.pod("ml/preprocess", cores=(0,))
    installation = Installation(tmp_path)
    installation.environment["TRAINLEDGER_KUBELET"] = str(kubelet.places.folder)
    installation.environment["TRAINLEDGER_SCHEDULERS"] = "kubernetes"
    with installation.up() as up:
        installation.json("price", "set", "--node", "*", "--usd-per-hour", "36")
        (held,) = poll_until(
            lambda: installation.sql("SELECT * FROM cost_lines WHERE account = 'namespace:ml'"),
            deadline_s=60,
            pause_s=0.5,
        )
        assert (held["kind"], held["resource"], held["owner"], held["team"]) == (
            "untracked",
            "host",
            None,
            "ml",
        )
        assert held["payer_evidence"] == "pod namespace ml"
        (check,) = [item for item in installation.json("doctor") if item["part"] == "kubelet"]
        assert check["state"] == "ok" and check["detail"].startswith("1 pods hold"), check
        kubelet.hangs.set()
        assert Decimal(installation.json("cost", "--by", "team")[0]["cost"]) > 0
        assert up.stop() == 0
    assert "Traceback" not in up.errors.read_text()
