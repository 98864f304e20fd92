"""`up` tells of what goes wrong on a node, once however often it is started: real agent, tables and webhook."""

from pathlib import Path

from support.fake_nvml_library import SCENARIO
from support.gpus import Machine
from support.installation import Installation
from support.polling import poll_until
from support.webhook import Webhook


def test_up_tells_a_webhook_of_an_error_of_a_gpu_once_across_restarts(
    machine: Machine, tmp_path: Path
) -> None:
    faulty, other = machine.scenario.gpu(0), machine.scenario.gpu(1)
    machine.scenario.write()
    node = Installation(tmp_path)
    node.environment |= {"LD_LIBRARY_PATH": str(machine.library.parent), SCENARIO: str(machine.scenario.path)}
    with Webhook() as hook:
        node.environment["TRAINLEDGER_ALERT_WEBHOOK"] = hook.url
        with node.up():
            poll_until(lambda: node.sql("SELECT device_id FROM gpus"), deadline_s=60, pause_s=0.5)
            machine.scenario.add("xid 0 79").write()
            poll_until(lambda: node.sql("SELECT code FROM hardware_errors"), deadline_s=90, pause_s=0.5)
        # Each minute is a look, and one at the start.
        with node.up() as up:
            poll_until(lambda: hook.posted, deadline_s=90)
            poll_until(lambda: node.sql("SELECT alert FROM alerts"), deadline_s=60, pause_s=0.5)
            machine.scenario.add("xid 1 94").write()
            poll_until(
                lambda: node.sql("SELECT code FROM hardware_errors WHERE code = 94"),
                deadline_s=90,
                pause_s=0.5,
            )
        assert "secret" not in up.errors.read_text()
        with node.up():
            poll_until(lambda: any(post["code"] == 94 for post in hook.posted), deadline_s=90)
    first = [post for post in hook.posted if post["code"] == 79]
    assert (
        len(first) == 1 and first[0]["device_id"] == faulty and first[0]["text"].startswith("Xid 79 on node ")
    )
    assert [post["device_id"] for post in hook.posted if post["code"] == 94] == [other]
