"""Timed checks, one JSON line a bar: `python -m bench [NAME ...]`. Nothing here runs in the tests.

Each line has the bar's name, the figures, the bar they are held against and whether they meet it, CPU seconds
beside wall seconds, and, where there is a peer, the peer measured in the same run.
"""

__all__: list[str] = []
