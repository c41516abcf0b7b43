"""Making way for another configuration: whoever may do less under it moves there by its ramp first,
and who is not under it any more goes to 0 and is left as its profile says.

All the while the old configuration holds too: what is added are limits.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from vppd.core.alarms import Code, Level
from vppd.core.asset import Asset
from vppd.core.model import Limit, Snapshot, UnitId
from vppd.core.ports import Actuator
from vppd.core.records import EventRow
from vppd.core.settings import Settings
from vppd.field.closing import Closing, closing
from vppd.field.feeders import feeders_of, fit_active
from vppd.field.gate import Gate
from vppd.field.latches import RELOAD, Latches
from vppd.field.refit import Refit
from vppd.house import House, duty_of, inputs_of
from vppd.left_behind import unattended
from vppd.rerun import DeafAudit, assets_of

LEAVE_S = 8.0  # longer than a device's own release
MORE_S = 5.0  # beyond the ramps: then the new configuration holds, as limits do, at once
LOOK_S = 0.05
NEAR_KW = 1e-6
NOTHING = (0.0, 0.0)


class Way:
    """From the settings that rule to new ones."""

    def __init__(self, house: House, new: Settings, devices: Refit) -> None:
        self._house = house
        self._released: list[UnitId] = []
        assets = assets_of(new)
        duty_of(new, assets)  # what cannot be built is found here, not when it has to rule
        others = devices.gone | devices.moved | devices.added
        self._kept = {each.id for each in assets} - others
        self._gate = Gate(
            assets,
            {},
            inputs_of(new),
            feeders_of(new, assets),
            Latches((), lambda _: None, house.clock.utc()),
            DeafAudit(),
            house.clock,
        )

    async def make(self) -> None:
        """Return when everybody is inside of what the new settings allow. It takes the ramps, and
        is bounded."""
        house, clock = self._house, self._house.clock
        closings = self._closings(house.bus.snapshot())
        if closings:
            house.gate.close_in(closings)
            closed_s = clock.now_s() + max(each.lasts_s for each in closings)
            while clock.now_s() < closed_s and not self._idle():
                await clock.sleep_until(clock.now_s() + LOOK_S)
            house.gate.close_in([each.closed for each in closings])
            while not self._inside(closings) and clock.now_s() < closed_s + MORE_S:
                await clock.sleep_until(clock.now_s() + LOOK_S)

    async def leave(self) -> None:
        """Who leaves is left as its profile says; a device that does not answer is left alone.
        Bounded."""
        async with asyncio.TaskGroup() as tasks:
            for asset in self._house.assets:
                actuator = self._house.field.actuators.get(asset.id)
                if asset.id not in self._kept and actuator is not None:
                    tasks.create_task(self._let_go_soon(asset, actuator))

    def back(self) -> None:
        """It was not to be: everybody works on as before."""
        self._house.gate.close_in(())

    def done(self) -> None:
        """Who was given back to its own control is not held by that when it comes again."""
        for unit in self._released:
            self._house.gate.latches.enable(unit, self._house.clock.utc(), RELOAD)

    # ---- inside -------------------------------------------------------------------------------

    def _closings(self, now: Snapshot) -> list[Closing]:
        """Who has to move, from what it gives into what it may give then."""
        house, made = self._house, self._house.gate.decisions
        given_kw = {id_: each.cleared.power_kw for id_, each in made.items()}
        to_kw, old = self._spans(now, given_kw), house.gate.room(now)
        return [
            closing(each, now.now_s, old[each.id], to_kw[each.id], self._text(each))
            for each in house.assets
            if _narrower(to_kw[each.id], old[each.id])
        ]

    def _spans(
        self, now: Snapshot, given_kw: Mapping[UnitId, float]
    ) -> dict[UnitId, tuple[float, float]]:
        """What each unit may give under the new settings, by what is known now."""
        self._gate.remember(self._house.gate.memory())
        rooms = self._gate.room(now)
        spans = {
            each.id: (rooms[each.id].low_kw, rooms[each.id].high_kw)
            if each.id in self._kept
            else NOTHING
            for each in self._house.assets
        }
        powers_kw = dict.fromkeys(rooms, 0.0) | taken_over(given_kw, spans)
        tree = self._gate.tree(now)
        fit_active(tree, fitted_kw := dict(powers_kw))
        for feeder in tree:
            sum_kw = sum(powers_kw[unit] for unit in feeder.units)
            for unit in self._kept & set(feeder.units):
                low_kw, high_kw = spans[unit]
                if sum_kw > feeder.limit.high_kw:
                    high_kw = min(high_kw, max(fitted_kw[unit], 0.0))
                if sum_kw < feeder.limit.low_kw:
                    low_kw = max(low_kw, min(fitted_kw[unit], 0.0))
                spans[unit] = low_kw, high_kw
        return spans

    def _text(self, asset: Asset) -> str:
        kept = asset.id in self._kept
        return "a new configuration allows less" if kept else "it leaves this configuration"

    def _idle(self) -> bool:
        """Nothing is given, so that nothing has to move."""
        made = self._house.gate.decisions.values()
        return all(abs(each.cleared.power_kw) <= NEAR_KW for each in made)

    def _inside(self, closings: Sequence[Closing]) -> bool:
        made = self._house.gate.decisions
        return all(
            each.to_kw[0] - NEAR_KW <= made[each.unit].cleared.power_kw <= each.to_kw[1] + NEAR_KW
            for each in closings
        )

    async def _let_go_soon(self, asset: Asset, actuator: Actuator) -> None:
        """Bounded, and told when it was in vain: for as long as it may matter where the device has
        no timer of its own."""
        house, id_ = self._house, asset.id
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                if await self._let_go(asset, actuator):
                    return
        place = unattended(house.settings).get(id_)
        if place is not None:
            text = f"{id_} at {place} left this configuration and did not read back 0 kW"
            house.alarms.set(Code.LEFT_BEHIND, id_, True, f"{text}: it may hold its last setpoint")
        else:
            text = "did not read back 0 kW before it left"
            row = EventRow(house.clock.utc(), Code.RELOADING, id_, Level.WARNING, text)
            house.journal.append(row)

    async def _let_go(self, asset: Asset, actuator: Actuator) -> bool:
        """Given back to its own control where it can be and nothing holds it; else as at a stop.
        Whether nothing of ours is left in it."""
        gate, clock, id_ = self._house.gate, self._house.clock, asset.id
        standing, latches = gate.standing(id_), gate.latches
        held = latches.trips(asset) or latches.disabled(id_) or latches.released(id_)
        if held or not gate.releasable(id_) or standing.up is not True:
            return await actuator.finish()
        self._released.append(id_)
        gate.release(id_, RELOAD)
        while not standing.released and standing.up is True:
            await clock.sleep_until(clock.now_s() + LOOK_S)
        return standing.released


def _narrower(span_kw: tuple[float, float], room: Limit) -> bool:
    return span_kw[0] > room.low_kw + NEAR_KW or span_kw[1] < room.high_kw - NEAR_KW


def taken_over(
    given_kw: Mapping[UnitId, float], spans: Mapping[UnitId, tuple[float, float]]
) -> dict[UnitId, float]:
    """What units give inside of these spans, kW: who may give less is relieved by the others, each
    by a part of the room that it has left."""
    powers_kw = {
        id_: min(max(given_kw.get(id_, 0.0), low_kw), high_kw)
        for id_, (low_kw, high_kw) in spans.items()
    }
    rest_kw = sum(given_kw.get(id_, 0.0) for id_ in spans) - sum(powers_kw.values())
    side = 1 if rest_kw > 0.0 else 0
    left_kw = {id_: span[side] - powers_kw[id_] for id_, span in spans.items()}
    room_kw = sum(left_kw.values())
    part = min(rest_kw / room_kw, 1.0) if room_kw != 0.0 else 0.0
    return {id_: power_kw + part * left_kw[id_] for id_, power_kw in powers_kw.items()}
