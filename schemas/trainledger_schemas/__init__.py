"""Contracts shared by the SDK, the agent and ingest: formats, events, clock and errors.

Nothing here knows who uses it. The modules that the SDK imports (`journal`, `clock`, `ids`, `errors`) need
the standard library alone; `avro_codec` and `point_codec` need fastavro and numpy and belong to the agent
and to ingest.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
