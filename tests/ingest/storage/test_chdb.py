"""What the embedded store promises about its folder and its process; each case is a process of its own."""

import os
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

PRELUDE = """
import os, signal, sys, threading, time
from pathlib import Path
import pyarrow as pa
from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_schemas.errors import FatalStoreError, HomeLockedError, TrainledgerError
folder = Path(sys.argv[1])
def opened():
    return ChdbStore.open(folder, database="trainledger", memory_bytes_max=1 << 30)
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
    out, err = start(folder, script, cwd=cwd).communicate(timeout=60)
    assert err == ""
    return out.split("\n")[:-1]


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
    writer = start(
        tmp_path,
        """
        s = opened()
        s.command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        for n in range(10_000):
            s.insert("t", step(n)); print(n, flush=True)
        """,
    )
    acknowledged = [int(first_line(writer)) for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate()
    acknowledged += [int(word) for word in rest.split()]

    (line,) = run(
        tmp_path, "s = opened(); print(s.rows('SELECT count() AS n, max(a) AS m FROM t')[0]); s.close()"
    )

    counted = len(acknowledged)
    assert line in {f"{{'n': {n}, 'm': {n - 1}}}" for n in (counted, counted + 1)}


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
        while len(s.rows("SELECT 1 FROM system.processes WHERE query LIKE '%sum(number)%numbers(%'")) < 3: pass
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
