"""What the station answers to each ASDU of a master: checks, select before execute, orders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from vppd.core.ports import Clock
from vppd.core.settings_scada import ScadaSettings, StationPointSettings
from vppd.grid import orders
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Order, OrderKind, Verb
from vppd.grid.points import ORDERS_SWITCH, SETPOINTS
from vppd.grid.scada_codec import (
    BROADCAST,
    COMMANDS,
    Asked,
    Cause,
    Shown,
    Type,
    answer,
    clock,
    show,
    stated,
)
from vppd.grid.scada_codec import SETPOINTS as SETPOINT_TYPES
from vppd.grid.scada_events import MONITORED, monitored

SOURCE = "iec104"
WHOLE_STATION = 20  # qualifier of interrogation
MAY_BE_BROADCAST = {Type.INTERROGATION, Type.CLOCK}
CAUSES = {
    **dict.fromkeys(
        (*COMMANDS, Type.INTERROGATION), frozenset({Cause.ACTIVATION, Cause.DEACTIVATION})
    ),
    **dict.fromkeys((Type.CLOCK, Type.TEST), frozenset({Cause.ACTIVATION})),
    Type.READ: frozenset({Cause.REQUEST}),
}
ADDRESSES_A_POINT = {*COMMANDS, Type.READ}

Switch = Callable[[bool], str | None]  # gives the reason when it cannot be switched


@dataclass(frozen=True, slots=True)
class Selected:
    """A point that waits for its execute."""

    link: str
    asked: Asked
    until_s: float


class Commands:
    """One for the station; selects belong to the link they came by."""

    def __init__(
        self,
        settings: ScadaSettings,
        points: tuple[StationPointSettings, ...],
        values: Callable[[], Mapping[str, float | None]],
        desk: OrderDesk,
        switches: Mapping[str, Switch],
        clock_: Clock,
        synchronised: Callable[[], bool],
    ) -> None:
        self._settings, self._desk, self._clock = settings, desk, clock_
        self._values, self._synchronised = values, synchronised
        self._points = {point.address: point for point in points}
        self._monitored = monitored(points)
        self._switches = switches
        self._selected: dict[int, Selected] = {}
        self._zone = ZoneInfo(settings.timezone)
        self._own = settings.common_address
        self.clock_offset_s: float | None = None

    def replies(self, asked: Asked, link: str, *, ruling: bool) -> list[bytes]:
        """Everything to send back, in order. `ruling`: the link is the one that may command."""
        wrong = self._unknown(asked)
        if asked.type is None or wrong is not None:
            cause = wrong or Cause.UNKNOWN_TYPE
            self._tell(link, f"type {asked.raw[0]}, object {asked.object_address}", cause.name)
            return [answer(asked, cause, negative=True)]
        if not ruling:
            self._tell(link, "not the started link", "link_not_started")
            return [self._confirm(asked, negative=True)]
        if asked.type in COMMANDS:
            return self._command(asked, link)
        if asked.type is Type.INTERROGATION:
            return self._interrogation(asked)
        if asked.type is Type.CLOCK:
            return self._clock_told(asked, link)
        if asked.type is Type.READ:
            return self._shown((self._points[asked.object_address],), Cause.REQUEST)
        return [self._confirm(asked)]

    def forget(self, link: str) -> None:
        """A link is gone, and its selects with it."""
        for address in [each for each, one in self._selected.items() if one.link == link]:
            del self._selected[address]

    def shown(self, points: tuple[StationPointSettings, ...]) -> list[Shown]:
        """The values of points as they are now."""
        values = self._values()
        return [Shown(point, values.get(point.value)) for point in points]

    def _unknown(self, asked: Asked) -> Cause | None:
        """What of the ASDU's head this station does not know."""
        if asked.type is None:
            return Cause.UNKNOWN_TYPE
        to_all = asked.common_address == BROADCAST and asked.type in MAY_BE_BROADCAST
        if asked.common_address != self._own and not to_all:
            return Cause.UNKNOWN_COMMON_ADDRESS
        if asked.cause not in CAUSES[asked.type]:
            return Cause.UNKNOWN_CAUSE
        if asked.type not in ADDRESSES_A_POINT:
            return Cause.UNKNOWN_OBJECT if asked.object_address else None
        point = self._points.get(asked.object_address)
        if point is None or not _fits(asked.type, point):
            return Cause.UNKNOWN_OBJECT
        return None

    def _command(self, asked: Asked, link: str) -> list[bytes]:
        point = self._points[asked.object_address]
        before = self._taken(point.address)
        owned = before is not None and before.link == link
        if owned:
            del self._selected[point.address]  # whatever comes now, that select is used up
        if asked.cause == Cause.DEACTIVATION:
            return [self._confirm(asked, negative=not owned)]
        if asked.test:
            return [self._confirm(asked)]
        refused = self._refused(asked, point, before, owned=owned)
        if refused is not None:
            self._tell(link, refused, "command", asked, point)
            return [self._confirm(asked, negative=True)]
        if asked.select:
            if (why := self._try(asked, point, link)) is not None:
                self._tell(link, why, "select", asked, point)
                return [self._confirm(asked, negative=True)]
            until_s = self._clock.now_s() + self._settings.select_timeout_s
            self._selected[point.address] = Selected(link, asked, until_s)
            return [self._confirm(asked)]
        if not self._execute(asked, point, link):
            return [self._confirm(asked, negative=True)]
        return [self._confirm(asked), answer(asked, Cause.ACTIVATION_TERM)]

    def _taken(self, address: int) -> Selected | None:
        """The select of a point that still stands."""
        found = self._selected.get(address)
        if found is not None and self._clock.now_s() >= found.until_s:
            del self._selected[address]
            return None
        return found

    def _refused(
        self, asked: Asked, point: StationPointSettings, before: Selected | None, *, owned: bool
    ) -> str | None:
        """Why a command is not even looked at: its age, or the rules of selecting."""
        if (late := self._late(asked)) is not None:
            return late
        if before is not None and not owned:
            return "selected by another master"
        if asked.select:
            return "it takes no select" if point.select == "direct" else None
        if before is None:
            return "not selected, or too late" if point.select == "select" else None
        same = before.asked.type is asked.type and before.asked.value == asked.value
        return None if same else "not what was selected"

    def _late(self, asked: Asked) -> str | None:
        most_s = self._settings.command_age_max_s
        if not asked.timed or most_s is None or not self._synchronised():
            return None
        if asked.time is None:
            return "its time tag is invalid"
        age_s = (self._clock.utc() - asked.time).total_seconds()
        return f"{age_s:+.1f} s old" if abs(age_s) > most_s else None

    def _try(self, asked: Asked, point: StationPointSettings, link: str) -> str | None:
        """Why executing it would be refused now."""
        if point.kind != "setpoint":
            return self._try_switch(point.value, enabled=asked.value != 0)
        refused = self._desk.refusal(self._order(asked, point, link))
        return refused[1] if refused is not None else None

    def _try_switch(self, value: str, *, enabled: bool) -> str | None:
        if value == ORDERS_SWITCH:
            return orders.unswitchable(self._desk.book, "order", enabled=enabled)
        return None if value in self._switches else "nothing to switch"

    def _execute(self, asked: Asked, point: StationPointSettings, link: str) -> bool:
        if point.kind == "setpoint":
            return self._desk.order(self._order(asked, point, link)) is None
        if point.value == ORDERS_SWITCH:  # the desk tells by itself
            return self._desk.enable("order", f"{SOURCE} {link}", enabled=asked.value != 0) is None
        switch = self._switches.get(point.value)
        why = "nothing to switch" if switch is None else switch(asked.value != 0)
        on = "on" if asked.value else "off"
        if why is not None:
            self._tell(link, f"{point.value} {on}: {why}", "switch")
            return False
        self._desk.tell(Verb.SWITCHED, SOURCE, text=f"{point.value} {on}, by {link}")
        return True

    def _order(self, asked: Asked, point: StationPointSettings, link: str) -> Order:
        power_kw = stated(float(asked.value) / point.scale)
        kind = SETPOINTS[point.value]
        return Order(kind, power_kw, SOURCE, self._clock.now_s(), id=link)

    def _interrogation(self, asked: Asked) -> list[bytes]:
        if asked.cause == Cause.DEACTIVATION or asked.value != WHOLE_STATION:
            return [self._confirm(asked, negative=True)]
        values = self._shown(self._monitored, Cause.INTERROGATED)
        end = answer(asked, Cause.ACTIVATION_TERM, common_address=self._own)
        return [self._confirm(asked), *values, end]

    def _clock_told(self, asked: Asked, link: str) -> list[bytes]:
        """The station keeps its own time; how far the master's is from it is measured and told."""
        if asked.time is None:
            return [self._confirm(asked, negative=True)]
        now = self._clock.utc()
        self.clock_offset_s = (asked.time - now).total_seconds()
        text = f"{link}: {self.clock_offset_s:+.3f} s from the station's"
        self._desk.tell(Verb.CLOCK, SOURCE, text=text)
        own = clock(now, self._zone, sure=self._synchronised())
        return [answer(asked, Cause.ACTIVATION_CON, common_address=self._own, time=own)]

    def _shown(self, points: tuple[StationPointSettings, ...], cause: Cause) -> list[bytes]:
        shown = self.shown(points)
        return list(show(shown, cause, self._own, self._zone, sure=self._synchronised()))

    def _confirm(self, asked: Asked, *, negative: bool = False) -> bytes:
        stop = asked.cause == Cause.DEACTIVATION
        cause = Cause.DEACTIVATION_CON if stop else Cause.ACTIVATION_CON
        return answer(asked, cause, negative=negative, common_address=self._own)

    def _tell(
        self,
        link: str,
        text: str,
        reason: str,
        asked: Asked | None = None,
        point: StationPointSettings | None = None,
    ) -> None:
        order = None
        if asked is not None and point is not None and point.kind == "setpoint":
            order = self._order(asked, point, link)
        self._desk.tell(Verb.REFUSED, SOURCE, order, reason.lower(), f"{link}: {text}")


def _fits(type_: Type, point: StationPointSettings) -> bool:
    if type_ is Type.READ:
        return point.kind in MONITORED
    return point.kind == ("setpoint" if type_ in SETPOINT_TYPES else "switch")


def order_values(desk: OrderDesk, clock_offset_s: float | None) -> dict[str, float | None]:
    """What the station knows of itself, by the names of the point list."""
    absolute_kw = desk.book.power_kw(OrderKind.ABSOLUTE)
    limits = desk.regulation()
    return {
        "order_kw": absolute_kw,
        "order_delta_kw": desk.book.power_kw(OrderKind.DELTA) or 0.0,
        "order_kvar": desk.book.power_kw(OrderKind.REACTIVE),
        "order_active": float(bool(desk.book.standing)),
        "orders_enabled": float(desk.book.enabled),
        "regulation_up_kw": limits.up_kw,
        "regulation_down_kw": limits.down_kw,
        "clock_offset_s": clock_offset_s,
    }
