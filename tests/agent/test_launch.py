"""Ranks and launches from the variables of the launchers."""

import pytest

from trainledger.launch import Launch, detect_launch, rank_variable, run_id_of
from trainledger.launcher_command import launcher_variables

PARENT = "boot:100:5000"
TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "job-7",
    "TORCHELASTIC_RESTART_COUNT": "2",
}
ONE_NODE = {"LOCAL_WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "none"}
SLURM = {
    "SLURM_CLUSTER_NAME": "c",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "6",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "1234",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
BARE = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "1234"}
DEEPSPEED = BARE | {
    "RANK": "9",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "16",
    "LOCAL_SIZE": "8",
    "CROSS_RANK": "1",
    "CROSS_SIZE": "2",
}
HOROVOD = {
    "HOROVOD_RANK": "3",
    "HOROVOD_SIZE": "4",
    "HOROVOD_LOCAL_RANK": "1",
    "HOROVOD_LOCAL_SIZE": "2",
    "HOROVOD_CROSS_RANK": "1",
    "HOROVOD_CROSS_SIZE": "2",
    "HOROVOD_GLOO_RENDEZVOUS_ADDR": "10.0.0.1",
    "HOROVOD_GLOO_RENDEZVOUS_PORT": "40001",
}
RAY = BARE | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "NODE_RANK": "1", "RAY_JOB_ID": "01000000"}
# As seen in the second worker of two of DeepSpeed 0.16.9 and of Accelerate 1.2.1 on one machine, and of Ray 2.60 with
# torch; what `frameworks` adds to the last is RAY_SESSION and RAY_TRIAL_ID.
SECOND = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29621",
}
DEEPSPEED_HERE = SECOND | {"CROSS_RANK": "0", "CROSS_SIZE": "1", "LOCAL_SIZE": "2"}
ACCELERATE_HERE = SECOND | {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "GROUP_RANK": "0",
    "ROLE_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "1",
    "ROLE_WORLD_SIZE": "2",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_MAX_RESTARTS": "0",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
# --num_machines 2, both on this machine.
ACCELERATE_TWO = ACCELERATE_HERE | {
    "LOCAL_RANK": "0",
    "GROUP_RANK": "1",
    "LOCAL_WORLD_SIZE": "1",
    "GROUP_WORLD_SIZE": "2",
}
RAY_HERE = SECOND | {
    "MASTER_ADDR": "192.0.2.2",
    "MASTER_PORT": "58263",
    "LOCAL_WORLD_SIZE": "2",
    "NODE_RANK": "0",
    "ACCELERATE_TORCH_DEVICE": "cpu",
    "RAY_JOB_ID": "01000000",
    "RAY_SESSION": "session_2026-11-27_11-36-08_920419_22553",
    "RAY_TRIAL_ID": "4ceb911763114140b6b4aab42a43a1d5",
}
# A pod of Kubeflow's Trainer: torchrun reads PET_ variables and its workers still have them.
TRAINER_POD = {
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "2",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29500",
}
TRAINER = TRAINER_POD | {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "job-node-0-0.job",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
}
# What Kubeflow's Trainer gives to the pods of its other frameworks.
JAX = {"JAX_PROCESS_ID": "1", "JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": "job-node-0-0.job:6666"}
XGBOOST = {
    "DMLC_TASK_ID": "1",
    "DMLC_NUM_WORKER": "2",
    "DMLC_TRACKER_URI": "job-node-0-0.job",
    "DMLC_TRACKER_PORT": "29500",
}
PODS = {"TRAINLEDGER_SCOPE": "5f3c-jobset-uid"}
MVAPICH = {"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_LOCAL_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"}
GROUP = {"PROCESS_GROUP_RANK": "1", "PROCESS_GROUP_SIZE": "2"}
ALONE = ("single", None, None, None, None)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, ALONE, id="nothing"),
        pytest.param(TORCHRUN, ("torchrun", 3, 1, 8, None), id="torchrun"),
        pytest.param(TORCHRUN | {"GROUP_RANK": "0"}, ("torchrun", 3, 1, 8, 0), id="torchrun, its node"),
        pytest.param(TORCHRUN | SLURM, ("torchrun", 3, 1, 8, None), id="torchrun in srun"),
        pytest.param(TORCHRUN | OPEN_MPI, ("torchrun", 3, 1, 8, None), id="torchrun in mpirun"),
        pytest.param(
            TORCHRUN | {"LOCAL_RANK": "0"}, ("torchrun", 3, 0, 8, None), id="torchrun --virtual-local-rank"
        ),
        pytest.param(
            TORCHRUN | {"ACCELERATE_MIXED_PRECISION": "bf16"}, ("accelerate", 3, 1, 8, None), id="accelerate"
        ),
        pytest.param(
            OPEN_MPI | {"ACCELERATE_USE_FSDP": "1"}, ("openmpi", 1, 1, 4, None), id="accelerate over mpirun"
        ),
        pytest.param(
            TORCHRUN | {"TRAINLEDGER_RANK": "0", "TRAINLEDGER_WORLD_SIZE": "2"},
            ("explicit", 0, None, 2, None),
            id="our own variables beat all",
        ),
        pytest.param(DEEPSPEED, ("deepspeed", 9, 1, 16, 1), id="deepspeed"),
        pytest.param(DEEPSPEED | SLURM, ("deepspeed", 9, 1, 16, 1), id="deepspeed in an allocation"),
        pytest.param(HOROVOD, ("horovod", 3, 1, 4, 1), id="horovod"),
        pytest.param(RAY, ("ray", 0, 0, 2, 1), id="ray"),
        pytest.param(DEEPSPEED_HERE, ("deepspeed", 1, 1, 2, 0), id="deepspeed as seen"),
        pytest.param(ACCELERATE_HERE, ("accelerate", 1, 1, 2, 0), id="accelerate as seen"),
        pytest.param(ACCELERATE_TWO, ("accelerate", 1, 0, 2, 1), id="accelerate as seen, two machines"),
        pytest.param(RAY_HERE, ("ray", 1, 1, 2, 0), id="ray as seen"),
        pytest.param({"RAY_JOB_ID": "01000000"}, ALONE, id="a task of ray"),
        pytest.param(SLURM | {"SLURM_NODEID": "2"}, ("slurm", 5, 1, 6, 2), id="srun"),
        pytest.param(
            SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, ALONE, id="srun with one task"
        ),
        pytest.param({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "8"}, ALONE, id="the script of sbatch"),
        pytest.param(
            SLURM | {"RANK": "5", "WORLD_SIZE": "6"}, ("slurm", 5, 1, 6, None), id="srun, RANK from PROCID"
        ),
        pytest.param(
            SLURM | {"RANK": "41", "LOCAL_RANK": "1", "WORLD_SIZE": "48"},
            ("bare", 41, 1, 48, None),
            id="a task a node that starts a process a GPU",
        ),
        pytest.param(
            SLURM | TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
            ALONE,
            id="torchrun of one process in each task of srun",
        ),
        pytest.param(OPEN_MPI, ("openmpi", 1, 1, 4, None), id="open mpi"),
        pytest.param(OPEN_MPI | SLURM, ("openmpi", 1, 1, 4, None), id="open mpi in an allocation"),
        pytest.param(MPICH, ("mpich", 1, 1, 2, None), id="mpich"),
        pytest.param(MVAPICH, ("mvapich", 1, 1, 2, None), id="mvapich"),
        pytest.param(TRAINER, ("torchrun", 3, 1, 4, 1), id="kubeflow trainer, worker"),
        pytest.param(TRAINER_POD, ("torchrun", None, None, None, 1), id="kubeflow trainer, around torchrun"),
        pytest.param(JAX, ("jax", 1, None, 2, None), id="kubeflow trainer, jax"),
        pytest.param(XGBOOST, ("xgboost", 1, None, 2, None), id="kubeflow trainer, xgboost"),
        pytest.param({"JOB_COMPLETION_INDEX": "3"}, ALONE, id="indexed job whose pods are runs of their own"),
        pytest.param(
            BARE | {"JOB_COMPLETION_INDEX": "1"}, ("bare", 0, None, 2, None), id="indexed job of kubernetes"
        ),
        pytest.param(BARE, ("bare", 0, None, 2, None), id="bare"),
        pytest.param(GROUP, ("process_group", 1, None, 2, None), id="process group of torch"),
        pytest.param(GROUP | BARE, ("process_group", 1, None, 2, None), id="process group beats RANK"),
        pytest.param(TORCHRUN | {"RANK": "8"}, ALONE, id="rank beyond size"),
        pytest.param(TORCHRUN | {"RANK": "-1"}, ALONE, id="negative rank"),
        pytest.param(TORCHRUN | {"RANK": "x"}, ALONE, id="no number"),
        pytest.param(TORCHRUN | {"RANK": "9" * 5000, "WORLD_SIZE": "9" * 5000}, ALONE, id="huge"),
        pytest.param(TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}, ALONE, id="one process"),
        pytest.param({"RANK": "1"}, ALONE, id="rank without size"),
    ],
)
def test_place_in_the_launch(environ: dict[str, str], expected: tuple[object, ...]) -> None:
    launch = detect_launch(environ, parent=PARENT)
    assert (launch.launcher, launch.rank, launch.local_rank, launch.world_size, launch.node_rank) == expected


@pytest.mark.parametrize(
    ("environ", "scope", "launch_id", "joins"),
    [
        pytest.param(TORCHRUN, None, "elastic job-7", "weak", id="short id that people make up"),
        pytest.param(
            TORCHRUN | {"TORCHELASTIC_RUN_ID": "3f1c9a2e-77"}, None, "elastic 3f1c9a2e-77", "strong", id="id"
        ),
        pytest.param(TORCHRUN | SLURM, "c/77", "elastic job-7", "strong", id="short id in a job"),
        pytest.param(
            TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}, None, "master 10.0.0.1:29500 of 8", "weak", id="none"
        ),
        pytest.param(
            TORCHRUN | ONE_NODE, None, f"launched by {PARENT} of 8", "strong", id="none on one node"
        ),
        pytest.param(
            TORCHRUN | SLURM | {"TORCHELASTIC_RUN_ID": "none"}, "c/77", "step 0", "strong", id="none in srun"
        ),
        pytest.param(SLURM, "c/77", "step 0", "strong", id="srun"),
        pytest.param(SLURM | {"SLURM_ARRAY_TASK_ID": "4"}, "c/77/4", "step 0", "strong", id="array"),
        pytest.param(
            SLURM | {"SLURM_HET_SIZE": "2", "SLURM_JOB_ID": "78", "SLURM_JOB_ID_HET_GROUP_0": "77"},
            "c/77",
            "step 0",
            "strong",
            id="heterogeneous job",
        ),
        pytest.param(DEEPSPEED, None, "master node1:1234 of 16", "weak", id="deepspeed by ssh"),
        pytest.param(
            DEEPSPEED | {"ELASTIC_RUN_ID": "a-long-id"}, None, "elastic a-long-id", "strong", id="deepspeed"
        ),
        pytest.param(HOROVOD, None, "master 10.0.0.1:40001 of 4", "weak", id="horovod"),
        pytest.param(RAY, "ray/01000000", "master node1:1234 of 2", "strong", id="actors of ray"),
        pytest.param(
            RAY_HERE,
            "ray/session_2026-11-27_11-36-08_920419_22553/01000000/4ceb911763114140b6b4aab42a43a1d5",
            "trial",
            "strong",
            id="ray as seen",
        ),
        pytest.param(
            RAY | SLURM | {"RAY_TRIAL_ID": "t1"}, "c/77/ray/01000000/t1", "trial", "strong", id="ray in slurm"
        ),
        pytest.param(
            DEEPSPEED_HERE, None, f"launched by {PARENT} of 2", "strong", id="deepspeed on one node"
        ),
        pytest.param(
            ACCELERATE_HERE, None, f"launched by {PARENT} of 2", "strong", id="accelerate on one node"
        ),
        pytest.param(
            ACCELERATE_TWO,
            None,
            "master 127.0.0.1:29621 on this-boot of 2",
            "weak",
            id="two launchers on one machine",
        ),
        pytest.param(OPEN_MPI, None, "pmix 1234 of 4", "strong", id="open mpi"),
        pytest.param(MPICH, None, f"launched by {PARENT} of 2", "strong", id="mpich on one node"),
        pytest.param(
            MPICH | {"MPI_LOCALNRANKS": "1"}, None, f"launched by {PARENT} of 2", "weak", id="mpich on two"
        ),
        pytest.param(JAX, None, "master job-node-0-0.job:6666 of 2", "weak", id="jax, no uid"),
        pytest.param(
            JAX | PODS, "5f3c-jobset-uid", "master job-node-0-0.job:6666 of 2", "strong", id="jax in pods"
        ),
        pytest.param(
            XGBOOST | PODS,
            "5f3c-jobset-uid",
            "master job-node-0-0.job:29500 of 2",
            "strong",
            id="xgboost in pods",
        ),
        pytest.param(
            JAX | {"JAX_COORDINATOR_ADDRESS": "localhost:6666"},
            None,
            f"launched by {PARENT} of 2",
            "strong",
            id="jax on one node",
        ),
        pytest.param(TRAINER, None, "master job-node-0-0.job:29500 of 4", "weak", id="trainer, no uid"),
        pytest.param(
            TRAINER | PODS, "5f3c-jobset-uid", "master job-node-0-0.job:29500 of 4", "strong", id="trainer"
        ),
        pytest.param(
            TRAINER_POD | PODS, "5f3c-jobset-uid", "master job-node-0-0.job:29500 of 0", "strong", id="pod"
        ),
        pytest.param(
            BARE | {"MASTER_ADDR": "127.0.0.1"}, None, f"launched by {PARENT} of 2", "strong", id="loop"
        ),
        pytest.param(
            {"RANK": "0", "WORLD_SIZE": "2"}, None, f"launched by {PARENT} of 2", "weak", id="no master"
        ),
    ],
)
def test_what_the_ranks_share(environ: dict[str, str], scope: str | None, launch_id: str, joins: str) -> None:
    launch = detect_launch(environ, parent=PARENT, boot="this-boot")
    assert (launch.scope, launch.launch_id, launch.joins()) == (scope, launch_id, joins)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(
            "torchrun --nnodes 2 --node_rank=1 --master-addr a --master_port 9 train.py --nnodes 5",
            {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "a", "PET_MASTER_PORT": "9"},
            id="static",
        ),
        pytest.param(
            "python -m torch.distributed.run --no_python --nnodes=1:4 --rdzv-id x1 --rdzv_endpoint h:1 t",
            {"PET_NNODES": "1:4", "PET_RDZV_ID": "x1", "PET_RDZV_ENDPOINT": "h:1"},
            id="elastic, by module",
        ),
        pytest.param("/usr/bin/torchrun --standalone -m pkg.train --nnodes 2", {}, id="standalone"),
        pytest.param(
            "accelerate launch --multi_gpu --num_machines 2 --machine_rank=1 --main_process_ip a "
            "--main_process_port 9 --mixed_precision no train.py --num_machines 5",
            {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "a", "PET_MASTER_PORT": "9"},
            id="accelerate",
        ),
        pytest.param(
            "python -m accelerate.commands.launch --num-machines 2 -m pkg.train",
            {"PET_NNODES": "2"},
            id="accelerate, by module",
        ),
        pytest.param("accelerate config --num_machines 2", {}, id="accelerate that launches nothing"),
        pytest.param("python train.py --nnodes 2", {}, id="another program"),
        pytest.param("torchrun --nnodes", {}, id="cut off"),
    ],
)
def test_what_a_launcher_is_told(command: str, expected: dict[str, str]) -> None:
    assert launcher_variables(command.split()) == expected


def test_wrappers_around_torchrun_on_each_node_share_a_launch() -> None:
    options = "torchrun --nnodes 2 --master_addr a --master_port 9 --node_rank"
    one, other = (detect_launch(launcher_variables([*options.split(), str(n), "t.py"])) for n in (0, 1))
    assert one.key == other.key is not None
    assert (one.rank, one.node_rank, other.node_rank, one.joins()) == (None, 0, 1, "weak")
    by_endpoint = launcher_variables("torchrun --nnodes 2 --rdzv_endpoint h:1 t.py".split())
    assert detect_launch(by_endpoint).launch_id == "rendezvous h:1 of 0"


def test_a_namespace_of_open_mpi_that_another_host_has_too_is_told_from_it() -> None:
    name = "OMPI_MCA_orte_precondition_transports"
    one, other = (
        key(OPEN_MPI | {name: "09227a20a0005a91-85ef"}),
        key(OPEN_MPI | {name: "19227a20a0005a91-85ef"}),
    )
    assert one != other and one is not None and "09227a20a0005a91" not in one


def test_a_training_of_ray_is_the_same_when_its_workers_are_started_again() -> None:
    again = {"MASTER_PORT": "34553", "WORLD_SIZE": "3"}
    assert key(RAY_HERE) == key(RAY_HERE | again, "another node") != key(RAY_HERE | {"RAY_TRIAL_ID": "b"})
    assert key(RAY) != key(RAY | {"RAY_SESSION": "session_2"})
    assert not detect_launch(RAY_HERE).may_repeat() and detect_launch(RAY).may_repeat()


def test_only_the_scheduler_counts_restarts_of_a_job() -> None:
    found = detect_launch(TORCHRUN | SLURM | {"SLURM_RESTART_COUNT": "1"})
    assert (found.restart_hint, found.scheduler_restart) == (2, 1)
    assert detect_launch(TORCHRUN).scheduler_restart is None
    assert detect_launch(TRAINER | {"TRAINLEDGER_RESTART_COUNT": "3"}).scheduler_restart == 3


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        pytest.param(TORCHRUN | SLURM, "RANK", id="torchrun"),
        pytest.param(SLURM, "SLURM_PROCID", id="srun"),
        pytest.param(OPEN_MPI, "OMPI_COMM_WORLD_RANK", id="open mpi"),
        pytest.param({}, None, id="single"),
    ],
)
def test_the_variable_that_says_the_rank(environ: dict[str, str], variable: str | None) -> None:
    assert rank_variable(environ) == variable


def key(environ: dict[str, str], parent: str = PARENT) -> str | None:
    return detect_launch(environ, parent=parent).key


def test_ranks_of_one_launch_share_a_key_whatever_differs_between_them() -> None:
    other = {"RANK": "7", "LOCAL_RANK": "3", "TORCHELASTIC_RESTART_COUNT": "0", "JOB_COMPLETION_INDEX": "1"}
    assert key(TORCHRUN, "here") == key(TORCHRUN | other, "on another node")
    assert key(SLURM, "here") == key(SLURM | {"SLURM_PROCID": "0", "SLURM_NODEID": "1"}, "there")
    assert key(OPEN_MPI, "here") == key(OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "3"}, "there")
    assert key(BARE, "here") == key(BARE | {"RANK": "1"}, "there")


def test_launches_that_are_not_one_have_different_keys() -> None:
    one = TORCHRUN | ONE_NODE
    found = [
        key(TORCHRUN),
        key(TORCHRUN | {"TORCHELASTIC_RUN_ID": "job-8"}),
        key(TORCHRUN | SLURM),
        key(one),
        key(one, "boot:101:6000"),
        key(one | SLURM),
        key(SLURM),
        key(SLURM | {"SLURM_JOB_ID": "78"}),
        key(SLURM | {"SLURM_STEP_ID": "1"}),
        key(MPICH, "boot:102:1"),
        key(BARE),
        key(BARE | {"WORLD_SIZE": "3"}),
        key(BARE | {"MASTER_ADDR": "localhost"}, "boot:103:1"),
    ]
    assert len(set(found)) == len(found) and None not in found


def test_what_nobody_shares_has_no_key() -> None:
    assert key({"RANK": "0", "WORLD_SIZE": "2"}, "") is None
    assert key({"PMI_RANK": "0", "PMI_SIZE": "2"}, "") is None
    assert key({}) is None


def test_later_runs_of_one_launch_are_others_in_the_same_order() -> None:
    launch = detect_launch(TORCHRUN, parent=PARENT)
    assert launch.numbered(0) == launch
    assert (
        launch.numbered(1).key
        == detect_launch(TORCHRUN, parent="x").numbered(1).key
        != launch.numbered(2).key
    )
    assert Launch().numbered(3).key is None


def test_job_keeps_its_resume_key_over_restarts() -> None:
    job = {"SLURM_JOB_ID": "77", "SLURM_CLUSTER_NAME": "c"}
    first = detect_launch(job | {"SLURM_RESTART_COUNT": "0"})
    again = detect_launch(job | {"SLURM_RESTART_COUNT": "1"})
    assert first.resume_key == again.resume_key and first.resume_key is not None
    assert (first.restart_hint, again.restart_hint) == (0, 1)
    assert detect_launch({"SLURM_JOB_ID": "78", "SLURM_CLUSTER_NAME": "c"}).resume_key != first.resume_key
    assert detect_launch({"TORCHELASTIC_RUN_ID": "none"}).resume_key is None
    assert detect_launch(TORCHRUN).resume_key == detect_launch(TORCHRUN | {"RANK": "0"}).resume_key


def test_run_id_is_a_uuid_of_its_own_version() -> None:
    raw = run_id_of("a")
    assert len(raw) == 16 and raw[6] >> 4 == 8 and raw[8] >> 6 == 2
    assert raw == run_id_of("a") != run_id_of("b")
    assert run_id_of("\udc80") != raw
