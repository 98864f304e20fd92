"""What people read of runs: lists, descriptions, differences, logs. Queries over the views, no state."""

__all__: list[str] = []
