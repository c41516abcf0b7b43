"""What the fleet is told of the site, sampled into the journal, whether there is a link or not.

A sample holds the same record (`vppd.campus.aggregate.Telemetry`) of the site and of each unit. In
the journal a record is a list of values in the order of FIELDS, so that a day of it stays small.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from vppd.campus.aggregate import Telemetry
from vppd.campus.hierarchy import Level
from vppd.core.records import TelemetryRow
from vppd.northbound.campus_views import hierarchy
from vppd.northbound.site import Site
from vppd.northbound.views import View

FIELDS = (
    *("level", "power_kw", "reactive_kvar", "setpoint_kw", "rated_kw", "energy_kwh"),
    *("stored_kwh", "soc_pct", "available_up_kw", "available_down_kw"),
    *("available_discharge_kw", "available_charge_kw"),
    *("available_discharge_kwh", "available_charge_kwh", "losses_kw", "auxiliary_kw"),
    *("nodes", "states", "worst_alarm", "unknown"),
)
PLACES = 3
ABOVE_CAMPUS = (Level.COUNTRY, Level.STATE, Level.CITY)


class Sampler:
    """Writes one row every `every_s`; a beat that was missed is not made up for."""

    def __init__(self, site: Site, every_s: float, *, nodes: bool) -> None:
        self._site, self._every_s, self._nodes = site, every_s, nodes

    async def run(self) -> None:
        """For ever."""
        clock = self._site.clock
        while True:
            if self._site.decision() is not None:
                self.take()
            await clock.sleep_until(clock.now_s() + self._every_s)

    def take(self) -> None:
        """One sample of now."""
        top = hierarchy(self._site)
        units = [each for each in below(top) if each.level is Level.NODE] if self._nodes else []
        decision = self._site.decision()
        sample = {
            "frequency_hz": decision.frequency_hz if decision is not None else None,
            "site": packed(whole(top)),
            "nodes": {each.id: packed(each) for each in units},
        }
        text = json.dumps(sample, separators=(",", ":"), allow_nan=False)
        self._site.journal.append(TelemetryRow(self._site.clock.utc(), text))


def whole(top: Telemetry) -> Telemetry:
    """The lowest place that holds all there is, from the campus upwards."""
    while top.level in ABOVE_CAMPUS and len(top.children) == 1:
        top = top.children[0]
    return top


def below(top: Telemetry) -> Iterator[Telemetry]:
    """A record and all under it."""
    yield top
    for child in top.children:
        yield from below(child)


def places(top: Telemetry) -> Telemetry:
    """A record and all under it but the nodes."""
    below_ = (places(child) for child in top.children if child.level is not Level.NODE)
    return replace(top, children=tuple(below_))


def packed(record: Telemetry) -> list[object]:
    """The values of a record in the order of FIELDS."""
    return [_plain(getattr(record, name)) for name in FIELDS]


def unpacked(values: Sequence[object]) -> View:
    """A record as it is sent. A shorter list is of an older version: the rest is not known."""
    return dict(zip(FIELDS, values, strict=False))


def record_of(record: Telemetry) -> View:
    """A record as it is sent, with its id and name and those of all under it."""
    return {
        "id": record.id,
        "name": record.name or None,
        **unpacked(packed(record)),
        "children": [record_of(child) for child in record.children],
    }


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, PLACES)
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)  # type: ignore[call-overload]
    return value
