"""What the socket shows of the devices of one unit: its BMS with every cell, its inverter, and how
each of them answers. An absent value is None; a section that a unit has not is None."""

from vppd.core.asset import SOLE, Asset
from vppd.core.model import METER, SITE, Cells, Point, Snapshot
from vppd.field.presence import Known
from vppd.northbound.site import Site

View = dict[str, object]

# SunSpec model 103, St
STATES = {
    1: "off",
    2: "sleeping",
    3: "starting",
    4: "running",  # MPPT to a solar inverter
    5: "throttled",
    6: "shutting down",
    7: "fault",
    8: "standby",
}
BMS = {
    "soc_pct": Point.BMS_SOC_PCT,
    "soh_pct": Point.BMS_SOH_PCT,
    "pack_v": Point.PACK_V,
    "pack_a": Point.PACK_A,
    "discharge_max_a": Point.BMS_DISCHARGE_MAX_A,
    "charge_max_a": Point.BMS_CHARGE_MAX_A,
    "discharge_allowed": Point.BMS_DISCHARGE_ALLOWED,
    "charge_allowed": Point.BMS_CHARGE_ALLOWED,
    "force_charge": Point.BMS_FORCE_CHARGE,
    "charge_max_v": Point.BMS_CHARGE_MAX_V,
    "discharge_min_v": Point.BMS_DISCHARGE_MIN_V,
    "cell_min_v": Point.CELL_MIN_V,
    "cell_max_v": Point.CELL_MAX_V,
    "cell_min_c": Point.CELL_MIN_C,
    "cell_max_c": Point.CELL_MAX_C,
    "cycles": Point.BMS_CYCLES,
    "balancing": Point.BALANCING,
    "fault_bits": Point.BMS_FAULT_BITS,
    "warning_bits": Point.BMS_WARNING_BITS,
}
INVERTER = {
    "power_kw": Point.INVERTER_KW,
    "reactive_kvar": Point.INVERTER_KVAR,
    "apparent_kva": Point.INVERTER_KVA,
    "power_factor": Point.INVERTER_POWER_FACTOR,
    "frequency_hz": Point.INVERTER_HZ,
    "dc_kw": Point.INVERTER_DC_KW,
    "dc_v": Point.INVERTER_DC_V,
    "dc_a": Point.INVERTER_DC_A,
    "efficiency_pct": Point.INVERTER_EFFICIENCY_PCT,
    "temperature_c": Point.INVERTER_C,
    "soc_pct": Point.INVERTER_SOC_PCT,
    "discharge_max_kw": Point.DISCHARGE_MAX_KW,
    "charge_max_kw": Point.CHARGE_MAX_KW,
    "apparent_max_kva": Point.APPARENT_MAX_KVA,
    "fault_bits": Point.INVERTER_FAULT_BITS,
    "alarm_bits": Point.INVERTER_ALARM_BITS,
}
FLAGS = frozenset({"discharge_allowed", "charge_allowed", "force_charge", "balancing"})


def bms(now: Snapshot, asset: Asset) -> View | None:
    """All that its BMS says, with every cell and sensor as last heard, each None where not."""
    if asset.declared.isdisjoint(BMS.values()):
        return None
    view: View = {name: now.fresh(asset.id, point) for name, point in BMS.items()}
    view |= {name: None if view[name] is None else bool(view[name]) for name in FLAGS}
    low_v, high_v = view["cell_min_v"], view["cell_max_v"]
    known = isinstance(low_v, float) and isinstance(high_v, float)
    view["cell_spread_v"] = high_v - low_v if known else None  # type: ignore[operator]
    return {**view, **_cells(now, now.cells.get(asset.id))}


def inverter(now: Snapshot, asset: Asset) -> View | None:
    """All that its inverter says; its state in the word of SunSpec model 103."""
    if Point.INVERTER_STATE not in asset.declared:
        return None
    sole = Point.INVERTER_KW not in asset.declared
    places = {name: SOLE.get(point, point) if sole else point for name, point in INVERTER.items()}
    state = now.fresh(asset.id, Point.INVERTER_STATE)
    word = None if state is None else STATES.get(int(state), f"state {state:g}")
    return {"state": word, **{name: now.fresh(asset.id, each) for name, each in places.items()}}


def devices(site: Site, asset: Asset) -> list[View]:
    """Each device of a unit: whether it answers, and what became of the requests to it."""
    return [
        _device(name, known)
        for name, known in site.devices().items()
        if name == asset.id or name.startswith(f"{asset.id}/")
    ]


def meter(site: Site) -> View | None:
    """The meter at the point of connection, + is export, and the other load that it shows."""
    known = site.devices().get(METER)
    if known is None:
        return None
    now = site.bus.snapshot()
    return {
        **_device(METER, known),
        "export_kw": now.fresh(METER, Point.POWER_KW),
        "other_load_kw": now.fresh(SITE, Point.LOAD_KW),
    }


def _device(name: str, known: Known) -> View:
    return {
        "name": name,
        "up": known.up,
        "text": known.text,
        "counters": known.counters,
    }


def _cells(now: Snapshot, cells: Cells | None) -> View:
    if cells is None:
        return {"cells_v": [], "sensors_c": [], "cells_balancing": [], "cells_age_s": None}
    return {
        "cells_v": list(cells.cells_v),
        "sensors_c": list(cells.sensors_c),
        "cells_balancing": list(cells.balancing),
        "cells_age_s": now.now_s - cells.at_s,
    }
