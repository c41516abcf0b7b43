"""What cannot be changed while the site is controlled, and why: the one list of it. All else can.

State directory, socket and configuration directory are given on the command line and so are no
settings: another one is another start.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from vppd.core.model import METER, UnitId
from vppd.core.settings import InputModbusSettings, Settings
from vppd.field.poll import Seat
from vppd.field.refit import made_of
from vppd.reload.places import key_of_owner, placed
from vppd.trading import own_exchange

Words = Mapping[str, tuple[int, str, int]]  # baudrate, parity and stop bits of each line
Seats = Mapping[str, Seat | InputModbusSettings | None]  # by the key of who is reached there

LIVE = frozenset(
    {
        *("site", "mode", "journal", "recorder", "api", "clock", "simulation", "mqtt", "metrics"),
        *("web", "units", "interlock_inputs", "meter", "country", "dispatch", "rules"),
        *("connection", "pmu", "bands", "droop", "sources", "ffr", "headroom", "ride_through"),
        *("orders", "scada", "evidence", "market", "profiles", "bms_profiles"),
    }
)  # sections that a reload knows how to take over; one that is not here needs a restart


@dataclass(frozen=True, slots=True)
class RestartOnly:
    """One thing that a restart alone changes. `changed` gives the keys by which it would be, as
    `units.A`; none: it may be taken over."""

    what: str
    why: str
    changed: Callable[[Settings, Settings], Sequence[str]]

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; restart needed"

    def refused(self, keys: Sequence[str]) -> str:
        """Why these keys cannot be taken over."""
        what = "" if list(keys) == [self.what] else f"{self.what}: "
        return f"{placed(keys)}: {what}{self.why}; restart needed"


def _key(path: str) -> Callable[[Settings, Settings], Sequence[str]]:
    """One key, dotted."""
    of = attrgetter(path)
    return lambda old, new: [path] if of(old) != of(new) else []


def _simulated(settings: Settings) -> Mapping[UnitId, object]:
    """The devices that the simulated plant serves."""
    if settings.mode == "hardware":
        return {}
    found = made_of(settings)
    if settings.mode == "simulation":
        pmus = {UnitId(f"pmu:{each.id}"): each for each in settings.pmu}
        return {**found, **pmus}
    alike = {each.unit for each in settings.units if each.simulate}
    if settings.meter is not None and settings.meter.simulate:
        alike.add(METER)
    return {owner: each for owner, each in found.items() if owner in alike}


def _plays_others(old: Settings, new: Settings) -> Sequence[str]:
    before, after = _simulated(old), _simulated(new)
    return [key_of_owner(owner) for owner, each in after.items() if before.get(owner) != each]


def _heard(settings: Settings) -> Seats:
    """Where meter and interlocks are heard."""
    inputs = {f"interlock_inputs.{each.id}": each.modbus for each in settings.interlock_inputs}
    return {"meter": settings.meter, **inputs}


def _used(settings: Settings) -> Seats:
    """All places that are asked."""
    units = settings.units
    controllers = {f"units.{unit.id}.modbus": unit.modbus for unit in units}
    inverters = {f"units.{unit.id}.inverter": unit.inverter for unit in units}
    return {**controllers, **inverters, **_heard(settings)}


def _lines(seats: Seats) -> Words:
    """The serial lines among them."""
    return {
        at.serial: (at.baudrate, at.parity, at.stopbits)
        for at in seats.values()
        if at is not None and at.serial is not None
    }


def _differing(one: Seats, other: Seats) -> set[str]:
    """Lines of both that are not set alike."""
    others = _lines(other)
    return {line for line, words in _lines(one).items() if others.get(line, words) != words}


def _sets_lines_anew(old: Settings, new: Settings) -> Sequence[str]:
    lines = _differing(_heard(old), _used(new)) | _differing(_heard(new), _used(old))
    return [key for key, at in _used(new).items() if at is not None and at.serial in lines]


def _own_exchange(old: Settings, new: Settings) -> Sequence[str]:
    before, after = (each.market.enabled and own_exchange(each) for each in (old, new))
    return ["market.exchange"] if after and not before else []


def _sites_change(old: Settings, new: Settings) -> Sequence[str]:
    if old.role != "aggregator":
        return []
    return [name for name in ("units", "mqtt") if getattr(old, name) != getattr(new, name)]


RESTART_ONLY = (
    RestartOnly(
        "units and mqtt of an aggregator",
        "who commands which site is settled among aggregators that start; the sites meanwhile do"
        " as they were ordered",
        _sites_change,
    ),
    RestartOnly(
        "baudrate, parity, stopbits of a serial line with the meter or an interlock",
        "a line has one owner, and these have to be heard all the time",
        _sets_lines_anew,
    ),
    RestartOnly(
        "site.id",
        "rows, topics and reports carry it, and another id is another site",
        _key("site.id"),
    ),
    RestartOnly(
        "mode",
        "which devices are real is settled before the first of them is touched",
        _key("mode"),
    ),
    RestartOnly(
        "simulation",
        "the simulated plant plays what it was started with",
        _key("simulation"),
    ),
    RestartOnly(
        "simulated devices (connection, profile, capacity; new ones; pmu in mode simulation)",
        "the simulated plant has the devices that it was started with",
        _plays_others,
    ),
    RestartOnly(
        "market.exchange where it becomes vppd's own",
        "the simulated exchange is a part of the simulated plant",
        _own_exchange,
    ),
    RestartOnly(
        "recorder.enabled",
        "a recording begins with the site, so that what it leaves out is a whole run",
        _key("recorder.enabled"),
    ),
    RestartOnly(
        "journal.max_mb",
        "the file is bounded when it is opened",
        _key("journal.max_mb"),
    ),
    RestartOnly(
        "journal.disk",
        "how rows wait for the disk is settled when the journal is opened",
        _key("journal.disk"),
    ),
)


def refusals(old: Settings, new: Settings) -> Iterable[str]:
    """Why these settings cannot be taken over while running, one sentence each."""
    for rule in RESTART_ONLY:
        if keys := rule.changed(old, new):
            yield rule.refused(keys)
    for each in fields(Settings):
        unknown = each.name not in LIVE and each.name != "config_dir"
        if unknown and getattr(old, each.name) != getattr(new, each.name):
            yield f"{placed([each.name])}: it is settled at the start; restart needed"
