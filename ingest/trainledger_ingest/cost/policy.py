"""The rules by which a node-hour is dealt, as the price book sets them for that node and hour."""

from dataclasses import dataclass, field

from trainledger_ingest.cost.presence import PresenceRule
from trainledger_schemas.errors import SettingsError

__all__ = ["ALLOCATION_AGE_US_MAX", "HOST_SHARE_PPM_WITH_DEVICES", "WHOLE_PPM", "CostPolicy"]

WHOLE_PPM = 1_000_000
HOST_SHARE_PPM_WITH_DEVICES = 100_000
# Two key frames (5 minutes each) and one minute for a slow agent: one lost key frame changes nothing.
ALLOCATION_AGE_US_MAX = 660_000_000


@dataclass(frozen=True, slots=True)
class CostPolicy:
    """How one node-hour is dealt.

    `host_share_ppm`: the host pool in millionths of the node; None: 100000 with devices, all without.
    A node without devices is all host whatever is set. `device_weights`: weight by device model, over the
    device's own. A change of the policy changes the lines, so the node-hour is dealt again; a change of the
    price alone is not.
    """

    presence: PresenceRule = field(default_factory=PresenceRule)
    host_share_ppm: int | None = None
    device_weights: tuple[tuple[str, int], ...] = ()
    allocation_age_us_max: int = ALLOCATION_AGE_US_MAX

    def __post_init__(self) -> None:
        if self.host_share_ppm is not None and not 0 <= self.host_share_ppm <= WHOLE_PPM:
            raise SettingsError(f"host share {self.host_share_ppm} ppm is not between 0 and {WHOLE_PPM}")
        if any(weight < 1 for _, weight in self.device_weights):
            raise SettingsError("device weights are whole numbers from 1")

    def host_ppm(self, *, has_devices: bool) -> int:
        """The host pool in millionths of the node."""
        if not has_devices:
            return WHOLE_PPM
        return HOST_SHARE_PPM_WITH_DEVICES if self.host_share_ppm is None else self.host_share_ppm
