"""Rows of the tables become events; what was told alike is shared, and a row without sense shares nothing."""

import json
from typing import Any

from trainledger_ingest.cost.node_events import Allocation, DevicePlace, DeviceUse, Holder, Kind, ProcessUsage
from trainledger_ingest.cost.node_facts import NodeFacts, WriterPlaces, read_node_events

RUN = {"kind": "run", "run_id": "r", "writer_id": "w", "owner": "ann"}


def read(*told: tuple[str, dict[str, Any]], writers: WriterPlaces | None = None) -> NodeFacts:
    rows = [
        {"type": kind, "at_us": n, "boot_id": "b", "producer_id": "p", "seq": n, "offset": n, "body": json.dumps(body)}
        for n, (kind, body) in enumerate(told)
    ]  # fmt: skip
    return read_node_events(rows, writers=writers or WriterPlaces())


def usage(**busy_us: int) -> tuple[str, dict[str, Any]]:
    devices = [
        {"device_id": name, "part_id": "", "observed_us": 10, "busy_us": busy}
        for name, busy in busy_us.items()
    ]
    crew = [RUN | {"cpu_us": 3}, {"kind": "untracked", "owner": "bob", "cpu_us": 4}]
    return "process_usage", {"start_us": 0, "end_us": 10, "cores": 2, "usage": crew, "devices": devices}


def allocation(*claims: tuple[int, int]) -> tuple[str, dict[str, Any]]:
    holders = [
        RUN | {"resource": "host", "numerator": n, "denominator": d, "evidence": "e"} for n, d in claims
    ]
    return "allocation", {"holders": holders}


def test_windows_that_name_the_same_holders_and_devices_share_them() -> None:
    one, its_use, two, other_use = read(usage(a=5, b=10), usage(a=1, b=2)).events
    assert isinstance(one, ProcessUsage) and isinstance(two, ProcessUsage)
    assert isinstance(its_use, DeviceUse) and isinstance(other_use, DeviceUse)
    assert one.holders is two.holders and its_use.places is other_use.places
    assert one.usage == ((Holder(Kind.RUN, "r", 1, "ann"), 3), (Holder(Kind.UNTRACKED, owner="bob"), 4))
    assert its_use.places == (DevicePlace("a"), DevicePlace("b"))
    assert (its_use.busy_ppm, other_use.busy_ppm) == ((500_000, 1_000_000), (100_000, 200_000))


def test_a_holder_is_told_by_all_of_its_fields_and_by_where_its_writer_is() -> None:
    crew = [RUN | {"cpu_us": 1}, RUN | {"cpu_us": 1, "writer_id": "x"}, RUN | {"cpu_us": 1, "account": "red"}]
    body = usage()[1] | {"usage": crew}
    places = WriterPlaces({"x": 2}, {"x": "moved"})
    [window] = read(("process_usage", body), writers=places).events
    assert isinstance(window, ProcessUsage)
    assert window.holders == (
        Holder(Kind.RUN, "r", 1, "ann"),
        Holder(Kind.RUN, "moved", 2, "ann"),
        Holder(Kind.RUN, "r", 1, "ann", "red"),
    )


def test_a_key_frame_repeats_the_allocation_before_and_one_without_sense_changes_nothing() -> None:
    facts = read(
        allocation((1, 4)), allocation((1, 4)), allocation((5, 4)), allocation((5, 4)), allocation((2, 4))
    )
    claims = [event.holders for event in facts.events if isinstance(event, Allocation)]
    assert [item.numerator for held in claims for item in held] == [1, 1, 2]
    assert claims[0] is claims[1] and facts.senseless == 2
