"""The parts of a site that listen, trade and are asked, each by a function of the settings:
frequency sources, the station that masters connect to, the market or the schedule."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import SITE, UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.settings import PmuSettings, Settings
from vppd.grid.order_desk import OrderDesk
from vppd.grid.pmu import PmuClient
from vppd.grid.points import DROOP_SWITCH
from vppd.grid.scada import Station
from vppd.market.settling.tally import SOURCE as SOLD
from vppd.market.task import SOURCE as SCHEDULED
from vppd.market.task import ScheduleTask
from vppd.orders import SiteBoard, droop_switch
from vppd.parts import Part, Wanted
from vppd.rerun import assets_of
from vppd.spine.bus import Bus
from vppd.spine.timesync import TimeWatch
from vppd.tick import Tick
from vppd.trading import Means, SiteEyes, trading_of

STATION, MARKET, SCHEDULE = "scada", "market", "schedule"
MARKET_ALARMS = (
    *(Code.MARKET_SUBMISSION, Code.MARKET_RESULT, Code.MARKET_PORTFOLIO, Code.MARKET_SHORTFALL),
    *(Code.MARKET_FORECAST, Code.MARKET_ACCOUNT),
)

Tell = Callable[[Code, bool, str], None]
MeansOf = Callable[[Settings], Means | None]


def pmu_name(source: PmuSettings) -> str:
    """The name of its part and of its task."""
    return f"pmu {source.id}"


@dataclass(frozen=True, slots=True)
class Ground:
    """What the parts of one site stand on."""

    bus: Bus
    clock: Clock
    journal: Journal
    tick: Tick
    board: SiteBoard
    desk: OrderDesk
    eyes: SiteEyes
    time_watch: TimeWatch
    tell: Callable[[UnitId], Tell]
    means_of: MeansOf | None  # what it trades with, raising ValueError; None: it does not

    def pmus(self, settings: Settings) -> Iterable[Wanted]:
        """Every frequency source."""

        def client(source: PmuSettings) -> Part:
            tell = self.tell(UnitId(source.id))
            bands, sources = settings.bands, settings.sources
            pmu = PmuClient(source, bands, self.bus, self.clock, tell, sources=sources)
            return Part({pmu_name(source): pmu.run}, pmu)

        for each in settings.pmu:
            made_of = each, settings.bands, settings.sources
            yield Wanted(pmu_name(each), made_of, lambda each=each: client(each))  # type: ignore[misc]

    def station(self, settings: Settings) -> Iterable[Wanted]:
        """Where masters connect by IEC 104."""
        scada = settings.scada
        if not scada.enabled:
            return

        def make() -> Part:
            station = Station(
                scada,
                self.board.values,
                self.desk,
                self.clock,
                switches={DROOP_SWITCH: droop_switch(self.tick)},
                synchronised=self.time_watch.trusted,
            )
            return Part({STATION: station.run}, station, open=station.open, close=station.close)

        yield Wanted(STATION, scada, make, (scada.host, scada.port))

    def market(self, settings: Settings) -> Iterable[Wanted]:
        """Who trades; without means to, the schedule is the plan."""
        market, assets = settings.market, assets_of(settings)
        if market.enabled and self.means_of is not None:
            ramp_kw_per_s = sum(asset.safety.ramp_max_kw_per_s for asset in assets)
            site = settings.meter is not None, ramp_kw_per_s
            yield Wanted(MARKET, (market, *site), lambda: self._trading(settings, assets))
        elif market.schedule:
            yield Wanted(
                SCHEDULE, (market.schedule, market.horizon_s), lambda: self._schedule(settings)
            )

    def _trading(self, settings: Settings, assets: Sequence[Asset]) -> Part:
        means = self.means_of(settings) if self.means_of is not None else None
        if means is None:
            raise ValueError("nothing to trade with")
        trusted, tell = self.time_watch.trusted, self.tell(SITE)
        trading = trading_of(
            settings, means, self.eyes, assets, self.journal, self.clock, self.bus, trusted, tell
        )
        return Part(trading.tasks, trading, gone=lambda: self._over(SOLD, MARKET_ALARMS))

    def _schedule(self, settings: Settings) -> Part:
        where, trusted, tell = Path(settings.config_dir), self.time_watch.trusted, self.tell(SITE)
        schedule = ScheduleTask(settings.market, where, self.bus, self.clock, trusted, tell)
        alarms = (Code.SCHEDULE_FAILED,)
        return Part({SCHEDULE: schedule.run}, schedule, gone=lambda: self._over(SCHEDULED, alarms))

    def _over(self, source: str, alarms: Iterable[Code]) -> None:
        """Who planned the base is not configured any more, as if it had never been."""
        self.bus.withdraw(SITE, source)
        for code in alarms:
            self.tell(SITE)(code, False, "not configured any more")
