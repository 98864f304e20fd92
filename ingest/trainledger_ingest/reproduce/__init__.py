"""Repeating a run: what is known of it, how well it can be repeated, restoring its code, running, comparing."""

__all__: list[str] = []
