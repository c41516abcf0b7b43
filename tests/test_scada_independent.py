"""The station judged by others: c104 (lib60870-C) as master, in a process of its own, and tshark's
dissector over every byte both sides sent."""

import math
import struct

from tests.c104_rig import Relay, c104_process, malformed, needs_c104
from tests.scada_rig import serving
from vppd.core.settings_scada import OrderSettings
from vppd.grid.orders import Verb

LONG_MS = 3000  # an answer that comes so late comes no more


@needs_c104
async def test_an_independent_master_commands_the_site() -> None:
    async with (
        serving({"timezone": "UTC"}) as site,
        c104_process() as c104,
        Relay(site).open() as relay,
    ):
        assert await c104.ask("connect", "all", relay.port, "ALL") is True
        await site.until(lambda: Verb.CLOCK in site.verbs())  # broadcast, as the interrogation
        assert await c104.ask("await_value", "all", 1001, _float32(0.12)) is True
        await c104.ask("leave", "all")
        # just after its own start sequence c104 loses answers, so commands come by a plain link
        await c104.link("a", relay.port, patience_ms=LONG_MS)
        assert (await c104.ask("value", "a", 1109))[0] == 2.0
        assert await c104.ask("clock", "a") is True
        offset_s = site.station.values()["clock_offset_s"]
        assert offset_s is not None
        assert abs(offset_s) < 5.0
        assert await c104.order("a", 0.25) is True
        assert await c104.ask("await_value", "a", 1013, 0.25) is True  # as an event
        assert await c104.order("a", -0.125, 3002) is True
        assert await c104.order("a", 0.5, 3003) is False  # wants a select
        assert await c104.order("a", 0.5, 3003, "select") is True
        assert site.accepted() == [250.0, -125.0, 500.0]
        for value_mw in (math.nan, math.inf, 5.0):
            assert await c104.order("a", value_mw) is False
        assert site.accepted() == [250.0, -125.0, 500.0]
        assert await c104.order("a", 0.5, 3003, "direct", "DEACTIVATION") is False
        assert await c104.ask("command", "a", 3101, False, "direct", "ACTIVATION") is True
        assert await c104.ask("await_value", "a", 1112, 0.0) is True
        assert await c104.order("a", 0.25) is False
        assert await c104.ask("command", "a", 3102, True, "select", "ACTIVATION") is True
        assert site.droop == [True]
    malformed(relay, 1, 3, 13, 36, 45, 50, 70, 100, 103)


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@needs_c104
async def test_an_independent_master_that_executes_too_late_is_refused() -> None:
    async with serving({"select_timeout_s": 1e-9}) as site, c104_process() as c104:
        await c104.link("a", site.station.port, patience_ms=LONG_MS)
        assert await c104.order("a", 0.5, 3003, "select") is False
        assert site.accepted() == []


@needs_c104
async def test_independent_redundant_masters_switch_over() -> None:
    orders = OrderSettings(on_link_loss="hold", hold_s=300.0)
    async with serving(orders=orders) as site, c104_process() as c104, Relay(site).open() as relay:
        await c104.link("a", relay.port, patience_ms=LONG_MS)
        assert await c104.ask("connect", "b", site.station.port, "MUTED") is True
        assert await c104.order("a", 0.25) is True
        site.values["soc_pct"] = 61.0
        assert await c104.ask("await_value", "a", 1012, 61.0) is True
        assert (await c104.ask("value", "b", 1012))[0] == 0.0  # muted: nothing comes
        relay.cut()
        await site.until(lambda: site.station.ruling is None)
        assert site.in_force() is not None  # held
        site.values["soc_pct"] = 62.0
        site.values["alarm"] = 1.0
        assert await c104.ask("start", "b") is True
        assert await c104.ask("await_value", "b", 1012, 62.0) is True
        assert await c104.ask("await_value", "b", 1111, 1.0) is True
        assert await c104.sure_order("b", 0.25)
        assert set(site.accepted()) == {250.0}
        plan = site.in_force()
        assert plan is not None
        assert (plan.power_kw, plan.adds) == (250.0, False)
