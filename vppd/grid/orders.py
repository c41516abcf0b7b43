"""Orders from outside: what is accepted, how long it is in force, what it asks for now. Pure.

An order is an absolute power of the site or a delta on top of its base. One of each is in force at
a time: a newer one takes the place of the older of its kind, so that an order that arrives twice,
over two links, counts once. Sign: + is discharge, and regulation upwards.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from vppd.core.envelope import slew
from vppd.core.model import SITE, Plan, Priority
from vppd.core.settings_scada import OrderSettings
from vppd.grid.droop_switch import Party, Switch, held_off


class OrderKind(StrEnum):
    """What its number means."""

    ABSOLUTE = "absolute"  # the power of the site
    DELTA = "delta"  # on top of the base; the next one replaces it, they never add up
    REACTIVE = "reactive"  # the reactive power of the site, kvar, + out; beside the others

    @property
    def unit(self) -> str:
        """What its number counts."""
        return "kvar" if self is OrderKind.REACTIVE else "kW"


class Refusal(StrEnum):
    """Why an order is not taken."""

    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    BAD_VALIDITY = "bad_validity"
    SWITCHED_OFF = "switched_off"
    OUTDATED = "outdated"  # issued before the one in force


class Ending(StrEnum):
    """Why an order that was in force is not any more."""

    EXPIRED = "expired"
    LINK_LOST = "link_lost"
    WITHDRAWN = "withdrawn"


class Verb(StrEnum):
    """What happened, in an `OrderEvent`."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    ENDED = "ended"
    LINK_UP = "link_up"
    LINK_DOWN = "link_down"
    LINK_REFUSED = "link_refused"
    LINK_STARTED = "link_started"  # it is the one that gets the data
    SWITCHED = "switched"
    CLOCK = "clock"  # a master told its time
    BAD_FRAME = "bad_frame"
    EVENTS_LOST = "events_lost"


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One row of what was ordered and what became of it."""

    at_s: float
    utc: datetime
    verb: Verb
    source: str
    kind: OrderKind | None = None
    power_kw: float | None = None
    reason: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for. `valid_s` None: as the settings say. `ramp_kw_per_s` likewise; no
    order moves faster than they let."""

    kind: OrderKind
    power_kw: float  # kvar where it is reactive
    source: str
    issued_s: float
    valid_s: float | None = None
    ramp_kw_per_s: float | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the site can do, as positive numbers: by rating, and now (None: not known). `base_kw`
    is the power of its base now, `regulated_kw` what of it a delta order makes, with their sign."""

    discharge_kw: float
    charge_kw: float
    up_kw: float | None = None
    down_kw: float | None = None
    base_kw: float = 0.0
    reactive_kvar: float = 0.0  # either way, by rating
    regulated_kw: float = 0.0


@dataclass(frozen=True, slots=True)
class Regulation:
    """The limits of a delta order as offered back, both as positive numbers."""

    up_kw: float
    down_kw: float


@dataclass(frozen=True, slots=True)
class Standing:
    """An order in force: where its ramp is, and since when its link is away."""

    order: Order
    ends_s: float
    at_kw: float
    lost_s: float | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """The orders in force."""

    standing: Mapping[OrderKind, Standing] = field(default_factory=lambda: MappingProxyType({}))
    now_s: float = 0.0
    switch: Switch = field(default_factory=Switch)
    switched_by: str = ""  # whose word rules, by name; nobody has spoken: empty

    @property
    def enabled(self) -> bool:
        """Whether orders are taken."""
        return self.switch.enabled

    def power_kw(self, kind: OrderKind) -> float | None:
        """What was ordered of that kind and is in force."""
        found = self.standing.get(kind)
        return found.order.power_kw if found is not None else None


def regulation(settings: OrderSettings, offer: Offer) -> Regulation:
    """What a delta order may ask for now: what is available beside the delta in force, whose place
    it takes, at most what the settings give; with nothing known of now, nothing is offered."""
    if offer.up_kw is None or offer.down_kw is None:
        return Regulation(0.0, 0.0)
    up_kw, down_kw = offer.up_kw + offer.regulated_kw, offer.down_kw - offer.regulated_kw
    return Regulation(
        min(max(up_kw, 0.0), _or(settings.regulation_up_max_kw, math.inf)),
        min(max(down_kw, 0.0), _or(settings.regulation_down_max_kw, math.inf)),
    )


def refusal(
    book: Book, order: Order, settings: OrderSettings, offer: Offer
) -> tuple[Refusal, str] | None:
    """Why the order may not be taken, with the words for a person, or None."""
    if not book.enabled:
        return Refusal.SWITCHED_OFF, f"orders are switched off by {book.switched_by}"
    if not math.isfinite(order.power_kw):
        return Refusal.NOT_A_NUMBER, f"{order.power_kw} is no power"
    if not math.isfinite(order.issued_s) or not _valid(order):
        return Refusal.BAD_VALIDITY, "its times are no times"
    low_kw, high_kw = range_kw(order.kind, settings, offer)
    if not low_kw <= order.power_kw <= high_kw:
        return (
            Refusal.OUT_OF_RANGE,
            f"{order.power_kw:+.1f} {order.kind.unit} is outside"
            f" {low_kw:+.1f} to {high_kw:+.1f} {order.kind.unit}",
        )
    standing = book.standing.get(order.kind)
    if standing is not None and order.issued_s < standing.order.issued_s:
        return Refusal.OUTDATED, "a newer one is in force"
    return None


def accept(book: Book, order: Order, settings: OrderSettings, base_kw: float) -> Book:
    """Put an order that has no `refusal` in force. Its ramp goes on from where the one before it
    stood; the first begins at the base (that without a delta), a first delta at 0."""
    before = book.standing.get(order.kind)
    if before is not None:
        at_kw = before.at_kw
    else:
        at_kw = base_kw if order.kind is OrderKind.ABSOLUTE else 0.0
    return _with(book, Standing(order, _ends_s(order, settings, order.issued_s), at_kw))


def switched(book: Book, party: Party, name: str, *, enabled: bool) -> Book:
    """With one more word on whether orders are taken; switched off, none is in force. `name` says
    who of the party spoke."""
    switch = book.switch.said(enabled, party)
    by = name if switch.by == party else book.switched_by
    book = replace(book, switch=switch, switched_by=by)
    return book if switch.enabled else withdraw(book)


def unswitchable(book: Book, party: Party, *, enabled: bool) -> str | None:
    """Why a word would not count, for a person: what an operator switched off, only an operator
    switches on."""
    if enabled and party == "order" and held_off(book.switch):
        return f"{book.switched_by} has switched them off"
    return None


def lose(book: Book, source: str, now_s: float) -> Book:
    """The link that brought an order is away."""
    for each in book.standing.values():
        if each.order.source == source and each.lost_s is None:
            book = _with(book, replace(each, lost_s=now_s))
    return book


def find(book: Book, source: str, settings: OrderSettings, now_s: float) -> Book:
    """The link is back. An order that was held over its end gets its time anew, so that it can be
    repeated before it is given up."""
    for each in book.standing.values():
        if each.order.source == source and each.lost_s is not None:
            ends_s = each.ends_s
            if settings.on_link_loss == "hold":
                anew_s = _ends_s(each.order, settings, now_s)
                ends_s = max(ends_s, min(anew_s, _held_until_s(each.order, settings)))
            book = _with(book, replace(each, lost_s=None, ends_s=ends_s))
    return book


def withdraw(book: Book, kind: OrderKind | None = None) -> Book:
    """Give up one order, or all of them."""
    left = {each: book.standing[each] for each in book.standing if kind not in {None, each}}
    return replace(book, standing=MappingProxyType(left))


def advance(
    book: Book, settings: OrderSettings, offer: Offer, now_s: float
) -> tuple[Book, tuple[tuple[Standing, Ending], ...]]:
    """Time goes on: ramps move, what is over ends. Returns the book and what ended, and why."""
    elapsed_s = max(now_s - book.now_s, 0.0) if book.now_s else 0.0
    limits, most_kw_per_s = regulation(settings, offer), _or(settings.ramp_kw_per_s, math.inf)
    ended: list[tuple[Standing, Ending]] = []
    left: dict[OrderKind, Standing] = {}
    for kind, each in book.standing.items():
        if (why := _over(each, settings, now_s)) is not None:
            ended.append((each, why))
            continue
        target_kw = each.order.power_kw
        if kind is OrderKind.DELTA:
            target_kw = min(max(target_kw, -limits.down_kw), limits.up_kw)
        ramp_kw_per_s = min(_or(each.order.ramp_kw_per_s, math.inf), most_kw_per_s)
        ramped = math.isfinite(ramp_kw_per_s)
        at_kw = slew(each.at_kw, target_kw, ramp_kw_per_s * elapsed_s) if ramped else target_kw
        left[kind] = replace(each, at_kw=at_kw)
    return replace(book, standing=MappingProxyType(left), now_s=now_s), tuple(ended)


def plan_of(standing: Standing, settings: OrderSettings, now_s: float) -> Plan:
    """The order as a plan of the site, good for one lease."""
    order = standing.order
    lease_s = now_s + settings.lease_s
    held = standing.lost_s is not None and settings.on_link_loss == "hold"
    reactive = order.kind is OrderKind.REACTIVE
    return Plan(
        SITE,
        0.0 if reactive else standing.at_kw,
        lease_s if held else min(lease_s, standing.ends_s),
        source_of(order.kind),
        Priority.ORDER,
        order.issued_s,
        reactive_kvar=standing.at_kw if reactive else 0.0,
        adds=order.kind is not OrderKind.ABSOLUTE,
        id=order.id,
    )


def source_of(kind: OrderKind) -> str:
    """The name of the plan on the board: one a kind, so that a newer order replaces an older."""
    return "order" if kind is OrderKind.ABSOLUTE else f"order {kind.value}"


def _ends_s(order: Order, settings: OrderSettings, from_s: float) -> float:
    valid_s = order.valid_s if order.valid_s is not None else settings.expiry_s
    return math.inf if valid_s is None else from_s + valid_s


def _held_until_s(order: Order, settings: OrderSettings) -> float:
    """No order that is not repeated is held longer, however often its link comes and goes."""
    return _ends_s(order, settings, order.issued_s) + settings.hold_s


def _over(each: Standing, settings: OrderSettings, now_s: float) -> Ending | None:
    if each.lost_s is not None:
        if settings.on_link_loss == "schedule":
            return Ending.LINK_LOST
        if settings.on_link_loss == "hold":
            held_until_s = min(each.lost_s + settings.hold_s, _held_until_s(each.order, settings))
            return Ending.LINK_LOST if now_s >= held_until_s else None
        if now_s >= each.lost_s + settings.hold_s and math.isinf(each.ends_s):
            return Ending.LINK_LOST
    return Ending.EXPIRED if now_s >= each.ends_s else None


def range_kw(kind: OrderKind, settings: OrderSettings, offer: Offer) -> tuple[float, float]:
    """What an order of that kind may ask for. An absolute order: the rating. A delta can go from
    one end of it to the other. A reactive one: kvar, either way."""
    if kind is OrderKind.REACTIVE:
        most_kvar = min(_or(settings.reactive_max_kvar, offer.reactive_kvar), offer.reactive_kvar)
        return -most_kvar, most_kvar
    high_kw = min(_or(settings.export_max_kw, offer.discharge_kw), offer.discharge_kw)
    low_kw = -min(_or(settings.import_max_kw, offer.charge_kw), offer.charge_kw)
    if kind is OrderKind.ABSOLUTE:
        return low_kw, high_kw
    return low_kw - high_kw, high_kw - low_kw


def _valid(order: Order) -> bool:
    times = (order.valid_s, order.ramp_kw_per_s)
    return all(each is None or (math.isfinite(each) and each > 0.0) for each in times)


def _with(book: Book, standing: Standing) -> Book:
    return replace(
        book, standing=MappingProxyType({**book.standing, standing.order.kind: standing})
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
