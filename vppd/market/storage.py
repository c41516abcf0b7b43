"""What the market layer knows of the site as one storage, and of the rules of an exchange. Pure.

Energies are inside the battery (MWh); powers are at the connection (MW), positive is sold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vppd.market.blocks import BLOCK_H, Block


@dataclass(frozen=True, slots=True)
class Storage:
    """The site as one battery.

    `low_mwh` and `high_mwh` already contain what is kept for reserve; `charge_mw` and
    `discharge_mw` (both at least 0) are what is left at the connection after reserve, auxiliary
    load and limits. One-way efficiencies are between the connection and the cells (0 to 1].

    `room_mw` is what the connection leaves of a block beside the other load and sources foreseen
    there: least (at most 0) and most (at least 0) net power. A block that is not in it has no other
    limit than the two powers.
    """

    low_mwh: float
    high_mwh: float
    charge_mw: float
    discharge_mw: float
    charge_efficiency: float
    discharge_efficiency: float
    cycles_per_day: float  # discharged at the connection, in multiples of the usable energy
    wear_rs_per_mwh: float  # of each MWh discharged at the connection
    room_mw: Mapping[Block, tuple[float, float]] = field(default_factory=dict)

    def discharge_at_mw(self, block: Block) -> float:
        """The most that may be sold in a block, at least 0."""
        room = self.room_mw.get(block)
        return self.discharge_mw if room is None else min(self.discharge_mw, room[1])

    def charge_at_mw(self, block: Block) -> float:
        """The most that may be bought in a block, at least 0."""
        room = self.room_mw.get(block)
        return self.charge_mw if room is None else min(self.charge_mw, -room[0])

    @property
    def usable_mwh(self) -> float:
        """Energy between the two ends of the window."""
        return self.high_mwh - self.low_mwh

    @property
    def day_discharge_mwh(self) -> float:
        """The most that may be discharged at the connection in one day."""
        return self.cycles_per_day * self.usable_mwh

    def stored_mwh(self, sold_mw: float) -> float:
        """Change of stored energy over one block at a net power, MWh (selling empties)."""
        if sold_mw >= 0.0:
            return -sold_mw * BLOCK_H / self.discharge_efficiency
        return -sold_mw * BLOCK_H * self.charge_efficiency


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules of an exchange for one product; all of them are configuration."""

    floor_rs_per_mwh: float = 0.0
    cap_rs_per_mwh: float = 10_000.0
    tick_rs_per_mwh: float = 1.0
    min_mw: float = 0.1
    step_mw: float = 0.1
    max_pairs: int = 49  # price-quantity pairs of one block
    fee_rs_per_mwh: float = 20.0  # each side
    loss_pct: float = 0.0  # transmission losses borne at the regional periphery
    whole_bids: int = 0  # block bids of one book, at most
    whole_blocks: tuple[int, int] = (1, 96)  # fewest and most blocks of one
