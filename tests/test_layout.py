"""The rules of the code base that a program can check. The lists of exceptions may only shrink."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas/trainledger_schemas", "agent/trainledger", "ingest/trainledger_ingest")
LINES_MAX = 400
FUNCTION_LINES_MAX = 50
PARAMETERS_MAX = 6
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "base", "core", "manager"}
# `init` mirrors what people are used to.
PARAMETERS_EXCEPTIONS = {"init"}
# The mirror of all schemas, a class each: it grows with them.
LINES_EXCEPTIONS = {"schemas/trainledger_schemas/events.py"}
ONE_MODULE_ONLY = {
    "kafka": {"agent/trainledger/node/kafka_client.py", "ingest/trainledger_ingest/sources/kafka.py"},
    "clickhouse_connect": {"ingest/trainledger_ingest/storage/"},
    "chdb": {"ingest/trainledger_ingest/storage/"},
    "grpc": {"agent/trainledger/node/kubernetes/unix_calls.py"},
    "google": {"agent/trainledger/node/kubernetes/messages.py"},
    "pynvml": {"agent/trainledger/node/nvml.py"},
    "amdsmi": {"agent/trainledger/node/amdsmi.py"},
    "boto3": {
        "schemas/trainledger_schemas/s3_client.py",
        "ingest/trainledger_ingest/archive.py",
        "ingest/trainledger_ingest/aws_client.py",
    },
    "typer": {"ingest/trainledger_ingest/cli/"},
}
# Where time, ids and the environment come in. The SDK binds the clock's C function in its generated code.
TIME_AND_CHANCE = {"clock.py", "ids.py"}
ENVIRONMENT = {"settings.py", "ingest_settings.py", "node_settings.py", "clock.py", "ids.py"}
BANNED_CALLS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "monotonic"),
    ("time", "monotonic_ns"),
    ("time", "perf_counter"),
    ("time", "sleep"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("uuid", "uuid4"),
    ("uuid", "uuid1"),
}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_module_is_small_and_named_for_a_concept(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LINES_MAX or name_of(path) in LINES_EXCEPTIONS, (
        f"{len(lines)} lines; split it by concept"
    )
    assert path.stem not in FORBIDDEN_NAMES
    if lines:
        assert lines[0].startswith('"""'), "the first line says what the module is"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
        arguments = [
            a
            for a in node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            if a.arg not in ("self", "cls")
        ]
        if node.name not in PARAMETERS_EXCEPTIONS and "/cli/" not in name_of(path):
            assert len(arguments) <= PARAMETERS_MAX, f"{node.name} takes {len(arguments)} parameters"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_time_and_chance_come_in_through_the_clock_and_ids(path: Path) -> None:
    if path.name in TIME_AND_CHANCE:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in BANNED_CALLS, (
                f"line {node.lineno}: {node.value.id}.{node.attr}"
            )
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & {"random", "secrets"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_third_party_clients_stay_in_their_adapters(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
        for name in names:
            places = ONE_MODULE_ONLY.get(name.split(".")[0])
            assert places is None or any(name_of(path).startswith(place) for place in places), (
                f"{name} in {path}"
            )


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_assert_outside_tests_and_every_ignore_says_why(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))
    for number, line in enumerate(text.splitlines(), 1):
        for mark in ("# type: ignore", "# noqa"):
            if mark in line:
                rest = line.split(mark, 1)[1]
                assert rest.startswith(("[", ":")) and len(rest.split("]")[-1].split("#")[-1].strip()) > 3, (
                    f"line {number}"
                )


def test_every_package_is_typed_and_says_what_it_exports() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()
        for init in (ROOT / package).rglob("__init__.py"):
            assert "__all__" in init.read_text(encoding="utf-8"), init
