"""The guard over a real socket, against a server that misbehaves byte by byte: every fault ends in
exactly one failure, with one frame on the wire, and the next request gets its own answer."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.profile import Table
from vppd.field.drivers.frames import Expected, ModbusError, rtu_answer, tcp_answer
from vppd.field.drivers.modbus import (
    BadReply,
    DeviceRefused,
    Endpoint,
    Line,
    LinkDown,
    NoReply,
)
from vppd.spine.clock import SystemClock

TIMEOUT_S = 0.2
READ, WRITE_ONE, WRITE_SEVERAL = "read", "write one", "write several"
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def reply_to(request: bytes) -> bytes:
    """The right answer: register n holds n."""
    head, unit, function = request[:4], request[6], request[7]
    first, second = struct.unpack(">HH", request[8:12])
    if function in (3, 4):
        data = b"".join(struct.pack(">H", first + n) for n in range(second))
        pdu = bytes((function, 2 * second)) + data
    elif function in (1, 2):
        pdu = bytes((function, (second + 7) // 8)) + b"\x05" * ((second + 7) // 8)
    else:
        pdu = request[7:12]
    return head + struct.pack(">HB", len(pdu) + 1, unit) + pdu


def pdu_of(request: bytes, pdu: bytes) -> bytes:
    return request[:4] + struct.pack(">HB", len(pdu) + 1, request[6]) + pdu


class Server(asyncio.Protocol):
    """One connection. `mode` says how the next requests are answered."""

    mode = "ok"
    frames: list[bytes]
    opened: int

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport: Any = transport
        type(self).opened += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 6 and len(self.buffer) >= 6 + self.buffer[5]:
            size = 6 + self.buffer[5]
            request, self.buffer = self.buffer[:size], self.buffer[size:]
            self.frames.append(request)
            self.answer(request)

    def answer(self, request: bytes) -> None:
        right = reply_to(request)
        function = request[7]
        send, mode = self.transport.write, self.mode
        loop = asyncio.get_running_loop()
        other = {
            "ok": right,
            "exception": pdu_of(request, bytes((function | 0x80, 4))),
            "gateway": pdu_of(request, bytes((function | 0x80, 11))),
            "empty": pdu_of(request, bytes((function, 0))),
            "bad tid": b"\x77\x77" + right[2:],
            "tid 0": b"\0\0" + right[2:],
            "bad unit": right[:6] + bytes((right[6] + 1,)) + right[7:],
            "wrong function": pdu_of(request, bytes((4 if function == 3 else 3, 2, 0, 1))),
            "unknown function": pdu_of(request, bytes((0x55, 1))),
            "function 0x80": pdu_of(request, bytes((0x80, 2))),
            "short": pdu_of(request, bytes((function, 2, 0, 100))),
            "long": pdu_of(request, bytes((function, 12)) + bytes(12)),
            "short echo": pdu_of(request, request[7:10]),
            "wrong echo": right[:-1] + bytes((right[-1] ^ 1,)),
            "byte count lies": right[:8] + b"\xff" + right[9:],
            "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "length 0": right[:4] + b"\0\0" + right[6:],
            "length 65535": right[:4] + b"\xff\xff" + right[6:],
            "half": right[:7],
            "twice": right + right,
            "late one first": b"\x77\x77" + right[2:] + right,
        }
        if mode in other:
            send(other[mode])
        elif mode == "late":
            loop.call_later(TIMEOUT_S * 1.4, self.send_late, right)
        elif mode == "split":
            for n, octet in enumerate(right):
                loop.call_later(0.002 * n, send, bytes((octet,)))
        elif mode == "close":
            self.transport.close()
        elif mode == "reset":
            self.transport.abort()
        elif mode == "half, then close":
            send(right[:9])
            loop.call_later(0.02, self.transport.close)
        else:
            assert mode == "silent"

    def send_late(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


def server_in(mode: str) -> type[Server]:
    class InMode(Server):
        frames: list[bytes] = []  # noqa: RUF012
        opened = 0

    InMode.mode = mode
    return InMode


async def request(line: Line, what: str) -> Any:
    if what == READ:
        return await line.read(1, Table.HOLDING, 100, 4, TIMEOUT_S)
    if what == WRITE_ONE:
        return await line.write(1, 40, [1234], 6, TIMEOUT_S)
    return await line.write(1, 40, [1, 2, 3], 16, TIMEOUT_S)


async def connected_and_asked(line: Line, what: str) -> None:
    await line.connect(1.0)
    await request(line, what)


def run(main: Coroutine[Any, Any, None], factory: Callable[[], Any]) -> None:
    """Run on a loop that must never have to handle an exception by itself."""
    trouble: list[Any] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: trouble.append(context))
        runner.run(main)
    assert not trouble


async def served(mode: str, body: Callable[[Line, type[Server]], Awaitable[None]]) -> None:
    """A server in one mode and a line to it."""
    server = server_in(mode)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    line = Line(Endpoint(host, port), SystemClock(), lambda: None)
    try:
        await line.connect(1.0)
        await body(line, server)
    finally:
        line.close()
        listener.close()


ENDS = {
    "ok": None,
    "split": None,
    "twice": None,
    "late one first": None,
    "exception": DeviceRefused,
    "empty": DeviceRefused,
    "gateway": NoReply,
    "silent": NoReply,
    "late": NoReply,
    "bad tid": BadReply,
    "tid 0": BadReply,
    "bad unit": BadReply,
    "wrong function": BadReply,
    "unknown function": BadReply,
    "function 0x80": BadReply,
    "short": BadReply,
    "long": BadReply,
    "garbage": BadReply,
    "length 0": BadReply,
    "length 65535": BadReply,
    "half": BadReply,
    "close": LinkDown,
    "reset": LinkDown,
    "half, then close": LinkDown,
}
WRITE_ENDS = {**ENDS, "wrong echo": BadReply, "short echo": BadReply}
READ_ENDS = {**ENDS, "byte count lies": BadReply}
CASES = [(READ, mode, end) for mode, end in READ_ENDS.items()]
CASES += [(what, *row) for what in (WRITE_ONE, WRITE_SEVERAL) for row in WRITE_ENDS.items()]
FORESEEN = {"silent", "late", "bad tid", "tid 0", "bad unit", "half"}  # these take the time-out


@pytest.mark.parametrize("factory", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(("what", "mode", "end"), CASES)
def test_every_fault_ends_in_one_failure(
    what: str, mode: str, end: type[ModbusError] | None, factory: Callable[[], Any]
) -> None:
    async def body(line: Line, server: type[Server]) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        if end is None:
            await request(line, what)
        else:
            with pytest.raises(end) as caught:
                await request(line, what)
            assert type(caught.value) is end
        took_s = loop.time() - begun_s
        assert len(server.frames) == 1, "one frame a request"
        if mode not in FORESEEN:
            assert took_s < TIMEOUT_S * 0.8, "known at once, told at once"
        trusted = end in (None, DeviceRefused) or mode == "gateway"
        assert line.connected is trusted, "a stream that cannot be trusted is closed"
        if end is NoReply or end is BadReply:
            assert line.closed_by_us is not trusted
        server.mode = "ok"
        for first in (100, 200, 300, 400):  # long enough for a late reply to come
            if not line.connected:
                await line.connect(1.0)
            reply = await line.read(1, Table.HOLDING, first, 4, TIMEOUT_S)
            assert list(reply) == [first, first + 1, first + 2, first + 3]
            if mode == "late":
                await asyncio.sleep(TIMEOUT_S * 0.15)
        assert len(server.frames) == 5

    run(served(mode, body), factory)


@pytest.mark.parametrize("factory", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("what", [READ, WRITE_ONE, WRITE_SEVERAL])
def test_a_connection_that_is_ending_is_down_before_it_is_told(
    what: str, factory: Callable[[], Any]
) -> None:
    """A loop tells the end of a connection a turn or more after it knows of it."""

    async def body(line: Line, server: type[Server]) -> None:
        await request(line, what)
        line._client.ctx.transport.abort()
        assert not line.connected
        with pytest.raises(LinkDown):
            await request(line, what)
        assert len(server.frames) == 1
        await line.connect(1.0)
        for _ in range(3):  # the old connection's end is told now, and ends nothing of the new one
            await request(line, what)
        assert line.connected

    run(served("ok", body), factory)


class Dying(Line):
    """Its device dies between accepting the connection and the moment pymodbus takes it for made:
    the end of it is told too early to be heard."""

    def _new_client(self, timeout_s: float) -> Any:
        client = super()._new_client(timeout_s)
        create = client.ctx.call_create

        async def dying() -> Any:
            made = await create()
            made[0].abort()
            await asyncio.sleep(0.02)
            assert made[0].is_closing()
            return made

        client.ctx.call_create = dying
        return client


@pytest.mark.parametrize("factory", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("what", [READ, WRITE_ONE, WRITE_SEVERAL])
def test_a_device_that_dies_as_it_is_connected_is_down(
    what: str, factory: Callable[[], Any]
) -> None:
    """uvloop raises a RuntimeError when such a connection is written to."""

    async def body(line: Line, _: type[Server]) -> None:
        dying = Dying(line.endpoint, SystemClock(), lambda: None)
        with pytest.raises(LinkDown):
            await dying.connect(1.0)
        assert not dying.connected
        with pytest.raises(LinkDown):
            await request(dying, what)

    run(served("ok", body), factory)


@pytest.mark.parametrize("factory", LOOPS, ids=["asyncio", "uvloop"])
def test_a_device_that_resets_every_connection_is_down(factory: Callable[[], Any]) -> None:
    class Resetting(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            no_linger = struct.pack("ii", 1, 0)  # the other side is told by RST, at once
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            transport.abort()

    async def main() -> None:
        listener = await asyncio.get_running_loop().create_server(Resetting, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()
        line = Line(Endpoint(host, port), SystemClock(), lambda: None)
        for what in 10 * (READ, WRITE_ONE, WRITE_SEVERAL):
            with pytest.raises(LinkDown):
                await connected_and_asked(line, what)
            assert not line.connected
        listener.close()

    run(main(), factory)


@pytest.mark.parametrize("factory", LOOPS, ids=["asyncio", "uvloop"])
def test_a_connection_that_ends_under_the_request_is_down(factory: Callable[[], Any]) -> None:
    """It was open when it was looked at, and its handle is closed when the bytes go out."""

    async def body(line: Line, server: type[Server]) -> None:
        transport = line._client.ctx.transport

        def ending(sending: bool, data: bytes) -> bytes:
            transport.abort()
            raise RuntimeError("unable to write; the handler is closed")  # as uvloop says it

        line._client.ctx.trace_packet = ending
        with pytest.raises(LinkDown, match="the handler is closed"):
            await request(line, READ)
        assert not line.connected
        assert not server.frames

    run(served("ok", body), factory)


@pytest.mark.parametrize("factory", LOOPS, ids=["asyncio", "uvloop"])
def test_a_mistake_of_ours_is_not_taken_for_a_dead_link(factory: Callable[[], Any]) -> None:
    async def body(line: Line, _: type[Server]) -> None:
        def trace(sending: bool, data: bytes) -> bytes:
            raise RuntimeError("a bug")

        line._client.ctx.trace_packet = trace
        with pytest.raises(RuntimeError, match="a bug"):
            await request(line, READ)

    run(served("ok", body), factory)


def test_what_is_on_the_wire() -> None:
    """Frames typed from the protocol's own document."""

    async def body(line: Line, server: type[Server]) -> None:
        await line.write(17, 0x2000, [0xFF85, 0x0032], 16, 1.0)
        await line.write(17, 0x2002, [3], 6, 1.0)
        await line.read(17, Table.INPUT, 0x1000, 19, 1.0)
        await line.read(17, Table.HOLDING, 0x2000, 4, 1.0)
        assert await line.read(17, Table.DISCRETE_INPUT, 3, 1, 1.0) == [1]
        assert await line.read(17, Table.COIL, 0, 10, 1.0) == [1, 0, 1, 0, 0, 0, 0, 0, 1, 0]
        assert [frame[2:].hex() for frame in server.frames] == [
            "0000000b1110200000020" + "4ff850032",
            "000000061106200200" + "03",
            "00000006110410000013",
            "00000006110320000004",
            "00000006110200030001",
            "0000000611010000000a",
        ]

    run(served("ok", body), asyncio.new_event_loop)


def test_nobody_listens() -> None:
    async def main() -> None:
        listener = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()
        listener.close()
        await listener.wait_closed()
        line = Line(Endpoint(host, port), SystemClock(), lambda: None)
        with pytest.raises(LinkDown, match="refused"):
            await line.connect(1.0)
        for what in (READ, WRITE_ONE, WRITE_SEVERAL):
            with pytest.raises(LinkDown):
                await request(line, what)
        for host in ("no such name.invalid", "x" * 300, ""):
            with pytest.raises(LinkDown):
                await Line(Endpoint(host, 1), SystemClock(), lambda: None).connect(0.5)
        nowhere = Endpoint(serial="/dev/tty-that-is-not")
        with pytest.raises(LinkDown, match="tty-that-is-not"):
            await Line(nowhere, SystemClock(), lambda: None).connect(0.5)

    run(main(), asyncio.new_event_loop)


def test_a_lost_link_wakes_its_owner_and_the_next_one_works() -> None:
    async def main() -> None:
        lost = asyncio.Event()
        server = server_in("ok")
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()
        line = Line(Endpoint(host, port), SystemClock(), lost.set)
        await line.connect(1.0)
        await request(line, READ)
        server.mode = "reset"
        with pytest.raises(LinkDown):
            await request(line, READ)
        await lost.wait()
        assert not line.connected
        assert not line.closed_by_us
        server.mode = "ok"
        await line.connect(1.0)
        await request(line, READ)
        assert server.opened == 2
        line.close()
        listener.close()

    run(main(), asyncio.new_event_loop)


EXPECTED = Expected(1, bytes((3, 8)), 10)
RIGHT = b"\x00\x07\0\0\0\x0b\x01\x03\x08" + bytes(range(8))


@given(st.binary(max_size=300))
def test_no_bytes_raise_and_only_the_answer_is_the_answer(data: bytes) -> None:
    for answer in (tcp_answer(EXPECTED, b"\0\7", data), rtu_answer(EXPECTED, b"", data)):
        if isinstance(answer, bytes):
            assert EXPECTED.verdict(answer[7:]) is None or EXPECTED.verdict(answer[1:-2]) is None
            assert answer in data


@given(st.lists(st.binary(min_size=2, max_size=40), max_size=3), st.integers(0, 20))
def test_the_answer_is_found_behind_foreign_frames(others: list[bytes], cut: int) -> None:
    foreign = b"".join(
        b"\x55\x55\0\0" + struct.pack(">H", len(pdu) + 1) + b"\x01" + pdu for pdu in others
    )
    assert tcp_answer(EXPECTED, b"\0\7", foreign + RIGHT) == RIGHT
    part = (foreign + RIGHT)[: len(foreign) + len(RIGHT) - 1 - cut % len(RIGHT)]
    assert tcp_answer(EXPECTED, b"\0\7", part) is None


def test_another_units_frame_is_no_answer() -> None:
    other = RIGHT[:6] + b"\x02" + RIGHT[7:]
    assert tcp_answer(EXPECTED, b"\0\7", other) is None
    assert tcp_answer(EXPECTED, b"\0\7", other + RIGHT) == RIGHT


# Frames from the protocol document's worked example: unit 17, function 3, registers 108..110.
SERIAL_REPLY = bytes.fromhex("110306ae415652434049ad")
SERIAL_EXPECTED = Expected(0x11, bytes((3, 6)), 8)


@given(st.binary(max_size=20))
def test_a_serial_answer_is_found_among_noise(noise: bytes) -> None:
    assert rtu_answer(SERIAL_EXPECTED, b"", noise + SERIAL_REPLY) is not None
    if 0x11 not in noise:
        assert rtu_answer(SERIAL_EXPECTED, b"", noise + SERIAL_REPLY) == SERIAL_REPLY
        assert rtu_answer(SERIAL_EXPECTED, b"", noise + SERIAL_REPLY + noise) == SERIAL_REPLY


@pytest.mark.parametrize("spoilt", range(len(SERIAL_REPLY)))
def test_a_spoilt_serial_answer_is_none(spoilt: int) -> None:
    wrong = bytearray(SERIAL_REPLY)
    wrong[spoilt] ^= 0x10
    assert not isinstance(rtu_answer(SERIAL_EXPECTED, b"", bytes(wrong)), bytes)
