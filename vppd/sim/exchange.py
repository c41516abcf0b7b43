"""A simulated power exchange behind real HTTP: a closed auction, its gates, and its bad days.

    async with SimulatedExchange(clock, seed=1) as exchange:     # 127.0.0.1, any free port
        exchange.trouble.next("cut_after")
        exchange.hall.of_ticket("dam-2026-01-02-1")              # its own book
    SimulatedExchange(clock, path=Path("exchange.sock"))         # a Unix socket instead

Its member interface is an outline typed from notes (see exchange_words): nothing of it was compared
with a real exchange's papers. `state` (a dict) or `file` carries what it took over a restart.
"""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from vppd.core.ports import Clock
from vppd.core.settings_market import MarketSettings
from vppd.sim.exchange_crowd import Crowd
from vppd.sim.exchange_hall import DAY_SESSIONS, Hall, Rules, Sitting, Turned
from vppd.sim.exchange_trouble import Next, Trouble
from vppd.sim.exchange_words import (
    PATHS,
    bid_in,
    bid_out,
    day_of,
    epoch_of,
    pattern_of,
    price_out,
    schedule_out,
)

RATE_PER_S = 4.0
STOP_S = 0.1
MOST_PRICED = 100  # two days
ASKED_KEPT = 1000
GARBAGE = "<html><body>502 Bad Gateway</body></html>"


class SimulatedExchange:
    """See the module. Without a `token` anybody may ask; entering raises OSError."""

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 0,
        rules: Rules | None = None,
        crowd: Crowd | None = None,
        token: str | None = None,
        users: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
        state: dict[str, Any] | None = None,
        file: Path | None = None,
        paths: Mapping[str, str] = PATHS,
        rate_per_s: float = RATE_PER_S,
    ) -> None:
        self._clock, self._token, self._users = clock, token, users
        self._host, self._path, self.port, self._tls = host, path, port, tls
        self._rules = rules or Rules()
        self._crowd = crowd or Crowd(seed)
        self._file = file
        self._patterns = {name: pattern_of(each) for name, each in paths.items()}
        self._rate_per_s, self._allowed, self._counted_s = rate_per_s, rate_per_s, clock.now_s()
        self._priced: dict[Sitting, list[dict[str, Any]]] = {}
        self.trouble = Trouble()
        self.asked: deque[str] = deque(maxlen=ASKED_KEPT)  # the requests' paths, as they came
        self.busy_count = 0  # requests turned away with 429
        self.hall = Hall(clock, self._rules, self._crowd, state, file)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        if self._path is not None:
            return f"unix:{self._path}"
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self._host}:{self.port}"

    async def start(self) -> None:
        """Open the address. Raises OSError."""
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S)
        await runner.setup()
        try:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
                await web.UnixSite(runner, str(self._path)).start()
            else:
                await web.TCPSite(runner, self._host, self.port, ssl_context=self._tls).start()
                self.port = runner.addresses[0][1]
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Drop every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def restart(self) -> None:
        """Forget all but what is kept, as a process would; the address stays open."""
        self.hall = Hall(self._clock, self._rules, self._crowd, self.hall.state, self._file)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def state(self) -> dict[str, Any]:
        """Every bid it took, in plain values."""
        return {"url": self.url, "placed": self.hall.state["placed"], "busy": self.busy_count}

    # answering
    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.trouble.down:
            return _cut(request)
        if not self._in_pace():
            self.busy_count += 1
            return web.json_response({"Message": "Too many requests"}, status=429)
        name, words = self._route(request)
        if not name:
            return web.json_response({"Message": "Not found"}, status=404)
        if not self._known(request):
            return web.json_response({"Message": "Unauthorized"}, status=401)
        trouble = self.trouble.take(name)
        answer = await self._before(request, trouble)
        if answer is not None:
            return answer
        try:
            said = await self._answer(name, words, request, trouble)
        except Turned as error:
            said = str(error)
        return await self._after(request, trouble, said)

    def _route(self, request: web.Request) -> tuple[str, dict[str, str]]:
        """What is asked for and the words of its path; an empty name for nothing we have."""
        for name, pattern in self._patterns.items():
            found = pattern.fullmatch(request.path)
            if found is not None and (request.method == "POST") == (name == "submit"):
                return name, found.groupdict()
        return "", {}

    async def _before(
        self, request: web.Request, trouble: Next | None
    ) -> web.StreamResponse | None:
        match trouble:
            case Next("cut_before"):
                return _cut(request)
            case Next("hang_before", by_s=by_s):
                await self._wait(by_s)
                return _cut(request)
            case Next("refuse", text=text):
                return web.json_response(text)
            case Next("garbage"):
                return web.Response(text=GARBAGE, content_type="text/html")
            case Next("error"):
                return web.json_response({"Message": "An error has occurred"}, status=500)
            case Next("busy"):
                return web.json_response({"Message": "Too many requests"}, status=429)
            case Next("forbidden"):
                return web.json_response({"Message": "IP is not whitelisted"}, status=403)
        return None

    async def _after(
        self, request: web.Request, trouble: Next | None, said: object
    ) -> web.StreamResponse:
        match trouble:
            case Next("cut_after"):
                return _cut(request)
            case Next("hang_after", by_s=by_s):
                await self._wait(by_s)
            case Next("garbage_after"):
                return web.Response(text=GARBAGE, content_type="text/html")
        return web.json_response(said)

    async def _wait(self, by_s: float) -> None:
        await self._clock.sleep_until(self._clock.now_s() + by_s)

    async def _answer(
        self, name: str, words: Mapping[str, str], request: web.Request, trouble: Next | None
    ) -> object:
        product = words.get("product", "")
        if product not in ("dam", "rtm"):
            raise Turned("Invalid market segment")
        if name == "submit":
            body = None
            with suppress(json.JSONDecodeError, UnicodeDecodeError):
                body = json.loads(await request.text())
            return self._submit(product, body, trouble)
        if name == "assets":
            scales = {"OrderQtyDecimal": 10, "OrderPriceDecimal": 1}
            return [{"AssetId": product.upper(), **scales}]
        day = day_of(words["epoch"])
        if name == "bids":
            held = self.hall.held(words["portfolio"], day, product)
            return {"BidBook": [bid_out(each) for each in held]}
        sittings = _sittings(product, day)
        if name == "publish":
            return {"PublishInfo": [self._publish_row(each) for each in sittings]}
        if name == "prices":
            return {"PQResults": self._price_rows(sittings)}
        if words["area"] == "ALL" or words["area"] != words["portfolio"][:2]:
            raise Turned("Invalid BidArea")
        return {"ScheduleReport": self._result_rows(sittings, words["portfolio"])}

    def _submit(self, product: str, body: Any, trouble: Next | None) -> object:
        ticket, portfolio, sitting, curves, wholes = bid_in(product, body)
        if trouble is not None and trouble.kind == "part":
            curves = curves[: (len(curves) + 1) // 2]
        placed = self.hall.place(ticket, portfolio, sitting, curves, wholes)
        if trouble is not None and trouble.kind == "strike":
            self.hall.strike(placed.order, trouble.text)
        return {"Status": "Success", "OrderId": placed.order, "ClientOrderId": ticket}

    # results
    def _publish_row(self, sitting: Sitting) -> dict[str, Any]:
        flag = self.published(sitting)
        return {
            "DeliveryDate": epoch_of(sitting.day),
            "SessionId": sitting.number,
            "ResultType": flag,
            "Status": "D" if flag and self.trouble.result_kind == "retracted" else "P",
        }

    def published(self, sitting: Sitting) -> str:
        """F final, P provisional, or nothing yet."""
        closed, rules, trouble = self._rules.closes_at(sitting), self._rules, self.trouble
        if trouble.result_kind == "missing":
            return ""
        since = self._clock.utc() - timedelta(seconds=trouble.late_s)
        if sitting.product == "rtm":
            final = _passed(closed, rules.rtm_final_min, since)
            first = final
        else:
            final = _passed(closed, rules.dam_final_min, since)
            first = _passed(closed, rules.dam_provisional_min, since)
        if final and trouble.result_kind != "provisional":
            return "F"
        return "P" if first else ""

    def _result_rows(self, sittings: list[Sitting], portfolio: str) -> list[dict[str, Any]]:
        kind = self.trouble.result_kind
        rows = []
        for sitting in sittings:
            if not self.published(sitting) or kind == "retracted":
                continue
            for block, lots in self.hall.traded_lots(portfolio, sitting).items():
                if kind == "partial" and block % 2 == 0:
                    continue
                said = {"wrong": lots * 10, "contradictory": lots // 20 * 10}.get(kind, lots)
                price = self.hall.price_paise(portfolio[:2], sitting, block)
                rows.append(schedule_out(sitting, block, portfolio, said, price))
        return rows

    def _price_rows(self, sittings: list[Sitting]) -> list[dict[str, Any]]:
        return [
            row
            for sitting in sittings
            if self.published(sitting) and self.trouble.result_kind != "retracted"
            for row in self._prices_of(sitting)
        ]

    def _prices_of(self, sitting: Sitting) -> list[dict[str, Any]]:
        """Asked for again and again all day, and always the same once the gate is closed."""
        if sitting not in self._priced:
            if len(self._priced) > MOST_PRICED:
                self._priced.clear()
            self._priced[sitting] = [
                price_out(sitting, block, area, self.hall.price_paise(area, sitting, block))
                for block in sitting.blocks
                for area in self._crowd.area_shares
            ]
        return self._priced[sitting]

    # the door
    def _known(self, request: web.Request) -> bool:
        headers = request.headers
        if self._token is not None and headers.get("Authorization") != f"Bearer {self._token}":
            return False
        user, participant = headers.get("UserId"), headers.get("ParticipantId")
        if user is None or participant is None:
            return False
        return self._users is None or self._users.get(user) == participant

    def _in_pace(self) -> bool:
        """A bucket of as many requests as a second allows."""
        now_s = self._clock.now_s()
        refilled = self._allowed + (now_s - self._counted_s) * self._rate_per_s
        self._allowed, self._counted_s = min(refilled, self._rate_per_s), now_s
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        return True


def exchange_at(
    path: Path, market: MarketSettings, clock: Clock, seed: int, file: Path | None = None
) -> SimulatedExchange:
    """One on a Unix socket that goes by a site's own settings: gates, terms, token, area, pace."""
    settings = market.exchange
    areas = dict(Crowd().area_shares)
    areas.setdefault(settings.area, min(areas.values()))
    return SimulatedExchange(
        clock,
        rules=Rules(market.gates, market.dam_terms, market.rtm_terms),
        crowd=Crowd(seed, areas),
        token=settings.token,
        path=path,
        file=file,
        rate_per_s=settings.requests_per_s,
    )


def _sittings(product: str, day: Any) -> list[Sitting]:
    numbers = range(1) if product == "dam" else range(1, DAY_SESSIONS + 1)
    return [Sitting(product, day, number) for number in numbers]


def _passed(closed: datetime, minutes_min: float, now: datetime) -> bool:
    return now >= closed + timedelta(minutes=minutes_min)


def _cut(request: web.Request) -> web.StreamResponse:
    """Pull the plug: no byte of an answer."""
    transport = request.transport
    if transport is not None:
        transport.abort()
    raise asyncio.CancelledError
