"""What the station's judges stand on: c104 in a process of its own, a cable that remembers, holds
back and breaks, and tshark over what went through it."""

import asyncio
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.scada_rig import CA, HOST, WAIT_S, Site

SCRIPT = Path(__file__).with_name("c104_master.py")
PORT_104 = 2404
PATIENCE_MS = 1000
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

    async def tell(self, *words: Any) -> None:
        """Ask, and expect no answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")

    async def sure_order(
        self, name: str, value_mw: float, address: int = 3001, mode: str = "direct"
    ) -> bool:
        """c104 may lose an answer, most of all just after a start: the order is given again."""
        for _ in range(4):
            if await self.order(name, value_mw, address, mode):
                return True
        return False

    async def link(
        self, name: str, port: int, *, timed: bool = False, patience_ms: int = PATIENCE_MS
    ) -> None:
        """Connect, and get over the time in which c104 loses answers."""
        assert await self.ask("connect", name, port, "NONE", timed, patience_ms) is True
        for _ in range(4):
            if await self.ask("interrogate", name):
                return
        raise AssertionError("no interrogation was ended")


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
        if process.returncode is None:  # c104 may fall over a connection that is refused
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
        self.broken = False  # whoever connects is hung up on
        self._held: list[tuple[asyncio.StreamWriter, bytes]] | None = None  # None: it flows
        self._arrived = asyncio.Event()

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

    def hold(self) -> None:
        """What the station says stays in the cable."""
        self._held = []

    async def held(self) -> None:
        """Wait until it has said something."""
        await self.until(lambda: bool(self._held))

    async def until(self, found: Callable[[], bool]) -> None:
        """Wait for something that the station says."""
        async with asyncio.timeout(WAIT_S):
            while not found():
                self._arrived.clear()
                await self._arrived.wait()

    def release(self) -> None:
        """Let it go on to the master."""
        for writer, data in self._held or ():
            writer.write(data)
        self._held = None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._count = self._count, self._count + 1
        if self.broken:
            writer.transport.abort()
            return
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
                if up or self._held is None:
                    writer.write(data)
                else:
                    self._held.append((writer, data))
                if not up:
                    self._arrived.set()
        except ConnectionError:
            pass
        writer.close()


def malformed(relay: Relay, *types: int) -> None:
    """Have tshark judge what went over the relay; these types were seen on the way."""
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
    seen = {int(number) for line in lines for number in line[3].split(",") if number}
    assert set(types) <= seen


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
