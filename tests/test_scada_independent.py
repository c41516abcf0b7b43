"""The station judged by others: c104 (lib60870-C) as master, in a process of its own, and tshark's
dissector over every byte both sides sent."""

import asyncio
import json
import math
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.scada_rig import CA, HOST, Site, serving
from vppd.core.settings_scada import OrderSettings
from vppd.grid.orders import Verb

SCRIPT = Path(__file__).with_name("c104_master.py")
PORT_104 = 2404
needs_c104 = pytest.mark.skipif(find_spec("c104") is None, reason="c104 is not installed")
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


class Process:
    """The independent master, asked line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, *words: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(words).encode() + b"\n")
        async with asyncio.timeout(20.0):
            return json.loads(await stdout.readline())

    async def order(self, name: str, value_mw: float, address: int = 3001, mode: str = "direct",
                    cause: str = "ACTIVATION") -> Any:  # fmt: skip
        return await self.ask("command", name, address, value_mw, mode, cause)


@asynccontextmanager
async def c104_process() -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        str(CA),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Process(process)
    finally:
        process.kill()
        await process.wait()


class Relay:
    """A cable between master and station that remembers what went over it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.packets: list[tuple[int, bool, bytes]] = []  # connection, from the master, bytes
        self._writers: list[asyncio.StreamWriter] = []
        self._count = 0
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Relay"]:
        server = await asyncio.start_server(self._carry, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Every connection ends without a word."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._count = self._count, self._count + 1
        there, back = await asyncio.open_connection(HOST, self._site.station.port)
        self._writers += [writer, back]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._copy(number, True, reader, back))
            tasks.create_task(self._copy(number, False, there, writer))

    async def _copy(
        self, number: int, up: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(4096):
                self.packets.append((number, up, data))
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()


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
        assert await c104.ask("connect", "a", relay.port, "NONE") is True
        assert await c104.ask("interrogate", "a") is True
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
    malformed(relay)


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@needs_c104
async def test_an_independent_master_that_executes_too_late_is_refused() -> None:
    async with serving({"select_timeout_s": 1e-9}) as site, c104_process() as c104:
        assert await c104.ask("connect", "a", site.station.port, "NONE") is True
        assert await c104.order("a", 0.5, 3003, "select") is False
        assert site.accepted() == []


@needs_c104
async def test_independent_redundant_masters_switch_over() -> None:
    orders = OrderSettings(on_link_loss="hold", hold_s=300.0)
    async with serving(orders=orders) as site, c104_process() as c104, Relay(site).open() as relay:
        assert await c104.ask("connect", "a", relay.port, "NONE") is True
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
        assert await c104.order("b", 0.25) is True
        assert site.accepted() == [250.0, 250.0]
        plan = site.in_force()
        assert plan is not None
        assert (plan.power_kw, plan.adds) == (250.0, False)


def malformed(relay: Relay) -> None:
    """Have tshark judge what went over the relay."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed: the bytes were not judged")
    path = Path("/dev/stdin")
    words = ["tshark", "-r", str(path), "-o", "tcp.desegment_tcp_streams:TRUE"]
    shown = subprocess.run(
        [*words, "-T", "fields", "-e", "frame.protocols", "-e", "_ws.malformed", "-e", "_ws.expert",
         "-e", "iec60870_asdu.typeid"],
        input=pcap(relay.packets), capture_output=True, check=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    lines = [line.split("\t") for line in shown.splitlines()]
    assert len(lines) == len(relay.packets)
    assert all("iec60870_104" in line[0] for line in lines)
    assert [line for line in lines if line[1] or line[2]] == []
    types = {int(number) for line in lines for number in line[3].split(",") if number}
    assert {1, 3, 13, 36, 45, 50, 70, 100, 103} <= types


def pcap(packets: list[tuple[int, bool, bytes]]) -> bytes:
    """A capture file of raw IPv4 with a TCP segment for each piece of bytes."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    sequence: dict[tuple[int, bool], int] = {}
    for number, (connection, up, data) in enumerate(packets):
        mine, other = sequence.get((connection, up), 1), sequence.get((connection, not up), 1)
        sequence[connection, up] = mine + len(data)
        ports = (40000 + connection, PORT_104) if up else (PORT_104, 40000 + connection)
        tcp = struct.pack(">HHIIBBHHH", *ports, mine, other, 0x50, 0x18, 65535, 0, 0)
        addresses = (b"\x0a\0\0\x01", b"\x0a\0\0\x02")
        source, target = addresses if up else addresses[::-1]
        size = 20 + len(tcp) + len(data)
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, number, 0, 64, 6, 0, source, target)
        out.append(struct.pack("<IIII", number, 0, size, size) + ip + tcp + data)
    return b"".join(out)
