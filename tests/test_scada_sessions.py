"""c104's sessions against the station: select and cancel, time-outs, loss of the link, switch-over,
bad frames beside it. What it ordered is looked at on the board; tshark judges every session."""

import itertools
import math
import struct
from typing import Literal

import pytest

from tests.c104_rig import Process, Relay, c104_process, malformed, needs_c104
from tests.scada_rig import (
    ACT,
    CA,
    OTHER_HOST,
    STARTDT,
    Site,
    Wire,
    asdu,
    serving,
    setpoint,
    wire,
)
from vppd.core.settings_scada import MasterSettings, OrderSettings
from vppd.grid.orders import OrderKind, Verb

SELECTED = 3003  # the point that wants a select
CONFIRMED_STOP = bytes((50, 1, 9))  # type, one object, deactivation confirmed
UTC_ZONE = {"timezone": "UTC"}


async def _select_alone(c104: Process, relay: Relay, name: str) -> None:
    """c104 executes as soon as its select is confirmed: keep the confirmation in the cable."""
    relay.hold()
    assert await c104.ask("begin", name, SELECTED, 0.5, "select") is True
    await relay.held()


@needs_c104
async def test_a_select_that_is_cancelled_executes_nothing() -> None:
    async with serving() as site, c104_process() as c104, Relay(site).open() as relay:
        await c104.link("a", relay.port)
        await _select_alone(c104, relay, "a")
        assert await c104.ask("end") is False  # it gave up waiting
        relay.release()
        await c104.order("a", 0.5, SELECTED, "direct", "DEACTIVATION")
        await relay.until(
            lambda: any(CONFIRMED_STOP in data for _, up, data in relay.packets if not up)
        )
        assert await c104.order("a", 0.5, SELECTED) is False
        await site.until(lambda: site.refusals() == ["command"])
        assert site.accepted() == []
        assert site.plans == []
        assert await c104.sure_order("a", 0.5, SELECTED, "select")
        await site.until(lambda: {*site.accepted()} == {500.0})
    malformed(relay, 50)


@needs_c104
async def test_an_execute_after_the_select_has_timed_out_is_refused() -> None:
    async with serving() as site, c104_process() as c104, Relay(site).open() as relay:
        await c104.link("a", relay.port)
        await _select_alone(c104, relay, "a")
        site.clock.ahead_s += site.settings.select_timeout_s
        relay.release()
        assert await c104.ask("end") is False
        await site.until(lambda: site.refusals() == ["command"])
        assert site.plans == []
        assert await c104.sure_order("a", 0.5, SELECTED, "select")
        await site.until(lambda: {*site.accepted()} == {500.0})
    malformed(relay, 50)


@needs_c104
@pytest.mark.parametrize("policy", ["hold", "expire", "schedule"])
async def test_a_lost_link_ends_the_order_as_configured(
    policy: Literal["hold", "expire", "schedule"],
) -> None:
    orders = OrderSettings(on_link_loss=policy, hold_s=100.0, expiry_s=20.0)
    async with serving(orders=orders) as site, c104_process() as c104, Relay(site).open() as relay:
        await c104.link("a", relay.port)
        assert await c104.sure_order("a", 0.25)
        relay.broken = True
        relay.cut()
        await site.until(lambda: Verb.LINK_DOWN in site.verbs())
        ends_s = {"hold": 100.0, "expire": 20.0, "schedule": 0.0}[policy]
        if policy != "schedule":
            site.clock.ahead_s += ends_s - 10.0
            site.desk.renew()
            plan = site.in_force()
            assert plan is not None
            assert plan.power_kw == 250.0
            site.clock.ahead_s += 11.0
            site.desk.renew()
        assert site.in_force() is None
        ended = [event.reason for event in site.told if event.verb is Verb.ENDED]
        assert ended == ["expired" if policy == "expire" else "link_lost"]


@needs_c104
async def test_two_links_switch_over_by_stopdt_and_startdt() -> None:
    orders = OrderSettings(on_link_loss="hold", hold_s=300.0)
    async with serving(UTC_ZONE, orders) as site, c104_process() as c104:
        async with Relay(site).open() as relay:
            await c104.link("a", relay.port)
            assert await c104.ask("connect", "b", relay.port, "MUTED", False, 1000) is True
            assert await c104.sure_order("a", 0.25)
            for before, after, soc_pct in (("a", "b", 61.0), ("b", "a", 62.0)):
                assert await c104.ask("stop", before) is True
                await site.until(lambda: site.station.ruling is None)
                assert site.in_force() is not None, "held"
                site.values["soc_pct"] = soc_pct  # while nobody rules
                assert await c104.ask("start", after) is True
                assert await c104.ask("await_value", after, 1012, soc_pct) is True
                assert (await c104.ask("value", before, 1012))[0] != soc_pct
                assert await c104.sure_order(after, soc_pct / 1000.0)
                assert site.accepted()[-1] == pytest.approx(soc_pct)
            tag_s = await c104.ask("tag_s", "a", 1002)  # of the event, when it happened
            assert abs(tag_s - site.clock.utc().timestamp()) < 5.0
            assert site.station.buffer.lost == 0
            assert Verb.ENDED not in site.verbs()
        malformed(relay, 36, 50)


@needs_c104
async def test_deltas_every_four_seconds_go_by_their_ramp_and_expire() -> None:
    orders = OrderSettings(ramp_kw_per_s=10.0, expiry_s=12.0)
    async with serving(orders=orders) as site, c104_process() as c104, Relay(site).open() as relay:
        await c104.link("a", relay.port)
        ordered_kw, at_kw = [100.0, -20.0, 60.0, 90.0, -150.0], 0.0
        from_s = site.clock.now_s()
        for delta_kw in ordered_kw:
            assert await c104.sure_order("a", delta_kw / 1000.0, 3002)
            site.clock.ahead_s += 4.0
            site.desk.renew()
            plan = site.in_force(OrderKind.DELTA)
            assert plan is not None
            assert plan.adds
            limit_kw = min(max(delta_kw, -200.0), 300.0)  # what is offered
            step_kw = 10.0 * (site.clock.now_s() - from_s)  # real time goes on beside the 4 s
            least_kw, most_kw = (
                at_kw + min(max(limit_kw - at_kw, -each), each) for each in (40.0, step_kw)
            )
            assert min(least_kw, most_kw) - 1.0 <= plan.power_kw <= max(least_kw, most_kw) + 1.0
            at_kw, from_s = plan.power_kw, from_s + step_kw / 10.0
        told_kw = [kw for kw, _ in itertools.groupby(site.accepted())]
        assert told_kw == [pytest.approx(each) for each in ordered_kw]
        assert await c104.ask("await_value", "a", 1013, 0.0) is True  # no absolute order
        site.clock.ahead_s += 8.5
        site.desk.renew()
        assert site.in_force(OrderKind.DELTA) is None
        assert site.told[-1].reason == "expired"
        for value_mw in (math.nan, math.inf, -math.inf, 2.5, -2.5):
            assert await c104.order("a", value_mw, 3002) is False
        assert len(site.refusals()) == 5
    malformed(relay, 50)


@needs_c104
async def test_commands_with_a_time_tag_must_be_fresh() -> None:
    async with serving(UTC_ZONE) as site, c104_process() as c104, Relay(site).open() as relay:
        await c104.link("a", relay.port, timed=True)
        assert await c104.sure_order("a", 0.25)
        late_s = site.settings.command_age_max_s
        assert late_s is not None
        site.clock.off_s = 2.0 * late_s
        assert await c104.order("a", 0.3) is False
        site.clock.off_s = 0.0
        assert await c104.sure_order("a", 0.35)
        assert {round(each or 0.0) for each in site.accepted()} == {250, 350}
    malformed(relay, 63)


@needs_c104
async def test_a_master_that_is_not_on_the_list_is_refused() -> None:
    masters = {"masters": (MasterSettings(host=OTHER_HOST),)}
    async with serving(masters) as site, c104_process() as c104:
        await c104.tell("connect", "a", site.station.port, "NONE")
        await site.until(lambda: Verb.LINK_REFUSED in site.verbs())
        assert site.station.links == ()
        assert Verb.LINK_UP not in site.verbs()


def _i_frame(data: bytes, sent: int = 0, received: int = 0) -> bytes:
    head = struct.pack("<HH", sent << 1, received << 1)
    return bytes((0x68, 4 + len(data))) + head + data


GOOD = setpoint(0.9)
BAD_FRAMES = {
    "no start byte": b"\x69" + _i_frame(GOOD)[1:],
    "too short to be a frame": bytes((0x68, 3, 0, 0, 0)),
    "of no length": bytes((0x68, 0)),
    "longer than there is": bytes((0x68, 0xFF)) + bytes(255),
    "a length that cuts it": bytes((0x68, 8)) + _i_frame(GOOD)[2:],
    "a length beyond it": bytes((0x68, 40)) + _i_frame(GOOD)[2:] + _i_frame(GOOD, 1)[:22],
    "a number not sent next": _i_frame(GOOD, sent=5),
    "an acknowledgment of nothing": _i_frame(GOOD, received=99),
    "a supervisory one of nothing": bytes((0x68, 4, 1, 0)) + struct.pack("<H", 99 << 1),
    "an unnumbered one of no meaning": bytes((0x68, 4, 0xFF, 0, 0, 0)),
    "no ASDU in it": _i_frame(b""),
    "half an ASDU": _i_frame(GOOD[:7]),
    "an ASDU with more behind it": _i_frame(GOOD + b"\0"),
    "many objects that are not there": _i_frame(asdu(50, ACT, 3001, GOOD[9:], count=127)),
    "an ASDU to nobody": _i_frame(setpoint(0.9, common_address=CA + 1)),
    "noise": bytes((7 * at * at + 104) % 256 for at in range(300)),
}


@needs_c104
async def test_bad_frames_from_one_end_nothing_for_the_other() -> None:
    """Each comes by a link of its own, started, and moves nothing; c104's orders go on."""
    async with serving() as site, c104_process() as c104, Relay(site).open() as relay:
        await c104.link("a", relay.port)
        for number, (name, frame) in enumerate(BAD_FRAMES.items(), start=1):
            async with wire(site, OTHER_HOST) as bad:
                await bad.start()
                bad.send(frame)
                bad.send(STARTDT)  # answered, unless it was hung up on
                await _answered_or_closed(bad)
            await _ended(site, number)
            assert await c104.sure_order("a", 0.25), name
            assert set(site.accepted()) == {250.0}, name
        async with wire(site, OTHER_HOST) as good:
            await good.start()
            good.send(_i_frame(GOOD))  # as it should be
            await site.until(lambda: site.accepted()[-1] == pytest.approx(900.0))
        await site.until(lambda: len(site.station.links) == 1)
    malformed(relay, 50)


async def _ended(site: Site, links: int) -> None:
    """So many links are down."""
    await site.until(lambda: site.verbs().count(Verb.LINK_DOWN) == links)


async def _answered_or_closed(bad: Wire) -> None:
    try:
        while (await bad.frame())[2] & 3 != 3:
            pass
    except (EOFError, ConnectionError):
        pass
