"""All that is told at once, by webhook and mail, through the thread that looks: each once, also after a restart."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.filled_tables import FilledTables, id_of
from support.ingest_store import fresh_store
from support.mailbox import Mailbox
from support.polling import poll_until
from support.troubles import WORDS, write_error, write_troubles
from support.webhook import Webhook
from trainledger_ingest.alert_channels import alert_channels
from trainledger_ingest.alert_watch import AlertWatch, alert_watch
from trainledger_ingest.settings import IngestSettings
from trainledger_schemas.clock import SystemClock


def test_every_rule_is_told_once_by_webhook_and_mail_across_restarts(tmp_path: Path) -> None:
    tables = FilledTables(fresh_store(), tmp_path)
    now_us = SystemClock().wall_ns() // 1000
    write_troubles(tables, now_us)
    tables.take_in()
    noted = 0

    def append(kind: str, fields: Mapping[str, Any]) -> None:
        nonlocal noted
        tables.event(kind, now_us, at_us=now_us, set_by="t", **fields)
        tables.take_in()
        noted += 1

    def watch_until(is_done: Callable[[], bool]) -> None:
        alerts = alert_watch(
            tables.session.query, tables.session.views, append=append, channels=channels, clock=SystemClock(),
            settings=IngestSettings.from_env({}),
        )  # fmt: skip
        with alerts.watching():
            poll_until(is_done, deadline_s=60)

    with Webhook() as hook, Mailbox() as box:
        channels = alert_channels({"TRAINLEDGER_ALERT_WEBHOOK": hook.url, "TRAINLEDGER_ALERT_SMTP": box.url})
        watch_until(lambda: noted == 8)
        write_error(tables, now_us, 94)
        tables.take_in()
        watch_until(lambda: noted == 10)
    texts = [str(post["text"]) for post in hook.posted]
    assert len(texts) == len(box.mails) == 5
    for words in (*WORDS.values(), "Xid 94 on node node-1, H100 GPU-a"):
        (text,) = [text for text in texts if words in text]
        (mail,) = [mail for _, mail in box.mails if words in mail["Subject"]]
        (post,) = [post for post in hook.posted if post["text"] == text]
        # One line in the subject, all of it below; a receiver may tell by the id that it had it before.
        line = " ".join(text.split())
        assert mail["Subject"] == f"trainledger: {line}" and line in " ".join(mail.get_content().split())
        assert mail["X-Trainledger-Alert"].strip() == post["id"]
    assert all(to == ["fin@x.org", "ops@x.org"] and mail["From"] == "led@x.org" for to, mail in box.mails)
    rules = [(post.get("rule"), post.get("run_id"), post.get("run_ids")) for post in hook.posted]
    assert ("stalled run", id_of(1), None) in rules and ("hardware error", None, [id_of(1)]) in rules


def test_a_look_that_fails_for_whatever_reason_keeps_no_other_from_its_turn() -> None:
    looks: list[int] = []

    def broken() -> Sequence[object]:
        looks.append(0)
        raise ValueError("what nobody thought of")

    with AlertWatch([broken, lambda: looks.append(1)], interval_s=0.01).watching():
        poll_until(lambda: looks.count(1) > 1)
    assert looks.count(0) > 1
