"""The HTTP server on the Unix socket: who is let in, how much they may send, how long they may
take, and what is written down. What can be asked stands in `routes.py`.

    curl --unix-socket /run/vppd/vppd.sock http://vppd/v1/status

Nothing here can hold up the site: connections, bodies, headers and waits are bounded, a reader that
does not read is cut off, and no request raises out of here.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from vppd.northbound import views
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.body import BODY_MAX_BYTES, Body, parse
from vppd.northbound.door import Door
from vppd.northbound.doorman import Doorman, Visit
from vppd.northbound.feed import framed
from vppd.northbound.ledger import Ledger, Seldom
from vppd.northbound.peers import Access, Peer, Role, peer_at, user_name
from vppd.northbound.problems import JSON_TYPE, PROBLEM_TYPE, Problem, encode
from vppd.northbound.pulse import Pulse
from vppd.northbound.routes import Route, find
from vppd.northbound.site import Site

log = structlog.get_logger()

CONNECTIONS_MAX = 64
STREAMS_MAX = 16
IDLE_S = 30.0  # also how long a request line and its headers may take
CONNECTION: dict[str, Any] = {
    "keepalive_timeout": IDLE_S,
    "lingering_time": 1.0,
    "access_log": None,
    "auto_decompress": False,
}
BODY_S = 5.0
WRITE_S = 5.0
STOP_S = 0.5
NAMES_MAX = 1024
ZONE_HEADER = "Vppd-Timezone"  # for those who show times to people
STRANGERS_EVERY_S = 60.0


class Server:
    """One server for one site."""

    def __init__(self, site: Site, path: Path) -> None:
        self._site, self._door = site, Door(path)
        self._access = Access(site.settings.api)
        self._web = web.Server(self._serve, request_factory=self._request)
        self._refusals: set[asyncio.BaseTransport] = set()
        self._names: dict[int, str] = {}
        self._ledger = Ledger(site)
        self._strangers = Seldom(site.clock, STRANGERS_EVERY_S)

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
        if self._role(peer) is Role.NOBODY:
            unsaid = self._strangers.now(peer.uid)
            if unsaid is not None:
                log.warning("stranger", uid=peer.uid, pid=peer.pid, unsaid=unsaid)
            return self._not_allowed(peer, Role.VIEWER)
        if len(self._web.connections) >= CONNECTIONS_MAX:
            text = f"{CONNECTIONS_MAX} connections are open already: close some, try again"
            return Problem(503, "too-many-connections", text)
        return None

    def _visit(self) -> Visit:
        return Visit(self._web, loop=asyncio.get_running_loop(), **CONNECTION)

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
            response = web.Response(
                body=encode(answer.view),
                status=answer.status,
                content_type=JSON_TYPE,
                headers={ZONE_HEADER: self._site.settings.site.timezone},
            )
        except Problem as problem:
            response = web.Response(
                body=problem.encode(), status=problem.status, content_type=PROBLEM_TYPE
            )
            if not request.content.is_eof():
                response.force_close()  # what was not read is not worth reading
        await self._send(request, response)
        return response

    async def _send(self, request: web.BaseRequest, response: web.Response) -> None:
        """Write it out; one who does not read it is cut off."""
        try:
            async with asyncio.timeout(WRITE_S):
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionError):
            _cut(request)

    async def _answer(self, request: web.BaseRequest) -> Answer | web.StreamResponse:
        """Raises Problem."""
        try:
            peer = peer_at(request.transport)
        except OSError:
            raise Problem(403, "not-allowed", "the connection is gone") from None
        ask = Ask(self._site, peer, self._role(peer), await self._user(peer.uid))
        try:
            route, path = find(request.method, request.path)
            ask = replace(ask, path=path, query=_query(request, route))
            if ask.role < route.role:
                raise self._not_allowed(peer, route.role)
            if route.stream:
                return await self._stream(request)
            ask = replace(ask, body=await _body(request))
        except Problem as problem:
            if request.method != "GET":  # a change that did not get as far as its route
                text = f"{request.path[:128]}: {problem.detail}"
                self._ledger.refused(ask, request.method.lower(), text)
            raise
        return await self._run(ask, route)

    async def _run(self, ask: Ask, route: Route) -> Answer:
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
        if not route.verb:
            return answer
        journaled = await self._ledger.accepted(ask, route.verb, answer.view)
        return Answer({**answer.view, "journaled": journaled}, answer.status)

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        """Events until the reader goes, falls behind, or the daemon stops. Raises Problem."""
        feed = self._site.feed
        if len(feed.readers) >= STREAMS_MAX:
            raise Problem(503, "too-many-readers", f"{STREAMS_MAX} readers already; close one")
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                ZONE_HEADER: self._site.settings.site.timezone,
            }
        )
        reader = feed.join(lambda: _cut(request))
        try:
            await response.prepare(request)
            data: bytes | None = framed("status", views.status(self._site))
            while data is not None:
                async with asyncio.timeout(WRITE_S):
                    await response.write(data)
                data = await reader.next()
        except (TimeoutError, ConnectionError):
            _cut(request)
        finally:
            feed.leave(reader)
        return response

    async def _user(self, uid: int) -> str:
        name = self._names.get(uid)
        if name is None:
            name = await asyncio.to_thread(user_name, uid)
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            self._names[uid] = name
        return name


def _query(request: web.BaseRequest, route: Route) -> Mapping[str, str]:
    """Raises Problem 422 for what the route does not know, and for a word given twice."""
    query = request.query
    for name in query:
        if name not in route.query:
            known = ", ".join(sorted(route.query)) or "none"
            text = f"{name[:64]} is not known here; known: {known}"
            raise Problem(422, "unusable-value", text, field=name[:64])
        if len(query.getall(name)) > 1:
            raise Problem(422, "unusable-value", f"{name} is given twice", field=name)
    return dict(query)


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


def _cut(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        transport.abort()
