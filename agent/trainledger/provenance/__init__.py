"""The capture of code and environment, in a process of its own beside the training.

`python -I -m trainledger.provenance` reads a request on stdin, leaves its starter, and writes one claim into a
journal of its own. See `__main__` for the request.
"""

__all__: list[str] = []
