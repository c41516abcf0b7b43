"""Orders from the grid in the running house: what the desk is offered, what the station shows, and
how every order is written down."""

import json
from collections.abc import Callable, Mapping, Sequence

from vppd.campus.plans import base_of
from vppd.core.alarms import Code, Level
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.measured import power_kw, soc_pct
from vppd.core.model import METER, SITE, Limit, Plan, Point, Snapshot, UnitId
from vppd.core.ports import Journal
from vppd.core.records import EventRow
from vppd.field.gate import Gate
from vppd.grid.droop_switch import held_off
from vppd.grid.orders import Offer, OrderEvent, Verb
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus
from vppd.tick import Tick

REFUSALS = frozenset({Verb.REFUSED, Verb.LINK_REFUSED})


class SiteBoard:
    """What those above the site are shown of it, from one snapshot and the last decision."""

    def __init__(
        self,
        assets: Sequence[Asset],
        connection: Limit,
        bus: Bus,
        gate: Gate,
        decision: Callable[[], Decision | None],
        droop_enabled: Callable[[], bool],
        alarms: AlarmBoard,
    ) -> None:
        self._assets, self._connection = assets, connection
        self._bus, self._gate, self._decision = bus, gate, decision
        self._droop_enabled, self._alarms = droop_enabled, alarms

    def adopt(self, assets: Sequence[Asset], connection: Limit) -> None:
        """Other units and another connection from now on."""
        self._assets, self._connection = assets, connection

    def able(self) -> Offer:
        """What the site can do by rating and now, within its connection."""
        now, limit = self._bus.snapshot(), self._connection
        rated_kw = sum(asset.rated_kw for asset in self._assets)
        rooms = self._gate.room(now)
        given_kw = sum(each.cleared.power_kw for each in self._gate.decisions.values())
        up_kw = min(sum(room.high_kw for room in rooms.values()), limit.high_kw) - given_kw
        down_kw = given_kw - max(sum(room.low_kw for room in rooms.values()), limit.low_kw)
        decision = self._decision()
        base_kw = decision.base_kw if decision is not None else 0.0
        return Offer(
            min(rated_kw, limit.high_kw),
            min(rated_kw, -limit.low_kw),
            max(up_kw, 0.0),
            max(down_kw, 0.0),
            base_kw,
            sum(asset.apparent_kva for asset in self._assets),
            _regulated_kw(base_kw, self._bus.plans()),
        )

    def values(self) -> Mapping[str, float | None]:
        """Everything a point of the station may show; what is not known is None."""
        now, able, decision = self._bus.snapshot(), self.able(), self._decision()
        units_kw = [power_kw(now, asset) for asset in self._assets]
        site_kw = sum(each or 0.0 for each in units_kw) if None not in units_kw else None
        metered_kw = now.fresh(METER, Point.POWER_KW)
        seen_kw = metered_kw if metered_kw is not None else site_kw
        stored = self._stored(now)
        most_kwh = (
            sum(asset.energy_kwh * asset.safety.soc_max_pct for asset in self._assets) / 100.0
        )
        energy_kwh = sum(asset.energy_kwh for asset in self._assets)
        ramp_kw_per_s = sum(asset.safety.ramp_max_kw_per_s for asset in self._assets)
        moving_kw = site_kw or 0.0
        return {
            "power_kw": seen_kw,
            "reactive_kvar": self._reactive(now),
            "frequency_hz": decision.frequency_hz if decision is not None else None,
            "voltage_v": now.fresh(METER, Point.VOLTAGE_V),
            "energy_export_kwh": now.fresh(METER, Point.ENERGY_EXPORT_KWH),
            "energy_import_kwh": now.fresh(METER, Point.ENERGY_IMPORT_KWH),
            "stored_kwh": stored,
            "stored_max_kwh": most_kwh,
            "soc_pct": stored / energy_kwh * 100.0 if stored is not None else None,
            "available_up_kw": able.up_kw,
            "available_down_kw": able.down_kw,
            "discharge_ramp_kw_per_s": ramp_kw_per_s,
            "charge_ramp_kw_per_s": ramp_kw_per_s,
            "schedule_kw": decision.base_kw if decision is not None else None,
            "grid_connected": float(seen_kw is not None),
            "automatic": 1.0,
            "charging": float(moving_kw < -1.0),
            "discharging": float(moving_kw > 1.0),
            "remote": 1.0,
            "alarm": float(self._alarming()),
            "droop_enabled": float(self._droop_enabled()),
        }

    def _alarming(self) -> bool:
        """Whether a person is wanted: nothing is given, or an alarm stands that is critical, as
        that of a journal which does not take what is ordered."""
        worst = next(iter(self._alarms.standing()), None)
        return self._gate.shut_by is not None or (
            worst is not None and worst.level >= Level.CRITICAL
        )

    def _stored(self, now: Snapshot) -> float | None:
        """Energy in all batteries, kWh; None while one of them is not known."""
        socs = [(asset, soc_pct(now, asset)) for asset in self._assets]
        if any(value_pct is None for _, value_pct in socs):
            return None
        return sum(asset.energy_kwh * (value_pct or 0.0) / 100.0 for asset, value_pct in socs)

    def _reactive(self, now: Snapshot) -> float | None:
        kvar = now.fresh(METER, Point.REACTIVE_KVAR)
        if kvar is not None:
            return kvar
        seen = [now.fresh(asset.id, Point.REACTIVE_KVAR) for asset in self._assets]
        return sum(each or 0.0 for each in seen) if None not in seen else None


def _regulated_kw(base_kw: float, plans: Sequence[Plan]) -> float:
    """What of a base that is given now delta orders make, kW; ramps and limits keep some back."""
    adding_kw = sum(plan.power_kw for plan in plans if plan.unit == SITE and plan.adds)
    beside_kw = base_of([plan for plan in plans if not plan.adds]).power_kw
    low_kw, high_kw = min(adding_kw, 0.0), max(adding_kw, 0.0)
    return min(max(base_kw - beside_kw, low_kw), high_kw)


def droop_switch(tick: Tick) -> Callable[[bool], str | None]:
    """Droop on or off by order. What an operator switched off stays off, and the master is told
    so."""

    def switch(enabled: bool) -> str | None:
        if enabled and held_off(tick.duty.switch):
            return "an operator has switched it off"
        tick.duty = tick.duty.switched(enabled, "order")
        return None

    return switch


def journaled(journal: Journal) -> Callable[[OrderEvent], None]:
    """Write down every order, every refusal, and what became of it."""

    def told(event: OrderEvent) -> None:
        level = Level.WARNING if event.verb in REFUSALS else Level.INFO
        unit = event.kind.unit if event.kind is not None else "kW"
        power = f" {event.power_kw:+g} {unit}" if event.power_kw is not None else ""
        kind = f" {event.kind.value}" if event.kind is not None else ""
        text = f"{event.verb.value}{kind}{power} from {event.source}"
        text += f": {event.text or event.reason}" if event.text or event.reason else ""
        data = json.dumps({"verb": event.verb, "source": event.source, "reason": event.reason})
        journal.append(EventRow(event.utc, Code.ORDER, UnitId(SITE), level, text, data))

    return told
