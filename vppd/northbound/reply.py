"""Answers on their way out, by whatever way the question came: bounded in time, and one who does
not read is cut off."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from vppd.northbound import views
from vppd.northbound.ask import Answer, Text
from vppd.northbound.feed import framed
from vppd.northbound.problems import JSON_TYPE, PROBLEM_TYPE, Problem, encode
from vppd.northbound.site import Site

WRITE_S = 5.0
STREAMS_MAX = 16
ZONE_HEADER = "Vppd-Timezone"  # for those who show times to people


def response_of(answer: Answer | Text, site: Site) -> web.Response:
    """An answer as it goes out."""
    if isinstance(answer, Text):
        headers = {"Content-Type": answer.content_type, **answer.headers}
        return web.Response(body=answer.body, headers=headers)
    return web.Response(
        body=encode(answer.view),
        status=answer.status,
        content_type=JSON_TYPE,
        headers={ZONE_HEADER: site.settings.site.timezone},
    )


def refusal(problem: Problem, request: web.BaseRequest) -> web.Response:
    """A problem as it goes out."""
    response = web.Response(body=problem.encode(), status=problem.status, content_type=PROBLEM_TYPE)
    if not request.content.is_eof():
        response.force_close()  # what was not read is not worth reading
    return response


async def send(request: web.BaseRequest, response: web.Response) -> None:
    """Write it out; one who does not read it is cut off."""
    try:
        async with asyncio.timeout(WRITE_S):
            await response.prepare(request)
            await response.write_eof()
    except (TimeoutError, ConnectionError):
        cut(request)


async def stream(
    request: web.BaseRequest, site: Site, more: Mapping[str, str], most: int = STREAMS_MAX
) -> web.StreamResponse:
    """Events until the reader goes, falls behind, or the daemon stops. Raises Problem."""
    feed = site.feed
    if len(feed.readers) >= most:
        raise Problem(503, "too-many-readers", f"{most} readers already; close one")
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            ZONE_HEADER: site.settings.site.timezone,
            **more,
        }
    )
    reader = feed.join(lambda: cut(request))
    try:
        await response.prepare(request)
        data: bytes | None = framed("status", views.status(site))
        while data is not None:
            async with asyncio.timeout(WRITE_S):
                await response.write(data)
            data = await reader.next()
    except (TimeoutError, ConnectionError):
        cut(request)
    finally:
        feed.leave(reader)
    return response


def cut(request: web.BaseRequest) -> None:
    """End its connection at once."""
    transport = request.transport
    if transport is not None:
        transport.abort()
