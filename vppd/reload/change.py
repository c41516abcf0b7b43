"""A new configuration taken over while the site is controlled: whole, or not at all.

    made -> heard -> opened -> made way -> adopted -> seated

All that is new is made first, and every reason against it is told together. Then new meters and
interlocks are heard, and new ports opened; what fails is undone, and the old configuration ran all
the time. Then units that leave, or that may do less, move there by their ramps. Only then, between
two ticks, the new settings rule; units that stay as they are notice nothing.
"""

import asyncio
import json
from collections.abc import Callable, Sequence

import structlog

from vppd.core.difference import differences
from vppd.core.model import METER, SITE, LinkChange, Point
from vppd.core.records import KeptRow
from vppd.core.reloading import Verdict
from vppd.core.settings import Settings
from vppd.field.build import Berth
from vppd.field.refit import Refit, refit
from vppd.house import House, inputs_of
from vppd.parts import Parts, nothing
from vppd.reload.places import key_of_owner, key_of_part, placed
from vppd.reload.rules import refusals
from vppd.reload.way import Way
from vppd.spine.supervise import described

HEAR_S = 5.0
LOOK_S = 0.05
KEPT = "reload"

log = structlog.get_logger()


class Reload:
    """Takes over settings, one after the other."""

    def __init__(
        self, house: House, others: Sequence[Parts] = (), adopted: Callable[[], None] = nothing
    ) -> None:
        """`others` are parts besides the house's own; `adopted` is called when new settings rule,
        and when all parts are exchanged."""
        self._house, self._parts = house, (house.parts, *others)
        self._adopted = adopted
        self._turn = asyncio.Lock()

    async def change(self, new: Settings, *, dry_run: bool = False) -> Verdict:
        """Take these settings over; `dry_run`: say what would be done, and do nothing."""
        async with self._turn:
            old = self._house.settings
            changes = differences(old, new)
            wrong, devices, way = list[str](), None, None
            try:
                wrong += refusals(old, new)
                devices = refit(
                    *(self._house.field, old, new),
                    *(self._house.bus, self._house.clock, self._house.report),
                )
                way = Way(self._house, new, devices)
                for parts in self._parts:
                    wrong += map(_placed, parts.prepare(new))
            except Exception as error:  # noqa: BLE001  whatever it is, nothing was touched yet
                wrong.append(f"it cannot be built: {described(error)}")
            steps = tuple(self._steps(devices))
            if not wrong and not dry_run and devices is not None and way is not None:
                wrong = await self._take(new, devices, way)
            if wrong or dry_run:
                await self._undo_parts()
            return Verdict(tuple(wrong), changes, steps, dry_run)

    def _steps(self, devices: Refit | None) -> list[str]:
        names = [f"{name}: begins again" for parts in self._parts for name in parts.changing]
        if devices is None:
            return names
        words = (
            (devices.added, "joins"),
            (devices.moved, "leaves its device and joins on another"),
            (devices.gone, "goes to 0 by its ramp and leaves"),
        )
        return names + [f"{owner}: {text}" for owners, text in words for owner in sorted(owners)]

    async def _take(self, new: Settings, devices: Refit, way: Way) -> list[str]:
        """All steps; why not, and then all is as it was. What fails once a unit is let go is a
        fault of ours that nothing here can undo: it is raised."""
        house, joined = self._house, list[Berth]()
        try:
            wrong = await self._ready(new, devices, way, joined)
        except Exception as error:
            log.exception("reload_failed")
            wrong = [f"it failed: {described(error)}"]
        if wrong:
            way.back()
            await self._undo(joined, devices)
            return wrong
        await way.leave()
        for berth in devices.leaves:
            await house.crew.leave(berth, house.clock)
        way.done()
        devices.apart.let_in()
        house.adopt(new, devices)
        self._seat(devices)
        self._adopted()
        for parts in self._parts:
            await parts.finish(self._settled)
        self._adopted()
        return []

    async def _settled(self) -> None:
        """What is remembered over a restart is on disk, for what begins now reads it there. Bounded
        by the journal, which may have failed: then it is as at a restart."""
        utc = self._house.clock.utc()
        await self._house.journal.commit(KeptRow(utc, KEPT, json.dumps({"at": utc.isoformat()})))

    async def _ready(
        self, new: Settings, devices: Refit, way: Way, joined: list[Berth]
    ) -> list[str]:
        """Up to the moment before anybody leaves."""
        wrong = await self._hear(devices, joined, new)
        for parts in () if wrong else self._parts:
            wrong += map(_placed, await parts.open())
        if not wrong:
            await way.make()
        return wrong

    async def _hear(self, devices: Refit, joined: list[Berth], new: Settings) -> list[str]:
        """New devices are read before anything depends on them; who has to answer and does not."""
        house, clock = self._house, self._house.clock
        if METER in devices.added:
            house.listen_to_meter(on=True)
        for berth in devices.first:
            house.crew.join(berth)
            joined.append(berth)
        inputs = inputs_of(new).keys()
        meter = {METER} if new.meter is not None and new.meter.required else set()
        needed = [each for each in devices.first if each.owner in {*inputs, *meter}]
        until_s = clock.now_s() + HEAR_S
        while any(self._amiss(each, devices) for each in needed) and clock.now_s() < until_s:
            await clock.sleep_until(clock.now_s() + LOOK_S)
        return [why for each in needed if (why := self._amiss(each, devices))]

    def _amiss(self, berth: Berth, devices: Refit) -> str:
        """Why a new interlock or meter would stop the site; empty when it would not."""
        counters, owner = berth.presence.counters, berth.owner
        where = placed([key_of_owner(owner)])
        apart = devices.stands_in(owner)
        now = devices.apart.snapshot() if apart else self._house.bus.snapshot()
        if counters.replies <= counters.refused:
            return f"{where}: does not answer: {berth.presence.text}"
        if owner == METER:
            shown = (METER, Point.POWER_KW) if apart else (SITE, Point.LOAD_KW)
            return f"{where}: shows no power" if now.fresh(*shown) is None else ""
        unhealthy = now.fresh(owner, Point.HEALTHY) != 1.0
        return f"{where}: is not healthy, and would trip what it guards" if unhealthy else ""

    def _seat(self, devices: Refit) -> None:
        """Those that took the place of others; and what became of those that are here already."""
        house = self._house
        for berth in devices.last:
            house.crew.join(berth)
        for berth in devices.first:
            presence = berth.presence
            if presence.unit in house.commanded and presence.up is not None:
                now_s = house.clock.now_s()
                house.report(LinkChange(presence.unit, presence.up, now_s, presence.text))

    async def _undo(self, joined: Sequence[Berth], devices: Refit) -> None:
        house = self._house
        for berth in joined:
            await house.crew.leave(berth, house.clock)
        house.listen_to_meter(on=house.settings.meter is not None)
        for owner in devices.added:
            house.bus.forget(owner)
            house.alarms.forget(owner, "not taken over")
        await self._undo_parts()

    async def _undo_parts(self) -> None:
        for parts in self._parts:
            await parts.undo()


def _placed(why: str) -> str:
    """What a part says against it, by its key instead of its name."""
    name, _, text = why.partition(": ")
    return f"{placed([key_of_part(name)])}: {text}"
