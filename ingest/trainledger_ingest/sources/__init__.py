"""Where events come from: the spool of this node, a Kafka cluster, or memory in tests."""

__all__: list[str] = []
