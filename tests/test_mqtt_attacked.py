"""Commands from the fleet under attack: against the word of an operator, without a journal.
A real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api_site import until
from tests.mqtt_rig import Broker, linked, needs_mosquitto, settings_for
from tests.test_mqtt import answered, command, far_side, up
from vppd.core.records import Row
from vppd.grid.orders import OrderKind

pytestmark = needs_mosquitto


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    made = Broker(tmp_path)
    await made.start()
    yield made
    await made.kill()


async def test_no_order_switches_droop_on_against_an_operator(
    broker: Broker, tmp_path: Path
) -> None:
    settings = settings_for(broker, broker.port, commands=("droop",))
    async with far_side(broker) as far, linked(tmp_path, settings) as site:
        await until(lambda: up(site))
        tick = site.rig.site.tick
        await command(far, 1, "droop", enabled=False)
        assert (await answered(far, 1))["verdict"] == "accepted"
        await command(far, 2, "droop", enabled=True)
        assert (await answered(far, 2))["enabled"] is True
        assert tick.duty.droop.enabled
        tick.duty = tick.duty.switched(False, "operator")
        await command(far, 3, "droop", enabled=True)
        reply = await answered(far, 3)
        assert (reply["verdict"], reply["reason"]) == ("refused", "not_allowed")
        assert not tick.duty.droop.enabled


async def test_an_order_is_obeyed_without_a_journal_and_says_so(
    broker: Broker, tmp_path: Path
) -> None:
    settings = settings_for(broker, broker.port, commands=("order", "emergency_stop"))
    async with far_side(broker) as far, linked(tmp_path, settings) as site:
        await until(lambda: up(site))

        async def refuses(_: Row) -> bool:
            return False

        site.rig.site.journal.commit = refuses  # type: ignore[method-assign, assignment]
        await command(far, 1, "order", kind="absolute", power_kw=40)
        reply = await answered(far, 1)
        assert (reply["verdict"], reply["journaled"]) == ("accepted", False)
        assert site.desk.book.power_kw(OrderKind.ABSOLUTE) == 40.0
        await command(far, 2, "emergency_stop")
        reply = await answered(far, 2)
        assert (reply["latched"], reply["journaled"]) == ("site", False)
        assert not site.desk.book.standing
