"""Ranks and launches from the variables of the launchers."""

import pytest

from trainledger.launch import Launch, detect_launch, run_id_of

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


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("single", None, None, None)),
        (TORCHRUN, ("torchrun", 3, 1, 8)),
        (TORCHRUN | SLURM, ("torchrun", 3, 1, 8)),
        (TORCHRUN | {"TRAINLEDGER_RANK": "0", "TRAINLEDGER_WORLD_SIZE": "2"}, ("explicit", 0, None, 2)),
        (SLURM, ("slurm", 5, 1, 6)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, ("single", None, None, None)),
        (OPEN_MPI, ("openmpi", 1, 1, 4)),
        (MPICH, ("mpich", 1, 1, 2)),
        (BARE, ("bare", 0, None, 2)),
        (TORCHRUN | {"RANK": "8"}, ("single", None, None, None)),
        (TORCHRUN | {"RANK": "-1"}, ("single", None, None, None)),
        (TORCHRUN | {"RANK": "x"}, ("single", None, None, None)),
        (TORCHRUN | {"RANK": "9" * 5000, "WORLD_SIZE": "9" * 5000}, ("single", None, None, None)),
        (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}, ("single", None, None, None)),
        ({"RANK": "1"}, ("single", None, None, None)),
    ],
)
def test_place_in_the_launch(environ: dict[str, str], expected: tuple[object, ...]) -> None:
    assert detect_launch(environ, parent=PARENT)[:4] == expected


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


def test_only_the_address_of_a_master_is_weak() -> None:
    none = TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}
    assert detect_launch(none, parent=PARENT).is_weak and detect_launch(BARE, parent=PARENT).is_weak
    for strong in (TORCHRUN, none | SLURM, none | ONE_NODE, SLURM, OPEN_MPI, MPICH):
        assert not detect_launch(strong, parent=PARENT).is_weak


def test_what_nobody_shares_has_no_key() -> None:
    assert key({"RANK": "0", "WORLD_SIZE": "2"}) is None
    assert key({"PMI_RANK": "0", "PMI_SIZE": "2"}) is None
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
