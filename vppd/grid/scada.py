"""IEC 60870-5-104 controlled station: the site as an RTU of a load despatch centre.

The masters on the allow-list form one redundancy group: the link that was started last gets the
data and may command; when it is gone, one that is still started takes over. Events wait in a
bounded buffer until a master has acknowledged them, so that a switch-over loses none (it may repeat
some). The link layer is hat-drivers'.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from hat.drivers import net
from hat.drivers.iec60870 import apci

from vppd.core.ports import Clock
from vppd.core.settings_scada import ScadaSettings, StationTlsSettings
from vppd.grid import points as point_list
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Verb
from vppd.grid.scada_codec import Asked, Cause, Shown, initialized, show
from vppd.grid.scada_commands import SOURCE, Commands, Switch, order_values
from vppd.grid.scada_events import Changes, Event, EventBuffer
from vppd.grid.scada_link import Link
from vppd.grid.scada_pace import LINKS_MAX, LINKS_PER_S, Pace, slowed

QUEUE_ASDUS = 256
REFUSED_HOSTS_MAX = 64  # so many strangers are told of by name
TELL_AGAIN_S = 60.0

Values = Callable[[], Mapping[str, float | None]]


class Station:
    """Runs for ever. `values` gives the site's values by name, None for one not known now;
    `switches` what a master may switch besides the orders themselves; `synchronised` whether the
    clock may be trusted for time tags. Raises ValueError for a point list that cannot be."""

    def __init__(
        self,
        settings: ScadaSettings,
        values: Values,
        desk: OrderDesk,
        clock: Clock,
        *,
        switches: Mapping[str, Switch] | None = None,
        synchronised: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings, self._site_values, self._desk = settings, values, desk
        self._clock, self._synchronised = clock, synchronised
        points = settings.points or point_list.DEFAULT
        if wrong := list(point_list.wrong(points)):
            raise ValueError("; ".join(wrong))
        self._zone = ZoneInfo(settings.timezone)
        self._cyclic = tuple(point for point in points if point.kind == "measured" and point.cyclic)
        self._changes, self.buffer = Changes(points), EventBuffer(settings.events_max)
        self._commands = Commands(
            settings, points, self.values, desk, switches or {}, clock, synchronised
        )
        self._allowed = {_plain(each.host): each.links for each in settings.masters}
        self._pace = {host: Pace(clock, LINKS_PER_S, LINKS_MAX) for host in self._allowed}
        self._links: list[Link] = []  # in the order they were started
        self._arrivals: asyncio.Queue[Link] = asyncio.Queue()
        self._told_s: dict[str, float] = {}
        self._greeted = False
        self._overflowing = False
        self._server: net.Server | None = None
        self.listening = asyncio.Event()
        self.port = settings.port

    @property
    def ruling(self) -> Link | None:
        """The link that gets data and may command."""
        return next((link for link in reversed(self._links) if link.started), None)

    @property
    def links(self) -> tuple[str, ...]:
        """Who is connected, as address:port."""
        return tuple(link.name for link in self._links)

    def values(self) -> dict[str, float | None]:
        """Everything a point may show: the site's values and the station's own."""
        own = order_values(self._desk, self._commands.clock_offset_s)
        return {**own, "events_lost": float(self.buffer.lost), **self._site_values()}

    async def run(self) -> None:
        """Listen and serve. Raises OSError when it cannot listen or read its certificates."""
        if self._server is None:
            await self.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._scan())
                tasks.create_task(self._cycle())
                while True:
                    tasks.create_task(self._serve(await self._arrivals.get()))
        finally:
            await self.close()

    async def open(self) -> None:
        """Listen; who connects is served by `run`. Raises OSError as it does."""
        settings = self._settings
        self._server = await apci.listen(
            self._admit,
            net.TcpAddress(settings.host, settings.port),
            settings.t1_s,
            settings.t2_s,
            settings.t3_s,
            settings.k,
            settings.w,
            send_queue_size=QUEUE_ASDUS,
            receive_queue_size=QUEUE_ASDUS,
            **_secured(settings),
        )
        self.port = self._server.info.addresses[0].port
        self.listening.set()

    async def close(self) -> None:
        """Listen no more; every connection is closed."""
        if self._server is not None:
            server, self._server = self._server, None
            self.listening.clear()
            await server.async_close()

    # --- links ---

    def _admit(self, connection: apci.Connection) -> None:
        """Let a master in, or close the connection at once."""
        address = connection.info.remote_addr
        host, name = _plain(address.host), f"{address.host}:{address.port}"
        if (why := self._unwelcome(host)) is not None:
            self._tell_now_and_then(Verb.LINK_REFUSED, host, f"{name} {why}")
            connection.close()
            return
        slowed(connection, self._clock)
        link = Link(name, host, connection, self._settings.k, self.buffer, self._zone)
        connection.register_enabled_cb(lambda started: self._switched(link, started=started))
        self._links.insert(0, link)
        self._desk.tell(Verb.LINK_UP, SOURCE, text=name)
        self._arrivals.put_nowait(link)

    def _unwelcome(self, host: str) -> str | None:
        """Why a new connection of a host is not let in."""
        if host not in self._allowed:
            return "is not on the list"
        if sum(link.host == host for link in self._links) >= self._allowed[host]:
            return "has its links already"
        return None if self._pace[host].allows() else "comes too often"

    async def _serve(self, link: Link) -> None:
        try:
            await link.run(self._respond, self._malformed, self._encode, self._rules)
        finally:
            self._links.remove(link)
            self._commands.forget(link.name)
            self._desk.tell(Verb.LINK_DOWN, SOURCE, text=link.name)
            self._ruled()

    def _switched(self, link: Link, *, started: bool) -> None:
        """STARTDT or STOPDT came by a link."""
        if link not in self._links:
            return
        if started:
            self._links.remove(link)
            self._links.append(link)
            self._desk.tell(Verb.LINK_STARTED, SOURCE, text=link.name)
            if not self._greeted:
                self._greeted = True
                link.post(initialized(self._settings.common_address))
        else:
            self._commands.forget(link.name)
        self._ruled()

    def _ruled(self) -> None:
        """Who rules may have changed: orders live while somebody does."""
        ruling = self.ruling
        self._desk.link(SOURCE, up=ruling is not None)
        if ruling is not None:
            ruling.wake()

    def _rules(self, link: Link) -> bool:
        return link is self.ruling

    # --- what goes in and out ---

    def _respond(self, link: Link, asked: Asked) -> list[bytes]:
        replies = self._commands.replies(asked, link.name, ruling=self._rules(link))
        self._look()  # what a command changed is an event at once
        return replies

    def _malformed(self, link: Link, why: str) -> None:
        self._tell_now_and_then(Verb.BAD_FRAME, link.host, f"{link.name}: {why}")

    def _encode(self, event: Event) -> bytes:
        return next(self._asdus([event.shown], Cause.SPONTANEOUS))

    def _asdus(self, shown: list[Shown], cause: Cause) -> Iterator[bytes]:
        own, sure = self._settings.common_address, self._synchronised()
        return show(shown, cause, own, self._zone, sure=sure)

    async def _scan(self) -> None:
        while True:
            self._look()
            await self._clock.sleep_until(self._clock.now_s() + self._settings.scan_s)

    def _look(self) -> None:
        """Put what moved into the buffer."""
        news = self._changes.since(self.values(), self._clock.utc())
        kept = [self.buffer.put(shown) for shown in news]
        if not all(kept) and not self._overflowing:
            self._desk.tell(Verb.EVENTS_LOST, SOURCE, text="the oldest events give way")
        self._overflowing = len(self.buffer) >= self._settings.events_max
        if news and (ruling := self.ruling) is not None:
            ruling.wake()

    async def _cycle(self) -> None:
        while (period_s := self._settings.cyclic_s) is not None:
            await self._clock.sleep_until(self._clock.now_s() + period_s)
            if (ruling := self.ruling) is None:
                continue
            try:
                for asdu in self._asdus(self._commands.shown(self._cyclic), Cause.PERIODIC):
                    await ruling.send(asdu)
            except ConnectionError:
                continue  # its own task sees it too; the next round has the values of then

    def _tell_now_and_then(self, verb: Verb, host: str, text: str) -> None:
        """A stranger or a broken master fills no journal."""
        key, now_s = f"{verb} {host}", self._clock.now_s()
        if now_s - self._told_s.get(key, -TELL_AGAIN_S) < TELL_AGAIN_S:
            return
        if len(self._told_s) >= REFUSED_HOSTS_MAX:
            self._told_s.pop(next(iter(self._told_s)))
        self._told_s[key] = now_s
        self._desk.tell(verb, SOURCE, text=text)


def _plain(host: str) -> str:
    """One spelling of an address: an IPv4 address that came over an IPv6 socket is itself."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _secured(settings: ScadaSettings) -> dict[str, Any]:
    """With TLS: nobody keeps a socket longer than a link that does not acknowledge."""
    if settings.tls is None:
        return {}
    return {"ssl": _context(settings.tls), "ssl_handshake_timeout": settings.t1_s}


def _context(tls: StationTlsSettings) -> ssl.SSLContext:
    """Both sides show a certificate; TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=tls.authority)
    context.load_cert_chain(tls.certificate, tls.private_key)
    return context
