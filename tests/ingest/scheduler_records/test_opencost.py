"""OpenCost's answers become containers by hour."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from support.opencost import allocation
from trainledger_ingest.scheduler_records import JobRecord
from trainledger_ingest.scheduler_records.opencost import allocation_url, parse_opencost
from trainledger_schemas.errors import UsageError


def answer(*entries: dict[str, Any]) -> str:
    return json.dumps({"code": 200, "data": [{entry["name"]: entry} for entry in entries]})


def by_hour(text: str) -> list[tuple[int, int, bool, int, int]]:
    """Minutes of begin and end within the day, whether over, thousandths of cores and devices."""

    def minute(us: int) -> int:
        return us // 60_000_000 % 1440

    jobs: list[JobRecord] = parse_opencost(text).jobs
    return [(minute(j.start_us), minute(j.end_us), j.is_over, j.cpu_milli, j.device_milli) for j in jobs]


def test_an_entry_is_cut_at_hours_and_goes_on_where_its_window_ends() -> None:
    told = answer(allocation("web", "pod-1", start="10:30", end="12:15", cores="1.5", gpus="0.25"))
    assert by_hour(told) == [
        (630, 660, True, 1500, 250),
        (660, 720, True, 1500, 250),
        (720, 735, False, 1500, 250),
    ]


def test_the_same_hour_in_windows_of_any_length_is_the_same_job() -> None:
    day = parse_opencost(answer(allocation("web", "pod-1", start="00:00", end="12:00"))).jobs
    hour = parse_opencost(answer(allocation("web", "pod-1", start="11:00", end="12:00"))).jobs
    assert hour[0].key == day[11].key and len({job.key for job in day}) == 12


def test_idle_time_is_left_out_and_owners_are_namespaces() -> None:
    idle = allocation("web", "pod-1") | {"name": "__idle__"}
    found = parse_opencost(answer(idle, allocation("web", "pod-1")))
    assert found.left_out == {"idle time": 1}
    assert {(job.owner, job.account, job.job) for job in found.jobs} == {(None, "namespace:web", "web/pod-1")}


def test_pods_of_the_cluster_are_the_systems_unless_they_have_a_gpu() -> None:
    own = [allocation("kube-system", "dns"), allocation("openshift-x", "p"), allocation("kubeflow", "web")]
    found = parse_opencost(answer(*own, allocation("kube-system", "check", gpus="1")))
    assert {job.job for job in found.jobs} == {"kubeflow/web", "kube-system/check"}
    assert sum(found.left_out.values()) == 2


def test_amounts_are_exact_whatever_the_number_of_digits() -> None:
    entry = json.dumps(allocation("web", "p", start="10:00", end="11:00"))
    text = entry.replace('"cpuCoreHours": 1.0', '"cpuCoreHours": 0.0005000000000000000000000000001')
    assert [j.cpu_milli for j in parse_opencost(f'{{"code": 200, "data": [{{"a": {text}}}]}}').jobs] == [1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"code": 400, "message": "no window"}', "answered 400: no window"),
        ("[]", "no answer of OpenCost"),
        (answer(allocation("web", "pod-1") | {"start": "2026-03-20T10:00:00"}), "known form"),
        (answer(allocation("web", "pod-1") | {"cpuCoreHours": -1}), "known form"),
        ('{"code": 200, "data": [{"a": {"cpuCoreHours": NaN}}]}', "no answer of OpenCost"),
        (answer(allocation("web", "pod-1") | {"properties": {"namespace": "web"}}), "without `aggregate`"),
        (
            answer(allocation("web", "pod-1") | {"properties": None}),
            "/web/pod-1/main' is not of a known form",
        ),
        ('{"code": 200, "data": [{}, ["a"]]}', "step 1 of OpenCost's data"),
    ],
    ids=[
        "an error",
        "something else",
        "local time",
        "negative",
        "not a number",
        "aggregated",
        "no properties",
        "a list for a step",
    ],
)
def test_what_is_no_allocation_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_opencost(text)


def test_the_address_asks_for_steps_of_an_hour() -> None:
    times = {"start": datetime(2026, 3, 20, tzinfo=UTC), "end": datetime(2026, 3, 21, tzinfo=UTC)}
    asked = "window=2026-03-20T00:00:00Z,2026-03-21T00:00:00Z&step=1h&includeIdle=false"
    assert allocation_url("http://o:9003", **times) == f"http://o:9003/allocation?{asked}"
    assert (
        allocation_url("http://o/model/allocation?x=1", **times) == f"http://o/model/allocation?x=1&{asked}"
    )
    assert allocation_url("http://o/allocation?window=today", **times) == "http://o/allocation?window=today"
