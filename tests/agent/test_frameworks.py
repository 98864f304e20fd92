"""What modules of Ray and torch that are imported say; the modules here have the answers of the real ones."""

import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from trainledger.frameworks import framework_variables

SESSION = "session_2026-11-27_11-36-08_920419_22553"
RANKS = {"get_world_rank": 1, "get_local_rank": 1, "get_world_size": 2, "get_node_rank": 0}
INTERNAL = "ray.train.v2._internal.execution.context"


def answers(**values: Any) -> SimpleNamespace:
    """An object whose methods return these values; an exception is raised."""

    def method(value: Any) -> Any:
        def call() -> Any:
            if isinstance(value, Exception):
                raise value
            if isinstance(value, str) and value.startswith("t-"):
                warnings.warn("get_trial_id is deprecated", DeprecationWarning, stacklevel=2)
            return value

        return call

    return SimpleNamespace(**{name: method(value) for name, value in values.items()})


def ray(monkeypatch: pytest.MonkeyPatch, *, train: Any, number: str | None = None, **job: Any) -> None:
    context = answers(get_job_id="01000000", **job)
    context.gcs_address = "192.0.2.2:39093"
    told = {"is_initialized": True, "get_runtime_context": context}
    monkeypatch.setitem(sys.modules, "ray", answers(**told))
    monkeypatch.setitem(sys.modules, "ray.train", answers(get_context=train))
    if number is not None:
        inner = SimpleNamespace(train_run_context=SimpleNamespace(run_id=number))
        monkeypatch.setitem(sys.modules, INTERNAL, answers(get_train_context=inner))


@pytest.mark.parametrize(
    ("trial", "number", "expected"),
    [
        pytest.param(DeprecationWarning("no trials"), "4ceb", "4ceb", id="train v2"),
        pytest.param(DeprecationWarning("no trials"), None, "my experiment", id="train v2 of another inside"),
        pytest.param("t-78645_00000", None, "t-78645_00000", id="train v1, which warns"),
    ],
)
def test_ray_train_tells_its_rank_and_which_training_it_is(
    monkeypatch: pytest.MonkeyPatch, trial: Any, number: str | None, expected: str
) -> None:
    train = answers(get_trial_id=trial, get_experiment_name="my experiment", **RANKS)
    ray(monkeypatch, train=train, number=number, get_session_name=SESSION)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert framework_variables() == {
            "RAY_SESSION": SESSION,
            "RAY_JOB_ID": "01000000",
            "RAY_TRIAL_ID": expected,
            "RANK": "1",
            "LOCAL_RANK": "1",
            "WORLD_SIZE": "2",
            "NODE_RANK": "0",
        }


def test_a_driver_of_ray_has_a_job_and_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    ray(monkeypatch, train=RuntimeError("not in a worker"))
    assert framework_variables() == {"RAY_SESSION": "192.0.2.2:39093", "RAY_JOB_ID": "01000000"}
