"""The HTTP server on the Unix socket: who is let in, how much they may send, how long they may
take, and what is written down. What can be asked stands in `routes.py`.

    curl --unix-socket /run/vppd/vppd.sock http://vppd/v1/status

Nothing here can hold up the site: connections, bodies, headers and waits are bounded, a reader that
does not read is cut off, and no request raises out of here.
"""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from vppd.northbound import pages, reply
from vppd.northbound.ask import Answer, Ask, Text
from vppd.northbound.body import BODY_MAX_BYTES, Body, parse
from vppd.northbound.door import Door
from vppd.northbound.doorman import CONNECTION, Doorman, Visit
from vppd.northbound.ledger import Ledger, Seldom
from vppd.northbound.peers import Access, Peer, Role, peer_at, user_name
from vppd.northbound.problems import Problem
from vppd.northbound.pulse import Pulse
from vppd.northbound.query import query_of
from vppd.northbound.routes import Route, find
from vppd.northbound.site import Site

log = structlog.get_logger(source="api")

CONNECTIONS_MAX = 64
RESERVED = 16  # of them for those who may command: viewers cannot shut them out
BODY_S = 5.0
STOP_S = 0.5
NAMES_MAX = 1024
REFUSED_EVERY_S = 60.0


class Server:
    """One server for one site."""

    def __init__(self, site: Site, path: Path) -> None:
        self._site, self._door = site, Door(path)
        self._access = Access(site.settings.api)
        self._web = web.Server(self._serve, request_factory=self._request)
        self._refusals: set[asyncio.BaseTransport] = set()
        self._names: dict[int, str] = {}
        self._ledger = Ledger(site)
        self._strangers = Seldom(site.clock, REFUSED_EVERY_S)
        self._malformed = Seldom(site.clock, REFUSED_EVERY_S)
        self._crowds = Seldom(site.clock, REFUSED_EVERY_S)

    def claim(self) -> None:
        """Take the path before anything else is done, so that a second daemon does nothing at all;
        `run` does it otherwise. Raises DoorTakenError, OSError."""
        self._door.claim()

    async def run(self) -> None:
        """Serve until cancelled; may be run again. Raises DoorTakenError, OSError when the path
        cannot be had."""
        pulse = Pulse(self._site)
        try:
            listener = await asyncio.to_thread(self._door.listen)
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(self._doorman, sock=listener)
            try:
                await pulse.run()
            finally:
                server.close()
                await self._stop()
        finally:
            self._door.close()

    async def _stop(self) -> None:
        self._site.feed.close()
        self._web.pre_shutdown()
        await self._web.shutdown(STOP_S)
        for transport in tuple(self._refusals):
            transport.close()

    # ---- at the door --------------------------------------------------------------------------

    def _doorman(self) -> Doorman:
        return Doorman(self._judge, self._visit, self._refusals)

    def _judge(self, transport: asyncio.BaseTransport) -> Problem | None:
        """Why somebody may not come in at all."""
        try:
            peer = peer_at(transport)
        except OSError:
            return Problem(403, "not-allowed", "the kernel does not say who you are")
        role = self._role(peer)
        if role is Role.NOBODY:
            self._tell(self._strangers, "stranger", peer)
            return self._not_allowed(peer, Role.VIEWER)
        most = CONNECTIONS_MAX - (RESERVED if role is Role.VIEWER else 0)
        if len(self._web.connections) >= most:
            self._tell(self._crowds, "too_many_connections", peer)
            text = f"{most} connections are open already: close some, try again"
            return Problem(503, "too-many-connections", text)
        return None

    def _visit(self) -> Visit:
        loop = asyncio.get_running_loop()
        return Visit(self._web, refused=self._not_understood, loop=loop, **CONNECTION)

    def _not_understood(self, transport: asyncio.BaseTransport | None, text: str) -> None:
        with contextlib.suppress(OSError):
            self._tell(self._malformed, "malformed_request", peer_at(transport), text=text)

    def _tell(self, seldom: Seldom, event: str, peer: Peer, **more: str) -> None:
        """One line for each uid once in a while, with the count of what was not told."""
        unsaid = seldom.now(peer.uid)
        if unsaid is not None:
            log.warning(event, uid=peer.uid, pid=peer.pid, unsaid=unsaid, **more)

    def _role(self, peer: Peer) -> Role:
        if self._access.settings != self._site.settings.api:
            self._access = Access(self._site.settings.api)
        return self._access.role(peer)

    def _not_allowed(self, peer: Peer, wanted: Role) -> Problem:
        text = f"uid {peer.uid} may not do this: it takes {self._access.wanted(wanted)}"
        return Problem(403, "not-allowed", text, role=self._role(peer).name.lower())

    # ---- one request --------------------------------------------------------------------------

    def _request(self, message: Any, payload: Any, visit: Any, writer: Any, task: Any) -> Any:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, visit, writer, task, loop, client_max_size=BODY_MAX_BYTES
        )

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        try:
            answer = await self._answer(request)
            if isinstance(answer, web.StreamResponse):
                return answer
            response = reply.response_of(answer, self._site)
        except Problem as problem:
            response = reply.refusal(problem, request)
        await reply.send(request, response)
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer | Text | web.StreamResponse:
        """Raises Problem."""
        try:
            peer = peer_at(request.transport)
        except OSError:
            raise Problem(403, "not-allowed", "the connection is gone") from None
        ask = Ask(self._site, peer, self._role(peer), await self._user(peer.uid))
        try:
            _from_where(request)
            route, path = find(request.method, request.path)
            ask = replace(ask, path=path, query=query_of(request, route))
            if ask.role < route.role:
                raise self._not_allowed(peer, route.role)
            if route.stream:
                return await reply.stream(request, self._site, {})
            ask = replace(ask, body=await _body(request))
        except Problem as problem:
            if request.method != "GET":  # a change that did not get as far as its route
                text = f"{request.path[:128]}: {problem.detail}"
                self._ledger.refused(ask, request.method.lower(), text)
            raise
        return await self._run(ask, route)

    async def _run(self, ask: Ask, route: Route) -> Answer | Text:
        """Do it; a change is written down before it is answered. Raises Problem."""
        try:
            answer = await route.run(ask)
        except Problem as problem:
            if route.verb:
                self._ledger.refused(ask, route.verb, problem.detail)
            raise
        except Exception as error:
            log.exception("request_failed", method=route.method, path=route.path)
            if route.verb:
                self._ledger.refused(ask, route.verb, repr(error), "failed")
            text = "vppd failed on this request; the journal of the system has the trace"
            raise Problem(500, "internal-error", text) from error
        if not route.verb or isinstance(answer, Text):
            return answer
        journaled = await self._ledger.accepted(ask, route.verb, answer.view)
        return Answer({**answer.view, "journaled": journaled}, answer.status)

    async def _user(self, uid: int) -> str:
        name = self._names.get(uid)
        if name is None:
            name = await asyncio.to_thread(user_name, uid)
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            self._names[uid] = name
        return name


def _from_where(request: web.BaseRequest) -> None:
    """Raises Problem 403, 421 for what a browser carries here for somebody else."""
    if not pages.of_this_machine(request.headers.get("Host"), named=False):
        text = "this Host is not of this machine: ask for http://vppd/ or http://localhost/"
        raise Problem(421, "wrong-host", text)
    if request.method != "GET" and pages.of_a_page(request.headers):
        text = "a page may look and not command: vppctl does"
        raise Problem(403, "not-allowed", text)


async def _body(request: web.BaseRequest) -> Body:
    """Raises Problem 400, 408 or 413."""
    if not request.can_read_body:
        return Body({})
    too_large = Problem(413, "too-large", f"at most {BODY_MAX_BYTES} bytes")
    if request.content_length is not None and request.content_length > BODY_MAX_BYTES:
        raise too_large
    try:
        async with asyncio.timeout(BODY_S):
            raw = await request.read()
    except TimeoutError:
        text = f"the body did not come within {BODY_S:g} s"
        raise Problem(408, "too-slow", text) from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Problem(400, "malformed-request", f"the body is broken: {error}") from None
    return parse(raw)
