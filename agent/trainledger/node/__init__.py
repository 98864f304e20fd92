"""The node agent: journals to events, measurements of the node, the spool and the way to Kafka."""

__all__: list[str] = []
