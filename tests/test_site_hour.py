"""A long stretch of an ordinary day on virtual time: four units, a schedule, a grid that wanders.

The suite plays ten minutes. `SITE_HOURS=1 pytest -s tests/test_site_hour.py` plays as many hours
and prints how long a machine takes for one.
"""

import os
import time
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path

import pytest

from tests.site_rig import NAMES, SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.core.records import SiteRow, TripRow, ViolationRow
from vppd.core.settings import DroopSettings
from vppd.core.settings_market import MarketSettings
from vppd.sim.inverter import dc_kw

PLAYED_S = 3600.0 * float(os.environ.get("SITE_HOURS", str(1.0 / 6.0)))
BLOCKS_KW = (60.0, 120.0, -80.0, 40.0)
DROOP = DroopSettings(
    deadband_low_hz=49.98, deadband_high_hz=50.02, rocof_gain_pu_per_hz_per_s=0.05
)  # narrow, so that an ordinary grid is answered often


def _schedule(directory: Path) -> MarketSettings:
    rows = [
        f"2026-01-01,{23 + n},{BLOCKS_KW[n % len(BLOCKS_KW)]}"
        for n in range(int(PLAYED_S // 900) + 1)
    ]
    (directory / "schedule.csv").write_text("\n".join(["date,block,power_kw", *rows]) + "\n")
    return MarketSettings(schedule="schedule.csv")


class Meter:
    """What the devices were told and what they gave, summed while it happens: kWh by unit."""

    def __init__(self, rig: SiteRig) -> None:
        self.told_kwh = dict.fromkeys(NAMES, 0.0)
        self.given_kwh = dict.fromkeys(NAMES, 0.0)
        self.drawn_kwh = dict.fromkeys(NAMES, 0.0)
        self.most_kw = 0.0
        self.writes = 0
        self._rig, self._looked_s = rig, rig.now_s

    def look(self) -> None:
        """Sum up since the last look, from what arrived at each device and when."""
        begun_s, self._looked_s = self._looked_s, self._rig.now_s
        for name in NAMES:
            writes = self._rig.told(name)
            first = max(bisect_right([each.at_s for each in writes], begun_s) - 1, 0)
            span = [(max(each.at_s, begun_s), each.power_kw) for each in writes[first:]]
            span.append((self._looked_s, 0.0))
            for (from_s, power_kw), (to_s, _) in pairwise(span):
                hours = (to_s - from_s) / 3600.0
                self.told_kwh[name] += power_kw * hours
                self.drawn_kwh[name] += dc_kw(power_kw) * hours
                self.most_kw = max(self.most_kw, abs(power_kw))
            self.writes += len(writes) - first - 1


@virtual
async def _ordinary(directory: Path) -> None:
    settings = site_settings(droop=DROOP, market=_schedule(directory), config_dir=str(directory))
    async with SiteRig(settings, grid_hz=None, seed=7) as rig:
        meter, begun_s = Meter(rig), rig.now_s
        stored_kwh = {name: rig.plant.unit(name).battery.stored_kwh for name in NAMES}
        answered = 0
        while rig.now_s < begun_s + PLAYED_S:
            await rig.run(60.0)
            meter.look()
            decision = rig.house.decision
            assert decision is not None
            assert decision.base_source == "schedule"
            answered += decision.droop_kw != 0.0

        lag = rig.house.heartbeat.lag()
        assert lag.late == 0
        assert lag.count >= 10.0 * (rig.now_s - begun_s) - 20
        assert not [row for row in rig.rows() if isinstance(row, ViolationRow | TripRow)]
        assert answered > 0, "the grid never left the deadband: nothing was tried"
        assert 15.0 < meter.most_kw <= 100.0
        for name in NAMES:
            # what a battery gave its inverter is what the inverter was told, and what it lost
            drawn_kwh = stored_kwh[name] - rig.plant.unit(name).battery.stored_kwh
            lost_kwh = rig.plant.unit(name).battery.heat_kwh
            assert drawn_kwh == pytest.approx(
                meter.drawn_kwh[name] + lost_kwh, abs=0.02 + 0.005 * abs(drawn_kwh)
            ), name
        scheduled_kwh = sum(
            BLOCKS_KW[n % len(BLOCKS_KW)] * min(max(PLAYED_S - 900.0 * n, 0.0), 900.0) / 3600.0
            for n in range(int(PLAYED_S // 900) + 1)
        )
        assert sum(meter.told_kwh.values()) == pytest.approx(
            scheduled_kwh + _droop_kwh(rig), abs=0.01 * abs(scheduled_kwh) + 0.3
        )


def _droop_kwh(rig: SiteRig) -> float:
    """What droop asked, from the journal's row a second."""
    rows = [row for row in rig.rows() if isinstance(row, SiteRow)]
    return sum(
        row.droop_kw * (after.at - row.at).total_seconds() / 3600.0 for row, after in pairwise(rows)
    )


def test_an_ordinary_stretch_of_a_day(tmp_path: Path) -> None:
    begun_s, used_s = time.perf_counter(), time.process_time()
    _ordinary(tmp_path)
    took_s, used_s = time.perf_counter() - begun_s, time.process_time() - used_s
    hour_s = 3600.0 / PLAYED_S
    print(
        f"one simulated hour: {hour_s * took_s:.1f} s, of which {hour_s * used_s:.1f} s of a core"
    )
