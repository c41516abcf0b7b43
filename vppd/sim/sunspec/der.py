"""The drive of a battery inverter by models 701 to 715 (IEEE 1547-2018), positive = out.

Reversion: a timer runs while its function is enabled, its EnaRvrt is 1 and its RvrtTms is not 0.
Any write to the function's setpoint (the same value too), to its Ena, EnaRvrt or RvrtTms starts it
anew; a change of 715 ControllerHb renews every timer that still runs. When it runs out the setpoint
registers take the values of their Rvrt registers (0 at power-up), the function stays enabled and
the Rem register reads 0. WMaxLimPct limits the output, not the charge. Fixed power factor acts
while fixed var is not enabled. VarSetPri reactive gives var priority in the circle; active and
vendor give it to active power, and so does a power factor.
"""

from dataclasses import dataclass
from itertools import chain as joined

from vppd.sim.sunspec.curves import EXPONENTS, Curves, chain
from vppd.sim.sunspec.image import Image, Model, Value, Written
from vppd.sim.sunspec.models import M701, M702, M703, M704, M713, M714, M715
from vppd.sim.sunspec.power import (
    Room,
    Target,
    constant_factor_kvar,
    droop_kw,
    fit,
    left_of,
)
from vppd.sim.sunspec.readings import Look, Meter, State, fitting
from vppd.sim.sunspec.timer import Timer
from vppd.sim.unit import SimUnit

THREE_PHASE, GRID_FOLLOWING, BATTERY_PORT = 2, 1, 1
STOP, START, ENTER_STANDBY, EXIT_STANDBY = range(4)
WATTS = 1
W_MAX_PCT, VAR_MAX_PCT, VAR_AVAIL_PCT, VA_MAX_PCT, VARS = range(5)
REACTIVE, UNDER_EXCITED = 1, 1
MAKER_ALARM = 1 << 16
MODES = 0b101111  # max W, fixed W, fixed var, fixed PF, frequency-watt
LIMITED_W, FIXED_W, FREQUENCY_WATT = 1 << 0, 1 << 1, 1 << 5
WINDOW_HZ = 0.5
U32 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Reverting:
    """A function of 704 with a timer: the names begin alike."""

    function: str
    settings: tuple[tuple[str, str], ...]  # setpoint, what it reverts to

    @property
    def triggers(self) -> set[str]:
        """The points whose writing starts the timer anew."""
        ends = ("Ena", "EnaRvrt", "RvrtTms")
        return {self.function + end for end in ends} | {name for name, _ in self.settings}


FUNCTIONS = (
    Reverting("WSet", (("WSet", "WSetRvrt"), ("WSetPct", "WSetPctRvrt"))),
    Reverting("VarSet", (("VarSet", "VarSetRvrt"), ("VarSetPct", "VarSetPctRvrt"))),
    Reverting("WMaxLimPct", (("WMaxLimPct", "WMaxLimPctRvrt"),)),
    *(
        Reverting(f"PFW{way}", tuple((f"PFW{way}.{p}", f"PFW{way}Rvrt.{p}") for p in ("PF", "Ext")))
        for way in ("Inj", "Abs")
    ),
)


def models(slots: int) -> tuple[Model, ...]:
    """The chain of this kind in its usual order."""
    measured = (Model(table.model, table.layout()) for table in (M701, M702, M703, M704))
    stored = (Model(M713.model, M713.layout()), Model(M714.model, M714.layout(1)))
    return (*measured, *chain(slots), *stored, Model(M715.model, M715.layout()))


def exponents(unit: SimUnit) -> dict[tuple[int, str], int]:
    """Scale factors in which this unit's numbers fit their registers."""
    kva = unit.inverter.rated_apparent_kva
    w = fitting(1000.0 * kva)
    wh = fitting(1000.0 * unit.battery.energy_kwh, 65534)
    return {
        **{(701, name): w for name in ("W_SF", "VA_SF", "Var_SF")},
        **{(701, name): exponent for name, exponent in (("V_SF", -1), ("Hz_SF", -3))},
        **{(701, name): exponent for name, exponent in (("PF_SF", -3), ("Tmp_SF", -1))},
        (701, "A_SF"): fitting(2.0 * kva),
        (702, "A_SF"): fitting(2.0 * kva),
        **{(702, name): w for name in ("W_SF", "VA_SF", "Var_SF")},
        (702, "V_SF"): -1,
        (703, "V_SF"): -1,
        (703, "Hz_SF"): -3,
        **{(704, name): -1 for name in ("WMaxLimPct_SF", "WSetPct_SF", "VarSetPct_SF")},
        (704, "PF_SF"): -3,
        (713, "WH_SF"): wh,
        (713, "Pct_SF"): -2,
        (714, "DCA_SF"): fitting(30.0 * kva),
        (714, "DCV_SF"): -2,
        (714, "DCW_SF"): w,
        (714, "Tmp_SF"): -1,
        **EXPONENTS,
    }


class DerDrive:
    """What the registers 702 to 715 make of one unit."""

    controls = frozenset({704, 705, 706, 711, 712})
    event_model = 701

    def __init__(
        self, image: Image, unit: SimUnit, meter: Meter, slots: int, nominal_hz: float
    ) -> None:
        self._image, self._unit, self._meter = image, unit, meter
        self._nominal_hz = nominal_hz
        self._curves = Curves(image, slots)
        self._timers = {of.function: Timer() for of in FUNCTIONS}
        self._enters = Timer()
        self._in_service, self._stands_by = True, False
        self._born_s: float | None = None
        self.shows = {
            701: self._show_measured,
            703: self._show_service,
            704: self._show_left,
            713: self._show_store,
            714: self._show_dc,
            715: self._show_control,
        }

    def _on(self, name: str) -> bool:
        return bool(self._image.raw(704, name))

    # life
    def power_up(self) -> None:
        """Nothing enabled, no timer, in service."""
        for timer in self._timers.values():
            timer.stop()
        self._in_service, self._stands_by, self._born_s = True, False, None
        self._enters.stop()
        self._rate()
        self._image.hold(703, {"ES": 1, "ESVHi": 105, "ESVLo": 95, "ESDlyTms": 0})
        low_hz, high_hz = self._nominal_hz - WINDOW_HZ, self._nominal_hz + WINDOW_HZ
        self._image.hold(703, {"ESHzLo": low_hz, "ESHzHi": high_hz})
        for of in FUNCTIONS:
            names = of.triggers | {name for pair in of.settings for name in pair}
            self._image.hold(704, dict.fromkeys(sorted(names), 0))
        self._image.hold(704, {"WSetMod": WATTS, "VarSetMod": VARS, "VarSetPri": 0})
        self._image.hold(704, {"WMaxLimPct": 100, "WMaxLimPctRvrt": 100})
        for where in ("PFWInj", "PFWInjRvrt", "PFWAbs", "PFWAbsRvrt"):
            self._image.hold(704, {f"{where}.PF": 1})
        self._curves.power_up()
        self._image.hold(715, {"ControllerHb": 0, "AlarmReset": 0, "OpCtl": START})

    def _rate(self) -> None:
        rated_w = 1000.0 * self._unit.inverter.rated_power_kw
        rated_va = 1000.0 * self._unit.inverter.rated_apparent_kva
        line_v = self._meter.line_v
        pairs: dict[str, Value] = {
            **dict.fromkeys(("WMax", "WChaRteMax", "WDisChaRteMax"), rated_w),
            **dict.fromkeys(("VAMax", "VAChaRteMax", "VADisChaRteMax"), rated_va),
            **dict.fromkeys(("VarMaxInj", "VarMaxAbs"), rated_va),
            "VNom": line_v,
            "VMax": 1.1 * line_v,
            "VMin": 0.9 * line_v,
            "AMax": rated_va / (3.0**0.5 * line_v),
        }
        self._image.show(702, {f"{name}Rtg": value for name, value in pairs.items()})
        self._image.show(702, {"CtrlModes": MODES})
        self._image.hold(702, pairs)

    def advance(self, now_s: float) -> bool:
        """Let timers run out and curves be adopted; whether a setpoint has reverted."""
        if self._born_s is None:
            self._born_s = now_s
        self._curves.advance(now_s)
        self._serve(now_s)
        reverted = [of for of in FUNCTIONS if self._timers[of.function].ran_out(now_s)]
        for setpoint, fallback in joined.from_iterable(of.settings for of in reverted):
            self._image.show(704, {setpoint: self._image.value(704, fallback)})
        return bool(reverted)

    def _serve(self, now_s: float) -> None:
        """Enter service when it is permitted, the grid is inside the window and the delay is over;
        leave it when the permission goes."""
        if not self._image.raw(703, "ES") or self._image.raw(715, "OpCtl") == STOP:
            self._in_service = False
            self._enters.stop()
        elif not self._in_service and not self._grid_is_good():
            self._enters.stop()
        elif not self._in_service:
            delay_s = self._image.given(703, "ESDlyTms")
            if delay_s and not self._enters.runs:
                self._enters.start(now_s, delay_s)
            self._in_service = not delay_s or self._enters.ran_out(now_s)

    def _grid_is_good(self) -> bool:
        ac = self._meter.ac()
        voltage_pct = 100.0 * ac.line_v / self._image.given(702, "VNom")
        given = self._image.given
        return given(703, "ESVLo") <= voltage_pct <= given(703, "ESVHi") and given(
            703, "ESHzLo"
        ) <= ac.frequency_hz <= given(703, "ESHzHi")

    def written(self, points: list[Written], now_s: float) -> bool:
        """Start timers and adoptions; whether alarms are to be reset."""
        names = {point.name for point in points if point.model == M704.model}
        for of in FUNCTIONS:
            if names & of.triggers:
                armed = self._on(f"{of.function}Ena") and self._on(f"{of.function}EnaRvrt")
                wanted_s = self._image.given(704, f"{of.function}RvrtTms")
                self._timers[of.function].start(now_s, wanted_s if armed else 0.0)
        self._curves.written(points, now_s)
        resets = [self._control(point, now_s) for point in points if point.model == M715.model]
        return any(resets)

    def _control(self, point: Written, now_s: float) -> bool:
        now = self._image.raw(715, point.name)
        if point.name == "ControllerHb" and now != point.before:
            for timer in self._timers.values():
                timer.renew(now_s)
        elif point.name == "OpCtl" and now in (START, ENTER_STANDBY, EXIT_STANDBY):
            self._stands_by = now == ENTER_STANDBY
        elif point.name == "AlarmReset":
            self._image.show(715, {"AlarmReset": 0})
            return bool(now)
        return False

    def lose_timers(self) -> None:
        """The maker's mistake: reversion cannot be enabled."""
        for of in FUNCTIONS:
            self._timers[of.function].stop()
            self._image.show(704, {f"{of.function}EnaRvrt": 0, f"{of.function}RvrtTms": 0})

    # what it does
    @property
    def is_connected(self) -> bool:
        """In service."""
        return self._in_service

    @property
    def may_run(self) -> bool:
        """In service and not in standby."""
        return self._in_service and not self._stands_by

    @property
    def released(self) -> bool:
        """Nobody's setpoint: its own normal mode, idle."""
        return not self._on("WSetEna")

    def target(self) -> Target:
        """What the settings ask of the unit, inside its limits."""
        room = self._room()
        wish_kw = self._wish_kw()
        droop = self._curves.droop()
        if droop is not None:
            rated_kw = self._image.given(702, "WMax") / 1000.0
            added_kw = droop_kw(droop, self._unit.frequency_hz, self._nominal_hz, rated_kw)
            least_kw = min(self._curves.least_share() * rated_kw, wish_kw)
            wish_kw = max(wish_kw + added_kw, least_kw)
        return fit(
            wish_kw,
            self._wish_kvar(wish_kw, room),
            room,
            reactive_first=self._on("VarSetEna") and self._image.raw(704, "VarSetPri") == REACTIVE,
        )

    def _room(self) -> Room:
        given = self._image.given
        most_w = min(given(702, "WMax"), given(702, "WDisChaRteMax"))
        if self._on("WMaxLimPctEna"):
            most_w = min(most_w, given(702, "WMax") * given(704, "WMaxLimPct") / 100.0)
        apparent_va = min(given(702, "VAMax"), 1000.0 * self._unit.inverter.rated_apparent_kva)
        return Room(
            most_w / 1000.0,
            given(702, "WChaRteMax") / 1000.0,
            apparent_va / 1000.0,
            given(702, "VarMaxInj") / 1000.0,
            given(702, "VarMaxAbs") / 1000.0,
        )

    def _wish_kw(self) -> float:
        if not self._on("WSetEna"):
            return 0.0
        given = self._image.given
        if self._image.raw(704, "WSetMod") == WATTS:
            return given(704, "WSet") / 1000.0
        return given(702, "WMax") * given(704, "WSetPct") / 100.0 / 1000.0

    def _wish_kvar(self, power_kw: float, room: Room) -> float:
        if not self._on("VarSetEna"):
            return self._factor_kvar(power_kw)
        mode, share = self._image.raw(704, "VarSetMod"), self._image.given(704, "VarSetPct") / 100.0
        if mode == VARS:
            return self._image.given(704, "VarSet") / 1000.0
        if mode == W_MAX_PCT:
            return share * self._image.given(702, "WMax") / 1000.0
        if mode == VAR_MAX_PCT:
            return share * (room.inject_kvar if share > 0.0 else room.absorb_kvar)
        if mode == VAR_AVAIL_PCT:
            return share * left_of(room.apparent_kva, power_kw)
        return share * room.apparent_kva

    def _factor_kvar(self, power_kw: float) -> float:
        where = "PFWInj" if power_kw >= 0.0 else "PFWAbs"
        if not self._on(f"{where}Ena"):
            return 0.0
        factor = self._image.given(704, f"{where}.PF")
        under = self._image.raw(704, f"{where}.Ext") == UNDER_EXCITED
        return constant_factor_kvar(power_kw, -factor if under else factor)

    # what it shows
    def _show_measured(self, look: Look) -> None:
        ac = self._meter.ac()
        whole: dict[str, Value] = {
            "W": 1000.0 * ac.power_kw,
            "VA": 1000.0 * ac.apparent_kva,
            "Var": 1000.0 * ac.reactive_kvar,
        }
        third = {"W": ac.power_kw, "VA": ac.apparent_kva, "Var": ac.reactive_kvar}
        phases: dict[str, Value] = {}
        for phase, line in (("L1", "VL1L2"), ("L2", "VL2L3"), ("L3", "VL3L1")):
            phases |= {name + phase: 1000.0 / 3.0 * value for name, value in third.items()}
            phases |= {f"PF{phase}": ac.power_factor, f"A{phase}": ac.current_a}
            phases |= {line: ac.line_v, f"V{phase}": ac.phase_v}
        maker = look.battery_faulted
        self._image.show(
            701,
            {
                "ACType": THREE_PHASE,
                "St": 0 if look.state is State.OFF else 1,
                "InvSt": look.state - 1,
                "ConnSt": 1 if look.is_connected else 0,
                "Alrm": look.alarm_bits | (MAKER_ALARM if maker else 0),
                "MnAlrmInfo": "battery fault" if maker else "",
                "DERMode": GRID_FOLLOWING,
                **whole,
                "PF": ac.power_factor,
                "A": ac.current_a,
                "LLV": ac.line_v,
                "LNV": ac.phase_v,
                "Hz": ac.frequency_hz,
                "TotWhInj": self._meter.injected_wh,
                "TotWhAbs": self._meter.absorbed_wh,
                "TotVarhInj": self._meter.injected_varh,
                "TotVarhAbs": self._meter.absorbed_varh,
                "ThrotSrc": self._throttled_by(look),
                **self._meter.warmth_c(),
                **phases,
            },
        )

    def _throttled_by(self, look: Look) -> int:
        bits = LIMITED_W if look.is_limited else 0
        return bits | (FREQUENCY_WATT if self._curves.droop() is not None else 0)

    def _show_service(self, look: Look) -> None:
        self._image.show(703, {"ESDlyRemTms": self._enters.left_s(look.now_s)})

    def _show_left(self, look: Look) -> None:
        left = {f"{name}RvrtRem": timer.left_s(look.now_s) for name, timer in self._timers.items()}
        self._image.show(704, left)

    def _show_store(self, look: Look) -> None:
        battery = self._unit.battery
        troubled = 1 if self._unit.alarm_bits | self._unit.latched_alarm_bits else 0
        self._image.show(
            713,
            {
                "WHRtg": 1000.0 * battery.energy_kwh,
                "WHAvail": 1000.0 * max(battery.stored_kwh, 0.0),
                "SoC": min(max(battery.soc_pct, 0.0), 100.0),
                "SoH": battery.soh_pct,
                "Sta": 2 if look.battery_faulted else troubled,
            },
        )

    def _show_dc(self, look: Look) -> None:
        dc, meter = self._meter.dc(), self._meter
        whole: dict[str, Value] = {
            "DCA": dc.current_a,
            "DCW": dc.power_w,
            "DCWhInj": meter.dc_out_wh,
            "DCWhAbs": meter.dc_in_wh,
        }
        port = whole | {
            "PrtTyp": BATTERY_PORT,
            "ID": 1,
            "IDStr": "battery",
            "DCV": dc.voltage_v,
            "Tmp": dc.temperature_c,
            "DCSta": 3 if look.dc_alarm_bits or look.battery_faulted else 1,
            "DCAlrm": look.dc_alarm_bits,
        }
        self._image.show(714, {"NPrt": 1, "PrtAlrms": 1 if look.dc_alarm_bits else 0, **whole})
        self._image.show(714, {f"Prt[1].{name}": value for name, value in port.items()})

    def _show_control(self, look: Look) -> None:
        born_s = look.now_s if self._born_s is None else self._born_s
        beats = int(look.now_s - born_s) % U32
        self._image.show(715, {"LocRemCtl": 1 if look.is_local else 0, "DERHb": beats})
