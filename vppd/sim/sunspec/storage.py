"""The drive of an older battery inverter by models 103, 120 to 124 and 160, positive = out.

124: rates are percent of WChaMax, for the charge and, there being no maximum of its own in the
model, for the discharge. StorCtl_Mod with one bit makes that bit's rate the setpoint, and a
negative rate goes the other way. With both bits it is OutWRte less InWRte, and where one of them is
negative it is a window from -InWRte to OutWRte of which the device takes the point nearest to 0, so
that OutWRte 50 with InWRte -50 is 50 % discharge. With none the device is released: idle.
ChaGriSet PV forbids to charge from the grid, and there is nothing else to charge from.
Reversion: a write to a function's setpoint, to its enable or to its RvrtTms starts its timer anew.
When it runs out the function is off and its percentage is back at power-up: StorCtl_Mod 0 with both
rates at 100, WMaxLim_Ena, OutPFSet_Ena and VArPct_Ena 0, Conn 1.
WMaxLimPct limits the output, not the charge. A positive OutPFSet gives kvar, a negative one takes.
Active power goes first in the circle, as these models know nothing else.
"""

from dataclasses import dataclass

from vppd.sim.sunspec.image import Image, Model, Value, Written
from vppd.sim.sunspec.models_1xx import M103, M120, M121, M122, M123, M124, M160
from vppd.sim.sunspec.power import (
    Room,
    Target,
    constant_factor_kvar,
    fit,
    left_of,
    within,
)
from vppd.sim.sunspec.readings import BUSY_KW, Look, Meter, fitting
from vppd.sim.sunspec.timer import Timer
from vppd.sim.unit import EMPTY_PCT, FULL_PCT, SimUnit

BATTERY = 82  # DERTyp PV_STOR
CONNECTED, AVAILABLE, OPERATING = 1 << 0, 1 << 1, 1 << 2
AT_GRID = 1 << 1  # ECPConn
CHARGE, DISCHARGE = 1 << 0, 1 << 1
FROM_GRID = 1
EMPTY, DISCHARGING, CHARGING, FULL, HOLDING = 2, 3, 4, 5, 6
OF_W_MAX, OF_VAR_MAX, OF_VAR_AVAILABLE = 1, 2, 3
FIXED_W, FIXED_VAR, FIXED_FACTOR = 1 << 0, 1 << 1, 1 << 2
OUT_MODULE, IN_MODULE = 1, 2
BATTERY_FAULT = 1  # in EvtVnd1


@dataclass(frozen=True, slots=True)
class Reverting:
    """A function with a timer: what starts it, and what everything is afterwards."""

    model: int
    time: str
    triggers: frozenset[str]
    after: tuple[tuple[str, int], ...]


FUNCTIONS = (
    Reverting(
        124,
        "InOutWRte_RvrtTms",
        frozenset({"StorCtl_Mod", "OutWRte", "InWRte"}),
        (("StorCtl_Mod", 0), ("OutWRte", 100), ("InWRte", 100)),
    ),
    Reverting(
        123,
        "WMaxLimPct_RvrtTms",
        frozenset({"WMaxLimPct", "WMaxLim_Ena"}),
        (("WMaxLim_Ena", 0), ("WMaxLimPct", 100)),
    ),
    Reverting(
        123,
        "OutPFSet_RvrtTms",
        frozenset({"OutPFSet", "OutPFSet_Ena"}),
        (("OutPFSet_Ena", 0), ("OutPFSet", 1)),
    ),
    Reverting(
        123,
        "VArPct_RvrtTms",
        frozenset({"VArWMaxPct", "VArMaxPct", "VArAvalPct", "VArPct_Mod", "VArPct_Ena"}),
        (("VArPct_Ena", 0), ("VArWMaxPct", 0), ("VArMaxPct", 0), ("VArAvalPct", 0)),
    ),
    Reverting(123, "Conn_RvrtTms", frozenset({"Conn"}), (("Conn", 1),)),
)


def models() -> tuple[Model, ...]:
    """The chain of this kind in its usual order."""
    plain = (M103, M120, M121, M122, M123, M124)
    fixed = (Model(table.model, table.layout()) for table in plain)
    return (*fixed, Model(M160.model, M160.layout(IN_MODULE)))


def exponents(unit: SimUnit) -> dict[tuple[int, str], int]:
    """Scale factors in which this unit's numbers fit their registers."""
    kva = unit.inverter.rated_apparent_kva
    w, a, dc_a = fitting(1000.0 * kva), fitting(2.0 * kva), fitting(30.0 * kva)
    wh = fitting(1000.0 * unit.battery.energy_kwh, 65534)
    volts = {(103, "V_SF"): -1, (121, "VRef_SF"): -1, (121, "VRefOfs_SF"): -1}
    percents = {
        **{(123, name): -1 for name in ("WMaxLimPct_SF", "VArPct_SF")},
        **{(124, name): -2 for name in ("InOutWRte_SF", "ChaState_SF")},
    }
    return {
        **{(103, name): w for name in ("W_SF", "VA_SF", "VAr_SF", "DCW_SF")},
        **{(120, name): w for name in ("WRtg_SF", "VARtg_SF", "VArRtg_SF")},
        **{(120, name): w for name in ("MaxChaRte_SF", "MaxDisChaRte_SF")},
        **{(121, name): w for name in ("WMax_SF", "VAMax_SF", "VArMax_SF")},
        **{(122, name): w for name in ("VArAval_SF", "WAval_SF")},
        (103, "A_SF"): a,
        (120, "ARtg_SF"): a,
        (103, "DCA_SF"): dc_a,
        (160, "DCA_SF"): dc_a,
        (103, "Hz_SF"): -2,
        (103, "PF_SF"): -1,
        (103, "Tmp_SF"): -1,
        (103, "DCV_SF"): -2,
        (120, "WHRtg_SF"): wh,
        (123, "OutPFSet_SF"): -3,
        (124, "WChaMax_SF"): w,
        (120, "PFRtg_SF"): -2,
        (121, "VMinMax_SF"): -1,
        (121, "ECPNomHz_SF"): -1,
        (124, "InBatV_SF"): -2,
        (160, "DCV_SF"): -2,
        (160, "DCW_SF"): w,
        **volts,
        **percents,
    }


class StorageDrive:
    """What the registers 120 to 124 make of one unit."""

    controls = frozenset({123, 124})
    event_model = 103

    def __init__(self, image: Image, unit: SimUnit, meter: Meter, nominal_hz: float) -> None:
        self._image, self._unit, self._meter = image, unit, meter
        self._nominal_hz = nominal_hz
        self._timers = {of.time: Timer() for of in FUNCTIONS}
        self.shows = {
            103: self._show_measured,
            122: self._show_status,
            124: self._show_store,
            160: self._show_modules,
        }

    # life
    def power_up(self) -> None:
        """Nothing enabled, no timer, connected."""
        for timer in self._timers.values():
            timer.stop()
        rated_w = 1000.0 * self._unit.inverter.rated_power_kw
        rated_va = 1000.0 * self._unit.inverter.rated_apparent_kva
        self._rate(rated_w)
        self._image.hold(121, {"WMax": rated_w, "VRef": self._meter.line_v, "VRefOfs": 0})
        self._image.hold(121, {"VAMax": rated_va, "ECPNomHz": self._nominal_hz})
        self._image.hold(121, {"VArMaxQ1": rated_va, "VArMaxQ4": -rated_va})
        for of in FUNCTIONS:
            self._image.hold(of.model, {of.time: 0, **dict(of.after)})
        self._image.hold(123, {"VArPct_Mod": 0})
        self._image.hold(124, {"WChaMax": rated_w, "WChaGra": 100, "WDisChaGra": 100})
        self._image.hold(124, {"ChaGriSet": FROM_GRID})

    def _rate(self, rated_w: float) -> None:
        rated_va = 1000.0 * self._unit.inverter.rated_apparent_kva
        ratings: dict[str, Value] = {
            "DERTyp": BATTERY,
            "WRtg": rated_w,
            "VARtg": rated_va,
            "VArRtgQ1": rated_va,
            "VArRtgQ2": rated_va,
            "VArRtgQ3": -rated_va,
            "VArRtgQ4": -rated_va,
            "ARtg": rated_va / (3.0**0.5 * self._meter.line_v),
            **{f"PFRtgQ{quadrant}": 0 for quadrant in (1, 2, 3, 4)},
            "WHRtg": 1000.0 * self._unit.battery.energy_kwh,
            "MaxChaRte": rated_w,
            "MaxDisChaRte": rated_w,
        }
        self._image.show(120, ratings)

    def advance(self, now_s: float) -> bool:
        """Let timers run out; whether a setpoint has reverted."""
        reverted = [of for of in FUNCTIONS if self._timers[of.time].ran_out(now_s)]
        for of in reverted:
            self._image.show(of.model, dict(of.after))
        return bool(reverted)

    def written(self, points: list[Written], now_s: float) -> bool:
        """Start timers; this kind has no register that resets alarms."""
        names = {(point.model, point.name) for point in points}
        for of in FUNCTIONS:
            if names & {(of.model, name) for name in (*of.triggers, of.time)}:
                wanted_s = self._image.given(of.model, of.time)
                self._timers[of.time].start(now_s, wanted_s if self._armed(of) else 0.0)
        return False

    def _armed(self, of: Reverting) -> bool:
        """The function is on, or, for Conn, away from its rest."""
        first, rest = of.after[0]
        return self._image.raw(of.model, first) != rest

    def lose_timers(self) -> None:
        """The maker's mistake: reversion cannot be enabled."""
        for of in FUNCTIONS:
            self._timers[of.time].stop()
            self._image.show(of.model, {of.time: 0})

    # what it does
    @property
    def is_connected(self) -> bool:
        """Conn."""
        return bool(self._image.raw(123, "Conn"))

    @property
    def may_run(self) -> bool:
        """Connected."""
        return self.is_connected

    @property
    def released(self) -> bool:
        """Nobody's setpoint: its own normal mode, idle."""
        return not self._image.raw(124, "StorCtl_Mod")

    def target(self) -> Target:
        """What the settings ask of the unit, inside its limits."""
        room = self._room()
        wish_kw = self._wish_kw()
        return fit(wish_kw, self._wish_kvar(wish_kw, room), room, reactive_first=False)

    def _room(self) -> Room:
        given = self._image.given
        most_w = given(121, "WMax")
        if self._image.raw(123, "WMaxLim_Ena"):
            most_w *= given(123, "WMaxLimPct") / 100.0
        from_grid = self._image.raw(124, "ChaGriSet") == FROM_GRID
        charge_w = min(given(121, "WMax"), given(124, "WChaMax")) if from_grid else 0.0
        apparent_va = min(given(121, "VAMax"), 1000.0 * self._unit.inverter.rated_apparent_kva)
        inject_var, absorb_var = abs(given(121, "VArMaxQ1")), abs(given(121, "VArMaxQ4"))
        return Room(
            most_w / 1000.0,
            charge_w / 1000.0,
            apparent_va / 1000.0,
            inject_var / 1000.0,
            absorb_var / 1000.0,
        )

    def _wish_kw(self) -> float:
        mode = self._image.raw(124, "StorCtl_Mod") or 0
        out_pct, in_pct = self._image.given(124, "OutWRte"), self._image.given(124, "InWRte")
        full_kw = self._image.given(124, "WChaMax") / 1000.0
        return storage_pct(mode, out_pct, in_pct) / 100.0 * full_kw

    def _wish_kvar(self, power_kw: float, room: Room) -> float:
        given = self._image.given
        if self._image.raw(123, "VArPct_Ena"):
            mode = self._image.raw(123, "VArPct_Mod")
            if mode == OF_W_MAX:
                return given(123, "VArWMaxPct") / 100.0 * given(121, "WMax") / 1000.0
            if mode == OF_VAR_MAX:
                share = given(123, "VArMaxPct") / 100.0
                return share * (room.inject_kvar if share > 0.0 else room.absorb_kvar)
            if mode == OF_VAR_AVAILABLE:
                left_kvar = left_of(room.apparent_kva, power_kw)
                return given(123, "VArAvalPct") / 100.0 * left_kvar
            return 0.0
        if self._image.raw(123, "OutPFSet_Ena"):
            return constant_factor_kvar(power_kw, given(123, "OutPFSet"))
        return 0.0

    # what it shows
    def _show_measured(self, look: Look) -> None:
        ac, dc = self._meter.ac(), self._meter.dc()
        warmth = self._meter.warmth_c()
        self._image.show(
            103,
            {
                "A": ac.current_a,
                **dict.fromkeys(("AphA", "AphB", "AphC"), ac.current_a),
                **dict.fromkeys(("PPVphAB", "PPVphBC", "PPVphCA"), ac.line_v),
                **dict.fromkeys(("PhVphA", "PhVphB", "PhVphC"), ac.phase_v),
                "W": 1000.0 * ac.power_kw,
                "Hz": ac.frequency_hz,
                "VA": 1000.0 * ac.apparent_kva,
                "VAr": 1000.0 * ac.reactive_kvar,
                "PF": 100.0 * ac.power_factor,
                "WH": self._meter.injected_wh,
                "DCA": abs(dc.current_a),
                "DCV": dc.voltage_v,
                "DCW": dc.power_w,
                "TmpCab": warmth["TmpCab"],
                "TmpSnk": warmth["TmpSnk"],
                "St": look.state,
                "Evt1": look.alarm_bits,
                "Evt2": 0,
                "EvtVnd1": BATTERY_FAULT if look.battery_faulted else 0,
            },
        )

    def _show_status(self, look: Look) -> None:
        power_kw = abs(self._unit.power_kw)
        room = self._room()
        storage = CONNECTED | AVAILABLE | (OPERATING if power_kw > BUSY_KW else 0)
        acts = 0 if self.released else FIXED_W
        acts |= FIXED_VAR if self._image.raw(123, "VArPct_Ena") else 0
        acts |= FIXED_FACTOR if self._image.raw(123, "OutPFSet_Ena") else 0
        self._image.show(
            122,
            {
                "PVConn": 0,
                "StorConn": storage if look.is_connected else AVAILABLE,
                "ECPConn": AT_GRID if look.is_connected else 1,
                "ActWh": self._meter.injected_wh,
                "VArAval": 1000.0 * left_of(room.apparent_kva, power_kw),
                "WAval": 1000.0 * room.discharge_kw,
                "StActCtl": acts,
            },
        )

    def _show_store(self, _: Look) -> None:
        battery = self._unit.battery
        soc_pct = within(battery.soc_pct, EMPTY_PCT, FULL_PCT)
        state = {"ChaState": soc_pct, "InBatV": battery.voltage_v, "ChaSt": self._charge_state()}
        self._image.show(124, state)

    def _charge_state(self) -> int:
        power_kw, soc_pct = self._unit.power_kw, self._unit.battery.soc_pct
        if abs(power_kw) > BUSY_KW:
            return DISCHARGING if power_kw > 0.0 else CHARGING
        if soc_pct <= EMPTY_PCT:
            return EMPTY
        return FULL if soc_pct >= FULL_PCT else HOLDING

    def _show_modules(self, look: Look) -> None:
        """One module a direction, for the model's amperes and watts have no sign."""
        dc, meter = self._meter.dc(), self._meter
        self._image.show(160, {"N": IN_MODULE, "Evt": look.dc_alarm_bits})
        ways = ((OUT_MODULE, "StDisCha", 1.0, meter.dc_out_wh),)
        for number, name, sign, energy_wh in (*ways, (IN_MODULE, "StCha", -1.0, meter.dc_in_wh)):
            values: dict[str, Value] = {
                "ID": number,
                "IDStr": name,
                "DCA": max(sign * dc.current_a, 0.0),
                "DCV": dc.voltage_v,
                "DCW": max(sign * dc.power_w, 0.0),
                "DCWH": energy_wh,
                "Tmp": dc.temperature_c,
                "DCSt": look.state,
                "DCEvt": look.dc_alarm_bits,
            }
            self._image.show(160, {f"module[{number}].{key}": v for key, v in values.items()})


def storage_pct(mode: int, out_pct: float, in_pct: float) -> float:
    """The setpoint of model 124, percent of WChaMax, positive = discharge."""
    if mode == DISCHARGE:
        return out_pct
    if mode == CHARGE:
        return -in_pct
    if mode == CHARGE | DISCHARGE:
        if min(out_pct, in_pct) < 0.0:
            return within(0.0, -in_pct, out_pct)
        return out_pct - in_pct
    return 0.0
