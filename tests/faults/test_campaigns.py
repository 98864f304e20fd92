"""Forty seeded faults on every part of each path: nothing that log() returned from is lost, wrong or doubled.

`make faults ROUNDS=500 SEED=7` runs the same with other numbers.
"""

from pathlib import Path

import pytest

from faults.campaign import run_campaign, run_trainer_kills
from faults.deployments import make_kafka, make_spool

ROUNDS = 40
SEED = 8


@pytest.mark.timeout(600)
def test_kills_of_the_training_process_lose_and_double_no_point(tmp_path: Path) -> None:
    summary = run_trainer_kills(tmp_path, seed=SEED, rounds=ROUNDS)
    assert summary["killed"] == ROUNDS
    assert int(str(summary["returned_calls"])) > 1000 * ROUNDS


@pytest.mark.timeout(600)
def test_faults_on_the_path_through_the_spool(tmp_path: Path) -> None:
    summary = run_campaign(make_spool(tmp_path, SEED), tmp_path, seed=SEED, rounds=ROUNDS)
    faults = summary["faults"]
    assert isinstance(faults, dict) and {"kill up", "kill sync", "kill trainer"} <= set(faults)


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_faults_on_the_path_through_kafka(tmp_path: Path) -> None:
    summary = run_campaign(make_kafka(tmp_path, SEED), tmp_path, seed=SEED, rounds=ROUNDS)
    faults = summary["faults"]
    assert isinstance(faults, dict)
    assert {"kill agent", "kill worker", "kill broker", "kill trainer"} <= set(faults)
