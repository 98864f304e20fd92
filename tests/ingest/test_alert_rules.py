"""What is told: each episode once a channel, whatever flaps, comes late or is started again."""

from datetime import UTC, datetime, timedelta

from trainledger_ingest.alert_rules import QUIET, Delivered, Finding, due_findings

T0 = datetime(2026, 11, 27, 4, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def state(minute: int, subject: str = "stall r") -> Finding:
    return Finding(subject, T0 + minute * MINUTE, lasts=True)


def event(minute: int, subject: str = "hardware n g xid 79") -> Finding:
    return Finding(subject, T0 + minute * MINUTE, lasts=False)


def due(
    findings: list[Finding], delivered: Delivered, minute: int, channel: str = "webhook"
) -> list[list[int]]:
    now = T0 + minute * MINUTE
    groups = due_findings(findings, delivered, channel=channel, now=now)
    return [[round((finding.since - T0) / MINUTE) for finding in group] for group in groups]


def rows(*told: tuple[Finding, int]) -> Delivered:
    """As a process that was just started reads them."""
    return Delivered(
        {"alert": finding.key, "channel": "webhook", "sent_at": T0 + minute * MINUTE}
        for finding, minute in told
    )


def test_a_state_is_told_once_and_again_only_after_it_was_otherwise() -> None:
    assert due([state(0)], rows(), 10) == [[0]]
    told = rows((state(0), 10))
    assert due([state(0)], told, 11) == [] and due([state(0)], told, 11, "smtp") == [[0]]
    # Points that lay in a journal and came late: it did not move since it was told.
    assert due([state(7)], told, 30) == []
    assert due([state(12)], told, 30) == [[12]]
    assert due([state(0, "stall s")], told, 30) == [[0]]


def test_a_clock_that_is_ahead_of_the_teller_does_not_tell_again() -> None:
    assert due([state(5)], rows((state(5), 3)), 60) == []


def test_events_of_a_subject_are_one_message_and_the_next_ones_wait() -> None:
    assert due([event(2), event(1)], rows(), 3) == [[1, 2]]
    told = rows((event(1), 3), (event(2), 3))
    quiet = round(QUIET / MINUTE)
    assert due([event(1), event(2), event(4)], told, 3 + quiet - 1) == []
    assert due([event(1), event(2), event(4), event(5)], told, 3 + quiet) == [[4, 5]]
    # One from before the last message that came late is told all the same, and another kind at once.
    assert due([event(0)], told, 60) == [[0]]
    assert due([event(4, "hardware n g lost")], told, 4) == [[4]]
