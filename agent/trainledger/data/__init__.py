"""Data and artifacts of a run, measured and stored beside the training: `python -I -m trainledger.data`.

Nothing of this package is imported by the training process. A manifest is trusted as far as `folder_scan` says.
"""

__all__: list[str] = []
