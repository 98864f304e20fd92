"""Takes events in exactly once, keeps the tables, and answers: SQL, reports, cost.

Data moves one way: sources -> decode -> admit -> project -> insert -> ledger -> derived tables -> reports. Only
positions travel back. Only `embedded`, the composition root of `up` and of one-shot commands, knows the agent.
"""

__all__: list[str] = []
