"""The link to the fleet exchanged again and again while commands come and samples go, over a real
broker with TLS: each command is done once and answered, each sample arrives once, in order."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path

from tests.api_site import Rig, make_rig, until
from tests.mqtt_rig import Broker, FarSide, needs_mosquitto, settings_for
from tests.test_mqtt import command
from tests.test_mqtt_answers import ORDER, REPLIES
from vppd.app import fleet_of
from vppd.core.alarms import Code
from vppd.core.records import KeptRow
from vppd.core.settings import Settings
from vppd.core.settings_mqtt import MqttSettings
from vppd.core.settings_scada import OrderSettings
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Offer, OrderKind
from vppd.orders import journaled
from vppd.parts import Parts
from vppd.spine.clock import SystemClock
from vppd.spine.journal import Bounds, SqliteJournal
from vppd.spine.supervise import Supervisor

pytestmark = needs_mosquitto

EXCHANGES, BURST, SAMPLES = 6, 4, 12
SLOW_DISK = Bounds(batch_s=1.0)  # what nobody awaits is not on disk when the next link begins
SITE_TOPIC = "vpp/telemetry/lab"
WITHIN_S = 60.0


@dataclass
class Exchanged:
    """A site whose link is a part that can be exchanged."""

    rig: Rig
    journal: SqliteJournal
    desk: OrderDesk
    parts: Parts
    plain: Settings

    async def take(self, mqtt: MqttSettings | None) -> None:
        """As a reload does."""
        new = replace(self.plain, mqtt=mqtt)
        assert (self.parts.prepare(new) or await self.parts.open()) == []
        await self.parts.finish(self.settled)

    async def settled(self) -> None:
        await self.journal.commit(KeptRow(self.rig.site.clock.utc(), "reload", "{}"))


@asynccontextmanager
async def exchanged(directory: Path) -> AsyncIterator[Exchanged]:
    clock = SystemClock()
    journal = SqliteJournal(directory / "journal.db", clock, lambda *_: None, bounds=SLOW_DISK)
    await journal.open()
    rig = make_rig(directory / "sock", journal, clock=clock)
    offer = Offer(400.0, 400.0, 400.0, 400.0)
    desk = OrderDesk(OrderSettings(), lambda: offer, rig.site.bus, clock, journaled(journal))
    rig.site.desk = desk
    parts, supervisor = Parts(fleet_of(rig.site)), Supervisor(clock, lambda *_: None)
    parts.employ(supervisor)
    supervisor.fatal("journal", journal.run)
    supervisor.fatal("desk", desk.run)
    try:
        async with asyncio.TaskGroup() as tasks:
            life = tasks.create_task(supervisor.run())
            await rig.beat(5)
            yield Exchanged(rig, journal, desk, parts, rig.site.settings)
            supervisor.stop()
            await life
    finally:
        await journal.close()


@asynccontextmanager
async def far_side(directory: Path) -> AsyncIterator[FarSide]:
    broker = Broker(directory)
    await broker.start()
    far = FarSide(broker)
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(far.run())
            await until(far.listening.is_set, WITHIN_S)
            yield far
            task.cancel()
    finally:
        await broker.kill()


def online(far: FarSide) -> bool:
    seen = far.seen("vpp/status/lab")
    return bool(seen) and seen[-1]["state"] == "online"


def replied(far: FarSide) -> set[int]:
    return {each["seq"] for each in far.seen(REPLIES)}


def rows(directory: Path, select: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / "journal.db", timeout=10)) as own:
        return own.execute(select).fetchall()


async def test_the_link_is_exchanged_while_commands_come_and_samples_go(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    async with far_side(tmp_path / "broker") as far:
        port = far.broker.port
        first = settings_for(far.broker, port, telemetry_every_s=0.2, command_expiry_s=600.0)
        async with exchanged(tmp_path) as site:
            await site.take(first)
            await until(lambda: online(far), WITHIN_S)
            seq = 0
            for number in range(EXCHANGES):
                for _ in range(BURST):
                    seq += 1
                    await command(far, seq, "order", **ORDER, power_kw=seq)
                pause_s = 0.1 * number
                await asyncio.sleep(pause_s)  # another moment of the burst each time
                await site.take(replace(first, reconnect_max_s=0.2 + 0.01 * (number + 1)))
            await until(lambda: replied(far) == {*range(1, seq + 1)}, WITHIN_S)
            reasons = {each.get("reason") for each in far.seen(REPLIES)}
            assert reasons <= {None, "replayed"}, "or it was done, and its answer not kept"
            assert site.desk.book.power_kw(OrderKind.ABSOLUTE) == seq
            await until(lambda: len(far.seqs(SITE_TOPIC)) >= SAMPLES, WITHIN_S)
            await site.take(None)
        done = rows(
            tmp_path, "SELECT body_json FROM command WHERE verdict = 'accepted' AND text = ''"
        )
        assert sorted(json.loads(str(body))["seq"] for (body,) in done) == [*range(1, seq + 1)]
        got = far.seqs(SITE_TOPIC)
        stored = [each for (each,) in rows(tmp_path, "SELECT id FROM telemetry ORDER BY id")]
        assert got == stored[: len(got)]


async def test_a_broker_that_is_not_configured_any_more_is_not_missed(tmp_path: Path) -> None:
    async with exchanged(tmp_path) as site:
        alarms = site.rig.site.alarms
        await site.take(MqttSettings(url="mqtt://127.0.0.1:1"))

        def lost() -> bool:
            return any(each.code is Code.MQTT_LOST for each in alarms.standing())

        await until(lost, WITHIN_S)
        await site.take(None)
        assert not lost()
