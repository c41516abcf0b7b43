"""The ports that only show, and what a browser may carry to the socket: the page and its policy,
who is refused and told, nonsense and crowds that disturb nothing."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.api_site import Rig, make_rig, open_directory, serving, until
from tests.test_api_socket import (
    ACT,
    LOOK,
    NOBODY,
    as_user,
    body_of,
    http,
    malformed,
    raw,
    status_of,
    two_groups,
)
from vppd.app import windows_of
from vppd.core.settings import ApiSettings
from vppd.core.settings_web import MetricsSettings, WebSettings
from vppd.northbound import doorman, pages, reply, window
from vppd.northbound.routes import METRICS, ROUTES, find
from vppd.northbound.server import CONNECTIONS_MAX
from vppd.northbound.window import Window, uid_of
from vppd.parts import Parts
from vppd.spine.clock import SystemClock
from vppd.spine.supervise import ExitReason, Supervisor

ON = WebSettings(enabled=True, port=8080)
CROWD = 1000


@contextlib.asynccontextmanager
async def shown(rig: Rig) -> AsyncIterator[Window]:
    """The page on a free port, beside the socket."""
    port = Window(rig.site, "web", 0, ROUTES)
    async with serving(rig, beats=1), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(port.run())
        await until(lambda: port.port)
        try:
            yield port
        finally:
            task.cancel()


def site(tmp_path: Path, web: WebSettings = ON) -> Rig:
    return make_rig(tmp_path / "w.sock", clock=SystemClock(), web=web)


async def sent(port: int | None, data: bytes) -> bytes:
    """Send bytes as they are; everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        writer.write_eof()
        while chunk := await reader.read(65536):
            answer += chunk
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answer


def request(target: str, host: str = "localhost:1", method: str = "GET", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


# ---- the page -------------------------------------------------------------------------------


class Read(HTMLParser):
    """Every tag with its attributes, and the words of script and style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.words: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        self.words[self.inside] = self.words.get(self.inside, "") + data


def page_read() -> Read:
    read = Read()
    read.feed(pages.page().body.decode())
    return read


def test_the_page_needs_nothing_from_elsewhere() -> None:
    read = page_read()
    for tag, attributes in read.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            assert name != "style", "the policy would stop it"
            assert name not in {"src", "action"}, f"{tag} {name}"
            assert name != "href" or value == "data:,"
    assert "viewport" in {attributes.get("name") for _, attributes in read.tags}
    script, style = read.words["script"], read.words["style"]
    addresses = re.findall(r"https?://[^\"' ]+", script + style)
    assert addresses == ["http://www.w3.org/2000/svg"], "a name, not a place"
    assert "@import" not in style
    assert "url(" not in style


def test_the_page_makes_no_markup_of_what_it_is_told() -> None:
    script = page_read().words["script"]
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert word not in script, word
    assert "textContent" in script


def test_the_page_asks_for_what_there_is() -> None:
    script = page_read().words["script"]
    asked = set(re.findall(r'"(/v1/[a-z/]+)"', script))
    assert asked == {"/v1/status", "/v1/trail", "/v1/events"}
    for path in asked:
        find("GET", path)
    places = set(re.findall(r'(?:at|put|write|draw)\("(\w+)"', script))
    ids = {attributes["id"] for _, attributes in page_read().tags if "id" in attributes}
    assert places <= ids


def test_the_policy_lets_only_this_page_run() -> None:
    policy = pages.page().headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    html = "<style>a{}</style><script>alert(1)</script>"
    changed = pages.policy(html), pages.policy(html.replace("1", "2"))
    assert changed[0] != changed[1], "another script has another hash"
    assert policy.count("sha256-") == 2


async def test_the_page_is_on_the_port_and_on_the_socket(tmp_path: Path) -> None:
    rig = site(tmp_path)
    async with shown(rig) as port, aiohttp.ClientSession() as web:
        async with web.get(f"http://localhost:{port.port}/") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            body = await answer.read()
        async with web.get(f"http://127.0.0.1:{port.port}/v1/status") as answer:
            assert (await answer.json())["site"] == "lab"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert answer.headers["Server"] == "vppd"
        async with web.get(f"http://127.0.0.1:{port.port}/v1/trail") as answer:
            assert (await answer.json())["columns"][0] == "age_s"
        answer_ = await raw(rig.path, request("/"))
        assert status_of(answer_) == 200
        assert answer_.endswith(body)


async def test_the_page_is_off_unless_it_is_wanted(tmp_path: Path) -> None:
    rig = site(tmp_path, WebSettings())
    async with serving(rig, beats=1):
        code, problem = await rig.get("/")
    assert code == 404
    assert "web: {enabled: true}" in problem["detail"]


async def test_the_stream_is_on_the_port_and_leaves_room_for_the_socket(tmp_path: Path) -> None:
    rig = site(tmp_path)
    async with shown(rig) as port, contextlib.AsyncExitStack() as stack:
        web = await stack.enter_async_context(aiohttp.ClientSession())
        address = f"http://localhost:{port.port}/v1/events"
        for _ in range(window.STREAMS_MAX):
            answer = await stack.enter_async_context(web.get(address))
            assert await answer.content.readline() == b"event: status\n"
        async with web.get(address) as answer:
            assert answer.status == 503
        assert window.STREAMS_MAX < reply.STREAMS_MAX
        reader, writer = await asyncio.open_unix_connection(str(rig.path))
        writer.write(request("/v1/events", "vppd"))
        await reader.readuntil(b"event: status\n")
        writer.close()


async def test_the_trail_is_the_last_minutes(tmp_path: Path) -> None:
    rig = site(tmp_path)
    async with serving(rig, beats=1):
        for number in range(400):
            rig.site.trail.note(rig.decisions[0], float(number))
        _, view = await rig.get("/v1/trail")
    assert len(view["lines"]) == 300
    assert [line[-1] for line in view["lines"]] == [float(number) for number in range(100, 400)]
    assert all(len(line) == len(view["columns"]) for line in view["lines"])


# ---- who is refused -------------------------------------------------------------------------

FOREIGN = ("evil.com", "evil.com:80", "localhost.evil.com", "127.0.0.1.nip.io", "10.0.0.1", "x")


async def test_a_name_that_points_here_is_not_ours(tmp_path: Path) -> None:
    async with shown(site(tmp_path)) as port:
        for host in (*FOREIGN, "", "[::1", "localhost:x", "localhost@evil.com"):
            answer = await sent(port.port, request("/v1/status", host))
            assert status_of(answer) == 421, answer
            assert b"sentence" not in answer
        assert status_of(await sent(port.port, request("/v1/status", "[::1]:9"))) == 200


@given(st.text(st.sampled_from("abc019.:[]-@/"), max_size=20))
def test_no_name_of_the_internet_is_of_this_machine(host: str) -> None:
    if pages.of_this_machine(host):
        assert re.fullmatch(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", host)
    if pages.of_this_machine(host, named=False):
        name = host.split(":", maxsplit=1)[0]
        assert "." not in name or name == "127.0.0.1" or host.startswith("[::1]")


async def test_a_browser_looks_through_the_socket_and_commands_nothing(tmp_path: Path) -> None:
    rig = site(tmp_path)
    async with serving(rig, beats=1):
        for name in ("vppd", "localhost:8080", "x"):
            assert status_of(await raw(rig.path, request("/v1/status", name))) == 200
        assert status_of(await raw(rig.path, request("/v1/status", "evil.com:8080"))) == 421
        for header in ("Origin: http://localhost:8080", "Sec-Fetch-Site: cross-site"):
            body = b'{"power_kw": 40}'
            answer = await raw(rig.path, http("POST", "/v1/dispatch", body, header))
            assert status_of(answer) == 403, "a page anywhere can send it through ssh -L"
            assert body_of(answer)["type"] == "urn:vppd:problem:not-allowed"
        assert rig.site.bus.plans() == ()
        assert (await rig.post("/v1/dispatch", {"power_kw": 40}))[0] == 202, "others may"
    refused = [row for row in rig.journal.commands() if row.verdict == "refused"]
    assert [(row.uid, row.verb) for row in refused] == [(os.getuid(), "post")]


async def test_nothing_is_commanded_by_the_port(tmp_path: Path) -> None:
    rig = site(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with shown(rig) as port:
            for method in ("POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"):
                answer = await sent(port.port, request("/v1/dispatch", method=method))
                assert status_of(answer) == 405
            await until(lambda: [line for line in lines if line["event"] == "refused"])
    told = next(line for line in lines if line["event"] == "refused")
    assert (told["window"], told["what"]) == ("web", "POST /v1/dispatch")
    assert told["uid"] in {os.getuid(), None}, "None: it was gone when the kernel was asked"
    assert rig.site.bus.plans() == ()
    assert rig.journal.commands() == []


async def test_the_port_shows_no_route_that_changes_something(tmp_path: Path) -> None:
    port = Window(site(tmp_path).site, "web", 0, ROUTES)
    assert {route.method for route in port._routes} == {"GET"}
    assert not any(route.verb for route in port._routes)
    assert METRICS in port._routes


async def test_the_kernel_knows_whose_a_connection_is(tmp_path: Path) -> None:
    ends: list[Any] = []
    server = await asyncio.start_server(lambda _, writer: ends.append(writer), "127.0.0.1", 0)
    async with server:
        _, ours = await asyncio.open_connection(*server.sockets[0].getsockname())
        await until(lambda: ends)
        theirs, here = (ends[0].get_extra_info(each) for each in ("peername", "sockname"))
        assert uid_of((theirs, here)) == os.getuid()
        assert uid_of((("127.0.0.1", 1), here)) is None
        assert uid_of((theirs, here), tmp_path / "none") is None
        ours.close()
        ends[0].close()


# ---- nonsense and crowds --------------------------------------------------------------------


async def test_nonsense_at_the_port_disturbs_nothing_and_is_told(tmp_path: Path) -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    rig = site(tmp_path)
    codes: dict[int, int] = {}
    with structlog.testing.capture_logs() as lines:
        async with shown(rig) as port:
            turn = asyncio.Semaphore(16)

            async def send(data: bytes) -> None:
                async with turn:
                    answer = await sent(port.port, data.replace(b"Host: x", b"Host: localhost"))
                code = status_of(answer)
                codes[code] = codes.get(code, 0) + 1

            async with asyncio.TaskGroup() as senders:
                for data in malformed(400):
                    senders.create_task(send(data))
            assert status_of(await sent(port.port, request("/v1/health"))) in {200, 503}
            assert rig.site.bus.plans() == ()
            assert rig.site.gate.latches.all() == ()
    assert raised == []
    events = [line["event"] for line in lines]
    assert "request_failed" not in events
    assert 1 <= events.count("refused") <= 2, "told, and not at every knock"
    assert sum(codes.values()) == 400
    assert not {code for code in codes if code >= 500}, codes
    assert rig.journal.commands() == []


async def test_oversized_and_broken_requests_on_the_socket_are_told_with_the_uid(
    tmp_path: Path,
) -> None:
    rig = site(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with serving(rig, beats=1):
            answer = await raw(rig.path, b"GET /v1/status HTTP/1.1\r\nno header\r\n\r\n")
            assert status_of(answer) == 400
            big = http("GET", "/v1/status", b"", f"X-Long: {'y' * 20000}")
            assert status_of(await raw(rig.path, big)) == 400
    (told,) = [line for line in lines if line["event"] == "malformed_request"]
    assert told["uid"] == os.getuid()
    assert "malformed-request" in told["text"]


async def crowd(connect: Any, rig: Rig) -> None:
    """A thousand connections at once, kept open, while the site ticks; returns when it has ticked
    on under them."""
    links: list[asyncio.StreamWriter] = []
    async with asyncio.TaskGroup() as tasks:
        ticking = [tasks.create_task(rig.live()), tasks.create_task(rig.poll())]
        for _ in range(CROWD):
            with contextlib.suppress(OSError):
                links.append((await connect())[1])
        before = rig.site.heartbeat.lag().count
        await until(lambda: rig.site.heartbeat.lag().count >= before + 3)
        for task in ticking:
            task.cancel()
    for writer in links:
        writer.close()


async def test_a_thousand_connections_to_the_port_and_the_site_goes_on(tmp_path: Path) -> None:
    rig = site(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with shown(rig) as port:
            await crowd(lambda: asyncio.open_connection("127.0.0.1", port.port), rig)
            assert len(port._web.connections) <= window.CONNECTIONS_MAX
            assert len(port._refusals) <= doorman.REFUSALS_MAX
            assert (await rig.get("/v1/status"))[0] == 200, "the socket is another door"
            assert (await rig.post("/v1/dispatch", {"power_kw": 40}))[0] == 202
    told = [line["what"] for line in lines if line["event"] == "refused"]
    assert set(told) == {"too many connections"}
    assert len(told) <= 2, "of a uid, and of those that were gone when the kernel was asked"


async def test_a_thousand_connections_to_the_socket_and_the_site_goes_on(tmp_path: Path) -> None:
    rig = site(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with shown(rig) as port:
            await crowd(lambda: asyncio.open_unix_connection(str(rig.path)), rig)
            assert status_of(await sent(port.port, request("/v1/status"))) == 200
    told = [line for line in lines if line["event"] == "too_many_connections"]
    assert [line["uid"] for line in told] == [os.getuid()]
    assert CONNECTIONS_MAX < CROWD


HOLD = """
import os, socket, sys
path, uid, gid, count = sys.argv[1], *map(int, sys.argv[2:])
os.setgroups([]); os.setgid(gid); os.setuid(uid)
links = []
for _ in range(count):
    link = socket.socket(socket.AF_UNIX)
    link.connect(path)
    links.append(link)
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_viewers_cannot_shut_out_those_who_may_command() -> None:
    viewers, operators = two_groups()
    api = ApiSettings(viewers=viewers.gr_name, operators=operators.gr_name)
    with open_directory() as directory:
        rig = make_rig(directory / "r.sock", clock=SystemClock(), api=api)
        async with serving(rig, beats=1):
            rig.path.chmod(0o666)
            arguments = (str(rig.path), str(NOBODY), str(viewers.gr_gid), str(CONNECTIONS_MAX))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", HOLD, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            await process.stdout.readline()
            assert (await as_user(rig.path, LOOK, viewers.gr_gid))[0] == 503
            assert (await as_user(rig.path, ACT, operators.gr_gid))[0] == 202
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


async def test_there_is_a_port_only_where_one_is_configured(tmp_path: Path) -> None:
    def opened(web: WebSettings, metrics: MetricsSettings) -> set[str]:
        rig = make_rig(tmp_path / "x.sock", web=web, metrics=metrics)
        supervisor = Supervisor(rig.site.clock, lambda *_: None, ending)
        windows = Parts(windows_of(rig.site))
        windows.make(rig.site.settings)
        windows.employ(supervisor)
        return {task.name for task in supervisor.status()}

    assert opened(WebSettings(), MetricsSettings()) == set()
    assert opened(WebSettings(port=8080), MetricsSettings()) == set(), "not enabled"
    assert opened(WebSettings(enabled=True), MetricsSettings()) == set(), "on the socket alone"
    assert opened(ON, MetricsSettings(port=9108)) == {"web", "metrics"}


async def ending(_: ExitReason) -> None:
    return None
