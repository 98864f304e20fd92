"""What other systems recorded of who had which node: Slurm's accounting, OpenCost's allocations."""

from .reservation import JobRecord, NodeSize, reservation_rows

__all__ = ["JobRecord", "NodeSize", "reservation_rows"]
