"""What the node's Kubernetes says without credentials: which pod holds what, which pod a process is in, its image."""

__all__: list[str] = []
