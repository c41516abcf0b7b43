"""A real mosquitto with TLS, certificates made on the spot and an ACL; a link to it that can be
cut; a site that has a journal on disk; a far side that keeps what it gets, once and in order."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.api_site import Rig, make_rig, until
from vppd.core.settings_mqtt import MqttSettings, MqttTlsSettings
from vppd.core.settings_scada import OrderSettings
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Offer
from vppd.northbound.mqtt import FleetLink
from vppd.northbound.telemetry import Sampler
from vppd.orders import journaled
from vppd.spine.clock import SystemClock
from vppd.spine.journal import Bounds, SqliteJournal

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
needs_mosquitto = pytest.mark.skipif(
    not Path(MOSQUITTO).exists() or shutil.which("openssl") is None,
    reason="needs mosquitto and openssl (scripts/test installs them)",
)
ACL = """
user lab
topic write vpp/telemetry/+
topic write vpp/status/+
topic write vpp/events/+
topic write vpp/registration/+
topic write vpp/replies/#
topic write homeassistant/#
topic read vpp/commands/+
user fleet
topic readwrite #
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def certificates(directory: Path) -> None:
    """An authority, the broker, the site `lab`, the far side `fleet`, and a stranger's site."""
    directory.mkdir(parents=True)
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "strange_ca"):
        authority = ("-subj", f"/CN={name}", "-days", "2")
        openssl(directory, *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", *authority)
    for name, authority_name in (
        ("broker", "ca"),
        ("lab", "ca"),
        ("fleet", "ca"),
        ("stranger", "strange_ca"),
    ):
        by = ("-CA", f"{authority_name}.pem", "-CAkey", f"{authority_name}.key", "-days", "2")
        who = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
        openssl(directory, *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", *who, *by)


@dataclass
class Broker:
    """One mosquitto: started, killed, started again on the same port."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        made = self.directory / "tls"
        if not made.exists():
            certificates(made)
        (self.directory / "acl").write_text(ACL, encoding="ascii")
        (self.directory / "acl").chmod(0o600)
        (self.directory / "mosquitto.conf").write_text(
            f"""
per_listener_settings false
user root
persistence false
max_queued_messages 0
allow_anonymous false
acl_file {self.directory}/acl
listener {self.port} 127.0.0.1
cafile {made}/ca.pem
certfile {made}/broker.pem
keyfile {made}/broker.key
require_certificate true
use_identity_as_username true
""",
            encoding="ascii",
        )

    def file(self, name: str) -> str:
        return str(self.directory / "tls" / name)

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            MOSQUITTO,
            "-c",
            str(self.directory / "mosquitto.conf"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        await until(listens)

    async def kill(self) -> None:
        """kill -9: nothing is saved, nobody is told."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@dataclass
class Cable:
    """Carries bytes to the broker until it is cut."""

    to_port: int
    port: int = 0
    plugged: bool = True
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator["Cable"]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Both ends are gone at once, with what was in between."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            if self.plugged:
                far_reader, far = await asyncio.open_connection("127.0.0.1", self.to_port)
                self._ends |= {writer, far}
                await asyncio.gather(_pour(reader, far), _pour(far_reader, writer))
        except OSError:
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    self._ends.discard(end)
                    end.transport.abort()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


@dataclass
class FarSide:
    """Somebody in the fleet: subscribes to all and keeps each sequence once, in order."""

    broker: Broker
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    others: list[tuple[str, dict[str, Any], aiomqtt.Message]] = field(default_factory=list)
    repeated: int = 0
    client: aiomqtt.Client | None = None
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._listen()
            self.client = None
            self.listening.clear()
            await asyncio.sleep(0.05)

    async def _listen(self) -> None:
        tls = ssl.create_default_context(cafile=self.broker.file("ca.pem"))
        tls.load_cert_chain(self.broker.file("fleet.pem"), self.broker.file("fleet.key"))
        async with aiomqtt.Client(
            "127.0.0.1",
            self.broker.port,
            identifier="fleet",
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=tls,
            timeout=5,
        ) as client:
            await client.subscribe("vpp/#", qos=1)
            self.client = client
            self.listening.set()
            async for message in client.messages:
                self._take(message)

    def _take(self, message: aiomqtt.Message) -> None:
        topic, payload = str(message.topic), message.payload
        assert isinstance(payload, bytes)
        if topic.startswith("vpp/commands"):
            return
        view = json.loads(payload) if payload else {}
        if "seq" not in view or "epoch" not in view:
            self.others.append((topic, view, message))
            return
        rows = self.rows.setdefault(topic, [])
        if rows and rows[-1]["epoch"] == view["epoch"] and view["seq"] <= rows[-1]["seq"]:
            self.repeated += 1
            return
        rows.append(view)

    def seqs(self, topic: str) -> list[int]:
        return [row["seq"] for row in self.rows.get(topic, [])]

    def seen(self, topic: str) -> list[dict[str, Any]]:
        return [view for at, view, _ in self.others if at == topic]

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, **asked: Any
    ) -> None:
        assert self.client is not None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in asked.items():
            setattr(properties, name, value)
        await self.client.publish(topic, payload, 1, retain, properties)


@dataclass
class LinkedSite:
    """A site of four units with a journal on disk and a link."""

    rig: Rig
    journal: SqliteJournal
    link: FleetLink
    sampler: Sampler
    desk: OrderDesk
    path: Path

    async def settled(self) -> None:
        """Return when all that was written down is on disk."""
        await until(lambda: self.journal.status().queued_rows == 0)


def settings_for(broker: Broker, port: int, **rest: Any) -> MqttSettings:
    made: dict[str, Any] = {
        "url": f"mqtts://127.0.0.1:{port}",
        "tls": MqttTlsSettings(
            ca=broker.file("ca.pem"),
            certificate=broker.file("lab.pem"),
            key=broker.file("lab.key"),
        ),
        "messages_max_per_s": 5000.0,
        "reconnect_max_s": 0.2,
        **rest,
    }
    return MqttSettings(**made)


@contextlib.asynccontextmanager
async def linked(
    directory: Path, settings: MqttSettings, orders: OrderSettings | None = None
) -> AsyncIterator[LinkedSite]:
    """The journal, the desk and the link run; the site ticked a few times."""
    clock = SystemClock()
    path = directory / "journal.db"
    journal = SqliteJournal(path, clock, lambda *_: None, bounds=Bounds(batch_s=0.05))
    await journal.open()
    rig = make_rig(directory / "sock", journal, clock=clock)
    site = rig.site
    told = journaled(journal)
    offer = Offer(400.0, 400.0, 400.0, 400.0)
    desk = OrderDesk(orders or OrderSettings(), lambda: offer, site.bus, clock, told)
    site.desk = desk
    link = FleetLink(site, settings)
    sampler = Sampler(site, 0.02, nodes=settings.detail == "nodes")
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(journal.run())]
            await rig.beat(5)
            running += [tasks.create_task(link.run()), tasks.create_task(desk.run())]
            try:
                yield LinkedSite(rig, journal, link, sampler, desk, path)
            finally:
                for task in running:
                    task.cancel()
    finally:
        await journal.close()
