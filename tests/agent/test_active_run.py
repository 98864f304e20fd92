"""Runs as people make and end them, in processes of their own, read back with the agent's reader."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from support.polling import poll_until
from support.training import Training, user_folder

SECRET = "hf_" + "a" * 30


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


# Script, exit status, and how the journal says that it ended: status, cause, code, signal.
ENDS: dict[str, tuple[str, int, tuple[Any, ...] | None]] = {
    "end of the script": ("", 0, ("finished", "exit", None, None)),
    "exception": ("raise ValueError('boom')", 1, ("failed", "exception", None, None)),
    "sys.exit(3)": ("import sys; sys.exit(3)", 3, ("finished", "exit", None, None)),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", -2, ("killed", "exception", None, 2)),
    "SIGINT": (
        "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
        -2,
        ("killed", "exception", None, 2),
    ),
    "SIGTERM": ("import os, time; os.kill(os.getpid(), 15); time.sleep(9)", -15, None),
    "os._exit": ("import os; os._exit(4)", 4, None),
    "finish": ("run.finish()", 0, ("finished", "finish", None, None)),
    "finish failed": ("run.finish('failed')", 0, ("failed", "finish", None, None)),
    "finish killed": ("run.finish(status='killed')", 0, ("killed", "finish", None, None)),
    "finish with nonsense": ("run.finish('great')", 0, ("failed", "finish", None, None)),
    "finish and an exception": (
        "run.finish(); raise ValueError('boom')",
        1,
        ("finished", "finish", None, None),
    ),
    "finish twice": ("run.finish(); run.finish('failed')", 0, ("finished", "finish", None, None)),
    "module's finish": ("trainledger.finish('failed')", 0, ("failed", "finish", None, None)),
    "with": ("with run: pass", 0, ("finished", "finish", None, None)),
    "with an exception": ("with run: raise ValueError('boom')", 1, ("failed", "exception", None, None)),
    "with sys.exit(3)": ("import sys\nwith run: sys.exit(3)", 3, ("failed", "exception", 3, None)),
    "with sys.exit(0)": ("import sys\nwith run: sys.exit(0)", 0, ("finished", "finish", 0, None)),
    "with sys.exit(text)": ("import sys\nwith run: sys.exit('no')", 1, ("failed", "exception", 1, None)),
    "exception that cannot be shown": (
        "class E(Exception):\n    def __str__(self): raise OSError\nraise E",
        1,
        ("failed", "exception", None, None),
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_journal_says_how_the_run_ended(training: Training, name: str) -> None:
    body, code, expected = ENDS[name]
    done = training.run_until(code, f"run.log({{'x': 1.0}})\n{body}")
    journal = training.only()
    assert journal.values() == [1.0] and journal.is_sound()
    end = journal.exit
    found = None if end is None else (end["status"], end["cause"], end["exit_code"], end["signal"])
    assert found == expected
    if "exception" in name and "finish" not in name and "shown" not in name:
        assert end is not None and end["message"].endswith("ValueError: boom")
        assert "Traceback" in done.stderr and "in <module>" in end["message"]
    if name == "sys.exit(3)":
        assert end is not None and end["message"] == "exit status not visible"
    assert end is None or end["cpu_us"] > 0


def test_traceback_is_redacted_bounded_and_its_end_is_kept(training: Training) -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\\n" + "MIIE\\n" * 60 + "-----END RSA PRIVATE KEY-----"
    training.run_until(1, f"raise ValueError('token={SECRET} {key} ' + 'é\\1' * 100_000 + ' the end')")
    end = training.only().exit
    assert end is not None and end["message"].endswith("the end")
    assert SECRET not in end["message"] and len(end["message"].encode()) <= 7000


def test_private_key_of_many_lines_does_not_leave_its_tail(training: Training) -> None:
    lines = "MIIEowIBAAKCAQEA\\n" * 60
    training.run_until(
        1, f"raise ValueError('-----BEGIN RSA PRIVATE KEY-----\\n{lines}-----END RSA PRIVATE KEY-----')"
    )
    end = training.only().exit
    assert end is not None and "MIIE" not in end["message"] and "[redacted]" in end["message"]


def test_excepthook_of_others_is_called_too(training: Training) -> None:
    done = training.run_until(
        1,
        """
        import sys
        sys.excepthook = lambda *about: print("mine", about[0].__name__)
        trainledger.init()
        1 / 0
        """,
    )
    assert done.stdout == "mine ZeroDivisionError\n"
    end = training.only().exit
    assert end is not None and end["message"].endswith("ZeroDivisionError: division by zero")


def test_two_runs_one_after_the_other(training: Training) -> None:
    done = training.run(
        """
        import os
        ids = []
        for name in ("one", "two"):
            run = trainledger.init(name=name)
            assert trainledger.run is run and os.environ["TRAINLEDGER_RUN_ID"] == run.id
            trainledger.log({"x": 1.0})
            run.finish()
            assert trainledger.run is None and "TRAINLEDGER_RUN_ID" not in os.environ
            ids.append(run.id)
        assert len(set(ids)) == 2
        """
    )
    journals = training.read()
    assert [journal.started["name"] for journal in journals] == ["one", "two"]
    assert [journal.started["joined"] for journal in journals] == ["new", "new"]
    assert all(journal.parent is None and journal.started["parent_run"] is None for journal in journals)
    assert "again" not in done.stderr


def test_init_twice_ends_the_first_with_a_notice(training: Training) -> None:
    done = training.run(
        "first = trainledger.init()\ntrainledger.init()\nfirst.log({'x': 1.0})\ntrainledger.log({'x': 2.0})"
    )
    first, second = training.read()
    assert first.exit is not None and first.exit["cause"] == "finish" and first.run_id != second.run_id
    assert (first.values(), second.values()) == ([], [2.0])
    assert done.stderr.count("init was called again") == 1
    assert done.stderr.count("log() after finish()") == 1


def test_log_without_a_run_is_told_once(training: Training) -> None:
    done = training.run(
        "for _ in range(9): trainledger.log({'x': 1})\ntrainledger.finish()\nassert trainledger.run is None\n# init("
    )
    assert done.stderr.count("call trainledger.init() first") == 1 and done.stderr.count("\n") == 1


def test_disabled_records_nothing_and_creates_nothing(training: Training) -> None:
    done = training.run(
        """
        run = trainledger.init(mode="disabled", config={"a": 1})
        run.log({"x": 1.0}); run.config["b"] = 2; run.summary["c"] = 3; run.define_metric("x", goal="min")
        assert dict(run.config) == {"a": 1, "b": 2} and run.cost() is None
        run.finish(); run.log({"x": 1.0})
        """,
        XDG_STATE_HOME=str(training.folder / "state"),
    )
    assert not training.journals.exists() and not (training.folder / "state").exists()
    assert "log() after finish()" in done.stderr
    assert training.run("trainledger.init().log({'x': 1})", TRAINLEDGER_MODE="disabled").stderr == ""


def test_unknown_keyword_is_one_warning_with_the_nearest_name(training: Training) -> None:
    done = training.run("trainledger.init(projekt='p', colour='red')")
    assert "no argument 'projekt'; did you mean 'project'?" in done.stderr
    assert "no argument 'colour'" in done.stderr


@pytest.mark.parametrize("module_level", [False, True])
def test_log_called_wrongly_is_told_once_and_the_rest_is_recorded(
    training: Training, module_level: bool
) -> None:
    done = training.run(
        """
        for _ in range(5):
            log({"x": 1.0}, stp=3); log({"x": 2.0}, 7, True); log({"x": 3.0}, step=8, commit=False)
            log(loss=0.5); log()
        """.replace("log(", "trainledger.log(" if module_level else "run.log(")
    )
    journal = training.only()
    assert journal.values() == [1.0, 2.0, 3.0] * 5
    assert {(step, value) for _, step, value in journal.points if value > 1} == {(7, 2.0), (8, 3.0)}
    told = (
        "log() has no argument 'stp'; did you mean 'step'?\n",
        "log() takes a dict and a step; what follows them is ignored\n",
        "log() has no argument 'commit'; it is ignored\n",
        "log() has no argument 'loss': give a dict, log({'loss': ...})\n",
        "log() takes a dict of numbers, not a NoneType\n",
    )
    assert [done.stderr.count(line) for line in told] == [1] * len(told), done.stderr


def test_parameters_and_summary_are_set_and_read_as_attributes_too(training: Training) -> None:
    training.run(
        """
        import copy
        run = trainledger.init(config={"lr": 1.0, "model": {"depth": 2}})
        run.config.lr = 3; run.config.width = 64; run.summary.best = 0.5; run.config._note = "n"
        assert (run.config.lr, run.config["width"], run.config.model, run.config._note) == (3, 64, {"depth": 2}, "n")
        assert "lr" in run.config and dict(run.summary) == {"best": 0.5}
        try: run.config.widht
        except AttributeError as error: assert "did you mean 'width'" in str(error), error
        else: raise SystemExit(5)
        assert not hasattr(run.config, "items_") and not hasattr(run.config, "__deepcopy__")
        del run.config.width; assert "width" not in run.config
        """
    )
    journal = training.only()
    assert {key: entry["value"] for key, entry in journal.settings().items()} == {
        "lr": "3",
        "width": "64",
        "model/depth": "2",
        "_note": "n",
    }
    assert journal.summary()["best"]["number"] == 0.5


def test_wrong_arguments_raise_and_change_nothing(training: Training) -> None:
    done = training.run(
        """
        import json
        run = trainledger.init()
        wrong = [
            dict(config=[1]), dict(config="a"), dict(config=5), dict(mode="online"), dict(mode=1), dict(tags=5),
            dict(resume="yesterday"), dict(resume=7), dict(project=["p"]), dict(name={"a": 1}), dict(group=b"g"),
        ]
        raised = []
        for arguments in wrong:
            try:
                trainledger.init(**arguments)
            except (TypeError, ValueError) as error:
                raised.append(f"{type(error).__name__}: {error}")
        assert trainledger.run is run
        print(json.dumps(raised))
        """
    )
    raised = json.loads(done.stdout)
    assert len(raised) == 11
    assert "vars(args)" in raised[0] and "'on' nor 'disabled'" in raised[3] and "trainledger ls" in raised[6]
    assert len(training.read()) == 1


def test_identity_comes_from_arguments_then_variables_then_the_folder(training: Training) -> None:
    environment = {"TRAINLEDGER_PROJECT": "of env", "TRAINLEDGER_TEAM": "blue", "TRAINLEDGER_TAGS": "a, b"}
    environment["TRAINLEDGER_GROUP"] = "sweep"
    training.run("trainledger.init(project='p', name=7, group='g', tags={'k': 1})", **environment)
    training.run("trainledger.init()", **environment)
    training.run("trainledger.init()")
    told, from_env, default = (journal.started for journal in training.read())
    assert (told["project"], told["team"], told["name"], told["group"]) == ("p", "blue", "7", "g")
    assert (from_env["group"], default["group"]) == ("sweep", None)
    assert (told["tags"], from_env["tags"], default["tags"]) == (["k=1"], ["a", "b"], [])
    assert (from_env["project"], default["project"]) == ("of env", training.folder.name)
    assert default["role"] == "sdk" and default["pid"] > 1 and default["launcher"] == "single"


def test_parameters_nested_changed_and_of_every_kind(training: Training) -> None:
    training.run(
        """
        import math, argparse
        class Nasty:
            def __repr__(self): raise OSError
            def __float__(self): raise OSError
        run = trainledger.init(config={"opt": {"lr": 0.1, "name": "sgd"}, 3: True, "nan": math.nan, "api_key": "abc"})
        run.config["opt"] = {"lr": 0.2}
        run.config["nasty"] = Nasty()
        run.config[5] = [1, 2]
        run.config.update({"a": 1, "b": {"c": None}}, d="text")
        run.config.setdefault("a", 9)
        assert run.config["a"] == 1 and run.config["opt"] == {"lr": 0.2} and len(run.config) == 9
        assert run.config["3"] is True and run.config["5"] == [1, 2]
        run.summary["best"] = {"acc": 0.9, "bad": -math.inf}
        run.define_metric("acc", goal="max"); run.define_metric("loss", goal="low")
        """
    )
    journal = training.only()
    found = {key: (entry["value"], entry.get("number")) for key, entry in journal.settings().items()}
    assert found == {
        "opt/lr": ("0.2", 0.2),
        "opt/name": ("sgd", None),
        "3": ("true", 1.0),
        "nan": ("NaN", None),
        "api_key": ("[redacted]", None),
        "nasty": ("<Nasty>", None),
        "5": ("[1, 2]", None),
        "a": ("1", 1.0),
        "b/c": ("null", None),
        "d": ("text", None),
    }
    assert len(journal.claims_of("params_changed")) == 4, "an update is one record"
    assert journal.summary()["best/bad"] == {"key": "best/bad", "value": "-Infinity"}
    assert [(c["key"], c["goal"]) for c in journal.claims_of("metric_defined")] == [
        ("acc", "max"),
        ("loss", None),
    ]


def test_parameters_beyond_one_record_are_split(training: Training) -> None:
    training.run(
        """
        config = {f"k{i}": "é" * 200 for i in range(3000)}
        run = trainledger.init(config=config | {"long": "\\1" * 50_000, "longer": "\\U0001f600" * 50_000}, tags=["t" * 900] * 500)
        run.config.update({f"m{i}": "x" * 1000 for i in range(1000)})
        run.log({"x": 1.0})
        """,
        *(["é" * 5000] * 100),
    )
    journal = training.only()
    assert len(journal.settings()) == 4002 and journal.values() == [1.0] and journal.is_sound()
    assert journal.settings()["k2999"]["value"] == "é" * 200
    assert len(journal.started["tags"]) == 100


def test_secrets_in_the_command_line_are_not_written(training: Training) -> None:
    arguments = ["--api-key", "plain1", "--hf_token=plain2", "password=plain3", SECRET, "--lr", "0.1"]
    training.run("run.log({'x': 1.0})", *arguments)
    text = (next(training.only().folder.glob("*.tlj"))).read_bytes()
    assert b"plain" not in text and SECRET.encode() not in text
    assert training.only().started["argv"][-2:] == ["--lr", "0.1"]


def test_no_folder_can_be_written(training: Training) -> None:
    (training.folder / "file").write_text("")
    done = training.run(
        "run.log({'x': 1.0}); run.config['a'] = 1; run.finish(); print('alive')",
        TRAINLEDGER_DIR=str(training.folder / "file"),
        XDG_STATE_HOME=str(training.folder / "file"),
    )
    assert done.stdout == "alive\n"
    assert str(training.folder / "file") in done.stderr and "nothing is recorded" in done.stderr


def test_next_place_is_taken_where_the_first_is_full(training: Training) -> None:
    """A folder that can be made, and a journal that cannot: no room, here by a file system that has no more files."""
    from support.training import read_journals, small_disk

    if os.geteuid():
        pytest.skip("mounts a small disk, for which one must be root")
    with small_disk(training.journals, "64k"):
        done = training.run("run.log({'x': 1.0})")
    (journal,) = read_journals(training.folder / "state" / "trainledger" / "journals")
    assert journal.values() == [1.0]
    assert "No space left" in done.stderr and str(training.journals) in done.stderr


@pytest.mark.parametrize("trouble", ["cwd is gone", "no home", "stderr is closed", "strange stderr"])
def test_strange_surroundings_do_not_stop_init(training: Training, trouble: str) -> None:
    body = {
        "cwd is gone": "import os, tempfile; os.chdir(d := tempfile.mkdtemp()); os.rmdir(d)",
        "no home": "import encodings.ascii, os; os.environ.pop('HOME', None); os.environ.pop('XDG_STATE_HOME', None); os.setuid(54321)",
        "stderr is closed": "import os; os.close(2)",
        "strange stderr": "import sys\nclass S:\n    def write(self, text): 1 / 0\n    def flush(self): pass\nsys.stderr = S()",
    }[trouble]
    if trouble == "no home":
        if os.geteuid():
            pytest.skip("takes another user's id, for which one must be root")
        training.journals.mkdir()
        training.journals.chmod(0o1777)
        for folder in (training.folder, *training.folder.parents):
            if folder.name.startswith(("pytest-", "popen-", "test_")) or folder == training.folder:
                folder.chmod(0o755)
    training.run(
        f"{body}\nrun = trainledger.init()\nrun.log({{'x': None, 'y': object()}})\nrun.log({{'x': 1.0}})",
        TRAINLEDGER_CAPTURE="on" if trouble == "cwd is gone" else "off",
    )
    if trouble == "no home":
        assert list((training.journals / "54321").iterdir())
    else:
        assert training.read()[0].values() == [1.0]


def test_finish_waits_for_the_agent_where_it_is_told_to(training: Training) -> None:
    process = training.start(
        "run.log({'x': 1.0})\nprint(run._journal.folder, flush=True)\nrun.finish()\nprint('done', flush=True)",
        TRAINLEDGER_FINISH_WAIT_S="60",
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    while b"run_exited" not in (segment := next(folder.glob("*.tlj"))).read_bytes():
        assert process.poll() is None
    assert process.poll() is None
    segment.unlink()
    assert process.communicate(timeout=30)[0] == "done\n"


def test_finish_by_a_handler_in_the_middle_of_finish(training: Training) -> None:
    training.run(
        """
        import signal
        run.log({"x": 1.0})
        close = type(run._journal).close
        def close_cut_off(journal):
            signal.raise_signal(signal.SIGUSR1)
            close(journal)
        signal.signal(signal.SIGUSR1, lambda *_: run.finish("killed"))
        type(run._journal).close = lambda journal: (setattr(type(journal), "close", close), close_cut_off(journal))
        run.finish()
        print("alive")
        """
    )
    journal = training.read()[0]
    assert [claim["status"] for claim in journal.claims_of("run_exited")] == ["finished", "killed"]


def test_row_of_new_keys_in_the_middle_of_finish_harms_no_shape(training: Training) -> None:
    training.run(
        """
        for i in range(5): run.log({"x": 1.0}, i)
        journal = type(run._journal)
        append_claim = journal.append_claim
        def append_claim_cut_off(self, claim):
            for i in range(4): run.log({"y": 2.0}, i)
            return append_claim(self, claim)
        journal.append_claim = append_claim_cut_off
        run.finish()
        """
    )
    journal = training.only()
    assert journal.is_sound() and (journal.values("x"), journal.values("y")) == ([1.0] * 5, [2.0] * 4)


def test_threads_that_log_while_the_run_ends_harm_no_shape(training: Training) -> None:
    training.run(
        """
        import sys, threading
        sys.setswitchinterval(1e-6)
        def work(n):
            for i in range(20_000): run.log({f"{n}-{i % 7}": 1.0, f"x{n}": float(i)}, i)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads: thread.start()
        import time; time.sleep(0.05)
        run.finish()
        for thread in threads: thread.join()
        """
    )
    journal = training.only()
    assert journal.is_sound() and journal.points
    assert journal.exit is not None
    for n in range(4):
        values = journal.values(f"x{n}")
        assert values == [float(i) for i in range(len(values))]


def test_drops_are_told_once_and_at_the_end(training: Training) -> None:
    training.prelude = "import trainledger.journal as j\nj.FIRST_SEGMENT_BYTES = 1\n"
    done = training.run(
        """
        (run._journal.folder / "unread").write_bytes(bytes(2 << 20))
        for i in range(40_000): run.log({"x": float(i), "n": None}, i)
        for i in range(40_000): run.log({"x": float(i)}, i)
        run.finish()
        """,
        TRAINLEDGER_BUDGET_MIB="1",
    )
    journal = training.only()
    (gap,) = journal.gaps
    assert len(journal.points) + gap["points"] == 80_000 and gap["points"]
    assert done.stderr.count("dropped and counted") == 1
    assert f"{gap['points']} values in {gap['rows']} rows were dropped" in done.stderr
    assert "40000 None values" in done.stderr
    assert journal.exit is not None


def test_a_killed_process_leaves_what_log_returned_from(training: Training) -> None:
    process = training.start(
        "i = 0\nwhile True:\n    run.log({'x': float(i)}, i); i += 1\n    if not i % 1000: print(i, flush=True)"
    )
    assert process.stdout is not None
    for _ in range(5):
        returned = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    journal = training.only()
    values = journal.values()
    assert len(values) >= returned and values == [float(i) for i in range(len(values))]
    assert not journal.lost and journal.exit is None


@pytest.mark.parametrize("chld", ["SIG_DFL", "SIG_IGN"])
def test_capture_describes_the_run_and_is_no_child_of_the_training(training: Training, chld: str) -> None:
    training.run(
        f"""
        import os, signal
        signal.signal(signal.SIGCHLD, signal.{chld})
        run = trainledger.init()
        children = open(f"/proc/self/task/{{os.getpid()}}/children").read()
        assert not children, children
        run.log({{"x": 1.0}})
        """,
        TRAINLEDGER_CAPTURE="on",
    )

    def described() -> bool:
        return any(journal.claims_of("provenance") for journal in training.read())

    poll_until(described, deadline_s=60)
    run, capture = sorted(training.read(), key=lambda journal: len(journal.claims_of("provenance")))
    assert capture.parent == run.id and capture.run_id == run.run_id and run.values() == [1.0]
    assert capture.claims[0]["python"].startswith(f"{sys.version.split()[0]} CPython")
    assert capture.claims[0]["argv"][-1].endswith("script1.py")


def test_import_loads_little_and_starts_nothing(training: Training) -> None:
    done = training.run(
        """
        import json, sys, threading  # without init()
        before = json.loads(sys.argv[1])
        print(json.dumps([sorted(set(sys.modules) - set(before)), threading.active_count()]))
        """,
        json.dumps([]),
    )
    modules, threads = json.loads(done.stdout)
    assert threads == 1
    assert {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) <= {
        "__main__",
        "trainledger",
        "trainledger_schemas",
        "_distutils_hack",
        "_virtualenv",
        "sitecustomize",
    } | {name for name in modules if name.startswith("__editable__")}
    heavy = {
        "dataclasses",
        "inspect",
        "uuid",
        "platform",
        "hashlib",
        "traceback",
        "socket",
        "subprocess",
        "asyncio",
    }
    heavy |= {
        "signal",
        "logging",
        "multiprocessing",
        "concurrent",
        "ssl",
        "numpy",
        "fastavro",
        "typing_extensions",
    }
    assert heavy.isdisjoint(modules)
    assert not user_folder(training.journals).exists()
