"""Before a bump test: what is going to be done, what else is running, and what forbids it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from vppd.cli.wire import Json
from vppd.cli.words import number, span

SHARE_MAX = 0.1  # of the rating: a bump is a small thing
STEPS_MIN = 10  # of the reading: a smaller bump cannot be judged
READY = ("ready", "running", "limited")
LOUD = ("warning", "critical", "emergency")
STANDING = ("no_revert",)  # accepted in the configuration, stands for ever
CALM_KW = 0.5
RAMP_SHARE = 1.0 / 3.0  # of the hold


@dataclass(frozen=True, slots=True)
class Bump:
    """What is going to be asked: so many kW each way, each held for so long."""

    unit: str
    power_kw: float
    hold_s: float

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """Name and kW of each step."""
        return (
            ("rest", 0.0),
            ("discharge", self.power_kw),
            ("back to 0", 0.0),
            ("charge", -self.power_kw),
            ("back to 0 again", 0.0),
        )


def forbids(bump: Bump, basis: Json, view: Json) -> Iterator[str]:
    """Every reason against the test, as sentences; none: it may be done."""
    unit, rated_kw = bump.unit, float(basis["rated_power_kw"])
    if not basis["may_command"]:
        yield f"{basis['operator']['user']} may look but not command: it takes an operator"
    if view["shut_by"] is not None:
        yield f"the site gives nothing: {view['shut_by']}"
    if view["state"] not in READY:
        bound = f" ({', '.join(view['bound_by'])})" if view["bound_by"] else ""
        yield f"{unit} is {view['state']}{bound}, not ready"
    for latch in view["latched"]:
        yield f"latched: {latch['code']} of {latch['scope']}: {latch['text']}; vppctl reset"
    for alarm in unit_alarms(unit, view):
        yield f"alarm {alarm['code']} ({alarm['level']}) of {alarm['unit']}: {alarm['text']}"
    if view["plan"] is not None and view["plan"]["priority"] == "operator":
        yield (
            f"{view['plan']['source']} holds {unit} at {number(view['plan']['power_kw'])} kW:"
            f" vppctl power {unit} release"
        )
    if bump.power_kw > SHARE_MAX * rated_kw:
        yield (
            f"a bump of {bump.power_kw:g} kW is more than {SHARE_MAX * 100:.0f} % of"
            f" {rated_kw:g} kW: --power-kw {SHARE_MAX * rated_kw / 2:g}"
        )
    if not basis["measurements"]:
        yield f"nothing measures the power of {unit}"
    else:
        finest_kw = float(basis["measurements"][0]["resolution_kw"])
        if bump.power_kw < STEPS_MIN * finest_kw:
            yield (
                f"a bump of {bump.power_kw:g} kW cannot be judged in steps of {finest_kw:g} kW:"
                f" --power-kw {STEPS_MIN * finest_kw:g} or more"
            )
    ramp_kw_per_s = float(basis["ramp_max_kw_per_s"])
    if bump.power_kw / ramp_kw_per_s > bump.hold_s * RAMP_SHARE:
        yield (
            f"safety.ramp_max_kw_per_s is {ramp_kw_per_s:g}: the ramp alone takes"
            f" {bump.power_kw / ramp_kw_per_s:.1f} s of {bump.hold_s:g} s: a longer --hold"
        )
    yield from _no_room(bump, basis, view)


def unit_alarms(unit: str, view: Json) -> list[Json]:
    """Alarms of a unit and its devices that a test may not ignore."""
    return [
        alarm
        for alarm in view["alarms"]
        if alarm["level"] in LOUD
        and alarm["code"] not in STANDING
        and (alarm["unit"] == unit or alarm["unit"].startswith(f"{unit}/"))
    ]


def value_of(view: Json, unit: str, point: str) -> float | None:
    """A reading that may be believed."""
    value = view["readings"].get(unit, {}).get(point, {}).get("value")
    return None if value is None else float(value)


def _no_room(bump: Bump, basis: Json, view: Json) -> Iterator[str]:
    room = view["room"] or {"low_kw": 0.0, "high_kw": 0.0}
    if room["high_kw"] < bump.power_kw or room["low_kw"] > -bump.power_kw:
        yield (
            f"its limits leave {room['low_kw']:+.1f} to {room['high_kw']:+.1f} kW, the bump needs"
            f" {bump.power_kw:g} kW each way: vppctl unit {bump.unit} says which"
        )
    soc_pct = value_of(view, bump.unit, basis["soc_point"])
    if soc_pct is None:
        yield "its state of charge is not known"
        return
    moves_pct = bump.power_kw * bump.hold_s / 3600.0 / float(basis["energy_kwh"]) * 100.0
    low_pct, high_pct = float(basis["soc_min_pct"]), float(basis["soc_max_pct"])
    if not low_pct + moves_pct < soc_pct < high_pct - moves_pct:
        yield (
            f"SoC {soc_pct:.1f} % has no room both ways between {low_pct:g} and {high_pct:g} %"
            f" (the bump moves {moves_pct:.2f} %)"
        )


def words(bump: Bump, basis: Json, view: Json, status: Json) -> Iterator[str]:
    """Everything a person should know before saying yes."""
    unit, hold = bump.unit, span(bump.hold_s)
    profiles = [f"{key} {name}" for key, name in basis["profiles"].items() if name]
    yield (
        f"Bump test of {unit} ({basis['rated_power_kw']:g} kW, {basis['energy_kwh']:g} kWh,"
        f" {', '.join(profiles)})"
    )
    yield f"at {basis['site_name'] or basis['site']}, mode {basis['mode']}."
    yield (
        f"It is told 0 kW, {bump.power_kw:+g} kW (discharge), 0, {-bump.power_kw:+g} kW (charge)"
        f" and 0, each for {hold}: about {span(5 * bump.hold_s)}."
    )
    yield "All interlocks of the daemon stay in force; the unit takes no other share meanwhile."
    yield f"Now: {view['state']}, told {number(view['setpoint_kw'])} kW."
    soc_pct = value_of(view, unit, basis["soc_point"])
    yield f"SoC {number(soc_pct, '.1f')} %, room {_room(view)}."
    for place, each in enumerate(basis["measurements"]):
        word = "judged by" if place == 0 else "and by"
        yield f"{word}: {each['text']}" + ("" if each["independent"] or not place else _SAME)
    if len(basis["measurements"]) < 2:  # noqa: PLR2004
        yield "NO second measurement: the test cannot pass, only fail."
    yield from _others(unit, status)


_SAME = " (same device: not independent)"


def _room(view: Json) -> str:
    room = view["room"]
    return f"{room['low_kw']:+.0f} to {room['high_kw']:+.0f} kW" if room else "not known"


def _others(unit: str, status: Json) -> Iterator[str]:
    """What else moves power on the site meanwhile."""
    busy = [
        f"{each['id']} {each['state']} {number(each['power_kw'])} kW"
        for each in status["units"]
        if each["id"] != unit and abs(each["power_kw"] or 0.0) > CALM_KW
    ]
    yield f"Other units: {', '.join(busy) or 'all at rest'}."
    owed = status["owed_kw"]
    yield f"The site owes {number(owed)} kW ({status['base_source'] or 'nobody asks'})."
    alarms = [f"{each['code']} of {each['unit']}" for each in status["alarms"]]
    yield f"Standing alarms: {', '.join(alarms) or 'none'}."
