"""The first and the last word on a connection: who may not come in is told so and sent away before
a byte of theirs is read; what is not HTTP is answered as a problem, not with a trace."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from vppd.northbound.problems import PROBLEM_TYPE, Problem

FAREWELL_S = 1.0
REFUSALS_MAX = 64
IDLE_S = 30.0  # also how long a request line and its headers may take
CONNECTION: dict[str, Any] = {
    "keepalive_timeout": IDLE_S,
    "lingering_time": 1.0,
    "access_log": None,
    "auto_decompress": False,
}


class Visit(web.RequestHandler):  # type: ignore[type-arg, unused-ignore]
    """aiohttp's connection, with problem details for requests it cannot parse."""

    __slots__ = ("_refused",)

    def __init__(
        self,
        server: Any,
        *,
        refused: Callable[[asyncio.BaseTransport | None, str], None],
        **how: Any,
    ) -> None:
        """`refused` is told what could not be understood."""
        super().__init__(server, **how)
        self._refused = refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Who asks nothing in the time of an idle connection is sent away; aiohttp before 3.14
        begins to count only after a first request."""
        super().connection_made(transport)
        self._loop.call_later(self.keepalive_timeout, self._send_away)

    def _send_away(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def eof_received(self) -> bool:  # type: ignore[override, unused-ignore]
        """Who has said all there is to say still gets the answer."""
        super().eof_received()
        idle = self._waiter is not None and not self._waiter.done()
        busy = self._request_count > 0 and not idle
        if busy:
            self.close()  # after the answer
        return busy

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Raises ConnectionError when part of an answer went out already."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer was sent already") from exc
        word = "malformed-request" if status < 500 else "internal-error"  # noqa: PLR2004
        said = (message or "not a request that vppd understands").splitlines()[0][:200]
        self._refused(self.transport, f"{word}: {said}")
        problem = Problem(status, word, said)
        response = web.Response(status=status, body=problem.encode(), content_type=PROBLEM_TYPE)
        response.force_close()
        return response


class Doorman(asyncio.Protocol):
    """Judges one new connection and hands it over, or refuses it."""

    def __init__(
        self,
        judge: Callable[[asyncio.BaseTransport], Problem | None],
        visit: Callable[[], Visit],
        refusals: set[asyncio.BaseTransport],
    ) -> None:
        self._judge, self._visit, self._refusals = judge, visit, refusals
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """In, or out."""
        problem = self._judge(transport)
        if problem is None:
            visit = self._visit()
            transport.set_protocol(visit)
            visit.connection_made(transport)
            return
        transport = cast("asyncio.Transport", transport)
        if len(self._refusals) >= REFUSALS_MAX:
            transport.abort()
            return
        self._transport = transport
        self._refusals.add(transport)
        transport.write(problem.response())
        # closing at once would throw away what the other side is still sending, and the answer
        # with it
        transport.write_eof()
        asyncio.get_running_loop().call_later(FAREWELL_S, transport.abort)

    def connection_lost(self, _: Exception | None) -> None:
        """The refused one is gone."""
        if self._transport is not None:
            self._refusals.discard(self._transport)
