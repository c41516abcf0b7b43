"""Which nodes the campus knows: configured ones register when their device first answers, others
are announced over the socket. Every change is an event in the journal.
"""

from datetime import datetime

from vppd.campus.hierarchy import Announced
from vppd.core.alarms import Code, Level
from vppd.core.model import Point, Quality, Reading, UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow
from vppd.core.settings import UnitSettings

ANNOUNCED_MAX = 256
DIFFERS_BY_FACTOR = 0.05  # nameplates are rounded, and usable energy is less than built in


class Registry:
    """Told every message of the bus; keeps what was announced in memory."""

    def __init__(self, units: tuple[UnitSettings, ...], clock: Clock, journal: Journal) -> None:
        self._clock, self._journal = clock, journal
        self._stated = _stated(units)
        self._waiting = {unit.unit for unit in units}
        self._registered: dict[UnitId, datetime] = {}
        self._mismatches: dict[tuple[UnitId, Point], str] = {}
        self._announced: dict[UnitId, Announced] = {}

    def adopt(self, units: tuple[UnitSettings, ...]) -> None:
        """Other units are configured from now on; one that is new registers when it answers."""
        ids = {unit.unit for unit in units}
        new = ids - self._registered.keys() - self._waiting
        self._waiting = (self._waiting | new) & ids
        self._registered = {id_: at for id_, at in self._registered.items() if id_ in ids}
        self._mismatches = {key: text for key, text in self._mismatches.items() if key[0] in ids}
        self._stated = _stated(units)

    def take(self, message: object) -> None:
        """One message of the bus: a first answer registers, a nameplate is compared."""
        if not isinstance(message, Reading) or message.quality is not Quality.GOOD:
            return
        if message.point is Point.SITE_OURS:  # our own word, not the site's
            return
        if message.unit in self._waiting:
            self._waiting.discard(message.unit)
            self._registered[message.unit] = self._clock.utc()
            self._event(Code.NODE_REGISTERED, message.unit, "its device answers")
        stated = self._stated.get((message.unit, message.point))
        if stated is not None:
            self._compare(message, stated)

    def registered_at(self, node: UnitId) -> datetime | None:
        """When its device first answered, if it ever did."""
        return self._registered.get(node)

    def mismatches(self, node: UnitId) -> list[str]:
        """Where the device's own nameplate says something else than field.yaml."""
        return [text for (id_, _), text in self._mismatches.items() if id_ == node]

    def announced(self) -> tuple[Announced, ...]:
        """All announced nodes."""
        return tuple(self._announced.values())

    def announce(self, node: Announced, by: str) -> bool:
        """List it. False: there are too many already; announcing one again replaces it."""
        if node.id not in self._announced and len(self._announced) >= ANNOUNCED_MAX:
            return False
        self._announced[node.id] = node
        text = f"{node.rated_power_kw:g} kW, {node.energy_kwh:g} kWh in {node.building}, by {by}"
        self._event(Code.NODE_ANNOUNCED, node.id, text)
        return True

    def forget(self, node: UnitId, by: str) -> bool:
        """Take an announced node off the list. False: it was not on it."""
        if self._announced.pop(node, None) is None:
            return False
        self._event(Code.NODE_FORGOTTEN, node, f"by {by}")
        return True

    def _compare(self, reading: Reading, bound: float) -> None:
        key = reading.unit, reading.point
        if abs(reading.value - bound) <= DIFFERS_BY_FACTOR * bound:
            self._mismatches.pop(key, None)
            return
        text = f"the device says {reading.point} {reading.value:g}, field.yaml {bound:g}"
        if self._mismatches.get(key) != text:
            self._mismatches[key] = text
            self._event(Code.NODE_MISMATCH, reading.unit, text)

    def _event(self, code: Code, node: UnitId, text: str) -> None:
        self._journal.append(EventRow(self._clock.utc(), code, node, Level.INFO, text))


def _stated(units: tuple[UnitSettings, ...]) -> dict[tuple[UnitId, Point], float]:
    """What field.yaml says of each nameplate."""
    return {
        (unit.unit, point): value
        for unit in units
        for point, value in (
            (Point.RATED_POWER_KW, unit.rated_power_kw),
            (Point.ENERGY_CAPACITY_KWH, unit.energy_kwh),
        )
    }
