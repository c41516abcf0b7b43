"""A window on the site: HTTP on a port of this machine, for Prometheus and for a browser. It shows,
and takes no command.

On a port the kernel tells nobody's credentials, so whoever is on this machine may look; that is why
there is none unless it is configured. Whoever asks for more is refused, and told in the log with
the uid that /proc/net knows the connection by. Everything is bounded as on the socket.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from vppd.northbound import pages, reply
from vppd.northbound.ask import Answer, Ask, Text
from vppd.northbound.body import BODY_MAX_BYTES
from vppd.northbound.doorman import CONNECTION, Doorman, Visit
from vppd.northbound.ledger import Seldom
from vppd.northbound.peers import Peer, Role
from vppd.northbound.problems import Problem
from vppd.northbound.query import query_of
from vppd.northbound.routes import Route, find
from vppd.northbound.site import Site

log = structlog.get_logger(source="window")

HOST = "127.0.0.1"
CONNECTIONS_MAX = 48
STREAMS_MAX = 8  # of the site's: the rest is the socket's
STOP_S = 0.5
TELL_EVERY_S = 60.0
TELL_PAUSE_S = 0.1
UNTOLD_MAX = 16
NOBODY = Peer(0, -1, frozenset())
CONNECTIONS = Path("/proc/self/net/tcp")  # the unit hides /proc/net, not our own

Ends = tuple[tuple[str, int], tuple[str, int]]  # the other's address and ours


class Window:
    """One port of one site, with what may be looked at there."""

    def __init__(self, site: Site, name: str, port: int, routes: Sequence[Route]) -> None:
        """`name` is for the log. Port 0 takes a free one."""
        self._site, self._name, self._wanted = site, name, port
        self._routes = tuple(route for route in routes if route.method == "GET")
        self._web = web.Server(self._serve, request_factory=self._request)
        self._refusals: set[asyncio.BaseTransport] = set()
        self._untold: asyncio.Queue[tuple[Ends, str]] = asyncio.Queue(UNTOLD_MAX)
        self._seldom = Seldom(site.clock, TELL_EVERY_S)
        self._server: asyncio.Server | None = None
        self.port: int | None = None

    async def open(self) -> None:
        """Take the port. Raises OSError when it cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._doorman, HOST, self._wanted)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Give it back."""
        if self._server is None:
            return
        server, self._server, self.port = self._server, None, None
        server.close()
        self._web.pre_shutdown()
        await self._web.shutdown(STOP_S)
        for transport in tuple(self._refusals):
            transport.close()

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the port cannot be had."""
        if self._server is None:
            await self.open()
        try:
            log.info("window", window=self._name, address=f"http://{HOST}:{self.port}/")
            await self._tell()
        finally:
            await self.close()

    # ---- at the door --------------------------------------------------------------------------

    def _doorman(self) -> Doorman:
        return Doorman(self._judge, self._visit, self._refusals)

    def _judge(self, transport: asyncio.BaseTransport) -> Problem | None:
        if len(self._web.connections) < CONNECTIONS_MAX:
            return None
        text = f"{CONNECTIONS_MAX} connections are open already: close some, try again"
        self._refused(transport, "too many connections")
        return Problem(503, "too-many-connections", text)

    def _visit(self) -> Visit:
        loop = asyncio.get_running_loop()
        return Visit(self._web, refused=self._refused, loop=loop, **CONNECTION)

    # ---- one request --------------------------------------------------------------------------

    def _request(self, message: Any, payload: Any, visit: Any, writer: Any, task: Any) -> Any:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, visit, writer, task, loop, client_max_size=BODY_MAX_BYTES
        )

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = await self._answer(request)
            if isinstance(answer, web.StreamResponse):
                return answer
            response = reply.response_of(answer, self._site)
        except Problem as problem:
            response = reply.refusal(problem, request)
        for header, value in pages.HEADERS.items():
            response.headers.setdefault(header, value)
        await reply.send(request, response)
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer | Text | web.StreamResponse:
        """Raises Problem."""
        if not pages.of_this_machine(request.headers.get("Host")):
            self._refused(request.transport, "a Host that is not of this machine")
            text = f"ask for http://localhost:{self.port}/: this Host is not of this machine"
            raise Problem(421, "wrong-host", text)
        if request.method != "GET":
            self._refused(request.transport, f"{request.method[:16]} {request.path[:128]}")
            text = "nothing can be changed here; vppctl asks on the Unix socket"
            raise Problem(405, "method-not-allowed", text, allowed=["GET"])
        route, path = find(request.method, request.path, self._routes)
        query = query_of(request, route)
        if route.stream:
            return await reply.stream(request, self._site, pages.HEADERS, STREAMS_MAX)
        try:
            return await route.run(Ask(self._site, NOBODY, Role.VIEWER, "", path, query))
        except Problem:
            raise
        except Exception as error:
            log.exception("request_failed", method=route.method, path=route.path)
            text = "vppd failed on this request; the journal of the system has the trace"
            raise Problem(500, "internal-error", text) from error

    # ---- who was refused ----------------------------------------------------------------------

    def _refused(self, transport: asyncio.BaseTransport | None, what: str) -> None:
        """Have it told, off the loop; what is too much is not told."""
        if transport is not None and not self._untold.full():
            theirs, ours = (transport.get_extra_info(each) for each in ("peername", "sockname"))
            if theirs and ours:
                self._untold.put_nowait(((theirs[:2], ours[:2]), what))

    async def _tell(self) -> None:
        """For ever: one line for each uid once in a while, with the count of what was not told."""
        clock = self._site.clock
        while True:
            ends, what = await self._untold.get()
            uid = await asyncio.to_thread(uid_of, ends)
            unsaid = self._seldom.now(-1 if uid is None else uid)
            if unsaid is not None:
                log.warning("refused", window=self._name, uid=uid, what=what, unsaid=unsaid)
            await clock.sleep_until(clock.now_s() + TELL_PAUSE_S)


def uid_of(ends: Ends, table: Path = CONNECTIONS) -> int | None:
    """Whose the other end of a connection over IPv4 loopback is; None: it is gone, or the kernel
    does not say. Reads a file of the kernel."""
    theirs, ours = (_hex(*each) for each in ends)
    try:
        lines = table.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines[1:]:
        words = line.split(maxsplit=8)
        if words[1] == theirs and words[2] == ours:
            return int(words[7])
    return None


def _hex(host: str, port: int) -> str:
    """An address as /proc/net/tcp writes it: the bytes as this machine orders a word."""
    raw = bytes(int(each) for each in host.split("."))
    return f"{int.from_bytes(raw, sys.byteorder):08X}:{port:04X}"
