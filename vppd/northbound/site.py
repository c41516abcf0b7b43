"""The parts of the running daemon that the socket shows and commands; `app.py` fills it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from vppd.campus.registry import Registry
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.model import Point, Snapshot, UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.settings import Settings
from vppd.field.audit import Audit
from vppd.field.feeders import Feeders, feeders_of
from vppd.field.gate import Gate
from vppd.grid.watch import FrequencyWatch
from vppd.northbound.feed import Feed
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus
from vppd.spine.heartbeat import Heartbeat
from vppd.tick import Tick

Reload = Callable[[], Awaitable[list[str]]]
OPERATOR = "operator:"


@dataclass(slots=True)
class Site:
    """One running site.

    `decision` gives the last tick's, None before the first. `diagnostics` gives whatever else is
    worth showing in /v1/status, by name. `reload` reads the configuration again and returns what is
    wrong with it, nothing when it is in force; None: this daemon cannot.
    """

    settings: Settings
    assets: Sequence[Asset]
    clock: Clock
    bus: Bus
    gate: Gate
    tick: Tick
    alarms: AlarmBoard
    audit: Audit
    journal: Journal
    heartbeat: Heartbeat
    watch: FrequencyWatch
    decision: Callable[[], Decision | None]
    diagnostics: Callable[[], dict[str, object]]
    started_s: float
    reload: Reload | None
    version: str
    feed: Feed = field(init=False, default_factory=Feed)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        self.registry = Registry(self.settings.units, self.clock, self.journal)
        for reading in self.bus.snapshot().readings.values():
            self.registry.take(reading)
        self.bus.tap(self.registry.take)

    def asset(self, unit: UnitId) -> Asset | None:
        """The unit of this id, if there is one."""
        return next((asset for asset in self.assets if asset.id == unit), None)

    def feeders(self) -> Feeders:
        """The connection limits, as the gate applies them."""
        return feeders_of(self.settings, self.assets)


def power_kw(now: Snapshot, unit: UnitId) -> float | None:
    """What the unit measures at its terminals, kW."""
    return now.fresh(unit, Point.POWER_KW)
