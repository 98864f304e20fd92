"""What sacct prints becomes jobs. The files in `recorded/` are of SLURM 22.05 with slurmdbd: an array, a job that was
requeued, one on two nodes, one that failed and one that went on; the JSON was read two seconds before the text."""

from dataclasses import replace
from pathlib import Path

import pytest

from trainledger_ingest.scheduler_records import JobRecord, NodeSize, reservation_rows
from trainledger_ingest.scheduler_records.hostlist import expand_hostlist
from trainledger_ingest.scheduler_records.sacct import parse_sacct, parse_sinfo, sacct_command
from trainledger_ingest.scheduler_records.tres import Amounts, amounts_of, parse_tres
from trainledger_schemas.errors import UsageError

RECORDED = Path(__file__).parent / "recorded"
HEADER = "JobIDRaw|JobID|Cluster|Submit|Start|End|ElapsedRaw|State|Account|User|NodeList|AllocTRES|Restarts"


def text_of(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def test_the_recorded_text_gives_each_job_once_without_its_steps() -> None:
    found = parse_sacct(text_of("sacct-22.05.txt"))
    assert found.left_out["steps of jobs"] == 8
    jobs = {job.job: job for job in found.jobs if job.is_over}
    assert sorted(jobs) == ["1", "2", "3_1", "3_2", "3_3", "4", "8"]
    both = jobs["2"]
    assert (both.nodes, both.cpu_milli, both.device_milli) == (("node-a", "node-b"), 4000, 4000)
    assert (both.owner, both.account, both.qos) == ("root", "account:vision", "normal")
    assert both.end_us - both.start_us == 2_000_000
    # The try that was taken back has its own submission, so the next try is another job.
    assert (jobs["4"].state, jobs["8"].end_us == jobs["8"].start_us) == ("REQUEUED", True)
    (running,) = (job for job in found.jobs if not job.is_over)
    assert (running.job, running.state) == ("9", "RUNNING")
    assert running.end_us > running.start_us


def test_the_recorded_json_says_the_same_as_the_text() -> None:
    def finished(name: str) -> dict[str, JobRecord]:
        return {job.job: replace(job, key=job.key) for job in parse_sacct(text_of(name)).jobs if job.is_over}

    assert finished("sacct-22.05.json") == finished("sacct-22.05.txt")


def test_newer_json_has_numbers_in_objects_and_states_in_lists() -> None:
    number = '{"set": true, "infinite": false, "number": 7}'
    job = f"""{{"jobs": [{{"job_id": 12, "array": {{"job_id": 11, "task_id": {number}}}, "cluster": "c", "user": "ann",
      "account": "ml", "nodes": "n[1-2]", "restart_cnt": 2, "state": {{"current": ["RUNNING"]}},
      "time": {{"submission": 100, "start": 200, "end": 0, "elapsed": 50}},
      "tres": {{"allocated": [{{"type": "cpu", "name": "", "count": 8}}, {{"type": "gres", "name": "gpu", "count": 2}},
        {{"type": "mem", "name": "", "count": 1024}}]}}}}]}}"""
    (found,) = parse_sacct(job).jobs
    assert (found.job, found.nodes, found.is_over, found.restarts) == ("11_7", ("n1", "n2"), False, 2)
    assert (found.start_us, found.end_us) == (200_000_000, 250_000_000)
    assert (found.cpu_milli, found.device_milli, found.memory_bytes) == (8000, 2000, 1 << 30)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("7|7|c|2026-10-25T02:30:00|100|200|100|COMPLETED|a|u|n1|cpu=1|0", ""),
        ("7|7|c|50|2026-10-25T02:30:00|200|100|COMPLETED|a|u|n1|cpu=1|0", "comes twice"),
        ("7|7|c|50|100|200|100|COMPLETED|a|u|n1|cpu=1|0|x", "line 2 has 14 fields"),
        ("7|7|c|50|100|200|100|COMPLETED|a|u|n1|cpu=much|0", "cpu=much is no amount"),
        ("7|7|c|50|100|200|100|COMPLETED|a|u|n[1-|cpu=1|0", "no list of nodes"),
    ],
    ids=["a submission only names the job", "local time", "a bar in a field", "no amount", "no nodes"],
)
def test_what_cannot_be_trusted_is_refused_with_the_command_that_mends_it(text: str, why: str) -> None:
    if not why:
        assert len(parse_sacct(f"{HEADER}\n{text}\n").jobs) == 1
        return
    with pytest.raises(UsageError, match=why):
        parse_sacct(f"{HEADER}\n{text}\n")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ElapsedRaw": "99999999999"}, "the job ends after the year 2105"),
        ({"AllocTRES": "cpu=-3"}, "cpu=-3 is no amount"),
        ({"AllocTRES": "cpu=99999999999999999"}, "more than any job has"),
        ({"AllocTRES": "cpu=1,mem=99999999999999999999G"}, "more memory than any job has"),
        ({"AllocTRES": "cpu"}, "no AllocTRES"),
        ({"NodeList": "n[1-99999999]"}, "no list of nodes"),
        ({"Restarts": "99999999999"}, "Restarts is 99999999999"),
    ],
    ids=[
        "too long",
        "negative",
        "too many cores",
        "too much memory",
        "no tres",
        "too many nodes",
        "restarts",
    ],
)
def test_what_is_wrong_is_told_with_its_line(changed: dict[str, str], why: str) -> None:
    row = dict(
        zip(HEADER.split("|"), "7|7|c|50|100|Unknown|100|RUNNING|a|u|n1|cpu=1|0".split("|"), strict=True)
    )
    text = "|".join((row | changed).values())
    with pytest.raises(UsageError, match=f"^line 3.*{why}"):
        parse_sacct(f"{HEADER}\n{'|'.join(row.values())}\n{text}\n")


def test_output_without_the_needed_columns_is_refused() -> None:
    with pytest.raises(UsageError, match=r"lacks .*ElapsedRaw"):
        parse_sacct("JobID|State\n1|COMPLETED\n")


def test_a_field_that_this_sacct_does_not_know_is_not_asked_for() -> None:
    asked = sacct_command(["JobIDRaw", "jobid", "End"], start="a", end="b")
    assert asked[-1] == "--format=JobIDRaw,JobID,End"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node-a", ["node-a"]),
        ("node-a,node-b", ["node-a", "node-b"]),
        ("n[01-03,7],gpu-a", ["n01", "n02", "n03", "n7", "gpu-a"]),
        ("r[1-2]n[09-10]x", ["r1n09x", "r1n10x", "r2n09x", "r2n10x"]),
    ],
)
def test_lists_of_nodes(text: str, names: list[str]) -> None:
    assert list(expand_hostlist(text)) == names


@pytest.mark.parametrize("text", ["n[1-", "n[3-1]", "", "a,,b", "n]1", "n[1-99999999]", "n[x]"])
def test_what_is_no_list_of_nodes(text: str) -> None:
    with pytest.raises(UsageError):
        expand_hostlist(text)


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("billing=8,cpu=8,gres/gpu=1,gres/gpu:h100=1,mem=64G,node=1", Amounts(8000, 1000, 64 << 30)),
        ("cpu=8,gres/gpu:a100=2,gres/gpu:h100=1", Amounts(8000, 3000, None)),
        ("cpu=1,gres/gpu=3,gres/gpu:1g.10gb=2,gres/gpu:h100=1", Amounts(1000, 1250, None)),
        ("cpu=1,gres/gpu:a100_3g.20gb=1", Amounts(1000, 500, None)),
        ("cpu=2,mem=512M,gres/shard=4", Amounts(2000, 0, 512 << 20)),
        ("", Amounts(0, 0, None)),
    ],
    ids=["generic and typed", "typed alone", "MIG and whole", "MIG alone", "no gpu", "nothing"],
)
def test_amounts(text: str, amounts: Amounts) -> None:
    assert amounts_of(parse_tres(text)) == amounts


def test_sizes_of_nodes() -> None:
    text = "a|16|gpu:h100:4(S:0-1),shard:8\nb|64|(null)\nc|8|gpu:a100:2,gpu:1g.5gb:7\n"
    assert parse_sinfo(text) == {"a": NodeSize(16, 4), "b": NodeSize(64, None), "c": NodeSize(8, 9)}


def test_a_job_on_many_nodes_is_dealt_over_them_without_a_rest() -> None:
    job = JobRecord(
        source="sacct", cluster="c", key="7 50 0", job="7", nodes=("a", "b", "c"), start_us=0, end_us=1, is_over=True,
        state="COMPLETED", cpu_milli=10_000, device_milli=1000, memory_bytes=5,
    )  # fmt: skip
    rows = reservation_rows([job, job], names={"a": "a.example.org"}, sizes={"b": NodeSize(8, None)})
    assert [row["cpu_milli"] for row in rows] == [3334, 3333, 3333]
    assert [row["memory_bytes"] for row in rows] == [2, 2, 1]
    assert [row["node"] for row in rows] == ["a.example.org", "b", "c"]
    assert len({row["reservation_id"] for row in rows}) == 3 and rows[1]["node_cores"] == 8
