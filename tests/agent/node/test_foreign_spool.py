"""Reading a spool that another process owns, and waiting for one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.journals import open_spool
from trainledger.node.foreign_spool import durable_ends, is_given_away, mark_given_away
from trainledger.node.identity import load_identity
from trainledger.node.node_settings import SpoolSettings
from trainledger.node.spool import LOCK_FILE, Spool
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import HomeLockedError
from trainledger_schemas.events import TOPIC_METRICS, TOPIC_NODES
from trainledger_schemas.spool_reader import list_segments

GAP = {"at_us": 1, "start_us": 1, "end_us": 2, "what": "node", "reason": "test", "count": 1}
HOLD = """
import sys
from pathlib import Path
from trainledger.node.identity import load_identity
from trainledger.node.node_settings import SpoolSettings
from trainledger.node.spool import Spool
from trainledger_schemas.clock import SystemClock
folder = Path(sys.argv[1])
spool = Spool.open(
    folder, identity=load_identity(folder), clock=SystemClock(), settings=SpoolSettings(), kind=sys.argv[2]
)
print("held", flush=True)
sys.stdin.readline()
spool.close()
"""


def test_the_end_is_behind_the_last_whole_record_and_follows_the_owner(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    assert set(durable_ends(tmp_path).values()) == {0}
    for number in range(1, 4):
        spool.append("gap", GAP, key=b"node-1")
        assert durable_ends(tmp_path)[TOPIC_NODES] == number
    assert durable_ends(tmp_path)[TOPIC_METRICS] == 0
    newest = list_segments(tmp_path / TOPIC_NODES)[-1].path
    spool.close()
    whole = newest.read_bytes()
    newest.write_bytes(whole + whole[:30])  # a record that is being written
    assert durable_ends(tmp_path)[TOPIC_NODES] == 3
    newest.write_bytes(whole[:-1])
    assert durable_ends(tmp_path)[TOPIC_NODES] == 2


def test_a_spool_that_was_given_away_stays_so(tmp_path: Path) -> None:
    assert not is_given_away(tmp_path)
    mark_given_away(tmp_path)
    mark_given_away(tmp_path)
    assert is_given_away(tmp_path)


@pytest.mark.parametrize(("kind", "waits"), [("one-shot", True), ("agent", False), ("up", False)])
def test_an_owner_that_stays_is_not_waited_for_and_one_that_does_not_is(
    tmp_path: Path, kind: str, waits: bool
) -> None:
    def take(wait_s: float) -> Spool:
        return Spool.open(
            tmp_path,
            identity=load_identity(tmp_path),
            clock=SystemClock(),
            settings=SpoolSettings(),
            kind="one-shot",
            wait_s=wait_s,
        )

    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None and owner.stdin is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(HomeLockedError, match=str(owner.pid)) as refused:
            take(0.0 if waits else 3600.0)  # an hour: it would show if it were waited for
        assert (refused.value.pid, refused.value.kind) == (owner.pid, kind)
        owner.stdin.write("go\n")
        owner.stdin.flush()
        if waits:
            take(30.0).close()
        owner.wait(30)
    assert json.loads((tmp_path / LOCK_FILE).read_bytes())["kind"] == ("one-shot" if waits else kind)
