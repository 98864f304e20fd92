"""From a record's bytes to an event, with every check that what follows relies on.

What passes here has a type that belongs on its topic, a sequence number and journal range that make sense,
and arrays that fit together. Everything else raises DeadLetterError and nothing but that.
"""

from trainledger_schemas.avro_codec import decode_event, event_type
from trainledger_schemas.errors import DeadLetterError
from trainledger_schemas.events import EVENT_TOPICS, Envelope, Event
from trainledger_schemas.point_codec import DecodedMetrics, decode_metrics

from .sources.source import SourceRecord

__all__ = ["Decoded", "decode_record", "envelope_of"]

Decoded = Event | DecodedMetrics


def decode_record(record: SourceRecord) -> Decoded:
    """Read one record. Raises DeadLetterError."""
    name = event_type(record.value)
    if EVENT_TOPICS[name] != record.topic:
        raise DeadLetterError(
            f"a {name} event belongs on {EVENT_TOPICS[name]}, not on {record.topic}", reason="wrong_topic"
        )
    decoded: Decoded = decode_metrics(record.value) if name == "metrics" else decode_event(record.value)
    _check_envelope(envelope_of(decoded))
    if isinstance(decoded, Event) and name == "log_chunk":
        chunk = decoded.record
        if not len(chunk["at_us"]) == len(chunk["offset"]) == len(chunk["text"]) or chunk["first_line"] < 0:
            raise DeadLetterError("log_chunk whose arrays do not fit together", reason="bad_shape")
    return decoded


def envelope_of(decoded: Decoded) -> Envelope:
    """The envelope of an event of any type."""
    envelope: Envelope = (
        decoded.envelope if isinstance(decoded, DecodedMetrics) else decoded.record["envelope"]
    )
    return envelope


def _check_envelope(envelope: Envelope) -> None:
    if envelope["seq"] < 0:
        raise DeadLetterError(f"sequence number {envelope['seq']} is negative", reason="bad_envelope")
    source = envelope["source"]
    if source is not None and not (0 <= source["start"] <= source["end"] and source["prev_end"] >= 0):
        raise DeadLetterError(
            f"journal range [{source['start']}, {source['end']}) behind {source['prev_end']} makes no sense",
            reason="bad_envelope",
        )
