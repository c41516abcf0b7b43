"""Another configuration of the devices: which ones stay as they are, which leave, which join.

A device stays when nothing that it was made of has changed; its connection, its counters and what
it was told stay with it. Nothing here moves: who leaves was brought to 0 before.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vppd.core.model import METER, UnitId
from vppd.core.ports import Actuator, Board, Clock, Report
from vppd.core.settings import Settings
from vppd.field.apart import Apart
from vppd.field.build import Berth, Builder, Field
from vppd.field.drivers.can import CanBus
from vppd.field.drivers.link import Link


def made_of(settings: Settings) -> Mapping[UnitId, tuple[object, ...]]:
    """What the devices of each owner are made of."""
    found: dict[UnitId, tuple[object, ...]] = {}
    for unit in settings.units:
        rated_kw = unit.rated_power_kw if unit.inverter is not None else None
        found[unit.unit] = (
            *(unit.modbus, unit.inverter, unit.bms, unit.energy_kwh, unit.modules_parallel),
            *(rated_kw, settings.profile_of(unit), settings.bms_of(unit)),
        )
    if (meter := settings.meter) is not None:
        found[METER] = meter, settings.profiles[meter.profile]
    for each in settings.interlock_inputs:
        found[UnitId(f"input:{each.id}")] = (each.modbus, each.healthy)
    return found


@dataclass(frozen=True, slots=True)
class Refit:
    """What becomes of the devices of a site."""

    gone: frozenset[UnitId]  # owners that are no more
    moved: frozenset[UnitId]  # the same owner on another device
    added: frozenset[UnitId]
    leaves: tuple[Berth, ...]
    made: Field  # the devices that join
    apart: Apart  # where those are heard that take the place of a meter or an input

    @property
    def any(self) -> bool:
        """Whether any device is another."""
        return bool(self.leaves or self.made.berths)

    @property
    def first(self) -> tuple[Berth, ...]:
        """Who joins before anything is decided with it: meter, inputs, units that are new; but for
        units whose port is another's until that one has left."""
        held = {_port(each): each.line for each in self.leaves}
        return tuple(
            each
            for each in self.made.berths
            if self.stands_in(each.owner)
            or (each.owner in self.added and not self._waits(each, held))
        )

    def _waits(self, berth: Berth, held: Mapping[str, object]) -> bool:
        return _commanded(berth.owner) and held.get(_port(berth), berth.line) is not berth.line

    def stands_in(self, owner: UnitId) -> bool:
        """Whether it is heard apart: a meter or an input on another device."""
        return owner in self.moved and not _commanded(owner)

    @property
    def last(self) -> tuple[Berth, ...]:
        """Units on another device: they join when the old one was left."""
        first = set(map(id, self.first))
        return tuple(each for each in self.made.berths if id(each) not in first)

    def actuators(self, field: Field) -> dict[UnitId, Actuator]:
        """Who takes setpoints afterwards."""
        left = self.gone | self.moved
        kept = {id_: each for id_, each in field.actuators.items() if id_ not in left}
        return kept | self.made.actuators

    def settle(self, field: Field) -> None:
        """Write down in `field` who is there now."""
        if not self.any:
            return
        left = self.gone | self.moved
        away = {id(each.presence) for each in self.leaves}
        actuators = self.actuators(field)
        field.actuators.clear()
        field.actuators.update(actuators)
        inverters = {id_: each for id_, each in field.inverters.items() if id_ not in left}
        field.inverters.clear()
        field.inverters.update(inverters | self.made.inverters)
        field.presences[:] = [each for each in field.presences if id(each) not in away]
        field.presences += self.made.presences
        field.berths[:] = [each for each in field.berths if each not in self.leaves]
        field.berths += self.made.berths
        lines = list(dict.fromkeys(each.line for each in field.berths))
        field.links[:] = [each for each in lines if isinstance(each, Link)]
        field.buses[:] = [each for each in lines if isinstance(each, CanBus)]


def refit(
    field: Field, old: Settings, new: Settings, board: Board, clock: Clock, report: Report
) -> Refit:
    """What has to be done; nothing is done yet. Raises ValueError as `vppd.field.build.build`."""
    before, after = made_of(old), made_of(new)
    gone = frozenset(before.keys() - after.keys())
    moved = frozenset(id_ for id_ in before.keys() & after.keys() if before[id_] != after[id_])
    added = frozenset(after.keys() - before.keys())
    builder = Builder(new, board, clock, report)
    kept = [each.line for each in field.berths if each.owner not in gone | moved]
    builder.share(kept, [each.line for each in field.berths if each.line not in kept])
    apart = Apart(board, report, clock)
    builder.build(lambda owner: owner in added or (owner in moved and _commanded(owner)))
    builder.told_to(apart, apart.report)
    builder.build(lambda owner: owner in moved and not _commanded(owner))
    leaves = tuple(each for each in field.berths if each.owner in gone | moved)
    return Refit(gone, moved, added, leaves, builder.made, apart)


def _commanded(owner: UnitId) -> bool:
    return owner != METER and not owner.startswith("input:")


def _port(berth: Berth) -> str:
    """What only one connection can have open, as far as it is such."""
    line = berth.line
    return str(line.endpoint) if isinstance(line, Link) else line.channel
