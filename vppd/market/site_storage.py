"""The site as one storage for trading: what its units can do now, less what is kept. Pure.

A unit counts as far as it is able to work and shows its state of charge; the others count for
nothing. Trading's window lies inside the units' safety windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vppd.core.asset import Asset
from vppd.core.model import Limit, Point, Snapshot, UnitId
from vppd.core.settings_market import BatterySettings
from vppd.market.site_load import NONE, Load, left_of, room_of
from vppd.market.storage import Storage

PERCENT = 100.0
KW = 1000.0
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Stock:
    """The storage and how full it is: energy between two values, MWh, as old as the oldest state of
    charge it was made of."""

    storage: Storage
    low_mwh: float
    high_mwh: float
    soc_pct: float | None  # of the energy of all units that count
    age_s: float
    able: frozenset[UnitId]
    load_why: str = ""  # how other load and solar beside it were foreseen, where they were


def stock_of(
    now: Snapshot,
    assets: Sequence[Asset],
    able: frozenset[UnitId],
    connection: Limit,
    battery: BatterySettings,
    soc_error_pct: float = 0.0,
    load: Load = NONE,
) -> Stock:
    """What can be traded with now.

    Reserve power is taken off both ways and its energy off both ends of the window, as seen inside
    the battery. Auxiliary load is always drawn: it lowers what can be sold. So does what is
    foreseen of other load and solar beside the connection's limits.
    """
    counted = [asset for asset in assets if asset.id in able]
    energies_mwh, stored_mwh, lows_mwh, highs_mwh, ages_s = [], [], [], [], [0.0]
    used: list[UnitId] = []
    rated_mw = 0.0
    for asset in counted:
        soc_pct = now.fresh(asset.id, Point.SOC_PCT)
        reading = now.readings.get((asset.id, Point.SOC_PCT))
        if soc_pct is None or reading is None:
            continue
        used.append(asset.id)
        health = now.fresh(asset.id, Point.SOH_PCT)
        energy_mwh = asset.energy_kwh / KW * (PERCENT if health is None else health) / PERCENT
        low_pct = max(asset.safety.soc_min_pct, battery.soc_min_pct)
        high_pct = max(min(asset.safety.soc_max_pct, battery.soc_max_pct), low_pct)
        energies_mwh.append(energy_mwh)
        stored_mwh.append(energy_mwh * soc_pct / PERCENT)
        lows_mwh.append(energy_mwh * low_pct / PERCENT)
        highs_mwh.append(energy_mwh * high_pct / PERCENT)
        ages_s.append(now.now_s - reading.at_s)
        rated_mw += asset.rated_kw / KW
    in_share = battery.charge_efficiency_pct / PERCENT
    out_share = battery.discharge_efficiency_pct / PERCENT
    reserve_h = battery.reserve_s / HOUR_S
    low_mwh = sum(lows_mwh) + battery.reserve_up_kw / KW * reserve_h / out_share
    high_mwh = sum(highs_mwh) - battery.reserve_down_kw / KW * reserve_h * in_share
    connection = left_of(connection, load)
    auxiliary_mw = battery.auxiliary_kw / KW
    discharge_mw = min(rated_mw - auxiliary_mw, connection.high_kw / KW)
    charge_mw = min(rated_mw + auxiliary_mw, -connection.low_kw / KW)
    storage = Storage(
        low_mwh,
        max(high_mwh, low_mwh),
        max(charge_mw - battery.reserve_down_kw / KW, 0.0),
        max(discharge_mw - battery.reserve_up_kw / KW, 0.0),
        in_share,
        out_share,
        battery.cycles_per_day,
        battery.wear_rs_per_mwh,
        room_of(load, connection, battery),
    )
    energy_mwh, held_mwh = sum(energies_mwh), sum(stored_mwh)
    error_mwh = energy_mwh * soc_error_pct / PERCENT
    return Stock(
        storage,
        held_mwh - error_mwh,
        held_mwh + error_mwh,
        PERCENT * held_mwh / energy_mwh if energy_mwh > 0.0 else None,
        max(ages_s),
        frozenset(used),
        load.why,
    )
