"""One HTTP request to an exchange: in its pace, over verified TLS, and what its answer means.

| answer | means |
|---|---|
| 200 with a JSON object or list | that |
| 200 with a bare JSON string, 400, 401, 403, 404, 405, 422 | Refused |
| 429 | Unsure, and a rest before the next request |
| any other, no JSON, too much, no answer in time, a broken connection | Unsure |

Tokens travel in headers only, nothing here is logged, and a redirection is not followed.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from vppd.core.ports import Clock
from vppd.market.exchange import Refused, Unsure

REST_S = 1.0
LONGEST_REST_S = 60.0
MOST_BYTES = 8_000_000
TEXT_CHARACTERS = 200
SAID_NO = {400, 401, 403, 404, 405, 422}


class Pace:
    """Requests so far apart that there are never more than so many a second."""

    def __init__(self, clock: Clock, requests_per_s: float) -> None:
        self._clock, self._apart_s = clock, 1.0 / requests_per_s
        self._free_s = clock.now_s()

    async def turn(self) -> None:
        """Return when the next request may leave."""
        at_s = max(self._free_s, self._clock.now_s())
        self._free_s = at_s + self._apart_s
        await self._clock.sleep_until(at_s)

    def rest(self, for_s: float) -> None:
        """Nothing for so long: the exchange said it was too much."""
        self._free_s = max(self._free_s, self._clock.now_s() + for_s)


class Asking:
    """`socket`: a Unix socket instead of the network. `trust`: whose certificates are believed,
    the system's when None. Raises ValueError for an address that would carry a token in clear."""

    def __init__(
        self,
        url: str | None,
        headers: Mapping[str, str],
        pace: Pace,
        timeout_s: float,
        *,
        socket: Path | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._url = _checked(url, socket)
        self._headers, self._pace, self._timeout_s = dict(headers), pace, timeout_s
        self._socket, self._trust = socket, trust
        self._secret = headers.get("Authorization", "").removeprefix("Bearer ")

    async def get(self, path: str) -> Any:
        """What is there. Raises Refused and Unsure."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Hand something in. Raises Refused and Unsure."""
        return await self._ask("POST", path, body)

    async def turn(self) -> None:
        """Return when a request may leave; the next one leaves at once."""
        await self._pace.turn()

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        if body is None:
            await self._pace.turn()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session() as session,
                session.request(
                    method, f"{self._url}/{path}", json=body, allow_redirects=False
                ) as answer,
            ):
                raw = await answer.content.read(MOST_BYTES)
                whole = answer.content.at_eof()
                while not whole and len(raw) < MOST_BYTES:
                    raw += await answer.content.read(MOST_BYTES - len(raw))
                    whole = answer.content.at_eof()
                rest = answer.headers.get("Retry-After", "")
        except TimeoutError:
            raise Unsure(f"no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unsure(f"{type(error).__name__}: {error}") from None
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            asked_s = float(rest) if rest.isdecimal() else REST_S
            self._pace.rest(min(asked_s, LONGEST_REST_S))
        return meaning(answer.status, raw, self._secret)

    def _session(self) -> aiohttp.ClientSession:
        """A connection of its own for every request: they are few and far between."""
        connector: aiohttp.BaseConnector
        if self._socket is not None:
            connector = aiohttp.UnixConnector(str(self._socket), force_close=True)
        elif self._trust is not None:
            connector = aiohttp.TCPConnector(ssl=self._trust, force_close=True)
        else:
            connector = aiohttp.TCPConnector(force_close=True)
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )


def meaning(status: int, raw: bytes, secret: str = "") -> Any:
    """What an answer says; words of it that are carried on do not repeat the secret. Raises Refused
    and Unsure. Pure."""
    said = _without(secret, raw.decode("utf-8", "replace"))[:TEXT_CHARACTERS].strip()
    if status in SAID_NO:
        raise Refused(f"HTTP {status}: {said}")
    if status != HTTPStatus.OK:
        raise Unsure(f"HTTP {status}: {said}")
    if len(raw) >= MOST_BYTES:
        raise Unsure(f"an answer of more than {MOST_BYTES} bytes")
    try:
        answer = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Unsure(f"no JSON: {said}") from None
    if isinstance(answer, str):
        raise Refused(_without(secret, answer))
    if not isinstance(answer, dict | list):
        raise Unsure(f"no answer: {said}")
    return answer


def _without(secret: str, words: str) -> str:
    return words.replace(secret, "(token)") if secret else words


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that says the same thing twice says nothing. Raises ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _checked(url: str | None, socket: Path | None) -> str:
    if socket is not None:
        return "http://exchange"
    if not url:
        raise ValueError("exchange.url: where the exchange is must be told")
    here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    if not (url.startswith("https://") or (url.startswith("http://") and here)):
        raise ValueError(f"exchange.url: {url} is not https, and a token would go in clear")
    return url.rstrip("/")
