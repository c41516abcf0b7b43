"""Asking the daemon: HTTP over its Unix socket with the standard library alone."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CONNECT_S = 2.0
ANSWER_S = 15.0
PATIENT_S = {"/v1/reload": 300.0}  # units that leave do so by their ramps
ZONE_HEADER = "Vppd-Timezone"
Json = dict[str, Any]


class DaemonAbsent(Exception):  # noqa: N818  a state of the world, not a mistake
    """Nobody answers on the socket; the text says how that showed. `barred`: somebody may be there,
    but this user may not ask."""

    def __init__(self, text: str, *, barred: bool = False) -> None:
        self.barred = barred
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the daemon said."""

    status: int
    body: Json
    zone: str = "UTC"

    @property
    def fine(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 400  # noqa: PLR2004


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, answer_s: float = ANSWER_S) -> None:
        super().__init__("vppd", timeout=answer_s)
        self._path, self._answer_s = path, answer_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(self._path)
        self.sock.settimeout(self._answer_s)


def ask(path: str, method: str, target: str, body: Json | None = None) -> Reply:
    """One request to the daemon at this socket path. Raises DaemonAbsent."""
    connection = _Connection(path, PATIENT_S.get(target, ANSWER_S))
    try:
        response = _send(connection, method, target, body)
        raw = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _absent(path, error) from None
    finally:
        connection.close()
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = {"detail": f"an answer that is not JSON: {raw[:80]!r}"}
    return Reply(response.status, answer, response.headers.get(ZONE_HEADER, "UTC"))


def fetch(path: str, target: str) -> Json:
    """What a GET shows. Raises DaemonAbsent."""
    return ask(path, "GET", target).body


def follow(path: str, target: str) -> Iterator[tuple[str, Json]]:
    """Server-sent events as they come, until the daemon ends. Raises DaemonAbsent."""
    connection = _Connection(path)
    try:
        response = _send(connection, "GET", target, None)
        if response.status != 200:  # noqa: PLR2004
            yield "problem", json.loads(response.read())
            return
        event = ""
        for line in response:
            word, _, rest = line.decode().rstrip("\n").partition(": ")
            if word == "event":
                event = rest
            elif word == "data":
                yield event, json.loads(rest)
    except (OSError, http.client.HTTPException) as error:
        raise _absent(path, error) from None
    finally:
        connection.close()


def _send(
    connection: _Connection, method: str, target: str, body: Json | None
) -> http.client.HTTPResponse:
    raw = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json"} if raw is not None else {}
    with contextlib.suppress(BrokenPipeError):  # refused unread: the answer is there all the same
        connection.request(method, target, raw, headers)
    return connection.getresponse()


def _absent(path: str, error: Exception) -> DaemonAbsent:
    return DaemonAbsent(_why(path, error), barred=isinstance(error, PermissionError))


def _why(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"vppd is not running: there is no {path}"
    if isinstance(error, ConnectionRefusedError):
        return f"vppd is not running: nobody listens on {path}"
    if isinstance(error, PermissionError):
        return f"you may not open {path}: it takes a member of its group, usually vppd-viewers"
    if isinstance(error, TimeoutError):
        return f"vppd does not answer on {path}"
    return f"vppd cannot be asked on {path}: {error}"
