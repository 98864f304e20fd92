"""Why there is no output of a rank to show."""

from ..session import Session
from .ranks import ranks_text

__all__ = ["why_no_output_of_rank"]


def why_no_output_of_rank(session: Session, run_id: str, rank: int, *, is_search: bool) -> str:
    """One sentence for a person; `is_search`: lines were looked for, and none of this rank's matched."""
    views = session.views
    (found,) = session.query(
        f"SELECT groupUniqArray(w.rank) AS ranks, "
        f"(SELECT groupUniqArray(rank) FROM {views}.logs WHERE run_id = {{id:UUID}}) AS with_output, "
        f"(SELECT countIf(rank IS NULL) FROM {views}.logs WHERE run_id = {{id:UUID}}) AS not_split "
        f"FROM {views}.run_writers AS w WHERE w.run_id = {{id:UUID}}",
        {"id": run_id},
    ).to_pylist()
    ranks = {*found["ranks"], *found["with_output"]}
    if rank not in ranks:
        return (
            f"the run has no rank {rank}; its ranks: {ranks_text(ranks)}" if ranks else "the run has no ranks"
        )
    if rank in found["with_output"]:
        return (
            f"no line of rank {rank} contains that text" if is_search else f"no output is kept of rank {rank}"
        )
    if found["not_split"]:
        return (
            "the output of this run is not split by rank: `trainledger run` recorded that of the whole command; leave "
            "--rank out"
        )
    return f"no output is kept of rank {rank}"
