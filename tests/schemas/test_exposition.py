"""Prometheus text: what a scraper reads is what was counted."""

import urllib.error
import urllib.request

import pytest

from trainledger_schemas.errors import SettingsError
from trainledger_schemas.exposition import Exposition, Sample, render


def test_samples_of_a_name_stand_under_one_type_line_and_labels_are_escaped() -> None:
    samples = [
        Sample("rows_total", 3, {"topic": "a"}),
        Sample("lag", 0.25),
        Sample("rows_total", 2**53, {"topic": 'b"\\\n'}),
        Sample("at_seconds", 1_795_727_404.123456),
    ]
    assert render(samples).decode().splitlines() == [
        "# TYPE rows_total counter",
        'rows_total{topic="a"} 3',
        'rows_total{topic="b\\"\\\\\\n"} 9007199254740992',
        "# TYPE lag gauge",
        "lag 0.25",
        "# TYPE at_seconds gauge",
        "at_seconds 1795727404.123456",
    ]


def test_each_scrape_asks_anew_and_other_paths_are_not_there() -> None:
    asked: list[int] = []

    def samples() -> list[Sample]:
        asked.append(1)
        return [Sample("asked_total", len(asked))]

    served = Exposition("127.0.0.1:0", samples)
    try:
        for number in (1, 2):
            with urllib.request.urlopen(f"http://{served.address}/metrics", timeout=10) as answer:
                assert answer.read().decode().endswith(f"asked_total {number}\n")
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://{served.address}/other", timeout=10)
        refused.value.close()
    finally:
        served.close()


@pytest.mark.parametrize("address", ["9464", "127.0.0.1:", "127.0.0.1:99999", "no.such.host.invalid:0"])
def test_an_address_that_cannot_be_listened_on_is_named(address: str) -> None:
    with pytest.raises(SettingsError, match="--metrics"):
        Exposition(address, list)
