"""The campus's own alarms: too little in reserve, units drifting apart, no unit to spare."""

import math
from collections.abc import Mapping, Sequence

from vppd.campus.member import Branch, Member, member
from vppd.campus.reserve import (
    Spare,
    compared_pct,
    imbalance_pct,
    imbalanced,
    reserve_low,
    spare,
)
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import SITE, Limit, Snapshot, UnitId
from vppd.core.settings_campus import CampusRulesSettings
from vppd.spine.alarms import AlarmBoard

EVERY_S = 1.0  # nothing that is watched here moves faster than a person reads
CALM_KW = 0.05  # less than this given is nothing that needs a reserve


class CampusWatch:
    """Looks once a second at what the units can and do give."""

    def __init__(
        self, rules: CampusRulesSettings, assets: Sequence[Asset], alarms: AlarmBoard
    ) -> None:
        self.rules, self._alarms = rules, alarms
        self._assets, self._looked_s = tuple(assets), -math.inf
        self._rated_kw = {asset.id: asset.rated_kw for asset in assets}
        self._low = self._apart = False
        self.spare: Spare | None = None
        self.imbalance_pct = 0.0

    def adopt(self, rules: CampusRulesSettings, assets: Sequence[Asset]) -> None:
        """Other rules and units from now on."""
        self.rules, self._assets = rules, tuple(assets)
        self._rated_kw = {asset.id: asset.rated_kw for asset in assets}

    def due(self, now_s: float) -> bool:
        """Whether it is time to look again."""
        return now_s - self._looked_s >= EVERY_S

    def look(
        self,
        now: Snapshot,
        rooms: Mapping[UnitId, Limit],
        given_kw: Mapping[UnitId, float],
        branches: Sequence[Branch],
    ) -> None:
        """The room of every unit, what it is told to give, and the limits of the tree."""
        self._looked_s = now.now_s
        self.note([member(now, each, rooms[each.id]) for each in self._assets], given_kw, branches)

    def note(
        self,
        members: Sequence[Member],
        given_kw: Mapping[UnitId, float],
        branches: Sequence[Branch] = (),
    ) -> None:
        """What every unit has room for and is told to give. Rests while nothing is given."""
        total_kw = sum(given_kw.values())
        self.spare = found = spare(total_kw, members, branches)
        busy = abs(total_kw) > CALM_KW
        several = len(self._assets) > 1  # a site of one unit has none to lose
        self._low = busy and reserve_low(found.margin_pct, self.rules.reserve, was=self._low)
        margin_pct = 0.0 if found.margin_pct is None else found.margin_pct
        text = f"{margin_pct:.1f} % left of what could be given"
        self._alarms.set(Code.RESERVE_LOW, SITE, self._low, text)
        text = f"without {found.largest} {found.short_kw:.1f} kW would not be given"
        self._alarms.set(
            Code.N_MINUS_ONE, SITE, several and busy and found.short_kw > CALM_KW, text
        )
        rule = self.rules.imbalance
        values_pct = compared_pct(members, given_kw, self._rated_kw, rule)
        self.imbalance_pct = imbalance_pct(values_pct)
        self._apart = imbalanced(self.imbalance_pct, rule, was=self._apart)
        text = f"{rule.of} {self.imbalance_pct:.1f} % apart, {rule.max_pct:g} % allowed"
        self._alarms.set(Code.IMBALANCE, SITE, self._apart, text)
