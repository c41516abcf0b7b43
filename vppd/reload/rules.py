"""What cannot be changed while the site is controlled, and why: the one list of it. All else can.

State directory, socket and configuration directory are given on the command line and so are no
settings: another one is another start.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

from vppd.core.model import METER, UnitId
from vppd.core.settings import InputModbusSettings, Settings
from vppd.field.poll import Seat
from vppd.field.refit import made_of
from vppd.trading import own_exchange

Words = Mapping[str, tuple[int, str, int]]  # baudrate, parity and stop bits of each line

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
    """One thing that a restart alone changes."""

    what: str
    why: str
    changed: Callable[[Settings, Settings], bool]

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; restart needed"


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


def _plays_others(old: Settings, new: Settings) -> bool:
    before, after = _simulated(old), _simulated(new)
    return any(before.get(owner) != each for owner, each in after.items())


def _heard(settings: Settings) -> Words:
    """The serial lines by which meter and interlocks are heard."""
    return _lines([settings.meter, *(each.modbus for each in settings.interlock_inputs)])


def _used(settings: Settings) -> Words:
    """All serial lines."""
    units = [at for unit in settings.units for at in (unit.modbus, unit.inverter)]
    return {**_lines(units), **_heard(settings)}


def _lines(places: Iterable[Seat | InputModbusSettings | None]) -> Words:
    return {
        at.serial: (at.baudrate, at.parity, at.stopbits)
        for at in places
        if at is not None and at.serial is not None
    }


def _differ(one: Words, other: Words) -> bool:
    return any(other.get(line, words) != words for line, words in one.items())


def _own_exchange(settings: Settings) -> bool:
    return settings.market.enabled and own_exchange(settings)


def _sites_change(old: Settings, new: Settings) -> bool:
    if old.role != "aggregator":
        return False
    return (old.units, old.mqtt) != (new.units, new.mqtt)


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
        lambda old, new: _differ(_heard(old), _used(new)) or _differ(_heard(new), _used(old)),
    ),
    RestartOnly(
        "site.id",
        "rows, topics and reports carry it, and another id is another site",
        lambda old, new: old.site.id != new.site.id,
    ),
    RestartOnly(
        "mode",
        "which devices are real is settled before the first of them is touched",
        lambda old, new: old.mode != new.mode,
    ),
    RestartOnly(
        "simulation",
        "the simulated plant plays what it was started with",
        lambda old, new: old.simulation != new.simulation,
    ),
    RestartOnly(
        "simulated devices (connection, profile, capacity; new ones; pmu in mode simulation)",
        "the simulated plant has the devices that it was started with",
        _plays_others,
    ),
    RestartOnly(
        "market.exchange where it becomes vppd's own",
        "the simulated exchange is a part of the simulated plant",
        lambda old, new: _own_exchange(new) and not _own_exchange(old),
    ),
    RestartOnly(
        "recorder.enabled",
        "a recording begins with the site, so that what it leaves out is a whole run",
        lambda old, new: old.recorder.enabled != new.recorder.enabled,
    ),
    RestartOnly(
        "journal.max_mb",
        "the file is bounded when it is opened",
        lambda old, new: old.journal.max_mb != new.journal.max_mb,
    ),
    RestartOnly(
        "journal.disk",
        "how rows wait for the disk is settled when the journal is opened",
        lambda old, new: old.journal.disk != new.journal.disk,
    ),
)


def refusals(old: Settings, new: Settings) -> Iterable[str]:
    """Why these settings cannot be taken over while running, one sentence each."""
    for rule in RESTART_ONLY:
        if rule.changed(old, new):
            yield str(rule)
    for each in fields(Settings):
        unknown = each.name not in LIVE and each.name != "config_dir"
        if unknown and getattr(old, each.name) != getattr(new, each.name):
            yield f"{each.name}: it is settled at the start; restart needed"
