"""Who is on the node's resources: said when it changes, and again each 5 minutes.

What a scheduler reserved is a claim of whoever is in the job (`job_claims`). Beside that, every run with a live process
is present on the host without a claim (denominator 0): it pays by its CPU time. On a GPU whoever has a process there is
present without a claim; who shares it, shares its price, unless others claim it.
An event replaces the one before it as a whole, so a reader that begins in the middle knows all after one key
frame.
"""

from collections.abc import Mapping, Sequence

from trainledger.node.gpu_account import Occupant
from trainledger.node.gpu_events import occupant_rows
from trainledger.node.host import HOST_DEVICE
from trainledger.node.job_claims import Claim
from trainledger.node.processes import WriterProcess, owner_name
from trainledger.node.sampler import Fields
from trainledger_schemas.clock import Clock

__all__ = ["AllocationLog"]

EVIDENCE = "process tree"


class AllocationLog:
    """Makes `allocation` events; `observe` as often as the writers are known."""

    def __init__(self, *, clock: Clock, key_frame_s: float) -> None:
        self._clock = clock
        self._key_frame_ns = round(key_frame_s * 1e9)
        self._said: tuple[object, ...] | None = None
        self._said_ns = 0

    def observe(
        self,
        writers: Sequence[WriterProcess],
        occupants: Sequence[Occupant] = (),
        claims: Sequence[Claim] = (),
    ) -> Fields | None:
        """The fields of an event when the holders changed or a key frame is due, else None."""
        owners = _owners(writers)
        now_ns = self._clock.monotonic_ns()
        said = (owners, list(occupants), list(claims))
        is_changed = said != self._said
        if not is_changed and now_ns - self._said_ns < self._key_frame_ns:
            return None
        self._said, self._said_ns = said, now_ns
        return {
            "at_us": self._clock.wall_ns() // 1000,
            "key_frame": not is_changed,
            "holders": [*_holders(owners), *occupant_rows(occupants), *_claim_rows(claims)],
        }


def _owners(writers: Sequence[WriterProcess]) -> dict[bytes, int]:
    """User id by run; of a run whose processes have several owners, the lowest."""
    owners: dict[bytes, int] = {}
    for writer in writers:
        owners[writer.run_id] = min(writer.uid, owners.get(writer.run_id, writer.uid))
    return owners


def _holders(owners: Mapping[bytes, int]) -> list[dict[str, object]]:
    """One holder a run."""
    return [
        {
            "resource": HOST_DEVICE,
            "kind": "run",
            "run_id": run_id,
            "writer_id": None,
            "owner": owner_name(uid),
            "numerator": 0,
            "denominator": 0,
            "evidence": EVIDENCE,
            "part_id": "",
            "part_numerator": 1,
            "part_denominator": 1,
            "account": None,
        }
        for run_id, uid in sorted(owners.items())
    ]


def _claim_rows(claims: Sequence[Claim]) -> list[dict[str, object]]:
    return [
        {
            "resource": claim.resource,
            "kind": claim.holder.kind,
            "run_id": claim.holder.run_id,
            "writer_id": claim.holder.writer_id,
            "owner": None if claim.holder.uid is None else owner_name(claim.holder.uid),
            "numerator": claim.numerator,
            "denominator": claim.denominator,
            "evidence": claim.evidence,
            "part_id": claim.part_id,
            "part_numerator": claim.part_numerator,
            "part_denominator": claim.part_denominator,
            "account": claim.holder.account,
        }
        for claim in claims
    ]
