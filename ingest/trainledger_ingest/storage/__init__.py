"""Where rows live: chDB in this process or a ClickHouse server, behind one protocol."""

__all__: list[str] = []
