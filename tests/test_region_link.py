"""The link of an aggregator to a real broker: what others left there, a clock that is not known, a
site that floods, a restart."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.api_site import until
from tests.config_site import loaded, settings_of
from tests.mqtt_rig import Broker, linked, needs_mosquitto, settings_for
from tests.rig import MemoryJournal
from tests.test_mqtt import far_side
from tests.test_mqtt import up as linked_up
from tests.test_region import AGGREGATOR
from vppd.core.alarms import Code
from vppd.core.model import SITE, Cleared, Plan, Priority, UnitId
from vppd.core.records import KeptRow
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.core.settings_mqtt import MqttSettings
from vppd.northbound.mqtt_client import Connection
from vppd.northbound.mqtt_messages import Outgoing, Place
from vppd.region.fleet import Fleet
from vppd.region.flood import Floods
from vppd.region.link import RegionLink
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus
from vppd.spine.clock import SystemClock

pytestmark = needs_mosquitto

WITHIN_S = 60.0
SITES = tuple(f"s{number}" for number in range(12))
RULE = AggregatorSettings(
    stale_s=600.0, settle_s=0.3, member_stale_s=10.0, period_s=0.5, order_valid_s=3.0
)


class Shifted(SystemClock):
    """Whose wall time is wrong."""

    def __init__(self, by: timedelta) -> None:
        super().__init__()
        self.by = by

    def utc(self) -> datetime:
        return super().utc() + self.by


class Keeping(MemoryJournal):
    """That has what it kept over a restart."""

    async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        kept = [row for row in self.rows if isinstance(row, KeptRow) and row.name in parameters]
        return [(row.value_json,) for row in kept[-1:]]


@dataclass
class Member:
    """One aggregator of the group."""

    link: RegionLink
    fleet: Fleet
    alarms: AlarmBoard
    bus: Bus
    trusted: bool = True

    @property
    def ours(self) -> int:
        return sum(site.ours for site in self.fleet.sites.values())


@contextlib.asynccontextmanager
async def aggregator(
    broker: Broker,
    me: str,
    journal: MemoryJournal | None = None,
    clock: SystemClock | None = None,
    *,
    trusted: bool = True,
) -> AsyncIterator[Member]:
    clock, journal = clock or SystemClock(), journal or MemoryJournal()
    units = [{"id": each, "building": "P", "rated_power_kw": 9, "energy_kwh": 9} for each in SITES]
    settings = settings_of(loaded(AGGREGATOR | {"field.yaml": json.dumps({"units": units})}))
    bus, alarms = Bus(clock), AlarmBoard(clock, journal)
    fleet = Fleet(settings.units, RULE, me, bus, clock, journal, lambda _: None)
    mqtt = settings_for(broker, broker.port)
    mqtt = settings_for(
        broker,
        broker.port,
        tls=type(mqtt.tls)(
            ca=broker.file("ca.pem"),
            certificate=broker.file("fleet.pem"),
            key=broker.file("fleet.key"),
        ),
    )
    made = Member(
        RegionLink(fleet, RULE, mqtt, me, clock, alarms, bus.plans, lambda: made.trusted),
        fleet,
        alarms,
        bus,
        trusted,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.link.run())
        try:
            yield made
        finally:
            running.cancel()


def somebody(broker: Broker) -> aiomqtt.Client:
    """Who may publish anything."""
    tls = ssl.create_default_context(cafile=broker.file("ca.pem"))
    tls.load_cert_chain(broker.file("fleet.pem"), broker.file("fleet.key"))
    v5 = aiomqtt.ProtocolVersion.V5
    return aiomqtt.Client("127.0.0.1", broker.port, protocol=v5, tls_context=tls, timeout=WITHIN_S)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    made = Broker(tmp_path / "broker")
    await made.start()
    yield made
    await made.kill()


def owns_all(member: Member) -> bool:
    return member.ours == len(SITES)


def sample(site: str, seq: int) -> bytes:
    at = datetime.now(UTC).isoformat()
    view = {"site": site, "node": site, "epoch": "e", "seq": seq, "at": at}
    return json.dumps(view | {"record": {"power_kw": 1.0}}).encode()


async def test_what_was_left_at_the_broker_ends_no_link(broker: Broker) -> None:
    left = (
        b"[" * 8000,
        b'{"member": "x3", "state": "online", "acts_on": ["\\ud800"], "term": 1,'
        b' "at": "2026-01-01T00:00:00Z"}',
        b'{"member": "x4", "state": "online", "acts_on": [], "term": 1,'
        b' "at": "0001-01-01T00:00:00+23:59"}',
        b"\xff\xfe",
    )
    async with somebody(broker) as far:
        for number, payload in enumerate(left):
            topic = f"vpp/region/region/x{number + 2}"
            await far.publish(topic, payload, 1, True)
        async with aggregator(broker, "north") as north:
            await until(lambda: north.fleet.refusals["member"] == len(left), WITHIN_S)
            await until(lambda: north.ours == len(SITES), WITHIN_S)
            assert not north.alarms.stands(Code.MQTT_LOST, UnitId("region"))


async def test_who_does_not_know_the_time_leaves_the_sites_to_the_others(broker: Broker) -> None:
    async with (
        aggregator(broker, "north", trusted=False) as north,
        aggregator(broker, "south") as south,
    ):
        await until(lambda: north.link.up and south.ours == len(SITES), WITHIN_S)
        assert north.ours == 0
        assert north.link.status()["abstains"] is True
        north.trusted = True
        await until(
            lambda: north.ours + south.ours == len(SITES) and 0 < north.ours < len(SITES), WITHIN_S
        )
        north.trusted = False
        await until(lambda: south.ours == len(SITES) and north.ours == 0, WITHIN_S)


async def test_a_site_that_floods_is_shut_out_and_the_others_are_heard(broker: Broker) -> None:
    async with somebody(broker) as far, aggregator(broker, "north") as north:
        await until(lambda: north.ours == len(SITES), WITHIN_S)
        fleet, flood = north.fleet, sample("s1", 1)
        north.link._floods = Floods(50, 0.01)
        for _ in range(80):
            await far.publish("vpp/telemetry/s1", flood, 1)
        await until(lambda: "floods" in fleet.sites[UnitId("s1")].doubt, WITHIN_S)
        await far.publish("vpp/telemetry/s2", sample("s2", 1), 1)
        await until(lambda: fleet.sites[UnitId("s2")].heard.seq == 1, WITHIN_S)
        await until(lambda: "s1" not in north.link._listening, WITHIN_S)
        assert north.link.up
        assert north.ours == len(SITES)


async def test_terms_go_on_after_a_restart_with_an_old_clock(broker: Broker) -> None:
    journal, terms = Keeping(), list[int]()
    for behind in (timedelta(0), timedelta(days=40)):
        async with aggregator(broker, "north", journal, Shifted(-behind)) as north:
            await until(partial(owns_all, north), WITHIN_S)
            terms.append(north.link.council.term)
    assert terms[1] > terms[0]


async def test_more_alarms_than_fit_in_a_packet_do_not_end_the_link(
    broker: Broker, tmp_path: Path
) -> None:
    await broker.kill()
    config = broker.directory / "mosquitto.conf"
    config.write_text(config.read_text() + "max_packet_size 6000\n", encoding="ascii")
    await broker.start()
    settings = settings_for(broker, broker.port, detail="site")
    async with far_side(broker) as far, linked(tmp_path, settings) as site:
        await until(lambda: linked_up(site), WITHIN_S)
        for number in range(200):
            text = f"{number} " + "x" * 100
            site.rig.site.alarms.set(Code.LINK_LOST, UnitId(f"U{number}"), True, text)

        def told() -> list[dict[str, Any]]:
            seen = far.seen("vpp/status/lab")
            return [view for view in seen if view.get("alarms_unsaid")]

        await until(lambda: bool(told()), WITHIN_S)
        last = told()[-1]
        assert last["state"] == "online"
        assert last["alarms_unsaid"] + len(last["alarms"]) >= 200
        assert len(last["alarms"]) > 5
        assert linked_up(site)


async def test_a_cancel_that_comes_with_an_answer_is_not_lost() -> None:
    mqtt = MqttSettings(url="mqtt://127.0.0.1")
    will = Outgoing("x", b"")
    connection = Connection(mqtt, Place("127.0.0.1", 1, False), "x", will, SystemClock())
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(connection._wait_for(answer, timeout=None))
        await asyncio.sleep(0)
        answer.set_result(1)
        waits.cancel()
    assert waits.cancelled()


async def test_an_order_that_nobody_hears_is_told(broker: Broker) -> None:
    """The site speaks, and is subscribed to another topic than it is ordered on."""
    site = UnitId("s1")
    async with somebody(broker) as far, aggregator(broker, "north") as north:
        await until(partial(owns_all, north), WITHIN_S)
        now_s = north.link._clock.now_s()
        plan = Plan(SITE, 9.0, now_s + 600.0, "test", Priority.ORDER, now_s)
        north.bus.publish(plan)
        cleared = Cleared(site, 9.0, 0.0, 9.0, 0.0, (), now_s + 0.1, now_s + 600.0)
        north.fleet.sites[site].actuator.offer(cleared)
        await far.publish("vpp/telemetry/s1", sample("s1", 1), 1)
        await until(lambda: north.fleet.sites[site].deaf, WITHIN_S)
        assert any("nobody who hears" in str(each["deaf"]) for each in north.fleet.view())
        await far.subscribe("vpp/commands/s1", 1)
        await until(lambda: not north.fleet.sites[site].deaf, WITHIN_S)
