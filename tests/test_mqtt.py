"""The link to the fleet over a real broker with TLS: nothing lost, nothing twice, nobody obeyed who
must not be, and a broker that misbehaves left alone."""

import asyncio
import contextlib
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api_site import UNITS, until
from tests.mqtt_rig import (
    Broker,
    Cable,
    FarSide,
    LinkedSite,
    linked,
    needs_mosquitto,
    settings_for,
)
from vppd.core.alarms import Code
from vppd.core.model import SITE
from vppd.grid.orders import OrderKind
from vppd.spine.schema import micros

pytestmark = needs_mosquitto

FAULTS = 4  # kills and cuts in one run; hundreds were made by hand
START: dict[str, Any] = {"from": 3}
SITE_TOPIC = "vpp/telemetry/lab"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates take a moment: made once."""
    return tmp_path_factory.mktemp("mqtt")


@pytest.fixture
async def broker(made: Path) -> AsyncIterator[Broker]:
    broker = Broker(made)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()


@contextlib.asynccontextmanager
async def far_side(broker: Broker) -> AsyncIterator[FarSide]:
    far = FarSide(broker)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(far.run())
        await until(far.listening.is_set)
        try:
            yield far
        finally:
            task.cancel()


def stored(site: LinkedSite) -> list[tuple[int, int]]:
    """Every sample in the journal, by an own reader: its id and its time."""
    with contextlib.closing(sqlite3.connect(site.path)) as own:
        return own.execute("SELECT id, at FROM telemetry ORDER BY id").fetchall()


async def got(far: FarSide, count: int) -> None:
    """Return when the far side has so many samples."""
    await until(lambda: len(far.seqs(SITE_TOPIC)) >= count, 20.0)


def up(site: LinkedSite) -> bool:
    return site.link.up


# --- store and forward ---


async def test_every_sample_arrives_once_and_in_order_whatever_breaks(
    broker: Broker, tmp_path: Path
) -> None:
    chance = random.Random(7)
    async with Cable(broker.port).laid() as cable, far_side(broker) as far:
        settings = settings_for(broker, cable.port, repeat_s=1.0)
        async with linked(tmp_path, settings) as site, asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(site.sampler.run())
            await until(lambda: up(site))
            for fault in range(FAULTS):
                count = len(far.seqs(SITE_TOPIC)) + chance.randrange(1, 12)
                await got(far, count)
                if fault % 3 == 0:
                    await broker.kill()
                    await broker.start()
                else:
                    cable.cut()
            sampling.cancel()
            await site.settled()
            rows = stored(site)
            await until(lambda: far.seqs(SITE_TOPIC)[-1:] == [rows[-1][0]], 20.0)
        assert far.seqs(SITE_TOPIC) == [seq for seq, _ in rows]
        ats = [micros(datetime.fromisoformat(row["at"])) for row in far.rows[SITE_TOPIC]]
        assert ats == [at for _, at in rows]
        for unit in UNITS:
            assert far.seqs(f"vpp/telemetry/{unit}") == [seq for seq, _ in rows]
        assert not any("gap" in row for row in far.rows[SITE_TOPIC])


async def test_a_long_absence_is_made_up_for_and_what_was_deleted_is_told(
    broker: Broker, tmp_path: Path
) -> None:
    await broker.kill()
    settings = settings_for(broker, broker.port, detail="site")
    async with linked(tmp_path, settings) as site:
        for _ in range(500):
            site.sampler.take()
        await site.settled()
        with contextlib.closing(sqlite3.connect(site.path, timeout=10)) as own, own:
            own.execute("DELETE FROM telemetry WHERE id <= 20 OR id BETWEEN 100 AND 109")
        kept = [seq for seq, _ in stored(site)]
        await until(site.rig.site.alarms.standing)  # it was tried
        await broker.start()
        async with far_side(broker) as far:
            await until(lambda: far.seqs(SITE_TOPIC)[-1:] == [500], 20.0)
            rows = far.rows[SITE_TOPIC]
            gaps = [row["gap"] for row in rows if "gap" in row]
            assert gaps == [{"from": 1, "to": 20}, {"from": 100, "to": 109}]
            assert [row["seq"] for row in rows if "gap" not in row] == kept
            await site.settled()
            told = await site.journal.select(
                "SELECT text FROM event WHERE code = 'telemetry_gap' ORDER BY id"
            )
            assert [str(text).split(" could")[0] for (text,) in told] == [
                "telemetry 1 to 20",
                "telemetry 100 to 109",
            ]


async def test_nobody_listening_nothing_is_sent_away(broker: Broker, tmp_path: Path) -> None:
    async with linked(tmp_path, settings_for(broker, broker.port)) as site:
        await until(lambda: up(site))
        for _ in range(5):
            site.sampler.take()
        await until(lambda: not site.link.heard)  # it was tried
        async with far_side(broker) as far:
            await until(lambda: far.seqs(SITE_TOPIC) == [1, 2, 3, 4, 5])
            await until(lambda: len(far.seqs("vpp/telemetry/B4")) == 5)
            # a restart goes on where it was, and a far side that lost some asks for them
            far.rows.clear()
            await command(far, 1, "resend", stream="telemetry", **START)
            await until(lambda: far.seqs(SITE_TOPIC) == [3, 4, 5])


async def test_a_restart_goes_on_where_it_was(broker: Broker, tmp_path: Path) -> None:
    settings = settings_for(broker, broker.port, repeat_s=0.0)
    async with far_side(broker) as far:
        for start in range(2):
            async with linked(tmp_path, settings) as site:
                for _ in range(3):
                    site.sampler.take()
                await got(far, 3 * start + 3)
        assert far.seqs(SITE_TOPIC) == [1, 2, 3, 4, 5, 6]
        assert len({row["epoch"] for row in far.rows[SITE_TOPIC]}) == 1


# --- who the site is ---


async def test_registration_status_last_will_and_alarms(broker: Broker, tmp_path: Path) -> None:
    async with Cable(broker.port).laid() as cable, far_side(broker) as far:
        settings = settings_for(broker, cable.port, home_assistant="homeassistant")
        async with linked(tmp_path, settings) as site:
            await until(lambda: far.seen("vpp/status/lab"))
            (registration,) = far.seen("vpp/registration/lab")
            assert [each["level"] for each in registration["above"]] == ["country"]
            record = registration["record"]
            assert (record["level"], record["id"], record["nodes"]) == ("campus", "lab", 4)
            assert (record["rated_kw"], record["energy_kwh"]) == (400.0, 800.0)
            assert [each["id"] for each in record["children"]] == ["D1", "D2"]
            assert far.seen("vpp/status/lab")[-1]["state"] == "online"

            site.rig.site.alarms.set(Code.METER_SILENT, SITE, True, "no answer")
            await until(lambda: far.seen("vpp/status/lab")[-1]["alarms"])
            (alarm,) = far.seen("vpp/status/lab")[-1]["alarms"]
            assert (alarm["code"], alarm["text"]) == ("meter_silent", "no answer")
            await until(lambda: far.rows.get("vpp/events/lab"))
            codes = [row.get("code") for row in far.rows["vpp/events/lab"]]
            assert "meter_silent" in codes

            cable.plugged = False
            cable.cut()
            await until(lambda: far.seen("vpp/status/lab")[-1]["state"] == "offline")
            cable.plugged = True
            await until(lambda: far.seen("vpp/status/lab")[-1]["state"] == "online")
            standing = {each.code for each in site.rig.site.alarms.standing()}
            assert Code.MQTT_LOST not in standing
        await until(lambda: far.seen("vpp/status/lab")[-1]["state"] == "offline")  # it stopped


# --- commands ---


async def command(
    far: FarSide,
    seq: int,
    word: str,
    *,
    node: str = "lab",
    at_s: float = 0.0,
    retain: bool = False,
    raw: bytes | None = None,
    asked: dict[str, Any] | None = None,
    **members: Any,
) -> None:
    from vppd.spine.clock import SystemClock

    issued = (SystemClock().utc() + timedelta(seconds=at_s)).isoformat()
    body = {"id": f"c{seq}", "seq": seq, "issued_at": issued, "command": word, **members}
    payload = json.dumps(body).encode() if raw is None else raw
    await far.publish(f"vpp/commands/{node}", payload, retain=retain, **(asked or {}))


async def answered(far: FarSide, count: int, topic: str = "vpp/replies/lab") -> dict[str, Any]:
    await until(lambda: len(far.seen(topic)) >= count)
    return far.seen(topic)[count - 1]


async def test_orders_are_taken_by_the_rules_of_the_desk(broker: Broker, tmp_path: Path) -> None:
    async with far_side(broker) as far, linked(tmp_path, settings_for(broker, broker.port)) as site:
        await until(lambda: up(site))
        asked: dict[str, Any] = {
            "ResponseTopic": "vpp/replies/fleet/7",
            "CorrelationData": b"\x00\x07",
        }
        more: dict[str, Any] = {"kind": "absolute", "power_kw": 40, "valid_s": 60}
        await command(far, 1, "order", asked=asked, **more)
        reply = await answered(far, 1, "vpp/replies/fleet/7")
        assert (reply["verdict"], reply["id"], reply["seq"]) == ("accepted", "c1", 1)
        assert reply["journaled"] is True
        (message,) = [each for topic, _, each in far.others if topic == "vpp/replies/fleet/7"]
        assert getattr(message.properties, "CorrelationData", None) == b"\x00\x07"
        assert site.desk.book.power_kw(OrderKind.ABSOLUTE) == 40.0
        assert [plan.power_kw for plan in site.rig.site.bus.plans()] == [40.0]

        await command(far, 2, "order", kind="delta", power_kw=-5, sender="agc")
        assert (await answered(far, 1))["verdict"] == "accepted"
        assert site.desk.book.power_kw(OrderKind.DELTA) == -5.0
        await command(far, 3, "order", kind="absolute", power_kw=4000)
        refused = await answered(far, 2)
        assert (refused["verdict"], refused["reason"]) == ("refused", "out_of_range")
        assert site.desk.book.power_kw(OrderKind.ABSOLUTE) == 40.0
        await command(far, 4, "withdraw")
        assert (await answered(far, 3))["verdict"] == "accepted"
        assert not site.desk.book.standing
        rows = await site.journal.select("SELECT user, verb, verdict FROM command ORDER BY id")
        assert rows[:2] == [("mqtt", "order", "accepted"), ("mqtt:agc", "order", "accepted")]


async def test_what_must_not_be_obeyed_is_refused_with_its_reason(
    broker: Broker, tmp_path: Path
) -> None:
    order: dict[str, Any] = {"kind": "absolute", "power_kw": 10}
    async with far_side(broker) as far:
        await command(far, 900, "order", retain=True, **order)  # before there is a site
        async with linked(tmp_path, settings_for(broker, broker.port)) as site:
            await until(lambda: up(site))
            reasons: list[str] = []

            async def expect(reason: str, node: str = "lab") -> None:
                reasons.append(reason)
                topic = f"vpp/replies/{node}"
                reply = await answered(far, len(far.seen(topic)) + 1, topic)
                assert reply["reason"] == reason, reply
                assert site.desk.book.standing == {}

            assert (await answered(far, 1))["reason"] == "retained"
            await command(far, 901, "order", retain=True, **order)
            await expect("retained")
            await command(far, 5, "order", at_s=-31.0, **order)
            await expect("expired")
            await command(far, 5, "order", at_s=-3.0, expires_at=_utc(-1.0), **order)
            await expect("expired")
            await command(far, 5, "order", at_s=60.0, **order)
            await expect("not_yet")
            await command(far, 5, "dance")
            await expect("unknown")
            await command(far, 5, "emergency_stop")
            await expect("not_allowed")
            for raw in (b"{", b"[]", b"\xff\xfe", b"", b'{"seq":1,"seq":2}', b'{"seq": NaN}'):
                await command(far, 5, "order", raw=raw)
                await expect("malformed")
            await command(far, 5, "order", **order, id="x" * 5000)
            await expect("oversized")
            await command(far, 5, "order", **order, surprise=1)
            await expect("malformed")
            await command(far, 5, "order", **order, id="again")  # the one before had the number
            await expect("replayed")
            await command(far, 6, "order", node="B1", **order)
            await expect("unknown", "B1")
            await command(far, 7, "withdraw")
            assert (await answered(far, len(far.seen("vpp/replies/lab")) + 1))["verdict"]
            # not to a topic of commands, whoever asks
            asked: dict[str, Any] = {"ResponseTopic": "vpp/commands/other"}
            await command(far, 7, "order", asked=asked, **order, id="again")
            await expect("replayed")
        # a restart forgets no sequence
        async with linked(tmp_path, settings_for(broker, broker.port)) as site:
            await until(lambda: up(site))
            await command(far, 7, "order", **order)
            await expect("replayed")
            texts = await site.journal.select(
                "SELECT text FROM command WHERE verdict = 'refused' ORDER BY id"
            )
            assert any(str(text).startswith("retained") for (text,) in texts)


def _utc(at_s: float) -> str:
    from vppd.spine.clock import SystemClock

    return (SystemClock().utc() + timedelta(seconds=at_s)).isoformat()
