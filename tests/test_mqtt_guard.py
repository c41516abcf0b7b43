"""Brokers that are dead, silent, refusing or hostile: the link says why and tries again, the site
goes on; and the pure parts of the link."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api_site import make_rig, until
from tests.mqtt_rig import Broker, LinkedSite, linked, needs_mosquitto, settings_for
from vppd.core.alarms import Code
from vppd.core.settings_mqtt import MqttSettings, MqttTlsSettings
from vppd.northbound.campus_views import hierarchy
from vppd.northbound.mqtt_backlog import Cursor
from vppd.northbound.mqtt_commands import Arrived, Reason, RefusedCommand, read
from vppd.northbound.mqtt_messages import Writer, broker
from vppd.northbound.telemetry import FIELDS, packed, unpacked, whole
from vppd.spine.clock import SystemClock

CONNACK = bytes([0x20, 3, 0, 0, 0])
PINGRESP = bytes([0xD0, 0])
HUGE = bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F])  # a publish of 268 MB is announced

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def played(play: Play) -> AsyncIterator[int]:
    """A broker that does as it likes; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await play(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1024)
    writer.write(CONNACK)
    while True:
        writer.write(PINGRESP * 1000)
        await writer.drain()


async def announce_huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1024)
    writer.write(CONNACK + HUGE + bytes(1000))
    await reader.read(1 << 20)
    await reader.read()


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1024)
    writer.write(bytes(range(256)) * 4)
    await reader.read()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1024)
    writer.write(bytes([0x20, 3, 0, 0x97, 0]))  # quota exceeded
    await reader.read()


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def lost(site: LinkedSite) -> str | None:
    standing = site.rig.site.alarms.standing()
    return next((each.text for each in standing if each.code is Code.MQTT_LOST), None)


@pytest.mark.parametrize(
    ("play", "words"),
    [
        (flood, "floods"),
        (announce_huge, "larger packet"),
        (babble, "hung up"),
        (refuse, "Quota exceeded"),
        (hang_up, "hung up"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
async def test_a_hostile_broker_is_left_and_tried_again(
    play: Play, words: str, tmp_path: Path
) -> None:
    times = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal times
        times += 1
        await play(reader, writer)

    async with played(counted) as port:
        settings = MqttSettings(url=f"mqtt://127.0.0.1:{port}", reconnect_max_s=0.1)
        async with linked(tmp_path, settings) as site:
            await until(lambda: times >= 2)
            text = lost(site)
            assert text is not None
            assert words in text
            await site.rig.beat(2)  # the site ticks all the while
            assert not site.link.up


async def test_a_silent_broker_holds_up_nothing(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with played(silent) as port:
        settings = MqttSettings(url=f"mqtt://127.0.0.1:{port}", reconnect_max_s=0.1)
        async with linked(tmp_path, settings) as site:
            await site.rig.beat(3)
            for _ in range(3):
                site.sampler.take()
            await site.settled()
            assert await site.journal.select("SELECT count(*) FROM telemetry") == [(3,)]


@needs_mosquitto
@pytest.mark.parametrize(
    ("ca", "who", "words"),
    [
        ("strange_ca.pem", "lab", "certificate verify failed"),
        ("ca.pem", "stranger", "alert"),
        ("ca.pem", None, "certificate required"),
        ("missing.pem", "lab", "missing.pem is not there"),
    ],
)
async def test_who_is_not_known_gets_no_link(
    ca: str, who: str | None, words: str, tmp_path: Path, certified: Broker
) -> None:
    tls = MqttTlsSettings(
        ca=certified.file(ca),
        certificate=certified.file(f"{who}.pem") if who else None,
        key=certified.file(f"{who}.key") if who else None,
    )
    settings = settings_for(certified, certified.port, tls=tls)
    async with linked(tmp_path, settings) as site:
        await until(lambda: lost(site) is not None, 15.0)
        assert words in (lost(site) or "")
        assert not site.link.up


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mqtt")


@pytest.fixture
async def certified(made: Path) -> AsyncIterator[Broker]:
    broker = Broker(made)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()


# --- the pure parts ---

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SETTINGS = MqttSettings(url="mqtt://broker")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
TIMES = st.sampled_from(
    ["2026-11-22T10:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "x", ""]
)


@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused_by_reason_and_nothing_escapes(payload: bytes) -> None:
    with pytest.raises(RefusedCommand):
        read(Arrived("lab", payload), {}, NOW, SETTINGS, clock_trusted=True)


@given(
    st.fixed_dictionaries(
        {
            "id": st.just("a") | VALUES,
            "seq": st.integers(0, 5) | VALUES,
            "issued_at": TIMES | VALUES,
            "command": st.sampled_from(["order", "resend", "droop"]) | VALUES,
        },
        optional={"expires_at": TIMES, "sender": st.sampled_from(["a", "b"]) | VALUES},
    ),
    st.booleans(),
    st.booleans(),
)
def test_what_is_let_through_is_whole_in_time_new_and_allowed(
    members: dict[str, Any], retained: bool, trusted: bool
) -> None:
    last = {"": 2, "a": 3}
    payload = json.dumps(members).encode()
    try:
        command = read(
            Arrived("lab", payload, retained), last, NOW, SETTINGS, clock_trusted=trusted
        )
    except RefusedCommand:
        return
    assert trusted
    assert not retained
    assert command.word in SETTINGS.commands
    assert command.seq is not None
    assert command.seq > last.get(command.sender, -1)
    assert abs(datetime.fromisoformat(members["issued_at"]) - NOW) <= timedelta(seconds=86_400)


def test_a_good_command_is_let_through_once() -> None:
    members = {"id": "a", "seq": 3, "issued_at": "2026-11-22T15:29:59+05:30", "command": "order"}
    payload = json.dumps(members).encode()
    command = read(Arrived("lab", payload), {"": 2}, NOW, SETTINGS, clock_trusted=True)
    assert (command.word, command.seq, command.id) == ("order", 3, "a")
    with pytest.raises(RefusedCommand) as refused:
        read(Arrived("lab", payload), {"": 3}, NOW, SETTINGS, clock_trusted=True)
    assert refused.value.reason is Reason.REPLAYED
    with pytest.raises(RefusedCommand) as refused:
        read(Arrived("lab", payload), {"": 2}, NOW, SETTINGS, clock_trusted=False)
    assert refused.value.reason is Reason.CLOCK


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 9))), st.floats(0.0, 20.0))
def test_a_cursor_goes_back_by_what_is_too_fresh_and_never_ahead(
    steps: list[tuple[float, int]], repeat_s: float
) -> None:
    cursor, now_s, seq = Cursor("e", 0), 0.0, 0
    acknowledged = [(0.0, 0)]
    for later_s, count in steps:
        now_s, seq = now_s + later_s, seq + count
        cursor.advance(seq, now_s)
        acknowledged.append((now_s, seq))
    old = [each for at_s, each in acknowledged if at_s <= now_s - repeat_s]
    safe = cursor.safe(now_s, repeat_s)
    assert safe == max(old, default=0)
    cursor.back_to(safe)
    assert cursor.sent == safe
    cursor.back_to(safe + 100)
    assert cursor.sent == safe


async def test_a_record_is_the_same_after_the_journal(tmp_path: Path) -> None:
    top = hierarchy(make_rig(tmp_path / "sock", clock=SystemClock()).site)
    record = unpacked(json.loads(json.dumps(packed(whole(top)))))
    assert tuple(record) == FIELDS
    assert (record["level"], record["nodes"], record["rated_kw"]) == ("campus", 4, 400.0)
    assert unpacked(["campus"]) == {"level": "campus"}  # an older, shorter row


@pytest.mark.parametrize(
    ("url", "host", "port", "encrypted"),
    [
        ("mqtts://broker.example", "broker.example", 8883, True),
        ("mqtt://10.0.0.1", "10.0.0.1", 1883, False),
        ("mqtts://[::1]:1234", "::1", 1234, True),
    ],
)
def test_where_the_broker_is(url: str, host: str, port: int, encrypted: bool) -> None:
    place = broker(url)
    assert (place.host, place.port, place.encrypted) == (host, port, encrypted)


@pytest.mark.parametrize(
    "topic", ["vpp/commands/lab", "vpp/replies/#", "vpp/replies/+", "vpp/replies/\n", "x" * 300]
)
def test_no_reply_goes_where_it_must_not(topic: str) -> None:
    writer = Writer(SETTINGS, "lab", "1")
    assert writer.reply(topic, None, "lab", {}).topic == "vpp/replies/lab"
    assert writer.reply("vpp/replies/a/b", None, "lab", {}).topic == "vpp/replies/a/b"
