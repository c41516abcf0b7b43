"""Commands from the fleet and the disk: none waits for another's, each is answered when it is
written down, and one that was lost with the daemon is delivered again. A real broker."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_site import until
from tests.mqtt_rig import Broker, linked, needs_mosquitto, settings_for
from tests.test_mqtt import answered, command, far_side, up
from vppd.core.records import CommandRow, Row
from vppd.grid.orders import OrderKind
from vppd.northbound.mqtt import WAITING_MAX

pytestmark = needs_mosquitto

ORDER: dict[str, Any] = {"kind": "absolute", "valid_s": 600}
REPLIES = "vpp/replies/lab"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    made = Broker(tmp_path)
    await made.start()
    yield made
    await made.kill()


async def test_no_command_waits_for_the_disk_of_another(broker: Broker, tmp_path: Path) -> None:
    """An emergency stop least of all; they are answered in the order they came."""
    settings = settings_for(broker, broker.port, commands=("order", "emergency_stop"))
    async with far_side(broker) as far, linked(tmp_path, settings) as site:
        await until(lambda: up(site))
        turns, waiting = asyncio.Event(), list[str]()

        async def slow(row: Row) -> bool:
            assert isinstance(row, CommandRow)
            waiting.append(row.verb)
            await turns.wait()
            return True

        site.rig.site.journal.commit = slow  # type: ignore[method-assign]
        for seq in range(1, WAITING_MAX):
            await command(far, seq, "order", **ORDER, power_kw=seq)
        await command(far, WAITING_MAX, "emergency_stop")
        await until(lambda: len(waiting) == WAITING_MAX)
        assert site.rig.site.gate.shut_by is not None
        assert not site.desk.book.standing, "given up by the stop"
        assert far.seen(REPLIES) == []
        turns.set()
        await answered(far, WAITING_MAX)
        assert [each["seq"] for each in far.seen(REPLIES)] == [*range(1, WAITING_MAX + 1)]
        assert {each["journaled"] for each in far.seen(REPLIES)} == {True}


async def test_more_than_can_wait_are_kept_by_the_broker(broker: Broker, tmp_path: Path) -> None:
    count = 5 * WAITING_MAX
    settings = settings_for(broker, broker.port, command_expiry_s=60.0)
    async with far_side(broker) as far, linked(tmp_path, settings) as site:
        await until(lambda: up(site))
        for seq in range(1, count + 1):
            await command(far, seq, "order", **ORDER, power_kw=seq)
        await until(lambda: len(far.seen(REPLIES)) == count, 20.0)
        assert [each["seq"] for each in far.seen(REPLIES)] == [*range(1, count + 1)]
        assert site.desk.book.power_kw(OrderKind.ABSOLUTE) == count


@pytest.mark.parametrize("disk", ["kept", "lost"])
async def test_a_command_that_was_lost_with_the_daemon_comes_again(
    broker: Broker, tmp_path: Path, disk: str
) -> None:
    """Killed between doing it and answering. What is known of it afterwards is answered as it was
    and not done again; what is not known is done."""
    settings = settings_for(broker, broker.port, command_expiry_s=60.0)
    (tmp_path / "site").mkdir()
    async with far_side(broker) as far:
        words = ("-m", "tests.killed_mqtt", str(tmp_path), str(broker.port), disk)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            await until(lambda: _online(far.seen("vpp/status/lab")), 20.0)
            await command(far, 1, "order", **ORDER, power_kw=40)
            async with asyncio.timeout(10.0):
                while b"held" not in await process.stdout.readline():
                    pass
            await until(lambda: _remembered(tmp_path / "site" / "journal.db") or disk == "lost")
        finally:
            process.kill()
            await process.wait()
        assert far.seen(REPLIES) == []
        async with linked(tmp_path / "site", settings) as site:
            reply = await answered(far, 1)
            assert (reply["verdict"], reply["seq"], reply["id"]) == ("accepted", 1, "c1")
            done = site.desk.book.power_kw(OrderKind.ABSOLUTE)
            assert done == (None if disk == "kept" else 40.0)
            assert reply.get("repeated") is (True if disk == "kept" else None)
            assert reply["journaled"] is True
            rows = await site.journal.select("SELECT verdict, text FROM command")
            assert rows == [("accepted", "done before, delivered again" if disk == "kept" else "")]
            await command(far, 1, "order", **ORDER, power_kw=40)
            assert (await answered(far, 2))["repeated"] is True
            await command(far, 2, "order", **ORDER, power_kw=50)
            assert (await answered(far, 3))["verdict"] == "accepted"
            assert site.desk.book.power_kw(OrderKind.ABSOLUTE) == 50.0
        async with linked(tmp_path / "site", settings) as site:
            await until(lambda: up(site))
            await command(far, 3, "withdraw")
            assert (await answered(far, 4))["seq"] == 3, "nothing came again that was answered"


def _remembered(path: Path) -> bool:
    """Whether the answer is on disk, by an own reader."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as own:
        return bool(own.execute("SELECT 1 FROM kept WHERE name = 'mqtt answers'").fetchall())


def _online(seen: list[dict[str, Any]]) -> bool:
    return bool(seen) and seen[-1]["state"] == "online"


async def test_what_was_done_is_written_down_when_the_link_is_lost(
    broker: Broker, tmp_path: Path
) -> None:
    """Nobody is answered then; the row is there."""
    settings = settings_for(broker, broker.port)
    async with far_side(broker) as far, linked(tmp_path, settings) as site:
        await until(lambda: up(site))
        clerk = site.link._clerk
        answer = clerk.answer

        async def never(_: object) -> Any:
            await asyncio.Event().wait()

        clerk.answer = never  # type: ignore[method-assign, assignment]
        await command(far, 1, "order", **ORDER, power_kw=40)
        await until(lambda: site.desk.book.standing)
        await broker.kill()
        await until(lambda: not site.link.up)
        await site.settled()
        rows = await site.journal.select("SELECT verb, verdict FROM command")
        assert rows == [("order", "accepted")]
        clerk.answer = answer  # type: ignore[method-assign]
