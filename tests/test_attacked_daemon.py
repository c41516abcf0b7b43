"""The daemon as a process, attacked by processes of other users and over a real broker: each is
refused, told in its log and its journal with who it was, and every tick goes on.

What is refused and why, case by case, is tried in test_api_socket, test_api_acts, test_mqtt and
test_mqtt_guard; here it is the process, its socket, and what the devices hold meanwhile.
"""

import contextlib
import grp
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_site import open_directory
from tests.api_site import until as came
from tests.mqtt_rig import MOSQUITTO, Broker, needs_mosquitto
from tests.process_site import NAMES, Daemon, Site, until, write_config
from tests.test_mqtt import command, far_side
from vppd.northbound.mqtt_acts import NOBODY_UID

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else"),
]

PATIENCE_S = 60.0
POWER_KW = 80.0
TOLERANCE_KW = 1.5
STRANGER, VIEWER, MALFORMED, OVERSIZED, GARBLED, CROWD = range(60_001, 60_007)
CONNECTIONS = 1000
LOOK_S, STALL_S, AFTER_STALL_S = 0.1, 0.4, 15.0
AGAIN_S = 0.4  # a flood of refusals is one line a second

# One process of another user: says something on so many connections, and tells the answers; with
# more than one it keeps them until its own input ends.
PEER = """
import json, os, resource, socket, sys
path, uid, gid, count = sys.argv[1:]
request = bytes.fromhex(sys.stdin.readline())
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
links, codes = [], []
for _ in range(int(count)):
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(20)
    try:
        link.connect(path)
        link.sendall(request)
    except PermissionError:
        codes.append("no entry")
        continue
    except OSError:
        pass
    links.append(link)
for link in links:
    answer = b""
    try:
        link.settimeout(20 if count == "1" else 0.05 if not codes.count("silent") else 0.001)
        while chunk := link.recv(65536):
            answer += chunk
    except TimeoutError:
        answer = answer or b"HTTP/1.1 silent"
    except OSError:
        pass
    codes.append(answer.split(b" ", 2)[1].decode() if b" " in answer else "cut")
print(json.dumps(codes), flush=True)
sys.stdin.read()
"""


class Peer:
    """A process of this user, in this group alone."""

    def __init__(
        self, path: Path, uid: int, gid: int, request: bytes = b"", connections: int = 1
    ) -> None:
        words = (str(path), str(uid), str(gid), str(connections))
        self._process = subprocess.Popen(
            [sys.executable, "-c", PEER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{request.hex()}\n")
        self._process.stdin.flush()

    def answers(self) -> list[str]:
        """The status of every connection; `silent` for one that is open and was told nothing."""
        assert self._process.stdout is not None
        codes: list[str] = json.loads(self._process.stdout.readline())
        return codes

    def end(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)


def asked(path: Path, uid: int, gid: int, request: bytes) -> str:
    """One request by somebody, and the status of its answer."""
    peer = Peer(path, uid, gid, request)
    try:
        (code,) = peer.answers()
        return code
    finally:
        peer.end()


def http(method: str, path: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


COMMAND = http("POST", "/v1/dispatch", b'{"power_kw": -40}')
LOOK = http("GET", "/v1/status", b"")


class Attacked:
    """The site, its broker, and a daemon that holds 80 kW all the while."""

    def __init__(self, directory: Path, open_: Path) -> None:
        self.viewers, self.operators = [
            each for each in grp.getgrall() if each.gr_gid not in {0, *os.getgroups()}
        ][:2]
        self.broker = Broker(directory)
        self._mosquitto = subprocess.Popen(
            [MOSQUITTO, "-c", directory / "mosquitto.conf"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        files = {"ca": "ca.pem", "certificate": "lab.pem", "key": "lab.key"}
        tls = ", ".join(f"{key}: {self.broker.file(name)}" for key, name in files.items())
        more = (
            f"api: {{viewers: {self.viewers.gr_name}, operators: {self.operators.gr_name}}}\n"
            f"mqtt: {{url: 'mqtts://127.0.0.1:{self.broker.port}', reconnect_max_s: 0.5,"
            f" tls: {{{tls}}}}}\n"
        )
        self.site = Site(directory, lambda where: write_config(where, more=more))
        self.daemon: Daemon = self.site.start(socket=open_ / "vppd.sock").ready(PATIENCE_S)
        self.path = self.daemon.socket
        self.daemon.dispatch(POWER_KW)
        until(self._holds, PATIENCE_S, self._held_kw)

    def _held_kw(self) -> list[float]:
        return self.site.plant.held_kw(*NAMES)

    def _holds(self) -> bool:
        return abs(sum(self._held_kw()) - POWER_KW) < TOLERANCE_KW

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """At every look the devices hold what is owed, and the same process ticks on."""
        over, wrong = threading.Event(), list[float]()

        def watch() -> None:
            last_s = time.monotonic()
            excused_s = 0.0
            while not over.wait(LOOK_S):
                held_kw, now_s = sum(self._held_kw()), time.monotonic()
                if now_s - last_s > STALL_S:  # this machine stood still: no attack's doing
                    excused_s = now_s + AFTER_STALL_S
                last_s = now_s
                if abs(held_kw - POWER_KW) >= TOLERANCE_KW and now_s > excused_s:
                    wrong.append(held_kw)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
            self.ticks_on()
        finally:
            over.set()
            watching.join()
        assert not wrong, wrong
        assert self.daemon.alive()
        plans = self.daemon.get("/v1/status")["plans"]
        assert [each["power_kw"] for each in plans] == [POWER_KW]

    def ticks_on(self) -> None:
        """Ticks go on from here."""
        enough = self.daemon.ticks() + 10
        self.told(lambda: self.daemon.ticks() >= enough)

    def said(self, event: str, **members: object) -> Callable[[], bool]:
        """Whether one line of the log is this event, with these members."""
        wanted = {"event": event, **members}.items()

        def said() -> bool:
            lines = [each for each in self.daemon.words.splitlines() if each.endswith("}")]
            return any(wanted <= _flat(json.loads(line)).items() for line in lines)

        return said

    def wrote(self, uid: int, text: str) -> Callable[[], bool]:
        """Whether the journal has a refusal of this user with these words."""
        sql = "SELECT count(*) FROM command WHERE uid = ? AND verdict = 'refused' AND text LIKE ?"
        uri = f"file:{self.site.directory}/state/journal.db?mode=ro"

        def wrote() -> bool:
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as own:
                return bool(own.execute(sql, (uid, f"%{text}%")).fetchone()[0])

        return wrote

    def told(self, condition: Callable[[], bool]) -> None:
        """The log and the journal are written a little later than the answer."""
        until(condition, PATIENCE_S, lambda: self.daemon.words[-3000:])

    def close(self) -> None:
        self.site.close()
        self._mosquitto.kill()
        self._mosquitto.wait(10.0)


def _flat(line: dict[str, Any]) -> dict[str, object]:
    return {key: value for key, value in line.items() if isinstance(value, str | int | float)}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with open_directory() as open_:
        made = Attacked(tmp_path_factory.mktemp("attacked"), open_)
        try:
            yield made
        finally:
            made.close()


@needs_mosquitto
def test_a_peer_without_a_group_is_kept_out_by_the_file_and_by_the_daemon(
    attacked: Attacked,
) -> None:
    with attacked.undisturbed():
        assert asked(attacked.path, STRANGER, STRANGER, LOOK) == "no entry"
        attacked.path.chmod(0o666)  # whom the file's group keeps out is judged all the same
        assert asked(attacked.path, STRANGER, STRANGER, COMMAND) == "403"
        assert asked(attacked.path, STRANGER, STRANGER, LOOK) == "403"
        attacked.told(attacked.said("stranger", uid=STRANGER))


@needs_mosquitto
def test_a_viewer_looks_and_does_not_command(attacked: Attacked) -> None:
    attacked.path.chmod(0o666)
    viewers = attacked.viewers.gr_gid
    with attacked.undisturbed():
        assert asked(attacked.path, VIEWER, viewers, LOOK) == "200"
        assert asked(attacked.path, VIEWER, viewers, COMMAND) == "403"
        attacked.told(attacked.said("command", uid=VIEWER, verdict="refused"))
        attacked.told(attacked.wrote(VIEWER, attacked.operators.gr_name))


@needs_mosquitto
@pytest.mark.parametrize(
    ("uid", "request_", "code", "event"),
    [
        (MALFORMED, http("POST", "/v1/dispatch", b'{"power_kw": NaN}'), "400", "command"),
        (OVERSIZED, http("POST", "/v1/dispatch", b"z" * 70_000), "413", "command"),
        (GARBLED, b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "400", "malformed_request"),
    ],
    ids=["malformed", "oversized", "garbled"],
)
def test_what_is_no_request_is_refused_though_an_operator_sends_it(
    attacked: Attacked, uid: int, request_: bytes, code: str, event: str
) -> None:
    attacked.path.chmod(0o666)
    with attacked.undisturbed():
        assert asked(attacked.path, uid, attacked.operators.gr_gid, request_) == code
        attacked.told(attacked.said(event, uid=uid))
        if event == "command":
            attacked.told(attacked.wrote(uid, "/v1/dispatch"))


@needs_mosquitto
def test_a_thousand_open_connections_shut_no_operator_out(attacked: Attacked) -> None:
    attacked.path.chmod(0o666)
    with attacked.undisturbed():
        crowd = Peer(attacked.path, CROWD, attacked.viewers.gr_gid, connections=CONNECTIONS)
        try:
            answers = crowd.answers()
            assert len(answers) == CONNECTIONS
            assert 0 < answers.count("silent") < 64, "these are in"
            assert answers.count("503") + answers.count("cut") > CONNECTIONS - 64
            attacked.told(attacked.said("too_many_connections", uid=CROWD))
            attacked.ticks_on()
            attacked.told(
                lambda: asked(attacked.path, CROWD, attacked.viewers.gr_gid, LOOK) == "503"
            )
            assert asked(attacked.path, VIEWER, attacked.operators.gr_gid, LOOK) == "200"
        finally:
            crowd.end()


@needs_mosquitto
async def test_forged_retained_malformed_and_oversized_commands_of_the_fleet(
    attacked: Attacked,
) -> None:
    """Over the broker nobody has a uid: the journal has the one of nobody, and the sender."""
    order: dict[str, Any] = {"kind": "absolute", "power_kw": -40}
    hostile: dict[str, dict[str, Any]] = {
        "replayed": {**order, "id": "forged"},  # the number of the one that was taken
        "retained": {**order, "retain": True},
        "malformed": {"raw": b'{"seq": NaN}'},
        "oversized": {**order, "id": "x" * 5000},
    }
    async with far_side(attacked.broker) as far:
        await came(lambda: far.seen("vpp/status/lab"), PATIENCE_S)
        with attacked.undisturbed():
            await command(far, 1, "withdraw", sender="agc")
            for reason, members in hostile.items():
                told = attacked.said("command", source="mqtt", verdict="refused", reason=reason)
                begun_s, said_s = time.monotonic(), 0.0
                while not told():
                    assert time.monotonic() - begun_s < PATIENCE_S, attacked.daemon.words[-3000:]
                    if time.monotonic() - said_s > AGAIN_S:
                        await command(far, 1, "order", sender="agc", **members)
                        said_s = time.monotonic()
                attacked.told(attacked.wrote(NOBODY_UID, reason))
        await far.publish("vpp/commands/lab", b"", retain=True)
