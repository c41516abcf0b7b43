"""Two controllers on one device while our setpoint moves with every tick, as droop makes it do on a
restless grid: what the other one writes stands for less than a tick, and is found all the same.

On virtual time over the real protocols; the moments of the looks are drawn, always the same.
"""

import asyncio
import math
import random
import re
import statistics
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.modbus_device import Asked, FakeDevice, Rig, Server, shipped, unit_settings
from tests.site_rig import PLAIN, Gear, SiteRig, site_settings
from tests.sunspec_device import DER, STORAGE, Inverter, chain_words, driven
from tests.virtual_time import VirtualClock, virtual
from vppd.core.alarms import Code
from vppd.core.model import DeviceNotice, ReadBack, ReadBackResult, UnitId
from vppd.core.records import EventRow, TripRow
from vppd.field.drivers.lookout import HURRIED_S, LINE_SHARE, PAUSES_S, Lookout

SAMPLES = 16  # rivals of each kind of device
PERIODS_S = 0.2, 0.37, 0.5, 1.0, 1.3, 2.0  # of the rivals; most are whole ticks: they keep a phase
RESTARTS = 3
WITHIN = 3.0  # of its writes, on average
TICK_S = 0.1
SETPOINT = 0x2000
RIVAL_KW, RIVAL_RAW = 30.0, -300 & 0xFFFF
TORN = ReadBack.CHANGED, ReadBack.REVERTED


def restless_kw(dice: random.Random, at_s: float) -> float:
    """What droop asks on a restless grid; never what a rival writes."""
    return 60.0 + 8.0 * math.sin(at_s / 3.0) + dice.uniform(-3.0, 3.0)


# ---- how soon it is seen ----------------------------------------------------------------------


@dataclass(frozen=True)
class Fought:
    """A device that two controllers command."""

    offer: Callable[[float], object]  # ours, kW
    write: Callable[[], object]  # the rival's
    told: Callable[[], list[ReadBackResult]]

    async def seen_after(self, clock: VirtualClock, dice: random.Random) -> int:
        """How many writes of a rival there were when one of them was seen."""
        period_s, known = dice.choice(PERIODS_S), len(self.told())
        await clock.sleep_until(clock.now_s() + dice.uniform(0.0, 3.0))
        for count in range(1, 100):
            self.write()
            await clock.sleep_until(clock.now_s() + period_s)
            for each in self.told()[known:]:
                if each.verdict is ReadBack.CHANGED and each.seen_kw == RIVAL_KW:
                    return count
                assert each.verdict not in TORN, "nothing else is taken for a rival"
        raise AssertionError("never seen")


Devices = Callable[[VirtualClock, AsyncExitStack], Awaitable[list[Fought]]]


async def controllers(clock: VirtualClock, stack: AsyncExitStack) -> list[Fought]:
    """Modbus BESS, each behind a server of its own."""
    devices = {f"U{n}": FakeDevice() for n in range(SAMPLES)}
    units = []
    for name, device in devices.items():
        server = Server(clock, {1: device})
        await server.start()
        stack.callback(server.stop)
        units.append(unit_settings(name, server.host, server.port))
    rig = Rig(clock, units, shipped())
    for actuator in rig.actuators.values():
        actuator.enable(on=True)
    await stack.enter_async_context(rig.running())
    return [
        Fought(
            lambda power_kw, name=name: rig.offer(power_kw, unit=name),  # type: ignore[misc]
            lambda device=device: device.holding.update({SETPOINT: RIVAL_RAW}),  # type: ignore[misc]
            lambda name=name: rig.of(ReadBackResult, name),  # type: ignore[misc]
        )
        for name, device in devices.items()
    ]


def inverters(words: list[int], model: int, point: str, *raw: int) -> Devices:
    """SunSpec inverters, whose rivals write one point."""

    async def made(clock: VirtualClock, stack: AsyncExitStack) -> list[Fought]:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        found = []
        for _ in range(SAMPLES):
            inverter = Inverter(words=words)
            rig, _ = await stack.enter_async_context(driven(clock, group, inverter))
            rig.device.actuator.enable(on=True)
            found.append(
                Fought(
                    rig.offer,
                    lambda inverter=inverter: inverter.put(model, point, *raw),  # type: ignore[misc]
                    lambda rig=rig: rig.of(ReadBackResult),  # type: ignore[misc]
                )
            )
        return found

    return made


async def first_seen(devices: Devices, seed: int) -> list[int]:
    """At which of its writes each rival was seen first."""
    clock, dice = VirtualClock(), random.Random(seed)
    async with AsyncExitStack() as stack:
        fought = await devices(clock, stack)
        group = await stack.enter_async_context(asyncio.TaskGroup())

        async def tick() -> None:
            while True:
                for each in fought:
                    each.offer(restless_kw(dice, clock.now_s()))
                await clock.sleep_until(clock.now_s() + TICK_S)

        ticking = group.create_task(tick())
        await clock.sleep_until(clock.now_s() + 5.0)
        rivals = [
            group.create_task(each.seen_after(clock, random.Random(f"{seed} {n}")))
            for n, each in enumerate(fought)
        ]
        await asyncio.wait(rivals)
        ticking.cancel()
    return [each.result() for each in rivals]


KINDS = {
    "bess": controllers,
    "704": inverters(chain_words(list(DER.items())), 704, "WSet", 0, 3000),
    "124": inverters(chain_words(list(STORAGE.items())), 124, "OutWRte", 3000),
}


@pytest.mark.parametrize("kind", KINDS)
@virtual
async def test_a_rival_is_seen_within_three_of_its_writes_on_average(kind: str) -> None:
    seen = await first_seen(KINDS[kind], seed=1)
    assert statistics.mean(seen) <= WITHIN, seen
    assert len(seen) == SAMPLES
    if kind != "bess":  # those are alone on their site, not one of sixteen
        assert sorted(seen)[SAMPLES * 7 // 8] <= WITHIN, seen


# ---- what becomes of it -----------------------------------------------------------------------


def journaled(rig: SiteRig, name: str, code: Code) -> list[str]:
    """What the journal says of it, trips too."""
    return [
        row.text
        for row in rig.rows()
        if isinstance(row, (EventRow, TripRow)) and row.code == code and name in _whose(row)
    ]


def _whose(row: EventRow | TripRow) -> tuple[str, ...]:
    return (row.scope,) if isinstance(row, TripRow) else (row.unit,)


@pytest.mark.parametrize(
    ("gear", "fault", "kvars"),
    [
        (PLAIN, "rival", "10"),
        (Gear("der"), "inverter_rival", "10"),
        (
            Gear("storage"),
            "inverter_rival",
            "0|10",
        ),  # it takes charging away, a stop takes the kvar
    ],
    ids=["bess", "704", "124"],
)
def test_a_rival_of_a_moving_setpoint_is_alarmed_stopped_and_journaled(
    gear: Gear, fault: str, kvars: str
) -> None:
    @virtual
    async def runs() -> None:
        dice = random.Random(1)
        async with SiteRig(site_settings(("A", "B"), gear={"A": gear})) as rig:
            moving = True

            async def restless() -> None:
                while moving:
                    rig.step(49.75 + 0.05 * math.sin(rig.now_s / 3.0) + dice.uniform(-0.03, 0.03))
                    await rig.run(TICK_S)

            async with asyncio.TaskGroup() as group:
                group.create_task(restless())
                rig.plan(10.0, reactive_kvar=20.0)  # half of it each
                await rig.run(5.0)
                ours = {each.at_s for each in rig.told("A", rig.now_s - 3.0)}
                assert len(ours) >= 25, "it moves with nearly every tick"
                since_s = rig.now_s
                rig.plant.inject(fault, "A", power_kw=RIVAL_KW, period_s=1.0)
                await rig.until(lambda: rig.alarmed(Code.READ_BACK_CHANGED, "A"), within_s=10.0)
                first = rivals_writes(rig, since_s)
                assert ("A", Code.RIVAL) not in rig.latched(), "told at first sight"
                await rig.until(lambda: ("A", Code.RIVAL) in rig.latched(), within_s=10.0)
                assert rivals_writes(rig, since_s) <= first + 3, "from then on each is seen"
                await rig.run(0.5)
                assert rig.state("A") == "tripped"
                assert rig.alarmed(Code.RIVAL, "A")
                moving = False
            wrote = rf"{RIVAL_KW:g} kW, ({kvars}) kvar instead of "
            (text,) = journaled(rig, "A", Code.RIVAL)[-1:]
            assert re.search("setpoint overwritten 3 times: " + wrote, text)
            told = journaled(rig, "A", Code.READ_BACK_CHANGED)
            assert re.search(wrote, told[0])
            assert not journaled(rig, "B", Code.READ_BACK_CHANGED)
            assert rig.state("B") != "tripped"

    runs()


def rivals_writes(rig: SiteRig, since_s: float) -> int:
    """How often a rival wrote A."""
    return len({each.at_s for each in rig.told("A", since_s) if each.source == "rival"})


# ---- what it costs, and what it never does ----------------------------------------------------


class Alone:
    """One controller of ours, nobody else's."""

    def __init__(self, **device: float) -> None:
        self.clock, self.device = VirtualClock(), FakeDevice(**device)  # type: ignore[arg-type]
        self.dice = random.Random(3)

    async def start(self, stack: AsyncExitStack) -> None:
        server = Server(self.clock, {1: self.device})
        await server.start()
        stack.callback(server.stop)
        self.rig = Rig(self.clock, [unit_settings("U1", server.host, server.port)], shipped())
        self.rig.actuators[UnitId("U1")].enable(on=True)
        await stack.enter_async_context(self.rig.running())
        await self.rig.tick(5.0, 20.0)

    async def move(self, for_s: float) -> None:
        """A new setpoint with every tick."""
        end_s = self.clock.now_s() + for_s
        while self.clock.now_s() < end_s:
            self.rig.offer(restless_kw(self.dice, self.clock.now_s()))
            await self.clock.sleep_until(self.clock.now_s() + TICK_S)

    def looks(self, since_s: float) -> list[Asked]:
        """The reads of just the setpoint; a poll reads more."""
        reads = (each for each in self.device.reads() if each.at_s >= since_s)
        return [each for each in reads if (each.address, each.size) == (SETPOINT, 4)]

    def torn(self) -> list[ReadBackResult]:
        return [each for each in self.rig.of(ReadBackResult) if each.verdict in TORN]


@virtual
async def test_a_moving_setpoint_is_looked_at_some_times_a_second_a_steady_one_never() -> None:
    alone = Alone()
    async with AsyncExitStack() as stack:
        await alone.start(stack)
        begun_s = alone.clock.now_s()
        await alone.rig.tick(20.0, 20.0)
        assert not alone.looks(begun_s)
        begun_s = alone.clock.now_s()
        await alone.move(30.0)
        looks = [each.at_s for each in alone.looks(begun_s)]
        assert 6.0 <= len(looks) / 30.0 <= 10.0
        assert min(b - a for a, b in pairwise(looks)) >= PAUSES_S[0] - 1e-6
        assert len({round((b - a) / TICK_S, 2) for a, b in pairwise(looks)}) > 10, "they vary"
        assert not alone.torn(), "what was acknowledged is what is expected"
        begun_s = alone.clock.now_s()
        await alone.rig.tick(5.0, 20.0)
        assert len(alone.looks(begun_s)) <= 5, "and they end"


def test_all_devices_together_are_looked_at_as_often_as_a_few() -> None:
    rates = []
    for fellows in (4, 16, 64, 200):
        lookout, now_s, looks = Lookout("a", fellows), 0.0, 0
        while now_s < 120.0:
            now_s += TICK_S
            lookout.written(now_s, 0.001)
            if lookout.holds or lookout.due_s < math.inf:
                looks += 1
                lookout.looked(min(lookout.due_s, now_s + TICK_S))
        rates.append(fellows * looks / 120.0)
    assert all(20.0 <= rate <= 95.0 for rate in rates), rates


@virtual
async def test_a_slow_line_is_left_to_the_polls() -> None:
    alone = Alone(delay_s=0.04)
    async with AsyncExitStack() as stack:
        await alone.start(stack)
        begun_s = alone.clock.now_s()
        await alone.move(20.0)
        assert not alone.looks(begun_s)


@virtual
async def test_a_line_that_is_not_quick_holds_no_write_for_a_look() -> None:
    alone = Alone(delay_s=0.01)
    async with AsyncExitStack() as stack:
        await alone.start(stack)
        begun_s = alone.clock.now_s()
        await alone.move(30.0)
        looked = {each.at_s for each in alone.looks(begun_s)}
        wrote = [each.at_s for each in alone.device.writes(SETPOINT) if each.at_s >= begun_s]
        assert len(looked) > 60
        assert not any(0.0 < at_s - looked_s < 0.0101 for looked_s in looked for at_s in wrote), (
            "none was overtaken by a look"
        )


@virtual
async def test_a_stop_waits_for_no_look() -> None:
    alone = Alone()
    async with AsyncExitStack() as stack:
        await alone.start(stack)
        held = 0
        for _ in range(60):
            await alone.move(alone.dice.uniform(0.5, 1.0))
            count = len(alone.device.log)
            held += is_look(alone.device.log[count - 1]) or is_look(alone.device.log[count - 2])
            alone.rig.offer(0.0)
            await alone.clock.sleep_until(alone.clock.now_s() + TICK_S)
            asked = alone.device.log[count]
            assert (asked.address, asked.words) == (SETPOINT, (0, 0))
        assert held > 5, "some were about to be looked at"


def is_look(asked: Asked) -> bool:
    return not asked.words and (asked.address, asked.size) == (SETPOINT, 4)


@virtual
async def test_a_restart_while_the_setpoint_moves_is_no_rival() -> None:
    alone = Alone()
    async with AsyncExitStack() as stack:
        await alone.start(stack)
        for _ in range(RESTARTS):
            await alone.move(65.0)  # a second restart within a minute would be somebody's will
            alone.device.restart()
            await alone.move(2.0)
        resets = [each for each in alone.rig.of(DeviceNotice) if each.code is Code.DEVICE_RESET]
        assert len([each for each in resets if each.active]) == RESTARTS
        assert not [each for each in alone.torn() if each.verdict is ReadBack.CHANGED]


@virtual
async def test_a_device_that_refuses_the_look_is_polled_and_written_on() -> None:
    alone = Alone()
    plain = alone.device.answer

    def refusing(asked: Asked) -> bytes:
        return bytes((0x83, 2)) if is_look(asked) else plain(asked)

    alone.device.answer = refusing  # type: ignore[method-assign]
    async with AsyncExitStack() as stack:
        await alone.start(stack)
        begun_s = alone.clock.now_s()
        await alone.move(10.0)
        assert len(alone.looks(begun_s)) == 1
        assert len([each for each in alone.device.writes(SETPOINT) if each.at_s >= begun_s]) >= 95
        assert not alone.rig.counters()[UnitId("U1")].no_reply


# ---- the times themselves ---------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.floats(0.001, 3.0), st.floats(0.0, 1.0), st.booleans()),
        min_size=1,
        max_size=50,
    ),
    st.text(max_size=5),
    st.integers(1, 300),
)
def test_a_look_ends_before_the_next_write_is_due(
    writes: list[tuple[float, float, bool]], seed: str, fellows: int
) -> None:
    """As far as the last two tell; and a look is a pause away from the last one."""
    lookout, now_s, looked_s, known = Lookout(seed, fellows), 1000.0, -math.inf, False
    for spread_s, share, obeyed in writes:
        before_s, now_s = now_s, now_s + spread_s
        gap_s = now_s - before_s
        took_s = share * gap_s
        lookout.written(now_s, took_s)
        quick = gap_s <= HURRIED_S and took_s <= LINE_SHARE * gap_s
        assert not (lookout.holds and lookout.due_s < math.inf)
        if not quick or not known:
            assert (lookout.due_s, lookout.holds) == (math.inf, False)
        known = True
        if lookout.due_s < math.inf:
            assert now_s < lookout.due_s <= now_s + gap_s - 2.0 * took_s
            assert lookout.due_s >= looked_s + fellows * PAUSES_S[0] - 1e-9
            if obeyed:
                looked_s = lookout.due_s
                lookout.looked(looked_s)
                assert not lookout.holds
    lookout.forget()
    assert (lookout.due_s, lookout.holds) == (math.inf, False)
