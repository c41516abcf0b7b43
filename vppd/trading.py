"""The market layer put together for one house: desk, base plans, accounts, and what they see of the
site. `app.py` employs it where trading is enabled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.measured import power_kw
from vppd.core.model import METER, SITE, Limit, Point, Snapshot
from vppd.core.ports import Clock, Journal
from vppd.core.settings import Settings
from vppd.core.settings_market import BatterySettings
from vppd.field.gate import Gate
from vppd.market.dealing.desk import Desk
from vppd.market.dealing.load_watch import LoadWatch
from vppd.market.dealing.maker import BookMaker
from vppd.market.dealing.making import Maker
from vppd.market.dealing.own_books import OwnBooks
from vppd.market.dealing.worker_call import Worker
from vppd.market.exchange import Exchange
from vppd.market.exchanges import exchange_of
from vppd.market.settling.accounts import Accounts, Eyes, rules_of
from vppd.market.settling.ledger import Cause
from vppd.market.settling.sold import SoldPlans
from vppd.market.settling.tally import AWAY, short_cause
from vppd.market.site_load import NONE
from vppd.market.site_storage import Stock, stock_of
from vppd.market.trading import Trading
from vppd.spine.bus import Bus

Tell = Callable[[Code, bool, str], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What trading needs from outside of the house: where bids go, who makes them, and who foresees
    other load, where it is foreseen."""

    exchange: Exchange
    maker: Maker
    load: LoadWatch | None = None


def own_exchange(settings: Settings) -> bool:
    """Whether vppd's own simulated exchange is traded at: never in mode hardware."""
    exchange = settings.market.exchange
    return settings.mode != "hardware" and exchange.kind == "simulated" and exchange.url is None


def means_of(settings: Settings, clock: Clock, journal: Journal, own_at: Path) -> Means | None:
    """What the settings ask for; None where trading is not enabled. `own_at` is the socket of the
    own exchange. Raises ValueError for settings that cannot work."""
    market = settings.market
    if not market.enabled:
        return None
    socket = own_at if own_exchange(settings) else None
    worker = Worker()
    return Means(
        exchange_of(market, clock, socket=socket),
        BookMaker(market, journal, clock, worker),
        LoadWatch(market.forecast, worker, journal, clock) if market.forecast.load else None,
    )


class SiteEyes:
    """What the market sees of the site: its storage, its power, and why it is short."""

    def __init__(
        self,
        settings: Settings,
        assets: Sequence[Asset],
        connection: Limit,
        bus: Bus,
        gate: Gate,
        load: LoadWatch | None = None,
    ) -> None:
        self._battery, self._assets, self._connection = settings.market.battery, assets, connection
        self._bus, self._gate, self._load = bus, gate, load

    def adopt(self, assets: Sequence[Asset], connection: Limit, battery: BatterySettings) -> None:
        """Another site from now on."""
        self._assets, self._connection, self._battery = assets, connection, battery

    def stock(self) -> Stock:
        """The storage of the units that can work now."""
        made = self._gate.decisions
        able = frozenset(id_ for id_, each in made.items() if each.state not in AWAY)
        load = self._load.load() if self._load is not None else NONE
        return stock_of(
            self._bus.snapshot(), self._assets, able, self._connection, self._battery, load=load
        )

    def delta_kw(self) -> float:
        """What regulation orders add to the base now."""
        return sum(plan.power_kw for plan in self._bus.plans() if plan.adds and plan.unit == SITE)

    def short_of(self, decision: Decision) -> Cause:
        """Why units gave less than was asked."""
        rooms = self._gate.room(self._bus.snapshot())
        states = [each.state for each in self._gate.decisions.values()]
        return short_cause(decision, states, [room.why for room in rooms.values()])

    def units_kw(self, now: Snapshot) -> float | None:
        """The sum of what units measure; one that is silent counts for nothing."""
        seen = [power_kw(now, asset) for asset in self._assets]
        known = [each_kw for each_kw in seen if each_kw is not None]
        return sum(known) if known else None

    def connection_kw(self, now: Snapshot) -> float | None:
        """What the site's meter says."""
        return now.fresh(METER, Point.POWER_KW)


def trading_of(
    settings: Settings,
    means: Means,
    eyes: SiteEyes,
    assets: Sequence[Asset],
    journal: Journal,
    clock: Clock,
    bus: Bus,
    synchronised: Callable[[], bool],
    tell: Tell,
) -> Trading:
    """Nothing runs yet."""
    market = settings.market
    own = OwnBooks(means.maker, journal, clock)
    desk = Desk(market, means.exchange, own, journal, clock, eyes.stock, synchronised, tell)
    sold = SoldPlans(
        desk,
        bus,
        clock,
        synchronised,
        ramp_kw_per_s=sum(asset.safety.ramp_max_kw_per_s for asset in assets),
        horizon_s=market.horizon_s,
        losses=tuple(rules_of(market).losses),
    )
    looks = Eyes(
        scheduled_kw=sold.power_kw,
        delta_kw=eyes.delta_kw,
        short_of=eyes.short_of,
        connection_kw=eyes.connection_kw,
        units_kw=eyes.units_kw,
        stock=eyes.stock,
        metered=settings.meter is not None,
    )
    accounts = Accounts(market, journal, clock, looks, tell)
    return Trading(desk, sold, accounts, means.exchange, own, means.load)
