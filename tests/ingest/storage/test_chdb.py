"""What the embedded store promises about its folder and its process; each case is a process of its own."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from support.engine import fresh_database, shared_engine
from trainledger_ingest.storage.chdb_config import write_engine_config
from trainledger_schemas.errors import FatalStoreError, HomeLockedError

BATCH_ROWS = 2_000
PRELUDE = """
import os, signal, sys, threading, time
from pathlib import Path
import pyarrow as pa
from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_schemas.errors import FatalStoreError, HomeLockedError, TrainledgerError
folder = Path(sys.argv[1])
def opened():
    return ChdbStore.open(folder, database="trainledger", memory_bytes_max=1 << 30)
def acknowledge(number):
    # One append to a file: a pipe's reader may have lines in its buffer that nobody gets after a kill.
    with open(folder.parent / "acknowledged", "ab", buffering=0) as file:
        file.write(b"%d\\n" % number)
def step(*numbers):
    return pa.table({"a": pa.array(numbers, pa.int64())})
"""


def start(folder: Path, script: str, *, cwd: Path | None = None) -> "subprocess.Popen[str]":
    text = PRELUDE + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text, str(folder)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, script: str, *, cwd: Path | None = None) -> list[str]:
    process = start(folder, script, cwd=cwd)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()  # one that hangs must not go on beside the tests after it
        process.wait()
    assert err == ""
    return out.split("\n")[:-1]


def acknowledged_by(folder: Path) -> list[int]:
    path = folder.parent / "acknowledged"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_for_acknowledgements(folder: Path, process: "subprocess.Popen[str]", count: int) -> None:
    deadline = time.monotonic() + 30
    while len(acknowledged_by(folder)) < count:
        assert process.poll() is None and time.monotonic() < deadline, "the writer did not get so far"
        time.sleep(0.005)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_folder_in_use_names_the_process_that_has_it(tmp_path: Path) -> None:
    owner = start(tmp_path, "s = opened(); print('open', flush=True); time.sleep(60)")
    try:
        assert first_line(owner) == "open"
        lines = run(
            tmp_path,
            """
            try:
                opened()
            except HomeLockedError as error:
                print(error.pid); print(error)
            """,
        )
    finally:
        owner.kill()
        owner.communicate()

    assert lines[0] == str(owner.pid)
    assert f"process {owner.pid}" in lines[1]


def test_after_a_kill_the_folder_opens_with_every_acknowledged_row(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    writer = start(
        folder,
        """
        s = opened()
        s.command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        for n in range(100_000):
            s.insert("t", step(n)); acknowledge(n)
        """,
    )
    wait_for_acknowledgements(folder, writer, 20)
    writer.kill()
    writer.communicate(timeout=20)
    counted = len(acknowledged_by(folder))

    (line,) = run(
        folder, "s = opened(); print(s.rows('SELECT count() AS n, max(a) AS m FROM t')[0]); s.close()"
    )

    assert line in {f"{{'n': {n}, 'm': {n - 1}}}" for n in (counted, counted + 1)}


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_at_any_moment_leaves_each_batch_whole_or_absent(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "engine"
    writer = start(
        folder,
        f"""
        s = opened()
        s.command("CREATE TABLE t (batch UInt32, a Int64) ENGINE = MergeTree ORDER BY (batch, a)")
        for n in range(100_000):
            rows = pa.table({{"batch": pa.array([n] * {BATCH_ROWS}, pa.uint32()),
                             "a": pa.array(range({BATCH_ROWS}), pa.int64())}})
            s.insert("t", rows); acknowledge(n)
        """,
    )
    wait_for_acknowledgements(folder, writer, 1)
    time.sleep(random.Random(seed).uniform(0.0, 0.4))  # the moment of the kill is what the seed varies
    writer.kill()
    writer.communicate(timeout=20)
    acknowledged = set(acknowledged_by(folder))

    found = run(
        folder,
        """
        s = opened()
        for row in s.rows("SELECT batch, count() AS n, uniqExact(a) AS u FROM t GROUP BY batch"):
            print(row["batch"], row["n"], row["u"])
        s.close()
        """,
    )

    batches = {int(line.split()[0]): line.split()[1:] for line in found}
    assert all(counts == [str(BATCH_ROWS)] * 2 for counts in batches.values()), f"seed {seed}: {batches}"
    assert acknowledged <= batches.keys(), f"seed {seed}: acknowledged and gone"
    assert len(batches.keys() - acknowledged) <= 1, f"seed {seed}: only the batch under way may be extra"


def test_rows_that_a_killed_insert_left_on_their_way_are_swept_at_the_next_opening(tmp_path: Path) -> None:
    run(tmp_path, "opened().close()")
    (tmp_path / "tmp" / "7.arrow").write_bytes(b"half an insert")

    assert run(tmp_path, "s = opened(); print(sorted(os.listdir(folder / 'tmp'))); s.close()") == ["[]"]


def test_a_refused_batch_leaves_nothing_behind_and_the_store_goes_on(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        s = opened()
        s.command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        try:
            s.insert("t", pa.table({"a": pa.array(["x", "y"])}))
        except TrainledgerError as error:
            print("refused")
        s.insert("t", step(1, 2, 3))
        print(s.rows("SELECT count() AS n FROM t")[0]["n"], os.listdir(folder / "tmp"))
        s.close()
        """,
    )

    assert lines == ["refused", "3 []"]


def test_a_runaway_query_of_a_user_is_stopped_while_inserts_and_queries_go_on(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        from trainledger_ingest.storage.store import UserLimits
        from trainledger_schemas.errors import UserQueryError
        s = ChdbStore.open(folder, database="trainledger", memory_bytes_max=1 << 30, limits=UserLimits(time_s=2))
        s.command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        said = []
        def runaway():
            try:
                s.user_query("SELECT sum(number) FROM numbers(100000000000000)")
            except UserQueryError as error:
                said.append(str(error))
        thread = threading.Thread(target=runaway); thread.start()
        n = 0
        while thread.is_alive():
            s.insert("t", step(n)); n += 1
            assert s.rows("SELECT count() AS n FROM t") == [{"n": n}]
        thread.join()
        print(n > 3, any(word in said[0].lower() for word in ("time", "rows", "memory")))
        print(s.user_query("SELECT 1 AS one").to_pylist())
        s.close()
        """,
    )

    assert lines == ["True True", "[{'one': 1}]"]


def test_a_subprocess_of_the_owner_does_not_keep_the_folder_locked(tmp_path: Path) -> None:
    owner = start(
        tmp_path,
        """
        import subprocess
        s = opened()
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(child.pid, flush=True)
        time.sleep(60)
        """,
    )
    child = int(first_line(owner))
    owner.kill()
    owner.communicate()
    try:
        assert run(tmp_path, "s = opened(); print('mine'); s.close()") == ["mine"]
    finally:
        os.kill(child, signal.SIGKILL)


def test_close_ends_running_queries_and_the_process_leaves_clean(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        s = opened()
        said = []
        def ask():
            try:
                s.rows("SELECT sum(number) FROM numbers(100000000000000)")
            except TrainledgerError as error:
                said.append(type(error).__name__)
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads: thread.start()
        deadline = time.monotonic() + 20
        while len(s.rows("SELECT 1 FROM system.processes WHERE query LIKE '%sum(number)%numbers(%'")) < 3:
            assert time.monotonic() < deadline, "the queries did not start"
        began = time.monotonic(); s.close(); took = time.monotonic() - began
        for thread in threads: thread.join()
        print(said, took < 5)
        s.close()
        try:
            s.rows("SELECT 1")
        except FatalStoreError as error:
            print(error)
        """,
    )

    assert lines[0] == "['RetryableStoreError', 'RetryableStoreError'] True"
    assert "closed" in lines[1]


def test_an_interrupt_ends_the_query_and_the_store_goes_on(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        """
        s = opened(); print("open", flush=True)
        try:
            s.rows("SELECT sum(number) FROM numbers(100000000000000)")
        except KeyboardInterrupt:
            print(s.rows("SELECT 7 AS n"), len(s.rows("SELECT 1 FROM system.processes")), flush=True)
        s.close()
        """,
    )
    assert first_line(process) == "open"
    time.sleep(0.5)  # the query has to be running, which nothing outside the process can see
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (out.strip(), err, process.returncode) == ("[{'n': 7}] 1", "", 0)


def test_a_process_that_forgets_to_close_ends_clean(tmp_path: Path) -> None:
    process = start(tmp_path, "s = opened(); print(s.rows('SELECT 1 AS n'))")
    out, err = process.communicate(timeout=20)

    assert (out, err, process.returncode) == ("[{'n': 1}]\n", "", 0)


def test_a_config_file_in_the_working_directory_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text("<clickhouse><timezone>Asia/Tokyo</timezone></clickhouse>")

    lines = run(
        tmp_path / "engine",
        """
        s = opened()
        print(s.rows("SELECT timezone() AS t, toString(toDateTime(0)) AS z")[0])
        print(s.rows("SELECT name, value FROM system.merge_tree_settings WHERE name IN ('old_parts_lifetime', "
                     "'fsync_after_insert', 'fsync_part_directory', 'non_replicated_deduplication_window') ORDER BY name"))
        s.close()
        """,
        cwd=tmp_path,
    )

    assert lines[0] == "{'t': 'UTC', 'z': '1970-01-01 00:00:00'}"
    assert [word for word in lines[1].split("'") if word.isdigit()] == ["1", "1", "0", "480"]


def test_a_folder_with_blanks_and_letters_of_any_script_works_and_a_quote_is_refused(tmp_path: Path) -> None:
    script = "s = opened(); s.command('CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a'); "
    script += "s.insert('t', step(5)); print(s.rows('SELECT a FROM t')); s.close()"

    assert run(tmp_path / "a b & ü#%20", script) == ["[{'a': 5}]"]

    refusal = "try:\n    opened()\nexcept FatalStoreError as error:\n    print(error)"
    (line,) = run(tmp_path / "it's", refusal)
    assert "use another" in line


def test_a_second_folder_in_one_process_is_refused(tmp_path: Path) -> None:
    engine = shared_engine()

    with pytest.raises(FatalStoreError):
        type(engine).open(tmp_path / "other", database="trainledger", memory_bytes_max=1 << 30)
    assert engine.rows("SELECT 1 AS n") == [{"n": 1}]


def test_the_same_folder_opened_twice_in_one_process_names_this_process(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        s = opened()
        try:
            opened()
        except HomeLockedError as error:
            print(error.pid == os.getpid())
        s.close()
        opened().close()
        print("again")
        """,
    )

    assert lines == ["True", "again"]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE DATABASE elsewhere",
        "CREATE TABLE x (a Int8) ENGINE = File(CSV)",
        "CREATE TABLE x (a Int8) ENGINE = URL('http://127.0.0.1:9/', CSV)",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
        "CREATE FUNCTION f AS (a) -> a",
        "CREATE USER someone",
    ],
)
def test_even_the_writer_has_no_rights_outside_the_ledger(sql: str) -> None:
    store = fresh_database()

    with pytest.raises(FatalStoreError):
        store.command(sql)


def test_the_configuration_is_private_and_names_only_our_database(tmp_path: Path) -> None:
    config = write_engine_config(
        tmp_path / "c", database="trainledger", memory_bytes_max=123_456_789, backups=tmp_path / "a&b"
    )

    assert "<max_server_memory_usage>123456789<" in config.read_text()
    assert "a&amp;b" in config.read_text()
    grants = [line for line in (config.parent / "users.xml").read_text().split("\n") if "GRANT" in line]
    assert grants
    assert all(" FILE" not in line and " URL" not in line for line in grants)
    assert os.stat(config.parent).st_mode & 0o777 == 0o700
    assert issubclass(HomeLockedError, Exception)
