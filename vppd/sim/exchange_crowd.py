"""Everybody else at the exchange: steps of demand and supply that make a day look like a day.

Low at noon, high in the evening, now and then at the cap; days differ, neighbouring blocks do not
jump, and real time strays from the day before. All drawn from a seed: the same auction always has
the same crowd.
"""

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from vppd.sim.exchange_auction import Step

LOTS_A_MW = 100
PAISE_A_RUPEE = 100
BLOCKS_AN_HOUR = 4
HOURS = 24
# Rs/MWh by the hour, the look of a year of day-ahead prices; a simulation's own, no rule's.
SHAPE_RS_PER_MWH = (
    *(5000, 4300, 3700, 3400, 3400, 3500, 4300, 4800, 4400, 3900, 3400, 2900),
    *(2500, 2300, 2700, 3200, 3900, 5000, 6300, 7600, 7100, 6800, 6400, 6000),
)
DEMAND_MW = 7000.0
SCARCE_FROM_RS_PER_MWH = 9600.0  # above, buyers at the cap outnumber the sellers
DAY_SPREAD_SHARE = 0.22
BLOCK_SPREAD_SHARE = 0.04
RTM_SPREAD_SHARE = 0.12
# Where the others' steps stand, times the price that is aimed at.
RUNG_FACTORS = (0.3, 0.5, 0.65, 0.78, 0.88, 0.94, 0.98, 1.0, 1.02, 1.06, 1.12, 1.22, 1.4)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Others in these areas, with the share of all business that each has."""

    seed: int = 0
    area_shares: Mapping[str, float] = field(
        default_factory=lambda: {"N1": 0.5, "S1": 0.3, "W1": 0.2}
    )

    def aim_rs_per_mwh(self, product: str, day: date, number: int) -> float:
        """About where a block's price will be; above the cap where supply will not do."""
        hour = (number - 0.5) / BLOCKS_AN_HOUR - 0.5
        first = int(hour // 1) % HOURS
        part = hour % 1
        shape = (1 - part) * SHAPE_RS_PER_MWH[first] + part * SHAPE_RS_PER_MWH[(first + 1) % HOURS]
        level = self._draw("level", day).gauss(1.0, DAY_SPREAD_SHARE)
        evening = self._draw("evening", day).gauss(1.0, DAY_SPREAD_SHARE) if hour >= 16 else 1.0  # noqa: PLR2004
        aim = shape * min(max(level * evening, 0.4), 2.0)
        aim *= self._draw("block", day, number).gauss(1.0, BLOCK_SPREAD_SHARE)
        if product == "rtm":
            aim *= self._draw("rtm", day, (number + 1) // 2).gauss(1.0, RTM_SPREAD_SHARE)
        return max(aim, 0.0)

    def steps(
        self, product: str, day: date, number: int, floor_paise: int, cap_paise: int
    ) -> list[Step]:
        """The crowd's steps in one block."""
        aim = self.aim_rs_per_mwh(product, day, number)
        draw = self._draw("steps", product, day, number)
        made: list[Step] = []
        for area, share in self.area_shares.items():
            lots = DEMAND_MW * share * LOTS_A_MW
            scarce = 1.3 if aim > SCARCE_FROM_RS_PER_MWH else 1.0
            wishes = [(False, cap_paise, lots * 0.7 * scarce), (True, floor_paise, lots * 0.35)]
            aim_paise = min(aim, SCARCE_FROM_RS_PER_MWH) * PAISE_A_RUPEE
            for at in RUNG_FACTORS:
                limit = round(aim_paise * at * draw.uniform(0.985, 1.015))
                wishes.append((True, limit, lots * 0.055 * draw.uniform(0.6, 1.4)))
                wishes.append((False, limit + 7, lots * 0.03 * draw.uniform(0.6, 1.4)))
            made += [
                Step("others", area, sells, min(max(limit, floor_paise), cap_paise), round(wanted))
                for sells, limit, wanted in wishes
            ]
        return made

    def _draw(self, *words: object) -> random.Random:
        return random.Random(zlib.crc32(f"{self.seed}/{words}".encode()))  # noqa: S311
