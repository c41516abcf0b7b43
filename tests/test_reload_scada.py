"""A reload while a master orders by IEC 60870-5-104: its link and its order outlive what does not
concern the station; and where the station itself is exchanged, the order is held as when a link is
lost, and goes on when the master is back. A whole site on virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hat.drivers import net
from hat.drivers.iec60870 import apci

from tests.reload_rig import ReloadRig, plant_settings, used
from tests.scada_rig import CA, HOST, Master, setpoint
from tests.virtual_time import virtual
from vppd.cli.scene import free_ports
from vppd.core.settings_scada import (
    MasterSettings,
    OrderSettings,
    ScadaSettings,
    StationPointSettings,
)

POINTS = (
    StationPointSettings(address=1001, kind="measured", value="power_kw", scale=1e-3),
    StationPointSettings(address=3001, kind="setpoint", value="order_kw", scale=1e-3),
)
ORDERS = OrderSettings(expiry_s=None, hold_s=20.0)
(PORT,) = free_ports(1)
STATION = ScadaSettings(
    enabled=True,
    host=HOST,
    port=PORT,
    common_address=CA,
    masters=(MasterSettings(host=HOST, links=4),),
    points=POINTS,
    timezone="UTC",
    t2_s=0.2,
)
PLANT = plant_settings(scada=STATION, orders=ORDERS)
FOUR = used(PLANT, "A", "B", "C", "D")


@asynccontextmanager
async def linked() -> AsyncIterator[Master]:
    """A master that is started."""
    connection = await apci.connect(net.TcpAddress(HOST, PORT))
    try:
        yield Master(connection)
    finally:
        connection.close()


@virtual
async def test_an_order_outlives_a_reload_and_the_exchange_of_its_station() -> None:
    async with ReloadRig(PLANT, FOUR) as rig:
        async with linked() as master:
            assert await master.command(setpoint(0.060))
            await rig.until(lambda: abs(rig.sum_kw() - 60.0) < 0.5, within_s=8.0)
            await rig.reloaded(used(FOUR, "A", "B", "C"))
            assert await master.command(setpoint(0.066))
            await rig.until(lambda: abs(rig.sum_kw() - 66.0) < 0.5, within_s=8.0)
            assert master.connection.is_open
            now = replace(used(FOUR, "A", "B", "C"), scada=replace(STATION, scan_s=0.3))
            changed_s = rig.now_s
            await rig.reloaded(now)
            await rig.until(lambda: not master.connection.is_open, within_s=60.0)
        async with linked() as again:
            await rig.run(6.0)
            assert rig.sum_kw() == pytest.approx(66.0, abs=0.5)
            kept = [each.power_kw for name in "ABC" for each in rig.told(name, changed_s)]
            assert min(kept) > 21.0, "nobody was bumped"
            assert await again.command(setpoint(0.072))
            await rig.until(lambda: abs(rig.sum_kw() - 72.0) < 0.5, within_s=8.0)
            taken = replace(now, scada=replace(STATION, points=(*POINTS, POINTS[0])))
            verdict = await rig.reload(taken)
            assert "scada" in str(verdict.errors)
            assert await again.command(setpoint(0.075))
            await rig.until(lambda: abs(rig.sum_kw() - 75.0) < 0.5, within_s=8.0)
            await rig.reloaded(replace(now, scada=ScadaSettings()))
            await rig.until(lambda: not again.connection.is_open, within_s=60.0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, PORT)
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=40.0)
