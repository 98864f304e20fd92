"""User SQL: attacks are refused without effect, ordinary analysis passes, runaway queries are stopped."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.engine import fresh_database
from trainledger_ingest.access import check_user_sql
from trainledger_ingest.access_functions import is_allowed_function
from trainledger_ingest.public_views import public_view_names
from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_schemas.errors import UserQueryError

SECRET = "hush-hush"
RUN = "01234567-89ab-cdef-0123-456789abcdef"


@dataclass(frozen=True)
class Ledger:
    """A store with two tables, three views, and a folder with a secret next to it."""

    store: ChdbStore
    folder: Path

    def told(self, sql: str) -> str:
        return (
            sql.replace("SECRET_FILE", str(self.folder / "secret.txt"))
            .replace("OUT_FILE", str(self.folder / "stolen.csv"))
            .replace("DB", self.store.database)
        )


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("access")
    (folder / "secret.txt").write_text(f"{SECRET}\n")
    store = fresh_database()
    store.command(
        "CREATE TABLE run_facts (run_id UUID, team String, at DateTime64(6)) ENGINE = MergeTree ORDER BY run_id"
    )
    store.command(
        "CREATE TABLE points (run_id UUID, key LowCardinality(String), step Int64, at DateTime64(6), value Float64) "
        "ENGINE = MergeTree ORDER BY (run_id, key, step)"
    )
    store.command(f"INSERT INTO run_facts VALUES ('{RUN}', 'vision', '2026-01-02 03:04:05')")
    store.command(
        f"INSERT INTO points SELECT '{RUN}', ['loss', 'acc'][1 + number % 2], number, "
        "toDateTime64('2026-01-02 03:04:05', 6) + number, number / 10 FROM numbers(100)"
    )
    store.command(
        "CREATE VIEW runs AS SELECT run_id, 'p' AS project, team, 'alice' AS user, 'finished' AS state, "
        "at AS started_at, toDecimal128('1.5', 6) AS cost, ['a', 'b'] AS tags FROM run_facts"
    )
    store.command("CREATE VIEW metrics AS SELECT run_id, 1 AS attempt, key, step, at, value FROM points")
    store.command(
        "CREATE VIEW params AS SELECT run_id, 'lr' AS key, '0.1' AS value, 0.1 AS value_number FROM run_facts"
    )
    yield Ledger(store, folder)
    store.command(f"DROP DATABASE {store.database}")


ATTACKS = """
DROP TABLE runs
DROP VIEW runs
DROP DATABASE DB
TRUNCATE TABLE points
TRUNCATE DATABASE DB
INSERT INTO points VALUES (1)
INSERT INTO points SELECT * FROM points
INSERT INTO FUNCTION file('OUT_FILE', 'CSV', 'a Int8') VALUES (1)
INSERT INTO FUNCTION null('a Int8') SELECT 1
ALTER TABLE points DELETE WHERE 1
ALTER TABLE points UPDATE value = 0 WHERE 1
ALTER TABLE points DROP COLUMN value
DELETE FROM points WHERE 1
UPDATE points SET value = 0 WHERE 1
RENAME TABLE points TO gone
EXCHANGE TABLES points AND run_facts
CREATE TABLE x (a Int8) ENGINE = Memory
CREATE TEMPORARY TABLE x (a Int8)
CREATE VIEW x AS SELECT 1
CREATE MATERIALIZED VIEW x ENGINE = Memory AS SELECT 1
CREATE FUNCTION x AS (a) -> a
CREATE DATABASE DB_x
CREATE USER x
CREATE NAMED COLLECTION x AS a = 1
CREATE DICTIONARY x (a Int8) PRIMARY KEY a SOURCE(FILE(path 'SECRET_FILE' format 'LineAsString')) LAYOUT(FLAT()) LIFETIME(0)
ATTACH DATABASE z ENGINE = Lazy(5)
ATTACH TABLE z FROM 'OUT_FILE' (a Int8) ENGINE = MergeTree ORDER BY a
DETACH TABLE points
OPTIMIZE TABLE points FINAL
SYSTEM SHUTDOWN
SYSTEM STOP MERGES
SYSTEM FLUSH LOGS
KILL QUERY WHERE 1
KILL MUTATION WHERE 1
SET readonly = 0
SET max_execution_time = 0
USE system
GRANT ALL ON *.* TO default
REVOKE ALL ON *.* FROM default
BACKUP DATABASE DB TO File('OUT_FILE')
RESTORE DATABASE DB FROM File('OUT_FILE')
EXPLAIN SELECT 1
EXPLAIN AST SELECT 1
EXPLAIN SYNTAX INSERT INTO points VALUES (1)
EXPLAIN TABLE OVERRIDE mysql('a:1', 'b', 'c', 'd', 'e')
SELECT * FROM (EXPLAIN SELECT 1)
SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))
DESCRIBE runs
DESCRIBE TABLE file('SECRET_FILE')
DESC file('SECRET_FILE', 'CSV')
SHOW TABLES
SHOW CREATE TABLE points
SHOW DATABASES
SHOW PROCESSLIST
SHOW GRANTS
EXISTS TABLE points
CHECK TABLE points
BEGIN TRANSACTION
SELECT 1 INTO OUTFILE 'OUT_FILE'
SELECT 1 INTO OUTFILE 'OUT_FILE' TRUNCATE
SELECT 1 INTO OUTFILE 'OUT_FILE' APPEND FORMAT CSV
(SELECT 1) INTO OUTFILE 'OUT_FILE'
SELECT 1 UNION ALL SELECT 2 INTO OUTFILE 'OUT_FILE'
SELECT/**/1/**/INTO/**/OUTFILE/**/'OUT_FILE'
SELECT 1 FORMAT CSV
SELECT 1 FORMAT Null
SELECT 1 SETTINGS readonly = 0
SELECT 1 SETTINGS max_execution_time = 0, max_memory_usage = 0
SELECT * FROM (SELECT 1 SETTINGS readonly = 0)
SELECT (SELECT 1 SETTINGS max_threads = 9)
SELECT 1; DROP DATABASE DB
SELECT 1;SELECT 2
SELECT 1; -- \\n DROP TABLE points
SELECT * FROM file('SECRET_FILE', 'LineAsString')
SELECT * FROM file('SECRET_FILE')
SELECT * FROM `file`('SECRET_FILE', 'LineAsString')
SELECT * FROM FILE('SECRET_FILE', 'LineAsString')
WITH (SELECT * FROM file('SECRET_FILE', 'LineAsString')) AS s SELECT s
WITH s AS (SELECT * FROM file('SECRET_FILE', 'LineAsString')) SELECT * FROM s
SELECT 1 FROM runs WHERE 1 IN (SELECT 1 FROM file('SECRET_FILE', 'LineAsString'))
SELECT (SELECT line FROM file('SECRET_FILE', 'LineAsString'))
SELECT * FROM runs UNION ALL SELECT * FROM file('SECRET_FILE', 'LineAsString')
SELECT * FROM runs JOIN file('SECRET_FILE', 'LineAsString') ON 1
SELECT * FROM runs ORDER BY (SELECT line FROM file('SECRET_FILE', 'LineAsString'))
SELECT 1 LIMIT (SELECT length(line) FROM file('SECRET_FILE', 'LineAsString'))
SELECT file('SECRET_FILE')
SELECT File('SECRET_FILE')
SELECT FILE('SECRET_FILE', 'x')
SELECT `file`('SECRET_FILE')
SELECT `\\x66ile`('SECRET_FILE')
SELECT "file"('SECRET_FILE')
SELECT file/**/('SECRET_FILE')
SELECT arrayMap(x -> file(x), ['SECRET_FILE'])
SELECT arrayMap(file, ['SECRET_FILE'])
SELECT arrayMap(`file`, ['SECRET_FILE'])
SELECT arrayFilter(`\\x66ile`, ['SECRET_FILE'])
SELECT arrayFold((a, x) -> concat(a, file(x)), ['SECRET_FILE'], '')
SELECT * APPLY file FROM (SELECT 'SECRET_FILE' AS a)
SELECT * APPLY(x -> file(x)) FROM (SELECT 'SECRET_FILE' AS a)
SELECT COLUMNS('a') APPLY(file) FROM (SELECT 'SECRET_FILE' AS a)
SELECT a.* APPLY(file) FROM (SELECT 'SECRET_FILE' AS a) AS a
SELECT 1 WHERE file('SECRET_FILE') != ''
SELECT count() FROM runs GROUP BY file('SECRET_FILE')
SELECT 1 FROM runs ORDER BY file('SECRET_FILE')
SELECT sum(1) OVER (PARTITION BY file('SECRET_FILE')) FROM runs
SELECT sum(length(x)) OVER w FROM (SELECT 'a' AS x) WINDOW w AS (PARTITION BY file('SECRET_FILE'))
SELECT if(1, file('SECRET_FILE'), '')
SELECT CASE WHEN 1 THEN file('SECRET_FILE') END
WITH file('SECRET_FILE') AS s SELECT s
SELECT * REPLACE (file('SECRET_FILE') AS team) FROM runs
SELECT throwIf(1, file('SECRET_FILE'))
SELECT * FROM numbers(length(file('SECRET_FILE')))
SELECT * FROM values('a String', file('SECRET_FILE'))
SELECT * FROM format(CSV, 'a Int8, b String DEFAULT file(''SECRET_FILE'')', '1,')
SELECT * FROM input('a String')
SELECT * FROM url('http://127.0.0.1:9/x', 'LineAsString')
SELECT * FROM url('file://SECRET_FILE', 'LineAsString')
SELECT * FROM s3('http://127.0.0.1:9/x')
SELECT * FROM gcs('http://127.0.0.1:9/x')
SELECT * FROM azureBlobStorage('a', 'b', 'c')
SELECT * FROM hdfs('hdfs://127.0.0.1:9/x')
SELECT * FROM deltaLake('http://127.0.0.1:9/x')
SELECT * FROM iceberg('http://127.0.0.1:9/x')
SELECT * FROM remote('127.0.0.1', system.one)
SELECT * FROM remote('127.0.0.1', DB, points)
SELECT * FROM remoteSecure('127.0.0.1', system.one)
SELECT * FROM cluster('default', system.one)
SELECT * FROM clusterAllReplicas('default', system.one)
SELECT * FROM mysql('127.0.0.1:9', 'a', 'b', 'c', 'd')
SELECT * FROM postgresql('127.0.0.1:9', 'a', 'b', 'c', 'd')
SELECT * FROM mongodb('127.0.0.1:9', 'a', 'b', 'c', 'd', 'x Int8')
SELECT * FROM redis('127.0.0.1:9', 'k', 'k String')
SELECT * FROM sqlite('SECRET_FILE', 't')
SELECT * FROM jdbc('x', 'y')
SELECT * FROM odbc('x', 'y', 'z')
SELECT * FROM executable('cat SECRET_FILE', 'LineAsString', 'a String')
SELECT * FROM Python(os)
SELECT * FROM python('secret')
SELECT * FROM merge('DB', '.*')
SELECT * FROM merge('.*')
SELECT * FROM loop(points)
SELECT * FROM loop('DB', 'points')
SELECT * FROM mergeTreeIndex('DB', points)
SELECT * FROM mergeTreeProjection('DB', points, p)
SELECT * FROM view(SELECT * FROM points)
SELECT * FROM dictionary('x')
SELECT * FROM generateRandom('a Int8')
SELECT * FROM null('a Int8')
SELECT * FROM fuzzJSON(x)
SELECT * FROM timeSeriesData(points)
SELECT * FROM filesystem('/')
SELECT * FROM `SECRET_FILE`
SELECT * FROM 'SECRET_FILE'
SELECT * FROM "SECRET_FILE"
SELECT * FROM default.`SECRET_FILE`
SELECT * FROM `default`.`/etc/passwd`
SELECT 1 IN default.`SECRET_FILE`
SELECT 1 IN `SECRET_FILE`
SELECT * FROM points
SELECT * FROM run_facts
SELECT * FROM DB.points
SELECT * FROM `DB`.`points`
SELECT * FROM `poin\\x74s`
SELECT points.value FROM points
SELECT * FROM runs, points
SELECT * FROM runs JOIN points USING (run_id)
SELECT * FROM runs WHERE run_id IN (SELECT run_id FROM points)
SELECT 1 IN points
SELECT 1 IN DB.points
SELECT (1, 2) NOT IN points
SELECT in(1, points)
SELECT globalIn(1, points)
SELECT nullIn(1, DB.points)
WITH points AS (SELECT 1) SELECT * FROM points
SELECT * FROM (WITH points AS (SELECT 1 AS x) SELECT x FROM points) AS a, points
SELECT * FROM points FINAL
SELECT * FROM points SAMPLE 1 / 2
SELECT * FROM {t:Identifier}
SELECT * FROM system.tables
SELECT * FROM system.processes
SELECT * FROM system.`settings`
SELECT * FROM SYSTEM.one
SELECT 1 IN system.processes
SELECT 1 IN (SELECT 1 FROM system.processes)
SELECT name IN system.databases FROM (SELECT 'default' AS name)
SELECT * FROM information_schema.tables
SELECT * FROM INFORMATION_SCHEMA.COLUMNS
SELECT hasColumnInTable('DB', 'points', 'value')
SELECT joinGet('DB.points', 'value', 1)
SELECT joinGetOrNull('points', 'value', 1)
SELECT dictGet('x', 'y', 1)
SELECT dictGetOrDefault('x', 'y', 1, 2)
SELECT dictHas('x', 1)
SELECT dictGetHierarchy('x', 1)
SELECT getSetting('max_threads')
SELECT getSettingOrDefault('max_threads', 1)
SELECT getServerSetting('max_server_memory_usage')
SELECT getMergeTreeSetting('index_granularity')
SELECT getMacro('x')
SELECT getServerPort('tcp_port')
SELECT getOSKernelVersion()
SELECT hostName()
SELECT hostname()
SELECT FQDN()
SELECT fullHostName()
SELECT serverUUID()
SELECT filesystemAvailable()
SELECT filesystemCapacity()
SELECT uptime()
SELECT authenticatedUser()
SELECT enabledRoles()
SELECT currentProfiles()
SELECT showCertificate()
SELECT sleep(3)
SELECT sleepEachRow(3) FROM numbers(10)
SELECT arrayMap(sleep, [3])
SELECT logTrace('x')
SELECT addressToLine(1)
SELECT demangle('x')
SELECT aiGenerate('x')
SELECT AIGenerate('x')
SELECT aiEmbed('x')
SELECT chdb('SELECT 1')
SELECT catboostEvaluate('SECRET_FILE', 1)
SELECT regionToName(1)
SELECT structureToProtobufSchema('a Int8')
SELECT formatRow('CSV', 1)
SELECT generateSerialID('x')
SELECT zookeeperSessionUptime()
SELECT __getScalar('x')
SELECT aggThrow(1)
SELECT flameGraph([1])
SELECT sleepIf(1, 1)
SELECT absent(1)
SELECT 1 AS `a\\n  TableIdentifier runs`, file('SECRET_FILE')
SELECT 1 AS `x\\n Function b (children 1)\\n  Literal 1`, * FROM points
graph = 1 SELECT 1
optimize = 1 SELECT 1
SELEC 1
"""

ORDINARY = """
SELECT * FROM runs
SELECT * FROM DB.runs WHERE team = 'vision'
SELECT * FROM `DB`.`runs` AS r WHERE r.team LIKE 'vis%'
SELECT r.team, m.key, max(m.value) FROM runs AS r JOIN metrics AS m ON r.run_id = m.run_id GROUP BY ALL
SELECT team, p.value FROM runs LEFT JOIN params AS p USING (run_id)
SELECT * FROM runs WHERE run_id IN (SELECT run_id FROM metrics WHERE value > 5)
SELECT * FROM runs WHERE run_id GLOBAL NOT IN (SELECT run_id FROM params WHERE key = 'x')
WITH best AS (SELECT run_id, max(value) AS top FROM metrics GROUP BY run_id) SELECT team, top FROM runs JOIN best USING (run_id)
WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT * FROM a, b
WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t
WITH 5 AS threshold SELECT count() FROM metrics WHERE value > threshold
WITH (SELECT max(value) FROM metrics) AS top SELECT key FROM metrics WHERE value = top
SELECT step, avg(value) OVER (PARTITION BY key ORDER BY step ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) FROM metrics
SELECT step, row_number() OVER w, lagInFrame(value) OVER w FROM metrics WINDOW w AS (PARTITION BY key ORDER BY step)
SELECT quantile(0.9)(value), quantiles(0.5, 0.99)(value), median(value) FROM metrics
SELECT arrayMap((x, i) -> x || toString(i), tags, arrayEnumerate(tags)) FROM runs
SELECT arrayJoin(tags) AS tag, count() FROM runs GROUP BY tag
SELECT team, tag FROM runs ARRAY JOIN tags AS tag
SELECT CASE WHEN value > 5 THEN 'high' WHEN value > 1 THEN 'mid' ELSE 'low' END AS band, count() FROM metrics GROUP BY band
SELECT CASE state WHEN 'finished' THEN 1 ELSE 0 END FROM runs
SELECT * FROM metrics ORDER BY value DESC LIMIT 1 BY key LIMIT 5
SELECT key, step % 3 AS s, count() FROM metrics GROUP BY ROLLUP(key, s)
SELECT key, count(), grouping(key) FROM metrics GROUP BY GROUPING SETS ((key), ())
SELECT key, sum(value) FROM metrics GROUP BY key WITH TOTALS HAVING sum(value) > 1
SELECT toStartOfInterval(at, INTERVAL 10 second) AS t, avg(value) FROM metrics GROUP BY t ORDER BY t
SELECT toStartOfInterval(at, INTERVAL 10 second) AS t, avg(value) FROM metrics GROUP BY t ORDER BY t WITH FILL STEP INTERVAL 10 second
SELECT countIf(value > 5), sumIf(value, key = 'loss'), argMaxIf(step, value, key = 'acc'), uniqExact(run_id) FROM metrics
SELECT count() FILTER (WHERE value > 5), sumOrNull(value), anyLast(key) FROM metrics
SELECT groupArray(step), groupUniqArray(key), topK(3)(key), avgWeighted(value, step) FROM metrics
SELECT 1 AS a UNION ALL SELECT 2 UNION DISTINCT SELECT 3
(SELECT key FROM metrics) INTERSECT (SELECT 'loss')
SELECT key FROM metrics EXCEPT SELECT 'loss'
SELECT DISTINCT ON (key) key, value FROM metrics
SELECT team, cost * 2 AS double, round(toFloat64(cost), 2), cost::String, CAST(cost AS Float64) FROM runs
SELECT * EXCEPT (tags) REPLACE (upper(team) AS team) FROM runs
SELECT COLUMNS('^t') FROM runs
SELECT r.* FROM runs AS r
SELECT dateDiff('hour', started_at, now()), formatDateTime(started_at, '%Y-%m'), toYYYYMM(started_at) FROM runs
SELECT started_at + INTERVAL 1 DAY, EXTRACT(YEAR FROM started_at), date_trunc('month', started_at) FROM runs
SELECT multiIf(value > 5, 'a', 'b'), if(value > 1, 1, 0), coalesce(NULL, value), nullIf(value, 0) FROM metrics
SELECT JSONExtractFloat('{"a": 1}', 'a'), extract('a12', '[0-9]+'), splitByChar('/', 'a/b'), concat('x', key) FROM metrics
SELECT key, value FROM metrics WHERE match(key, '^l') AND key ILIKE 'LOSS' AND value BETWEEN 1 AND 5
SELECT map('a', 1)['a'], tuple(1, 'x').2, [1, 2, 3][2], (1, 2) = (1, 2)
SELECT exists(SELECT 1 FROM runs WHERE team = 'vision')
SELECT user, count() FROM runs GROUP BY user ORDER BY count() DESC, user ASC NULLS LAST
SELECT number, number * 2 FROM numbers(10)
SELECT count() FROM numbers(10) AS n JOIN numbers_mt(2) AS z ON n.number = z.number
SELECT * FROM generate_series(1, 5)
SELECT * FROM system.one
SELECT a.key FROM metrics AS a ASOF JOIN metrics AS b ON a.key = b.key AND a.step >= b.step
SELECT largestTriangleThreeBuckets(10)(step, value) FROM metrics
SELECT cityHash64(run_id, key, step, value), hex(MD5(key)), toUUID('01234567-89ab-cdef-0123-456789abcdef') FROM metrics
SELECT 'DROP TABLE points; SELECT file(''x'') INTO OUTFILE FORMAT SETTINGS' AS text
SELECT 1 -- a comment; with DROP TABLE points
SELECT /* FORMAT CSV */ 1;
SELECT simpleLinearRegression(step, value), corr(step, value), stddevSamp(value) FROM metrics
SELECT isNaN(value), ifNull(NULL, 3), least(1, 2), greatest(1, 2), intDiv(7, 2), bitAnd(6, 3), log(10), ln(10), power(2, 3) FROM metrics
SELECT formatReadableSize(1000), formatReadableTimeDelta(90), bar(value, 0, 10, 5), transform(key, ['loss'], ['L'], '?') FROM metrics
"""


def lines_of(text: str) -> list[str]:
    return [line for line in text.strip().split("\n") if line]


def test_there_are_as_many_cases_as_promised() -> None:
    assert len(set(lines_of(ATTACKS))) == len(lines_of(ATTACKS)) >= 107
    assert len(set(lines_of(ORDINARY))) == len(lines_of(ORDINARY)) >= 25


@pytest.mark.parametrize("attack", lines_of(ATTACKS))
def test_an_attack_is_refused_without_effect(ledger: Ledger, attack: str) -> None:
    sql = ledger.told(attack.replace("\\n", "\n"))
    parameters: dict[str, object] | None = {"t": "points"} if "{t:" in sql else None

    with pytest.raises(UserQueryError) as caught:
        ledger.store.user_query(sql, parameters)

    message = str(caught.value)
    assert SECRET not in message
    assert "\n" not in message
    assert "version 2" not in message


@pytest.mark.parametrize("attack", lines_of(ATTACKS))
def test_the_guard_alone_refuses_every_attack(ledger: Ledger, attack: str) -> None:
    sql = ledger.told(attack.replace("\\n", "\n"))
    parameters: dict[str, object] | None = {"t": "points"} if "{t:" in sql else None

    with pytest.raises(UserQueryError):
        check_user_sql(
            sql,
            engine=ledger.store,
            views=public_view_names(),
            database=ledger.store.database,
            parameters=parameters,
        )


def test_nothing_is_left_behind_by_all_attacks(ledger: Ledger) -> None:
    for attack in lines_of(ATTACKS):
        sql = ledger.told(attack.replace("\\n", "\n"))
        with pytest.raises(UserQueryError):
            ledger.store.user_query(sql, {"t": "points"} if "{t:" in sql else None)

    assert sorted(path.name for path in ledger.folder.iterdir()) == ["secret.txt"]
    assert ledger.store.rows("SELECT count() AS n, sum(step) AS s FROM points") == [{"n": 100, "s": 4950}]
    assert ledger.store.tables(ledger.store.database) == {"run_facts", "points", "runs", "metrics", "params"}


@pytest.mark.parametrize("query", lines_of(ORDINARY))
def test_an_ordinary_query_passes(ledger: Ledger, query: str) -> None:
    assert ledger.store.user_query(ledger.told(query)).num_columns > 0


def test_an_ordinary_query_gives_the_right_answer(ledger: Ledger) -> None:
    table = ledger.store.user_query(
        "SELECT r.team, m.key, max(m.value) AS top FROM runs AS r JOIN metrics AS m ON r.run_id = m.run_id "
        "WHERE m.step >= {low:Int64} GROUP BY ALL ORDER BY m.key",
        {"low": 0},
    )

    assert table.to_pylist() == [
        {"team": "vision", "key": "acc", "top": 9.9},
        {"team": "vision", "key": "loss", "top": 9.8},
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(number) FROM numbers(100000000000000)",
        "SELECT groupArray(number) FROM numbers(100000000000)",
        "SELECT number FROM numbers(1000000000)",
        "SELECT count() FROM numbers(1000000) AS a, numbers(1000000) AS b WHERE a.number != b.number",
        "SELECT max(length(repeat('x', number))) FROM numbers(10000000)",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT sum(n) FROM t",
        "SELECT uniqExact(toString(number)) FROM numbers(10000000000)",
    ],
)
def test_a_runaway_query_is_stopped_by_a_limit_that_the_message_names(ledger: Ledger, sql: str) -> None:
    with pytest.raises(UserQueryError) as caught:
        ledger.store.user_query(sql)

    assert any(word in str(caught.value).lower() for word in ("time", "rows", "memory", "recursive"))
    assert ledger.store.user_query("SELECT 7 AS n").to_pylist() == [{"n": 7}]


@pytest.mark.parametrize("depth", [200, 2000, 20000])
def test_deep_nesting_is_refused_or_answered_but_never_crashes(ledger: Ledger, depth: int) -> None:
    with pytest.raises(UserQueryError):
        ledger.store.user_query("SELECT " + "(" * depth + "1" + "+1)" * depth)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM run", "did you mean runs?"),
        ("SELECT * FROM metric", "did you mean metrics?"),
        ("SELECT * FROM DB.Metrics", "did you mean metrics?"),
        ("SELECT tema FROM runs", "tema"),
        ("SELEC 1", "syntax error in line 1, column 7"),
        ("SELECT 1\nFROM runs GROUP ORDER BY 1", "syntax error in line 2"),
        ("SELECT 1 FORMAT CSV", "--csv"),
        ("SELECT 1 SETTINGS max_threads = 1", "SETTINGS"),
        ("SHOW TABLES", "the views are: "),
        ("DESCRIBE runs", "DESCRIBE view in `trainledger sql`"),
        ("EXPLAIN SELECT 1", "without EXPLAIN"),
        ("SELECT file('x')", "function 'file' is not allowed"),
        ("SELECT * FROM url('x')", "table function 'url' is not allowed"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("DROP TABLE runs", "only SELECT is allowed"),
        ("  ", "empty"),
        ("-- nothing", ""),
        ("SELECT '" + "x" * 100_000 + "'", "characters"),
        ("SELECT {absent:String}", "absent"),
    ],
)
def test_a_refusal_says_what_to_do_instead(ledger: Ledger, sql: str, said: str) -> None:
    with pytest.raises(UserQueryError) as caught:
        ledger.store.user_query(ledger.told(sql))

    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert "DB::Exception" not in message


def test_no_column_of_a_view_bears_the_name_of_a_refused_function(ledger: Ledger) -> None:
    """A bare name that stands for a refused function is refused, so a column must not have one."""
    folder = Path(__file__).parents[2] / "ingest/trainledger_ingest/storage/views"
    text = "".join(path.read_text() for path in folder.glob("*.sql"))
    columns = set(re.findall(r"^\s+(\w+) [A-Z].*COMMENT", text, re.MULTILINE))

    assert {"run_id", "user", "state", "share", "packages"} <= columns
    for column in sorted(columns):
        known = ledger.store.functions().get(column)
        if known is not None:
            target = ledger.store.functions().get(known.alias_to, known)
            assert is_allowed_function(column, target), column


def test_a_result_for_a_file_is_limited_in_bytes_and_not_in_rows(ledger: Ledger) -> None:
    many = "SELECT number FROM numbers(200000)"
    with pytest.raises(UserQueryError, match="--csv and --parquet take any number of rows"):
        ledger.store.user_query(many)
    assert ledger.store.user_query(many, is_export=True).num_rows == 200_000
    with pytest.raises(UserQueryError, match="the limit of the result stopped it"):
        ledger.store.user_query("SELECT number FROM numbers(2000000)", is_export=True)
    for refused in ("DROP TABLE points", "SELECT * FROM points", "SELECT 1 SETTINGS max_result_bytes = 0"):
        with pytest.raises(UserQueryError):
            ledger.store.user_query(refused, is_export=True)
    with pytest.raises(UserQueryError, match="time limit"):
        ledger.store.user_query("SELECT sum(sipHash64(number)) FROM numbers(100000000000000)", is_export=True)
