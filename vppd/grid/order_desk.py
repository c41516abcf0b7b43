"""The desk where orders arrive, whoever brings them: takes or refuses, publishes plans, tells."""

from collections.abc import Callable
from datetime import datetime

from vppd.core.model import SITE, Plan, Priority
from vppd.core.ports import Board, Clock
from vppd.core.settings_scada import OrderSettings
from vppd.grid import orders
from vppd.grid.droop_switch import Party
from vppd.grid.orders import Book, Offer, Order, OrderEvent, OrderKind, Refusal, Regulation, Verb

Told = Callable[[OrderEvent], None]
RENEW_SHARE = 0.4  # of the lease
RAMP_STEP_S = 0.2
IDLE_S = 1.0


class OrderDesk:
    """One for the site; `offer` says what the site can do now."""

    def __init__(
        self,
        settings: OrderSettings,
        offer: Callable[[], Offer],
        board: Board,
        clock: Clock,
        told: Told,
    ) -> None:
        self._settings, self._offer = settings, offer
        self._board, self._clock, self._told = board, clock, told
        self.book = Book()
        self.switched_at: datetime | None = None  # when that they are taken changed last
        self._published: dict[OrderKind, tuple[float, float]] = {}

    def adopt(self, settings: OrderSettings) -> None:
        """Other bounds of orders from now on; those in force hold on."""
        self._settings = settings

    def order(self, order: Order) -> tuple[Refusal, str] | None:
        """Take an order: None, or why not. It is on the board, and told, when this returns."""
        refused = self.refusal(order)
        if refused is not None:
            self.tell(Verb.REFUSED, order.source, order, refused[0].value, refused[1])
            return refused
        self.renew()  # so that no time before it counts for its ramp
        offer = self._offer()
        base_kw = offer.base_kw - offer.regulated_kw
        self.book = orders.accept(self.book, order, self._settings, base_kw)
        self.tell(Verb.ACCEPTED, order.source, order)
        self._published.pop(order.kind, None)  # a new order is published at once, moved or not
        self.renew()
        return None

    def refusal(self, order: Order) -> tuple[Refusal, str] | None:
        """Why an order would be refused now; nothing is done or told."""
        return orders.refusal(self.book, order, self._settings, self._offer())

    def range_kw(self, kind: OrderKind) -> tuple[float, float]:
        """What an order of that kind may ask for now, lowest and highest."""
        return orders.range_kw(kind, self._settings, self._offer())

    def link(self, source: str, *, up: bool) -> None:
        """A source of orders came or went."""
        now_s = self._clock.now_s()
        self.book = (
            orders.find(self.book, source, self._settings, now_s)
            if up
            else orders.lose(self.book, source, now_s)
        )
        self.renew()

    def enable(self, party: Party, name: str, *, enabled: bool) -> str | None:
        """Take orders or not; why the word does not count, or None when it does. Told with the
        `name` of who spoke; switched off, those in force are given up."""
        word = f"orders {'on' if enabled else 'off'}"
        why = orders.unswitchable(self.book, party, enabled=enabled)
        if why is not None:
            self.tell(Verb.REFUSED, name, reason="switch", text=f"{word}: {why}")
            return why
        self.tell(Verb.SWITCHED, name, text=word)
        if not enabled:
            self.withdraw(name)
        before = self.book.enabled
        self.book = orders.switched(self.book, party, name, enabled=enabled)
        if self.book.enabled is not before:
            self.switched_at = self._clock.utc()
        return None

    def withdraw(self, source: str) -> None:
        """Give up every order in force."""
        for each in self.book.standing.values():
            self.tell(Verb.ENDED, source, each.order, orders.Ending.WITHDRAWN.value)
        self.book = orders.withdraw(self.book)
        self.renew()

    def regulation(self) -> Regulation:
        """The limits of a delta order as offered back now."""
        return orders.regulation(self._settings, self._offer())

    def renew(self) -> None:
        """Publish what is in force: when it changed, and before its lease ends."""
        now_s = self._clock.now_s()
        self.book, ended = orders.advance(self.book, self._settings, self._offer(), now_s)
        for standing, why in ended:
            self.tell(Verb.ENDED, standing.order.source, standing.order, why.value)
        for kind in tuple(self._published):
            if kind not in self.book.standing:
                self._end(kind, now_s)
        for kind, standing in self.book.standing.items():
            at_kw, renew_s = self._published.get(kind, (None, 0.0))
            if at_kw != standing.at_kw or now_s >= renew_s:
                plan = orders.plan_of(standing, self._settings, now_s)
                self._board.publish(plan)
                renew_s = now_s + RENEW_SHARE * (plan.valid_until_s - now_s)
                self._published[kind] = standing.at_kw, renew_s

    async def run(self) -> None:
        """Keep renewing, for ever."""
        while True:
            moving = any(each.at_kw != each.order.power_kw for each in self.book.standing.values())
            await self._clock.sleep_until(self._clock.now_s() + (RAMP_STEP_S if moving else IDLE_S))
            self.renew()

    def tell(
        self, verb: Verb, source: str, order: Order | None = None, reason: str = "", text: str = ""
    ) -> None:
        """One row to whoever writes it down."""
        kind, power_kw = (order.kind, order.power_kw) if order is not None else (None, None)
        now_s, utc = self._clock.now_s(), self._clock.utc()
        self._told(OrderEvent(now_s, utc, verb, source, kind, power_kw, reason, text))

    def _end(self, kind: OrderKind, now_s: float) -> None:
        """Take the plan off the board: the same source with a lease that is over."""
        del self._published[kind]
        self._board.publish(
            Plan(
                SITE,
                0.0,
                now_s,
                orders.source_of(kind),
                Priority.ORDER,
                now_s,
                adds=kind is not OrderKind.ABSOLUTE,
            )
        )
