"""Removing blobs that nothing names any more: what is needed, what is condemned, and what may go."""

__all__: list[str] = []
