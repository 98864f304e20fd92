"""The commands: parse, call, print. What they know is in the modules they call."""

__all__: list[str] = []
