"""What training cost: pure arithmetic over node events, prices, and the tables it is kept in."""

__all__: list[str] = []
