"""Fixtures that every test may ask for."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support.amd import AmdMachine
from support.broker import Broker
from support.code_workshop import Workshop
from support.gpus import Machine

# Workers are started with it so that all collect the same tests; trainings of the tests have it only where one sets it.
os.environ.pop("PYTHONHASHSEED", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI set, what a test misses is a failure: a check that did not run must not look like one that passed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{reason} (skipped; with CI set that is a failure)"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take long first: of several workers none should end with one while the others have nothing to do."""
    items.sort(key=lambda item: not {"e2e", "faults"}.intersection(item.path.parts))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One running Kafka broker for the whole session; leave it running, and use topic names of your own.

    A test that stops, kills or freezes a broker makes its own: `with Broker(tmp_path) as mine`.
    """
    with Broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def built_machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The fake NVIDIA library, compiled once; use `machine`."""
    return Machine(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(built_machine: Machine) -> Machine:
    """A machine without GPUs until the test adds some."""
    built_machine.empty()
    return built_machine


@pytest.fixture(scope="session")
def built_amd(tmp_path_factory: pytest.TempPathFactory) -> AmdMachine:
    """The fake AMD library, compiled once; use `amd`."""
    return AmdMachine(tmp_path_factory.mktemp("amdsmi"))


@pytest.fixture
def amd(built_amd: AmdMachine) -> AmdMachine:
    """A machine without AMD GPUs until the test adds some."""
    built_amd.empty()
    return built_amd


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A folder in which code is stored and restored."""
    return Workshop(tmp_path)
