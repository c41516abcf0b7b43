"""The parts of the running daemon that the socket shows and commands; `app.py` fills it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from vppd.campus.registry import Registry
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.model import UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.reloading import Verdict
from vppd.core.settings import Settings
from vppd.core.settings_campus import CampusRulesSettings
from vppd.field.audit import Audit
from vppd.field.drivers.sunspec import SunSpecDevice
from vppd.field.feeders import Feeders, feeders_of
from vppd.field.gate import Gate
from vppd.field.presence import Known
from vppd.grid.order_desk import OrderDesk
from vppd.grid.watch import FrequencyWatch
from vppd.market.trading import Trading
from vppd.northbound.feed import Feed
from vppd.northbound.once import Once
from vppd.northbound.trail import Trail
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus
from vppd.spine.heartbeat import Heartbeat
from vppd.tick import Tick

Reload = Callable[[str, bool], Awaitable[Verdict]]
NameEvent = Callable[[str, datetime, datetime, datetime], datetime]
OPERATOR = "operator:"
SCRAPED_AGAIN_S = 1.0


def no_devices() -> Mapping[UnitId, Known]:
    """Where nothing is known of them."""
    return {}


@dataclass(slots=True)
class Site:
    """One running site.

    `decision` gives the last tick's, None before the first. `diagnostics` gives whatever else is
    worth showing in /v1/status, by name. `reload` (by whom, dry run) reads the configuration again
    and says what came of it; None: this daemon cannot. `devices` gives every
    device by its name: the unit's id for the one that takes its setpoints, UNIT/controller,
    UNIT/bms, meter for others. `desk` takes orders, None: nobody does. `clock_trusted` says whether
    wall time may be believed. `name_event` (name, begin, end, now) keeps a window of time as a
    frequency event and says from when on it has every 100 ms row; None: nobody keeps them.
    `trading` is the market layer, None: the schedule file is the plan. `region` shows the sites of
    an aggregator, None: it is none.
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
    devices: Callable[[], Mapping[UnitId, Known]] = no_devices
    inverters: Mapping[UnitId, SunSpecDevice] = field(default_factory=dict)
    rules: CampusRulesSettings = field(default_factory=CampusRulesSettings)
    desk: OrderDesk | None = None
    clock_trusted: Callable[[], bool] = lambda: True
    name_event: NameEvent | None = None
    trading: Trading | None = None
    region: Callable[[], Mapping[str, object]] | None = None
    feed: Feed = field(init=False, default_factory=Feed)
    trail: Trail = field(init=False, default_factory=Trail)
    scraped: Once = field(init=False)  # the metrics
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        self.scraped = Once(self.clock, SCRAPED_AGAIN_S)
        self.registry = Registry(self.settings.units, self.clock, self.journal)
        for reading in self.bus.snapshot().readings.values():
            self.registry.take(reading)
        self.bus.tap(self.registry.take)

    def adopt(self, settings: Settings, assets: Sequence[Asset], trading: Trading | None) -> None:
        """Another configuration from now on."""
        self.settings, self.assets, self.rules = settings, assets, settings.rules
        self.trading = trading
        self.registry.adopt(settings.units)

    def asset(self, unit: UnitId) -> Asset | None:
        """The unit of this id, if there is one."""
        return next((asset for asset in self.assets if asset.id == unit), None)

    def feeders(self) -> Feeders:
        """The connection limits, as the gate applies them."""
        return feeders_of(self.settings, self.assets)
