"""The virtual loop itself: time, order, workers, cables, and pymodbus over memory."""

import asyncio
import sqlite3
import struct
import time
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from pymodbus.client import AsyncModbusTcpClient

from tests.virtual_time import (
    START_S,
    DeadlockError,
    VirtualClock,
    VirtualLoop,
    run_virtual,
    virtual,
)


def virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def test_a_day_passes_at_once_and_lands_exactly() -> None:
    async def main() -> float:
        clock = VirtualClock()
        await clock.sleep_until(START_S + 86400.0)
        return clock.now_s()

    began_s = time.monotonic()
    assert run_virtual(main()) == START_S + 86400.0
    assert time.monotonic() - began_s < 5.0


@virtual
async def test_wall_time_follows_and_can_step() -> None:
    clock = VirtualClock()
    first = clock.utc()
    await asyncio.sleep(1.5)
    clock.step_utc(-60.0)
    assert (clock.utc() - first).total_seconds() == pytest.approx(-58.5)
    assert clock.now_s() == pytest.approx(START_S + 1.5)


@virtual
async def test_timers_run_in_order_of_time() -> None:
    seen: list[int] = []

    async def mark(number: int, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        seen.append(number)

    async with asyncio.TaskGroup() as group:
        for number, delay_s in enumerate([3.0, 0.1, 2.0, 0.1]):
            group.create_task(mark(number, delay_s))
    assert seen == [1, 3, 2, 0]


@virtual
async def test_time_stands_still_while_a_thread_works() -> None:
    before_s = virtual_loop().time()
    timer = virtual_loop().call_later(3600.0, lambda: None)
    await asyncio.to_thread(time.sleep, 0.05)
    assert virtual_loop().time() == before_s
    timer.cancel()


@virtual
async def test_time_stands_still_while_a_foreign_thread_is_busy() -> None:
    import threading

    loop = virtual_loop()
    done = loop.create_future()
    working = [True]

    def work() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(done.set_result, 1)
        working.clear()

    loop.busy.append(lambda: bool(working))
    timer = loop.call_later(3600.0, lambda: None)
    threading.Thread(target=work).start()
    assert await done == 1
    assert loop.time() == START_S
    timer.cancel()


def test_aiosqlite_is_counted(tmp_path: Path) -> None:
    async def main() -> float:
        timer = virtual_loop().call_later(3600.0, lambda: None)
        async with aiosqlite.connect(tmp_path / "j.db") as db:
            await db.execute("create table t (a)")
            await db.executemany("insert into t values (?)", [(n,) for n in range(2000)])
            await db.commit()
        timer.cancel()
        return virtual_loop().time()

    assert run_virtual(main()) == START_S
    with sqlite3.connect(tmp_path / "j.db") as check:
        assert check.execute("select count(*) from t").fetchone() == (2000,)


def test_a_deadlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.virtual_time.DEADLOCK_AFTER_S", 0.05)

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError):
        run_virtual(main())


def test_a_limit_ends_what_never_ends() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(1.0)

    with pytest.raises(TimeoutError):
        run_virtual(main(), limit_s=1000.0)


@virtual
async def test_streams_carry_bytes_and_eof() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "10.0.0.7", 502)
    reader, writer = await asyncio.open_connection("10.0.0.7", 502)
    writer.write(b"one\ntwo\n")
    assert await reader.readline() == b"ONE\n"
    assert await reader.readline() == b"TWO\n"
    writer.write_eof()
    assert await reader.read() == b""
    server.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("10.0.0.7", 502)


@virtual
async def test_a_slow_reader_holds_the_writer() -> None:
    sink: list[asyncio.StreamReader] = []
    server = await asyncio.start_server(lambda r, w: sink.append(r), "127.0.0.1", 0, limit=1024)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

    async def flood() -> None:
        async with asyncio.timeout(10.0):
            while True:
                writer.write(bytes(4096))
                await writer.drain()

    with pytest.raises(TimeoutError):
        await flood()
    taken = 0
    async with asyncio.timeout(10.0):
        while taken < 65536:
            taken += len(await sink[0].read(4096))
        await writer.drain()
    writer.close()


@virtual
async def test_an_aborted_end_resets_the_other() -> None:
    ends: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda r, w: ends.append(w), "127.0.0.1", 0)
    reader, _writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    ends[0].transport.abort()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)


@virtual
async def test_a_cut_cable_swallows_and_hangs() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            heard.append(data)

    await asyncio.start_server(serve, "10.0.0.7", 502)
    _, writer = await asyncio.open_connection("10.0.0.7", 502)
    virtual_loop().cut("10.0.0.7", 502)
    writer.write(b"lost")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await asyncio.open_connection("10.0.0.7", 502)
    virtual_loop().mend("10.0.0.7", 502)
    writer.write(b"heard")
    await asyncio.sleep(0.1)
    assert heard == [b"heard"]


class Box(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))
        if data.startswith(b"?"):
            self.transport.sendto(b"!" + data[1:], addr)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)


@virtual
async def test_datagrams_go_there_and_back() -> None:
    loop = virtual_loop()
    _, server = await loop.create_datagram_endpoint(Box, local_addr=("", 4713))
    client_end, client = await loop.create_datagram_endpoint(Box, remote_addr=("127.0.0.1", 4713))
    client_end.sendto(b"?x")
    await asyncio.sleep(0.1)
    assert [data for data, _ in server.got] == [b"?x"]
    assert client.got == [(b"!x", ("127.0.0.1", 4713))]
    server.transport.close()
    client_end.sendto(b"?y")
    await asyncio.sleep(0.1)
    assert isinstance(client.errors[0], ConnectionRefusedError)


async def tiny_modbus(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every read of holding registers with address + index."""
    while True:
        try:
            head = await reader.readexactly(7)
        except asyncio.IncompleteReadError:
            return
        tid, _, length, unit = struct.unpack(">HHHB", head)
        function, address, count = struct.unpack(">BHH", await reader.readexactly(length - 1))
        body = struct.pack(f">BB{count}H", function, 2 * count, *range(address, address + count))
        writer.write(struct.pack(">HHHB", tid, 0, len(body) + 1, unit) + body)


@virtual
async def test_pymodbus_reads_over_memory() -> None:
    server = await asyncio.start_server(tiny_modbus, "192.168.1.100", 502)
    client = AsyncModbusTcpClient("192.168.1.100", port=502, timeout=1, retries=0)
    assert await client.connect()
    reply = await client.read_holding_registers(0x2000, count=3, device_id=7)
    assert reply.registers == [0x2000, 0x2001, 0x2002]
    client.close()
    server.close()


@virtual
async def test_pymodbus_times_out_on_virtual_time() -> None:
    await asyncio.start_server(lambda r, w: None, "192.168.1.100", 502)
    client = AsyncModbusTcpClient("192.168.1.100", port=502, timeout=1, retries=0)
    assert await client.connect()
    before_s = virtual_loop().time()
    with pytest.raises(Exception, match="No response"):
        await client.read_holding_registers(0, count=1, device_id=1)
    assert virtual_loop().time() - before_s == pytest.approx(1.0, abs=0.01)
    client.close()
