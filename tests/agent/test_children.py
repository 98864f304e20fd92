"""Processes that come from a run's process: by fork, by spawn, as subprocesses; and runs that are joined."""

from collections import Counter
from pathlib import Path

import pytest

from support.polling import poll_until
from support.training import Journal, Training
from trainledger_schemas.ids import id_text


@pytest.fixture(params=["mmap", "write"])
def training(request: pytest.FixtureRequest, tmp_path: Path) -> Training:
    by_write = "import trainledger.placement\ntrainledger.placement.MAPPED = frozenset()\n"
    return Training(tmp_path, by_write if request.param == "write" else "")


def family(training: Training) -> tuple[Journal, list[Journal]]:
    """The parent's journal and those of its children; no two journals of one process, none of two."""
    journals = training.read()
    assert all(journal.is_sound() for journal in journals)
    assert len({journal.header.pid for journal in journals}) == len(journals)
    parents = [journal for journal in journals if journal.parent is None]
    assert len(parents) == 1, [journal.started for journal in journals]
    children = [journal for journal in journals if journal is not parents[0]]
    for journal in children:
        assert journal.run_id == parents[0].run_id
        assert (journal.started["joined"], journal.started["parent_writer"]) == ("parent", journal.parent)
    return parents[0], children


def test_forked_child_writes_a_journal_of_its_own(training: Training) -> None:
    training.run(
        """
        import os
        for i in range(5): run.log({"x": 1.0}, i)
        if not os.fork():
            for i in range(5): run.log({"x": 2.0}, i)
            os._exit(0)
        os.wait()
        for i in range(5): run.log({"x": 3.0}, i)
        """
    )
    parent, (child,) = family(training)
    assert parent.values() == [1.0] * 5 + [3.0] * 5 and child.values() == [2.0] * 5
    assert child.parent == parent.id and child.exit is None
    assert parent.exit is not None and parent.exit["cause"] == "exit"


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(1)", "1 / 0", "pass"])
def test_child_that_never_logs_leaves_no_journal(training: Training, end: str) -> None:
    training.run(
        f"""
        import os, sys
        run.log({{"x": 1.0}})
        if os.fork():
            os.wait()
            run.log({{"x": 2.0}})
        else:
            {end}
        """
    )
    parent, children = family(training)
    assert parent.values() == [1.0, 2.0] and not children
    assert len(parent.claims_of("run_exited")) == 1


def test_child_that_ends_as_a_script_does_says_so_in_its_own_journal(training: Training) -> None:
    training.run(
        """
        import os, sys
        if os.fork():
            os.wait()
        else:
            run.log({"x": 2.0})
            raise ValueError("child")
        """
    )
    parent, (child,) = family(training)
    assert child.exit is not None and child.exit["message"].endswith("child")
    assert parent.exit is not None and parent.exit["cause"] == "exit"


def test_workers_of_a_pool(training: Training) -> None:
    training.run(
        """
        import multiprocessing, os
        def work(n):
            for i in range(50): run.log({"task": float(n), "i": float(i)}, i)
            return os.getpid()
        with multiprocessing.get_context("fork").Pool(3) as pool:
            pids = pool.map(work, range(30), chunksize=1)
            for i in range(50): run.log({"x": 1.0}, i)
        """
    )
    parent, children = family(training)
    assert parent.values() == [1.0] * 50 and 1 <= len(children) <= 3
    assert Counter(value for child in children for value in child.values("task")) == {
        float(n): 50 for n in range(30)
    }
    assert {child.parent for child in children} == {parent.id}


def test_worker_that_outlives_its_parent(training: Training) -> None:
    process = training.start(
        """
        import os, time
        run.log({"x": 1.0})
        if not os.fork():
            run.log({"x": 2.0})
            while os.getppid() == parent: time.sleep(0.01)
            run.log({"x": 3.0})
            os._exit(0)
        os.kill(os.getpid(), 9)
        """.replace("import os, time", "import os, time; parent = os.getpid()")
    )
    process.communicate(timeout=30)
    poll_until(lambda: sorted(len(journal.values()) for journal in training.read()) == [1, 2])
    parent, (child,) = family(training)
    assert (parent.values(), child.values(), child.parent) == ([1.0], [2.0, 3.0], parent.id)
    assert parent.exit is None


def test_forks_while_seven_threads_log_and_rotate(training: Training) -> None:
    training.prelude += "import trainledger.journal as j\nj.MIN_SEGMENT_BYTES, j.FIRST_SEGMENT_BYTES, j.SEGMENT_BYTES = 4096, 1, 1\n"
    training.run(
        """
        import os, sys, threading
        sys.setswitchinterval(1e-5)
        stop = threading.Event()
        counts = {}
        def work(n):
            i = 0
            while not stop.is_set():
                run.log({f"t{n}": float(i), "n": None}, i)  # None: the slow way, which holds locks
                i += 1
            counts[n] = i
        threads = [threading.Thread(target=work, args=(n,)) for n in range(7)]
        for thread in threads: thread.start()
        for child in range(12):
            if not (pid := os.fork()):
                for i in range(200): run.log({"child": float(child), "i": float(i)}, i)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads: thread.join()
        for n, count in counts.items(): run.summary[f"t{n}"] = count
        """
    )
    parent, children = family(training)
    for n in range(7):
        count = int(parent.summary()[f"t{n}"]["number"])
        assert parent.values(f"t{n}") == [float(i) for i in range(count)], n
    assert sorted(child.values("child")[0] for child in children) == [float(n) for n in range(12)]
    assert all(child.values("i") == [float(i) for i in range(200)] for child in children)
    assert all(child.parent == parent.id for child in children)


def test_threads_of_a_child_share_one_journal(training: Training) -> None:
    training.run(
        """
        import os, sys, threading
        sys.setswitchinterval(1e-6)
        for _ in range(5):
            if not (pid := os.fork()):
                barrier = threading.Barrier(8)
                def work(n):
                    barrier.wait()
                    for i in range(20): run.log({f"t{n}": float(i)}, i)
                threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
                os._exit(0)
            os.waitpid(pid, 0)
        """
    )
    _, children = family(training)
    assert len(children) == 5
    for child in children:
        assert Counter(child.points) == Counter((f"t{n}", i, float(i)) for n in range(8) for i in range(20))


def test_child_holds_nothing_of_its_parent(training: Training) -> None:
    training.run(
        """
        import os
        for i in range(5): run.log({"x": 1.0}, i)
        folder, held = str(run._journal.folder), run._rows.by_length[1]
        def open_files():
            links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
            return [name for name in links if folder in name] + [line for line in open("/proc/self/maps") if folder in line]
        assert open_files()
        if not os.fork():
            assert not open_files(), open_files()
            held({"x": 9.0}, 9)  # a function of the parent's journal that somebody kept
            os._exit(0)
        assert os.wait()[1] == 0
        run.log({"x": 2.0}, 5)
        """
    )
    parent, children = family(training)
    assert parent.values() == [1.0] * 5 + [2.0] and not children


def test_handler_that_logs_while_a_child_makes_its_journal(training: Training) -> None:
    training.run(
        """
        import os, signal
        import trainledger.active_run as active_run
        create = active_run.JournalWriter.create
        def create_cut_off(*arguments, **named):
            journal = create(*arguments, **named)
            active_run.JournalWriter.create = create
            signal.raise_signal(signal.SIGUSR1)
            return journal
        signal.signal(signal.SIGUSR1, lambda *_: run.log({"x": 5.0}, 5))
        if not os.fork():
            active_run.JournalWriter.create = create_cut_off
            run.log({"x": 6.0}, 6)
            os._exit(0)
        os.wait()
        """
    )
    _, (child,) = family(training)
    assert child.values() == [5.0, 6.0]


def test_preexec_fn_that_logs(training: Training) -> None:
    training.run(
        """
        import subprocess, sys
        run.log({"x": 1.0})
        subprocess.run([sys.executable, "-c", "pass"], preexec_fn=lambda: run.log({"x": 2.0}), check=True)
        run.log({"x": 3.0})
        """
    )
    parent, (child,) = family(training)
    assert (parent.values(), child.values(), child.parent) == ([1.0, 3.0], [2.0], parent.id)


def test_grandchildren_name_the_nearest_that_wrote(training: Training) -> None:
    training.run(
        """
        import os
        def fork(work):
            if not (pid := os.fork()):
                work()
                os._exit(0)
            os.waitpid(pid, 0)
        def writes_and_forks():
            run.log({"x": 1.0})
            fork(lambda: run.log({"x": 2.0}))
        fork(writes_and_forks)
        fork(lambda: fork(lambda: run.log({"x": 3.0})))
        """
    )
    parent, children = family(training)
    by_value = {child.values()[0]: child for child in children}
    assert by_value[1.0].parent == parent.id and by_value[2.0].parent == by_value[1.0].id
    assert by_value[3.0].parent == parent.id


def test_init_in_a_forked_child_joins_and_leaves_the_parent_alone(training: Training) -> None:
    done = training.run(
        """
        import os
        run = trainledger.init(config={"a": 1})
        if not os.fork():
            child = trainledger.init()
            assert child is not run and child.id == run.id
            child.log({"x": 2.0})
            child.finish()
            assert os.environ["TRAINLEDGER_RUN_ID"] == run.id
            os._exit(0)
        assert os.wait()[1] == 0
        run.log({"x": 1.0})
        """
    )
    parent, (child,) = family(training)
    assert (parent.values(), child.values(), child.parent) == ([1.0], [2.0], parent.id)
    assert parent.exit is not None and parent.exit["cause"] == "exit"
    assert "again" not in done.stderr


INIT = "import sys, trainledger; trainledger.init(**eval(sys.argv[1])).log({'x': 2.0})"


@pytest.mark.parametrize(
    ("parent_arguments", "child_arguments", "joins"),
    [
        ("", "dict()", True),
        ("name='a', group='g'", "dict(name='a', group='g')", True),
        ("name='a'", "dict()", True),
        ("name='a'", "dict(project='p', experiment='e', team='t')", True),
        ("name='a'", "dict(name='b')", False),
        ("", "dict(group='g')", False),
    ],
)
def test_subprocess_joins_unless_it_asks_for_another_run(
    training: Training, parent_arguments: str, child_arguments: str, joins: bool
) -> None:
    training.run(
        f"""
        import subprocess, sys
        run = trainledger.init({parent_arguments})
        subprocess.run([sys.executable, "-c", {INIT!r}, {child_arguments!r}], check=True)
        run.log({{"x": 1.0}})
        """
    )
    first, second = training.read()
    assert (first.values(), second.values()) == ([1.0], [2.0])
    if joins:
        family(training)
        assert second.parent == first.id
    else:
        assert second.run_id != first.run_id and second.parent is None
        assert (second.started["joined"], second.started["parent_run"]) == ("new", first.run_id)


def test_spawned_worker_joins(training: Training) -> None:
    (training.folder / "worker.py").write_text(
        "import trainledger\ndef work():\n    trainledger.init().log({'x': 2.0})\n"
    )
    training.run(
        """
        import multiprocessing
        import worker
        if __name__ == "__main__":
            run = trainledger.init(project="p")
            process = multiprocessing.get_context("spawn").Process(target=worker.work)
            process.start(); process.join()
            assert process.exitcode == 0
        """
    )
    parent, (child,) = family(training)
    assert child.values() == [2.0] and child.parent == parent.id


def test_subprocess_that_resumes(training: Training) -> None:
    training.run(
        f"""
        import subprocess, sys
        other = trainledger.init(); other.finish()
        run = trainledger.init()
        for resume in (run.id, other.id, "auto", "must"):
            subprocess.run([sys.executable, "-c", {INIT!r}, repr(dict(resume=resume, name="n"))], check=True)
        """
    )
    other, run, same, earlier, auto, must = training.read()
    assert (same.run_id, same.started["joined"], same.parent) == (run.run_id, "parent", run.id)
    assert (earlier.run_id, earlier.started["joined"]) == (other.run_id, "resume")
    assert earlier.started["parent_run"] == run.run_id and earlier.parent is None
    assert {(journal.run_id, journal.started["joined"]) for journal in (auto, must)} == {
        (run.run_id, "parent")
    }


def test_resume_must_without_a_run_is_an_error(training: Training) -> None:
    done = training.run_until(1, "trainledger.init(resume='must')")
    assert "ValueError: resume='must'" in done.stderr and "TRAINLEDGER_RUN_ID" in done.stderr
    assert not training.read()
    training.run("trainledger.init(resume='auto').log({'x': 1.0})")
    assert training.only().started["joined"] == "new"


def test_job_that_its_scheduler_starts_again_resumes(training: Training) -> None:
    job = {"SLURM_JOB_ID": "77", "SLURM_CLUSTER_NAME": "c"}
    for restart in ("0", "1"):
        training.run("trainledger.init(resume='auto')", SLURM_RESTART_COUNT=restart, **job)
    training.run("trainledger.init(resume='must')", SLURM_JOB_ID="78", SLURM_CLUSTER_NAME="c")
    training.run("trainledger.init()", **job)
    first, again, other, new = training.read()
    assert first.run_id == again.run_id and again.started["joined"] == "resume"
    assert again.started["restart_hint"] == 1
    assert len({first.run_id, other.run_id, new.run_id}) == 3


def test_run_that_was_told_by_hand(training: Training) -> None:
    for told in ("nightly 7", "nightly 7", "12345678-1234-1234-1234-123456789abc"):
        training.run("run.log({'x': 1.0})", TRAINLEDGER_RUN_ID=told)
    one, two, three = training.read()
    assert one.run_id == two.run_id and three.run_id == "12345678-1234-1234-1234-123456789abc"
    assert {journal.started["joined"] for journal in (one, two, three)} == {"environment"}


def test_first_init_under_the_wrapper_joins_and_later_ones_are_new(training: Training) -> None:
    run_id, wrapper = id_text(b"w" * 16), id_text(b"j" * 16)
    training.run(
        f"""
        import os, subprocess, sys
        run = trainledger.init(name="one")
        subprocess.run([sys.executable, "-c", {INIT!r}, "dict()"], check=True)
        run.finish()
        assert os.environ["TRAINLEDGER_WRAPPED"] == "1"
        trainledger.init(name="two")
        """,
        TRAINLEDGER_RUN_ID=run_id,
        TRAINLEDGER_PARENT=f"1:{wrapper}",
        TRAINLEDGER_WRAPPED="1",
    )
    first, child, second = training.read()
    assert (first.run_id, first.parent, first.started["joined"]) == (run_id, wrapper, "wrapper")
    assert (child.run_id, child.parent, child.started["joined"]) == (run_id, first.id, "parent")
    assert (second.started["joined"], second.started["parent_run"], second.parent) == ("new", run_id, None)


@pytest.mark.parametrize(
    "told", ["", ":", "x:y", "12", "12:nope", "99999999999999999999:" + id_text(b"j" * 16)]
)
def test_nonsense_in_the_variables_does_no_harm(training: Training, told: str) -> None:
    training.run("run.log({'x': 1.0})", TRAINLEDGER_RUN_ID=id_text(b"r" * 16), TRAINLEDGER_PARENT=told)
    assert training.only().run_id == id_text(b"r" * 16)


def ranks(training: Training, size: int, **environment: str) -> list[Journal]:
    """Start the ranks of one launch from this process, and read their journals."""
    body = "run = trainledger.init()\nrun.log({'x': 1.0})\nrun.finish()\ntrainledger.init().log({'x': 2.0})"
    processes = [
        training.start(body, RANK=str(n), LOCAL_RANK=str(n), WORLD_SIZE=str(size), **environment)
        for n in range(size)
    ]
    for process in processes:
        assert process.communicate(timeout=60)[1].count("Traceback") == 0 and process.returncode == 0
    return training.read()


def test_ranks_of_one_launch_find_one_run_and_the_next_launch_another(training: Training) -> None:
    """As torchrun starts them by default: its id is the word `none`, the master is always the same."""
    torchrun = {
        "TORCHELASTIC_RUN_ID": "none",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500",
        "LOCAL_WORLD_SIZE": "2",
    }
    journals = ranks(training, 2, **torchrun)
    first = {journal.run_id for journal in journals if journal.values() == [1.0]}
    second = {journal.run_id for journal in journals if journal.values() == [2.0]}
    assert len(first) == len(second) == 1 and first != second
    assert {(j.started["rank"], j.started["world_size"], j.started["launcher"]) for j in journals} == {
        (0, 2, "torchrun"),
        (1, 2, "torchrun"),
    }
    # Another launcher process, so another launch, although every variable is the same.
    nested = Training(training.folder / "nested")
    nested.folder.mkdir()
    nested.run(
        f"""
        import os, subprocess, sys  # without init()
        for rank in "01":
            subprocess.run([sys.executable, "-c", {INIT!r}, "dict()"], env=os.environ | dict(RANK=rank), check=True)
        """,
        LOCAL_RANK="0",
        WORLD_SIZE="2",
        **torchrun,
    )
    other = {journal.run_id for journal in nested.read()}
    assert len(other) == 1 and not other & first
