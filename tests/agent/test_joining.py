"""Workers that call trainledger.log() without init, and runs that are passed to other processes."""

from pathlib import Path

import pytest

from support.training import Journal, Training
from trainledger_schemas.ids import id_text


@pytest.fixture
def training(tmp_path: Path) -> Training:
    (tmp_path / "worker.py").write_text(WORKER)
    return Training(tmp_path)


WORKER = """
import os
import trainledger

def work(n):
    for _ in range(3): trainledger.log({"x": float(n)})
    return os.getpid()

def work_with(run, n):
    run.log({"x": float(n)}); trainledger.log({"y": float(n)})
    return os.getpid(), run

def work_before_and_after(begun, go):
    work(1); begun.set(); go.wait(30); work(2)

def work_by_init(n):
    run = trainledger.init()
    for _ in range(3): run.log({"x": float(n)})
    run.finish()

def idle():
    pass

def forks():
    if not os.fork():
        work(3); os._exit(0)
    os.wait()
    work(2)
    if not os.fork():
        work(4); os._exit(0)
    os.wait()

def threads():
    import threading
    barrier = threading.Barrier(8)
    def start(n): barrier.wait(); work(n)
    started = [threading.Thread(target=start, args=(n,)) for n in range(8)]
    for thread in started: thread.start()
    for thread in started: thread.join()

def after_finish():
    work(2); trainledger.finish(); work(9)

def spawn(target, *arguments):
    import multiprocessing
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start(); process.join()
    assert process.exitcode == 0, process.exitcode
"""


def family(training: Training) -> tuple[Journal, list[Journal]]:
    """The parent's journal and those of its children: one a process, all of one run."""
    parent, *children = training.read()
    assert parent.parent is None and all(journal.is_sound() for journal in (parent, *children))
    assert len({journal.header.pid for journal in (parent, *children)}) == 1 + len(children)
    assert {child.run_id for child in children} <= {parent.run_id}
    assert {child.started["joined"] for child in children} <= {"parent"}
    return parent, children


def main(body: str, arguments: str = "") -> str:
    lines = "\n            ".join(body.strip().split("\n"))
    return f"""
        import worker
        from worker import spawn
        if __name__ == "__main__":
            run = trainledger.init({arguments})
            run.log({{"x": 1.0}})
            {lines}
        """


def test_spawned_worker_joins_at_its_first_log(training: Training) -> None:
    done = training.run(main("spawn(worker.work, 2)\nspawn(worker.work, 3)", "name='a', group='g'"))
    parent, children = family(training)
    assert [child.values() for child in children] == [[2.0] * 3, [3.0] * 3]
    assert {child.parent for child in children} == {parent.id}
    assert all(child.exit is not None and child.exit["cause"] == "exit" for child in children)
    assert done.stderr.count("trainledger:") == 1, done.stderr


def test_spawned_worker_that_never_logs_makes_no_journal(training: Training) -> None:
    training.run(main("spawn(worker.idle)\nspawn(worker.work_with, run, 2)"))
    _, children = family(training)
    assert [child.values() for child in children] == [[2.0]]


def test_forks_of_a_spawned_worker_have_journals_of_their_own(training: Training) -> None:
    training.run(main("spawn(worker.forks)"))
    parent, children = family(training)
    before, worker, after = sorted(children, key=lambda child: {3.0: 0, 2.0: 1, 4.0: 2}[child.values()[0]])
    assert [len(child.values()) for child in (before, worker, after)] == [3, 3, 3]
    assert (before.parent, worker.parent, after.parent) == (parent.id, parent.id, worker.id)


def test_threads_of_a_worker_that_log_at_once_join_once(training: Training) -> None:
    training.run(main("spawn(worker.threads)"))
    _, (child,) = family(training)
    assert sorted(child.values()) == sorted([float(n) for n in range(8)] * 3)


def test_worker_that_has_ended_its_part_does_not_join_again(training: Training) -> None:
    done = training.run(main("spawn(worker.after_finish)"))
    _, (child,) = family(training)
    assert child.values() == [2.0] * 3
    assert done.stderr.count("log() without a run") == 1


def test_log_after_the_runs_end_in_the_parent_is_no_run(training: Training) -> None:
    done = training.run(main("run.finish()\ntrainledger.log({'x': 9.0})\nspawn(worker.work, 9)"))
    parent, children = family(training)
    assert parent.values() == [1.0] and not children
    assert done.stderr.count("log() without a run") == 2


@pytest.mark.parametrize("wrapped", [True, False])
def test_script_without_init_joins_the_run_it_is_told(training: Training, wrapped: bool) -> None:
    told = {"TRAINLEDGER_RUN_ID": id_text(b"r" * 16)}
    if wrapped:
        told |= {"TRAINLEDGER_PARENT": f"1:{id_text(b'j' * 16)}", "TRAINLEDGER_WRAPPED": "1"}
    done = training.run("for _ in range(3): trainledger.log({'x': 1.0})  # without init()", **told)
    journal = training.only()
    assert journal.values() == [1.0] * 3 and journal.run_id == told["TRAINLEDGER_RUN_ID"]
    assert journal.started["joined"] == ("wrapper" if wrapped else "environment")
    assert f"run {journal.run_id} in " in done.stderr


def test_log_that_cannot_join_harms_nothing(training: Training) -> None:
    (training.folder / "file").write_text("no folder")
    nowhere = {
        "TRAINLEDGER_DIR": str(training.folder / "file"),
        "XDG_STATE_HOME": str(training.folder / "file"),
    }
    done = training.run(
        "for _ in range(3): trainledger.log({'x': 1.0})  # without init()", TRAINLEDGER_RUN_ID="r", **nowhere
    )
    assert "nothing is recorded" in done.stderr and "Traceback" not in done.stderr


def test_run_is_passed_to_a_spawned_worker_and_back(training: Training) -> None:
    training.run(
        main(
            """
import concurrent.futures, multiprocessing
context = multiprocessing.get_context("spawn")
run.config.lr = 3; run.config.odd = object()
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
    results = list(pool.map(worker.work_with, [run] * 20, range(20)))
assert all(back is run for _, back in results)
assert trainledger.run is run and run.config.lr == 3
""",
            "name='a', project='p', config={'depth': {'n': 2}}",
        )
    )
    parent, children = family(training)
    assert sorted(value for child in children for value in child.values()) == [float(n) for n in range(20)]
    assert sorted(value for child in children for value in child.values("y")) == [float(n) for n in range(20)]
    assert {(child.started["name"], child.started["project"]) for child in children} == {("a", "p")}
    assert all(child.settings()["depth/n"]["value"] == "2" for child in children)
    assert all(child.exit is not None for child in children) and parent.exit is not None


def test_passed_run_takes_the_place_of_a_joined_one_and_stands_beside_one_of_init(training: Training) -> None:
    training.run(
        """
        import os, pickle
        if __name__ == "__main__":
            first = trainledger.init(name="first"); first.log({"x": 1.0}); kept = pickle.dumps(first)
            assert pickle.loads(kept) is first
            first.finish()
            ended = pickle.dumps(first)
            second = trainledger.init(name="second"); second.log({"x": 2.0})
            back = pickle.loads(kept)
            assert trainledger.run is second and back is not first and back.id == first.id
            assert pickle.loads(kept) is back
            back.log({"x": 3.0}); trainledger.log({"x": 4.0})
            pickle.loads(ended).log({"x": 9.0})
            assert os.environ["TRAINLEDGER_RUN_ID"] == second.id
        """
    )
    journals = training.read()
    assert [(journal.started["name"], journal.values()) for journal in journals] == [
        ("first", [1.0]),
        ("second", [2.0, 4.0]),
        ("first", [3.0]),
    ]
    assert journals[2].run_id == journals[0].run_id and journals[2].exit is not None


def test_workers_of_joblib_are_used_again_by_the_run_that_is_passed(training: Training) -> None:
    training.run(
        """
        import joblib, worker
        if __name__ == "__main__":
            pids = {}
            for name in ("a", "b"):
                with trainledger.init(name=name) as run:
                    with joblib.parallel_config("loky", n_jobs=2):
                        if name == "a":
                            joblib.Parallel()(joblib.delayed(worker.work)(n) for n in range(6))
                        done = joblib.Parallel()(joblib.delayed(worker.work_with)(run, n) for n in range(6))
                        pids[name] = {pid for pid, _ in done}
            assert pids["a"] & pids["b"], pids
        """
    )
    journals = training.read()
    for name, points in (("a", 6 * 3 + 6), ("b", 6)):
        (parent,) = [j for j in journals if j.parent is None and j.started["name"] == name]
        children = [j for j in journals if j.parent == parent.id]
        assert {child.run_id for child in children} == {parent.run_id}
        assert sum(len(child.values()) for child in children) == points
        assert sum(len(child.values("y")) for child in children) == 6


REUSED = """
        import joblib, multiprocessing, worker
        from worker import spawn
        def by_joblib():
            with joblib.parallel_config("loky", n_jobs=2):
                return set(joblib.Parallel()(joblib.delayed(worker.work)(n) for n in range(6)))
        def by_fork_server(target=worker.work):
            context = multiprocessing.get_context("forkserver")
            for n in range(2):
                process = context.Process(target=target, args=(n,))
                process.start(); process.join()
        def by_joblib_and_init():
            with joblib.parallel_config("loky", n_jobs=2):
                joblib.Parallel()(joblib.delayed(worker.work_by_init)(n) for n in range(6))
        def by_fork_server_and_init():
            by_fork_server(worker.work_by_init)
        if __name__ == "__main__":
            for name in ("a", "b", "c"):
                with trainledger.init(name=name) as run:
                    WAY()
                    folder = run._journal.folder
                import shutil; shutil.rmtree(folder) if name == GONE else None
"""


WAYS = [("by_joblib", 18), ("by_joblib_and_init", 18), ("by_fork_server", 6), ("by_fork_server_and_init", 6)]


@pytest.mark.parametrize(("way", "points"), WAYS)
def test_workers_that_are_used_again_follow_the_runs_of_their_parent(
    training: Training, way: str, points: int
) -> None:
    done = training.run(REUSED.replace("WAY", way).replace("GONE", "None"))
    journals = training.read()
    parents = [journal for journal in journals if journal.parent is None]
    assert [parent.started["name"] for parent in parents] == ["a", "b", "c"]
    for parent in parents:
        children = [journal for journal in journals if journal.parent == parent.id]
        assert {child.run_id for child in children} == {parent.run_id}
        assert sum(len(child.values()) for child in children) == points
    assert all(journal.is_sound() for journal in journals)
    assert "Traceback" not in done.stderr
    assert ("log() goes on in its run" in done.stderr) == (way == "by_joblib")


def test_run_that_ended_and_was_read_is_left_too(training: Training) -> None:
    """The agent takes the journal of a run that has ended away, so that the environment names nothing that is there."""
    training.run(REUSED.replace("WAY", "by_fork_server").replace("GONE", "'a'"))
    journals = training.read()
    for name in ("b", "c"):
        (parent,) = [j for j in journals if j.parent is None and j.started["name"] == name]
        assert sum(len(j.values()) for j in journals if j.parent == parent.id) == 6


def test_worker_stays_in_its_run_while_the_parent_has_no_other(training: Training) -> None:
    training.run(
        main(
            """
import multiprocessing, os
context = multiprocessing.get_context("spawn")
begun, go = context.Event(), context.Event()
process = context.Process(target=worker.work_before_and_after, args=(begun, go))
process.start(); begun.wait(30)
run.finish(); go.set(); process.join()
assert process.exitcode == 0
"""
        )
    )
    parent, (child,) = family(training)
    assert child.values() == [1.0] * 3 + [2.0] * 3 and child.parent == parent.id
