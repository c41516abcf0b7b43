"""What other load and solar leave of the connection, block by block. Pure.

Positive load is consumption, as the meter's; less than nothing is more solar than load. Powers are
at the connection, kW.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vppd.core.model import Limit
from vppd.core.settings_market import BatterySettings
from vppd.market.blocks import Block

KW = 1000.0

Band = tuple[float, float, float]
"""The lower end, what is expected, and the upper end, kW."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is foreseen: `blocks` as metered, so the site's own auxiliary is in them; without any
    a constant, which is beside it. `why` says how it came about."""

    blocks: Mapping[Block, Band] = field(default_factory=dict)
    constant_kw: float = 0.0
    why: str = ""


NONE = Load()


def left_of(connection: Limit, load: Load) -> Limit:
    """The connection's limits, shifted by a constant load; clipped so that they contain 0."""
    if load.blocks or not load.constant_kw:
        return connection
    low_kw = min(connection.low_kw + load.constant_kw, 0.0)
    return Limit(low_kw, max(connection.high_kw + load.constant_kw, 0.0), connection.why)


def room_of(
    load: Load, connection: Limit, battery: BatterySettings
) -> dict[Block, tuple[float, float]]:
    """Least and most net power that may be traded in each block, MW: little load leaves little
    room to sell, much load little to buy, each at its worse end, and reserve comes off first."""
    found = {}
    for block, (low_kw, _, high_kw) in load.blocks.items():
        most_kw = connection.high_kw + low_kw - battery.auxiliary_kw - battery.reserve_up_kw
        least_kw = connection.low_kw + high_kw - battery.auxiliary_kw + battery.reserve_down_kw
        found[block] = min(least_kw / KW, 0.0), max(most_kw / KW, 0.0)
    return found
