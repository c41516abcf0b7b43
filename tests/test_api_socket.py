"""The socket itself: who gets in, what nonsense does to it, readers that do not read, a second
daemon on the same path."""

import asyncio
import contextlib
import grp
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from tests.api_site import Rig, make_rig, open_directory, serving, until
from tests.virtual_time import VirtualClock, run_virtual, virtual
from vppd.core.settings import ApiSettings
from vppd.northbound import doorman, feed, reply, server
from vppd.northbound.body import parse
from vppd.northbound.door import Door, DoorTakenError
from vppd.northbound.ledger import KEYS_MAX, Seldom
from vppd.northbound.peers import Access, Peer, Role, peer_of
from vppd.northbound.problems import Problem
from vppd.northbound.server import Server
from vppd.spine.clock import SystemClock

NOBODY = 65534


async def raw(path: Path, data: bytes, *, end: bool = True) -> bytes:
    """Send bytes as they are; everything that comes back until the other side closes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    answer = b""
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        while chunk := await reader.read(65536):
            answer += chunk
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def body_of(answer: bytes) -> Any:
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


# ---- who gets in ----------------------------------------------------------------------------

CLIENT = """
import os, socket, sys
path, uid, gid, groups, request = sys.argv[1:]
os.setgroups([int(group) for group in groups.split(",") if group])
os.setgid(int(gid)); os.setuid(int(uid))
link = socket.socket(socket.AF_UNIX)
link.settimeout(20)
link.connect(path)
link.sendall(request.encode().replace(b"|", b"\\r\\n"))
answer = b""
try:
    while chunk := link.recv(65536):
        answer += chunk
except ConnectionResetError:
    pass
sys.stdout.buffer.write(answer)
"""


def two_groups() -> tuple[grp.struct_group, grp.struct_group]:
    """Two groups of this machine that root is not in."""
    found = [each for each in grp.getgrall() if each.gr_gid not in {0, NOBODY, *os.getgroups()}]
    return found[0], found[1]


async def as_user(path: Path, request: str, gid: int = NOBODY, *groups: int) -> tuple[int, Any]:
    """One request by nobody, with these groups."""
    arguments = (str(path), str(NOBODY), str(gid), ",".join(map(str, groups)), request)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, *arguments), stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    return status_of(answer), body_of(answer)


LOOK = "GET /v1/status HTTP/1.1|Host: x|Connection: close||"
BODY = '{"power_kw": 40}'
ACT = f"POST /v1/dispatch HTTP/1.1|Host: x|Connection: close|Content-Length: {len(BODY)}||{BODY}"
RELOAD = "POST /v1/reload HTTP/1.1|Host: x|Connection: close|Content-Length: 2||{}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_roles_come_from_the_kernel() -> None:
    viewers, operators = two_groups()
    api = ApiSettings(viewers=viewers.gr_name, operators=operators.gr_name)
    with open_directory() as directory:
        rig = make_rig(directory / "r.sock", clock=SystemClock(), api=api)
        await roles_come_from_the_kernel(rig, viewers, operators)


async def roles_come_from_the_kernel(
    rig: Rig, viewers: grp.struct_group, operators: grp.struct_group
) -> None:
    async with serving(rig):
        rig.path.chmod(0o666)  # whom the file's group keeps out is judged all the same
        with structlog.testing.capture_logs() as lines:
            code, problem = await as_user(rig.path, LOOK)
            assert (code, problem["type"]) == (403, "urn:vppd:problem:not-allowed")
            assert viewers.gr_name in problem["detail"]
            assert (await as_user(rig.path, ACT))[0] == 403
        assert [line["event"] for line in lines] == ["stranger"], "told once, not at every knock"
        # by the primary group as by a supplementary one
        assert (await as_user(rig.path, LOOK, viewers.gr_gid))[0] == 200
        assert (await as_user(rig.path, LOOK, NOBODY, viewers.gr_gid))[0] == 200
        code, problem = await as_user(rig.path, ACT, NOBODY, viewers.gr_gid)
        assert (code, problem["role"]) == (403, "viewer")
        assert operators.gr_name in problem["detail"]
        assert rig.site.bus.plans() == ()
        assert (await as_user(rig.path, LOOK, NOBODY, operators.gr_gid))[0] == 200
        code, answer = await as_user(rig.path, ACT, NOBODY, operators.gr_gid)
        assert code == 202, answer
        assert answer["plan"]["source"] == "operator:nobody"
        assert (await as_user(rig.path, RELOAD, NOBODY, operators.gr_gid))[0] == 403
        assert (await rig.post("/v1/reload", {}))[0] == 422, "root may; this site cannot"
    rows = {(row.uid, row.user, row.verb, row.verdict) for row in rig.journal.commands()}
    assert (NOBODY, "nobody", "dispatch", "accepted") in rows
    assert (NOBODY, "nobody", "post", "refused") in rows


def test_roles_by_the_table() -> None:
    viewers, operators = two_groups()
    access = Access(ApiSettings(viewers=viewers.gr_name, operators=operators.gr_name))

    def role(uid: int, *gids: int) -> Role:
        return access.role(Peer(1, uid, frozenset(gids)))

    assert role(0) is Role.ADMIN
    assert role(os.geteuid()) is Role.ADMIN
    assert role(4242) is Role.NOBODY
    assert role(4242, viewers.gr_gid) is Role.VIEWER
    assert role(4242, operators.gr_gid) is Role.OPERATOR
    assert role(4242, operators.gr_gid, viewers.gr_gid) is Role.OPERATOR
    closed = Access(ApiSettings())
    assert closed.role(Peer(1, 4242, frozenset({viewers.gr_gid}))) is Role.NOBODY
    missing = Access(ApiSettings(viewers="no-such-group-here"))
    assert missing.role(Peer(1, 4242, frozenset())) is Role.NOBODY


def test_the_kernel_says_who_is_there() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert os.getgid() in peer.gids
    assert set(os.getgroups()) <= peer.gids


# ---- nonsense -------------------------------------------------------------------------------

POSTS = ("/v1/dispatch", "/v1/units/B1/power", "/v1/units/B1/control", "/v1/droop", "/v1/nodes")
BROKEN_JSON = (
    b"{",
    b"[]",
    b"null",
    b"4",
    b'"x"',
    b"{'power_kw': 1}",
    b'{"power_kw": NaN}',
    b'{"power_kw": Infinity}',
    b'{"power_kw": 1e999}',
    b'{"power_kw": -1e400}',
    b'{"power_kw": ' + b"9" * 5000 + b"}",
    b'{"power_kw": 1, "power_kw": 2}',
    b'{"power_kw": {"a": 1}}',
    b'{"enabled": 1}',
    b'{"enabled": "true"}',
    b'{"command": null}',
    b'{"command": "reset", "command": "enable"}',
    b'{"id": "\\u0000", "building": "D1"}',
    b'{"\\ud800": 1}',
    b'{"": {}}',
    b"[" * 30000,
    b'{"a":' * 10000,
    b"\xff\xfe\x00",
    b"\x00" * 100,
    b'{"power_kw": 1}{"power_kw": 1}',
    b'{"power_kw": 1e5}',
    b'{"power_kw": 010}',
)


def http(method: str, path: str, body: bytes, *headers: str) -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-")) for header in headers):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def malformed(count: int) -> Iterator[bytes]:
    """Requests that no client should send, every one of another kind in turn."""
    dice = random.Random(20261122)
    kinds = 13
    lengths, histories = ("-1", "9" * 30, "x", "1e3"), ("0", "-1", "1e3", "9" * 50, "٣")
    for number in range(count):
        path, body = dice.choice(POSTS), dice.choice(BROKEN_JSON)
        noise = dice.randbytes(dice.randrange(1, 2000))
        name = dice.randbytes(12).decode("latin-1").replace("\r", "").replace("\n", "")
        yield (
            http("POST", path, body),
            noise,
            b"GET /v1/status HTTP/1.1\r\n" + noise,
            http(dice.choice(("PATCH", "PUT", "TRACE", "B\x01D", "get", "X" * 300)), path, body),
            http("GET", "/" + "x" * dice.randrange(9000), b""),
            http("GET", f"/v1/units/{name}/why", b""),
            http("GET", "/v1/status", b"", f"X-Long: {'y' * dice.randrange(20000)}"),
            http("GET", "/v1/status", b"", *(f"X-{each}: 1" for each in range(300))),
            http("POST", path, body, f"Content-Length: {dice.choice(lengths)}"),
            http("POST", path, noise, "Transfer-Encoding: chunked"),
            http("POST", path, b"z" * 70000),
            http(
                "GET",
                f"/v1/frequency?history={dice.choice(histories)}",
                b"",
            ),
            http("GET", "/v1/nope", body, "Upgrade: websocket", "Connection: Upgrade")
            + http("POST", path, body)
            + noise,
        )[number % kinds]


async def test_a_thousand_malformed_requests_disturb_nothing(tmp_path: Path) -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    rig = make_rig(tmp_path / "m.sock", clock=SystemClock())
    codes: dict[int, int] = {}
    async with serving(rig), asyncio.TaskGroup() as tasks:
        ticking = [tasks.create_task(rig.live()), tasks.create_task(rig.poll())]
        duty = rig.site.tick.duty
        turn = asyncio.Semaphore(16)

        async def send(data: bytes) -> None:
            async with turn:
                answer = await raw(rig.path, data)
            code = status_of(answer)
            codes[code] = codes.get(code, 0) + 1
            if code and code != 200:
                assert body_of(answer)["type"].startswith("urn:vppd:problem:"), answer

        with structlog.testing.capture_logs() as lines:
            async with asyncio.TaskGroup() as senders:
                for data in malformed(1000):
                    senders.create_task(send(data))
        assert (await rig.get("/v1/health"))[0] == 200
        assert rig.site.bus.plans() == ()
        assert rig.site.gate.latches.all() == ()
        assert rig.site.registry.announced() == ()
        assert rig.site.tick.duty is duty
        for task in ticking:
            task.cancel()
    assert raised == []
    assert "request_failed" not in {line["event"] for line in lines}
    assert sum(codes.values()) == 1000
    assert not {code for code in codes if code >= 500}, codes
    # a header that is long but short enough is no fault
    assert codes.get(200, 0) < 50, codes
    assert sum(codes.get(code, 0) for code in (400, 404, 405, 413, 422)) > 900, codes
    assert len(rig.journal.commands()) < 100, "nonsense does not fill the journal"


@pytest.mark.parametrize(
    ("raw_body", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must be one JSON object, is a list"),
        (b"4", "must be one JSON object, is 4"),
        (b'{"power_kw": NaN}', "NaN is not a number"),
        (b'{"power_kw": -Infinity}', "-Infinity is not a number"),
        (b'{"power_kw": 1, "power_kw": 2}', "given twice"),
        (b'{"a": {"b": 1, "b": 2}}', "given twice"),
        (b"[" * 60000, "too deep"),
        (b'{"a":' * 12000, "too deep"),
        (b"\xff", "not UTF-8"),
        (b'{"power_kw": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_only_one_flat_object_of_json_is_taken(raw_body: bytes, why: str) -> None:
    with pytest.raises(Problem, match=why) as refused:
        parse(raw_body)
    assert refused.value.status == 400
    assert len(refused.value.detail) <= 256


def test_nothing_is_an_object_without_members() -> None:
    for raw_body in (b"", b" \r\n", b"{}"):
        assert parse(raw_body).members == {}


@virtual
async def test_a_request_is_bounded_in_size(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "b.sock")) as rig:
        for body, headers in (
            (b"x" * 65537, ()),
            (b"", ("Content-Length: 99999999999",)),
            (b"10001\r\n" + b"y" * 65537 + b"\r\n0\r\n\r\n", ("Transfer-Encoding: chunked",)),
        ):
            answer = await raw(rig.path, http("POST", "/v1/dispatch", body, *headers))
            assert status_of(answer) == 413, headers
            assert body_of(answer)["type"] == "urn:vppd:problem:too-large"
        allowed = http("POST", "/v1/dispatch", b'{"power_kw": 1' + b" " * 65000 + b"}")
        assert status_of(await raw(rig.path, allowed)) == 202


@virtual
async def test_a_request_is_bounded_in_time(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "t.sock")) as rig:
        start_s = rig.site.clock.now_s()
        body = b"POST /v1/dispatch HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n{"
        answer = await raw(rig.path, body, end=False)
        assert status_of(answer) == 408
        assert rig.site.clock.now_s() - start_s <= server.BODY_S + 2.0
        for head in (b"", b"GET /v1/status HT", b"GET /v1/status HTTP/1.1\r\nHost: x\r\n"):
            start_s = rig.site.clock.now_s()
            assert await raw(rig.path, head, end=False) == b""
            assert rig.site.clock.now_s() - start_s <= doorman.IDLE_S + 2.0


@virtual
async def test_unknown_words_of_a_query_are_refused(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "q.sock")) as rig:
        for path in (
            "/v1/status?x=1",
            "/v1/frequency?histroy=300",
            "/v1/frequency?history=300&history=2",
            "/v1/frequency?history=301",
            "/v1/frequency?history=-1",
            "/v1/events/recent?last=0",
        ):
            code, problem = await rig.get(path)
            assert (code, problem["type"]) == (422, "urn:vppd:problem:unusable-value"), path


async def test_connections_are_bounded_and_the_site_goes_on(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "c.sock", clock=SystemClock())
    async with serving(rig), contextlib.AsyncExitStack() as stack:
        writers = []
        for _ in range(server.CONNECTIONS_MAX):
            _, writer = await asyncio.open_unix_connection(str(rig.path))
            writers.append(writer)
            stack.callback(writer.close)
        answer = await raw(rig.path, http("GET", "/v1/status", b""))
        assert status_of(answer) == 503
        assert body_of(answer)["type"] == "urn:vppd:problem:too-many-connections"
        await rig.beat(3)
        writers[0].close()
        codes: list[int] = []

        async def again() -> None:
            while 200 not in codes:
                answer = await raw(rig.path, http("GET", "/v1/status", b""))
                codes.append(status_of(answer))

        async with asyncio.timeout(10.0):
            await again()


async def test_floods_of_refused_ones_are_bounded_too(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "f.sock", clock=SystemClock())
    async with serving(rig), contextlib.AsyncExitStack() as stack:
        for _ in range(server.CONNECTIONS_MAX + 2 * doorman.REFUSALS_MAX):
            link = stack.enter_context(socket.socket(socket.AF_UNIX))
            link.setblocking(False)
            await asyncio.get_running_loop().sock_connect(link, str(rig.path))
        open_files = len(list(Path("/proc/self/fd").iterdir()))
        await until(lambda: len(list(Path("/proc/self/fd").iterdir())) < open_files - 32)


def test_what_is_seldom_said_is_counted() -> None:
    async def main() -> None:
        clock = VirtualClock()
        seldom = Seldom(clock, 60.0)
        assert [seldom.now(7) for _ in range(4)] == [0, None, None, None]
        assert seldom.now(8) == 0
        await clock.sleep_until(clock.now_s() + 60.0)
        assert seldom.now(7) == 3
        for key in range(3 * KEYS_MAX):
            seldom.now(key)
        assert len(seldom._said_s) <= KEYS_MAX

    run_virtual(main())


def test_all_of_it_on_the_loop_of_production(tmp_path: Path) -> None:
    async def main() -> None:
        rig = make_rig(tmp_path / "u.sock", clock=SystemClock())
        async with serving(rig), contextlib.AsyncExitStack() as stack:
            assert (await rig.post("/v1/dispatch", {"power_kw": 40}))[0] == 202
            for data in malformed(26):
                await raw(rig.path, data)
            assert status_of(await raw(rig.path, http("GET", "/v1/health", b""))) == 200
            reader = await stack.enter_async_context(streaming(rig))
            await events_of(reader, "status", "decision")
            for _ in range(server.CONNECTIONS_MAX - 1):
                _, writer = await asyncio.open_unix_connection(str(rig.path))
                stack.callback(writer.close)
            refused = await raw(rig.path, http("GET", "/v1/status", b""), end=False)
            assert status_of(refused) == 503
        assert not rig.path.exists()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# ---- streams --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def streaming(rig: Rig) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_unix_connection(str(rig.path))
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        yield reader
    finally:
        writer.close()


async def events_of(reader: asyncio.StreamReader, *wanted: str) -> dict[str, Any]:
    """Read events until one of each wanted name was seen."""
    seen: dict[str, Any] = {}
    name = ""
    while not set(wanted) <= seen.keys():
        line = (await reader.readline()).decode().strip()
        assert not reader.at_eof(), seen.keys()
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            seen[name] = json.loads(line.removeprefix("data: "))
    return seen


@virtual
async def test_events_tell_what_happens(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "e.sock")) as rig, streaming(rig) as reader:
        first = await events_of(reader, "status")
        assert first["status"]["site"] == "lab"
        rig.frequency_hz = 49.4
        rig.values[rig.site.assets[0].id, next(iter(rig.site.assets[0].declared & {"soc_pct"}))] = 9
        await rig.beat(3)
        await rig.post("/v1/droop", {"enabled": False})
        seen = await events_of(reader, "decision", "violation", "command")
        assert seen["decision"]["frequency_hz"] == 49.4
        assert len(seen["decision"]["units"]) == 4
        assert seen["violation"]["rule"] == "soc_low"
        assert (seen["command"]["verb"], seen["command"]["verdict"]) == ("droop", "accepted")
        seen = await events_of(reader, "alarm") if "alarm" not in seen else seen
        assert seen["alarm"]["active"] is True
        rig.frequency_hz = 50.0
        rig.values.clear()
        await rig.beat(3)
        seen = await events_of(reader, "alarm")
        assert seen["alarm"]["active"] is False


async def test_a_reader_that_does_not_read_is_cut_off_and_harms_nobody(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "s.sock", clock=SystemClock())
    async with serving(rig), streaming(rig), streaming(rig) as good:
        await events_of(good, "status")
        await until(lambda: len(rig.site.feed.readers) == 2)
        pad = {"pad": "x" * 50_000}
        for number in range(200):
            rig.site.feed.tell("pad", {"number": number, **pad})
            assert (await events_of(good, "pad"))["pad"]["number"] == number
            if number % 20 == 0:
                await rig.beat()
                assert (await rig.get("/v1/health"))[0] == 200
        await until(lambda: len(rig.site.feed.readers) == 1)
        assert rig.site.feed.cuts == 1
        rig.site.feed.tell("pad", {"number": -1})
        assert (await events_of(good, "pad"))["pad"]["number"] == -1


async def test_a_reader_that_left_is_forgotten(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "g.sock", clock=SystemClock())
    async with serving(rig):
        async with streaming(rig) as reader:
            await events_of(reader, "status")
            assert len(rig.site.feed.readers) == 1
        await until(lambda: not rig.site.feed.readers)


@virtual
async def test_readers_are_bounded_and_end_with_the_daemon(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(make_rig(tmp_path / "n.sock")) as rig:
            readers = [
                await stack.enter_async_context(streaming(rig)) for _ in range(reply.STREAMS_MAX)
            ]
            for reader in readers:
                await events_of(reader, "status")
            code, problem = await rig.get("/v1/events")
            assert (code, problem["type"]) == (503, "urn:vppd:problem:too-many-readers")
            start_s = rig.site.clock.now_s()
        assert rig.site.clock.now_s() - start_s < 1.0, "the end does not wait for readers"
        for reader in readers:
            await reader.read()
            assert reader.at_eof()
    assert not rig.path.exists()


def test_a_full_queue_ends_a_reader_once() -> None:
    async def main() -> None:
        cuts: list[int] = []
        reader = feed.Reader(lambda: cuts.append(1))
        for _ in range(3 * feed.QUEUE_MAX):
            reader.put(b"x")
        assert cuts == [1]
        assert await reader.next() is None

    run_virtual(main())


# ---- the path -------------------------------------------------------------------------------


async def test_a_second_daemon_does_not_take_the_path_over(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "d.sock", clock=SystemClock())
    async with serving(rig):
        second = make_rig(rig.path, clock=SystemClock())
        with pytest.raises(DoorTakenError, match=rf"pid {os.getpid()} already serves"):
            await Server(second.site, second.path).run()
        assert (await rig.get("/v1/status"))[0] == 200, "the first goes on"
    async with serving(second):
        assert (await second.get("/v1/status"))[0] == 200, "the path is free again"


async def test_a_server_can_run_again(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "again.sock", clock=SystemClock())
    await rig.beat(2)
    server_ = Server(rig.site, rig.path)
    for _ in range(2):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(server_.run())
            await until(rig.path.exists)
            assert (await rig.get("/v1/health"))[0] == 200
            task.cancel()
        assert not rig.path.exists()


def test_a_dead_daemons_path_is_taken_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    hold = (
        "import sys, pathlib, signal; from vppd.northbound.door import Door;"
        "door = Door(pathlib.Path(sys.argv[1])); link = door.listen(); print('holds', flush=True);"
        "signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holds\n"
        with pytest.raises(DoorTakenError, match=f"pid {other.pid} already serves"):
            Door(path).claim()
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert path.exists(), "it left its socket behind"
    door = Door(path)
    door.listen().close()
    door.close()
    assert not path.exists()


def test_a_listener_without_a_lock_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(DoorTakenError, match=f"pid {os.getpid()} listens"):
            Door(path).claim()
        assert path.exists()
    Door(path).claim()


def test_a_path_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("precious")
    with pytest.raises(DoorTakenError, match="not a socket"):
        Door(path).claim()
    assert path.read_text() == "precious"
    with pytest.raises(DoorTakenError, match="another --socket"):
        Door(path / "y.sock").claim()
    with pytest.raises(DoorTakenError, match="longer than"):
        Door(tmp_path / ("y" * 120)).claim()


def test_its_group_may_knock_and_nobody_else_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        door = Door(tmp_path / "x.sock")
        with door.listen():
            assert door.path.stat().st_mode & 0o777 == 0o660
        door.close()
    finally:
        os.umask(before)
