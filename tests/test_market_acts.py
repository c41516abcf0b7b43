"""What an operator does in the market: over the socket, with `vppctl market`, with `vppd market
import`. Who may, what is refused, and what is written down."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.api_site import Rig, make_rig, serving
from tests.desk_rig import DAM, DAY, SETTINGS, DeskRig, flat
from tests.journal_site import rows_of
from tests.test_api_acts import problem
from tests.test_market_faults import overwritten
from tests.virtual_time import virtual
from vppd.cli import vppctl
from vppd.cli.vppd import main as vppd
from vppd.market.blocks import Block
from vppd.market.book import Whole
from vppd.market.settling.accounts import Accounts, Eyes, rules_of
from vppd.market.settling.ledger import Cause
from vppd.market.settling.sold import SoldPlans
from vppd.market.trading import Trading
from vppd.northbound import routes
from vppd.northbound.peers import Role, user_name
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal

ME = user_name(os.getuid())
NIGHT = Block(DAY, 8)
A_DAY = {"product": "dam", "day": str(DAY)}


class Bench:
    """A desk that trades and the socket beside it, on one virtual clock."""

    def __init__(self, directory: Path) -> None:
        self.rig = DeskRig(directory / "journal.db")
        self.rig.maker.wish = flat(NIGHT, 0.5)
        self.path = directory / "v.sock"
        self.api: Rig

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Rig]:
        rig = self.rig
        async with rig.trading() as desk:
            made = make_rig(self.path, journal=rig.journal, clock=rig.clock, market=SETTINGS)
            made.site.trading = self._trading(desk, made)
            async with serving(made) as self.api:
                yield self.api

    def _trading(self, desk: Any, made: Rig) -> Trading:
        rig = self.rig
        sold = SoldPlans(
            desk,
            made.site.bus,
            rig.clock,
            lambda: True,
            ramp_kw_per_s=100.0,
            horizon_s=60.0,
            losses=tuple(rules_of(SETTINGS).losses),
        )
        eyes = Eyes(
            scheduled_kw=sold.power_kw,
            delta_kw=lambda: 0.0,
            short_of=lambda _: Cause.LIMITS,
            connection_kw=lambda _: None,
            units_kw=lambda _: None,
            stock=rig.plant.stock,
            metered=False,
        )
        accounts = Accounts(SETTINGS, rig.journal, rig.clock, eyes)
        return Trading(desk, sold, accounts, rig.exchange, rig.own)

    async def say(self, *words: str) -> int:
        """One `vppctl`; what it prints is captured."""
        arguments = ["market", *words]
        given = vppctl.Words(socket=str(self.path), state="/nonexistent", json=False)
        parsed = vppctl._parser().parse_args(arguments, given)
        return await asyncio.to_thread(lambda: int(parsed.run(parsed)))

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return rows_of(self.rig.path, sql)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_only_operators_act_in_the_market() -> None:
    acts = {route.path: route for route in routes.ROUTES if "/market" in route.path and route.verb}
    assert set(acts) == {"/v1/market/prices", "/v1/market/bids", "/v1/market/control"}
    assert {route.role for route in acts.values()} == {Role.OPERATOR}
    looks = [route for route in routes.ROUTES if "/market" in route.path and not route.verb]
    assert {route.role for route in looks} == {Role.VIEWER}


# --- bids ---


@virtual
async def test_an_own_book_goes_the_way_of_every_other(bench: Bench) -> None:
    async with bench.serving() as api:
        body = {**A_DAY, "sells": [[8, 3000, 0.2], [8, 4000, 0.4]], "buys": [[20, 2000, 0.3]]}
        code, answer = await api.post("/v1/market/bids", body)
        assert (code, answer["blocks"], answer["journaled"]) == (202, 2, True)
        assert (await api.get("/v1/market"))[1]["own_books"] == {str(DAM): ME}
        await bench.rig.until(bench.rig.gate(DAM).opens_at + timedelta(minutes=1))
        kept = api.site.trading.desk.tickets[DAM]  # type: ignore[union-attr]
        assert kept.state == "accepted"
        assert kept.story.why == f"a book given by {ME}"
        assert {block.number for block in kept.ticket.book.bids} <= {8, 20}
        late = await api.post("/v1/market/bids", {**A_DAY, "sells": [[8, 3000, 0.2]]})
        assert "made already" in problem(late, 409, "gate-open")
    acts = bench.rows("SELECT verb, verdict FROM command ORDER BY id")
    assert acts[0] == ("bid", "accepted")
    assert acts[1][1] == "refused"


@virtual
async def test_an_own_block_bid_is_kept_over_a_restart_and_offered(bench: Bench) -> None:
    async with bench.serving() as api:
        code, answer = await api.post("/v1/market/bids", {**A_DAY, "wholes": [[8, 4, 3000, 0.3]]})
        assert (code, answer["blocks"], answer["wholes"]) == (202, 0, 1)
    async with bench.serving() as api:
        await bench.rig.until(bench.rig.gate(DAM).opens_at + timedelta(minutes=1))
        kept = api.site.trading.desk.tickets[DAM]  # type: ignore[union-attr]
        assert kept.state == "accepted"
        assert kept.ticket.book.wholes == (Whole(NIGHT, 4, 3000.0, 0.3),)
        seen = (await api.get(f"/v1/market/why/{DAY}:10"))[1]["auctions"][0]
        assert "8 to 11, +0.3 MW at 3000" in seen["wholes"][0]
    assert bench.rows("SELECT count(*) FROM market_bid WHERE kind = 'block 1'") != [(0,)]


@virtual
async def test_an_own_book_survives_a_restart_and_can_be_withdrawn(bench: Bench) -> None:
    async with bench.serving() as api:
        await api.post("/v1/market/bids", {**A_DAY, "sells": [[8, 3000, 0.2]]})
    async with bench.serving() as api:
        assert (await api.get("/v1/market"))[1]["own_books"] == {str(DAM): ME}
        code, answer = await api.post("/v1/market/bids", A_DAY)
        assert (code, answer["blocks"]) == (202, 0)
        assert (await api.get("/v1/market"))[1]["own_books"] == {}
    await overwritten_own_book(bench)
    async with bench.serving() as api:
        assert (await api.get("/v1/market"))[1]["own_books"] == {}
    assert "cannot be read" in str(bench.rows("SELECT text FROM event"))


async def overwritten_own_book(bench: Bench) -> None:
    await overwritten(bench.rig, "own book/3-dam-00", "{}")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "product is missing"),
    ({"product": "ida", "day": str(DAY)}, "must be one of dam, rtm"),
    ({"product": "dam", "day": "tomorrow"}, "like 2026-11-23"),
    ({"product": "rtm", "day": str(DAY)}, "session is missing"),
    ({"product": "rtm", "day": str(DAY), "session": 49}, "must be 1 to 48"),
    ({"product": "rtm", "day": str(DAY), "session": 5, "sells": [[1, 1, 1]]}, "no block 1"),
    ({**A_DAY, "sells": [[97, 3000, 0.2]]}, "no block 97"),
    ({**A_DAY, "sells": [[8.5, 3000, 0.2]]}, "no block 8.5"),
    ({**A_DAY, "sells": [[8, -1, 0.2]]}, "at least 0"),
    ({**A_DAY, "sells": [[8, 3000, 0]]}, "above 0"),
    ({**A_DAY, "sells": [[8, 3000]]}, "sells"),
    ({**A_DAY, "sells": [[8, "3000", 1]]}, "sells"),
    ({**A_DAY, "sells": {"8": 1}}, "list of lists"),
    ({**A_DAY, "sells": [[8, 3000, 0.4], [8, 4000, 0.2]]}, "must rise"),
    ({**A_DAY, "sells": [[8, 3000, 0.2]], "buys": [[8, 3000, 0.2]]}, "below every sell"),
    ({**A_DAY, "limit": 3}, "not known here"),
    ({**A_DAY, "wholes": [[95, 3, 3000, 0.2]]}, "no 3 blocks from 95"),
    ({**A_DAY, "wholes": [[8, 0, 3000, 0.2]]}, "1 to 96 blocks"),
    ({**A_DAY, "wholes": [[8, 1e300, 3000, 0.2]]}, "no 1e+300 blocks"),
    ({**A_DAY, "wholes": [[8, 4, -1, 0.2]]}, "at least 0"),
    ({**A_DAY, "wholes": [[8, 4, 3000, 0]]}, "some power"),
    ({**A_DAY, "wholes": [[8, 4, 3000, 0.1]] * 21}, "takes 20 of them"),
]


@virtual
async def test_what_is_no_book_is_refused_and_written_down(bench: Bench) -> None:
    async with bench.serving() as api:
        for body, told in REFUSED:
            assert told in problem(await api.post("/v1/market/bids", body), 422, "unusable-value")
        assert (await api.get("/v1/market"))[1]["own_books"] == {}
    refused = bench.rows("SELECT verb, text FROM command WHERE verdict = 'refused'")
    assert refused[0] == ("bid", "product is missing"), "of a crowd of refusals the first is kept"


# --- control ---


@virtual
async def test_stop_and_resume_over_the_socket(bench: Bench) -> None:
    async with bench.serving() as api:
        refused = await api.post("/v1/market/control", {"command": "pause"})
        assert "one of stop, resume" in problem(refused, 422, "unusable-value")
        code, answer = await api.post("/v1/market/control", {"command": "stop", "text": "storm"})
        assert (code, answer["stopped"], answer["journaled_state"]) == (
            200,
            f"by {ME}: storm",
            True,
        )
        await bench.rig.until(bench.rig.gate(DAM).closes_at + timedelta(minutes=1))
        assert bench.rig.exchange.sent == []
        assert "storm" in (await api.get("/v1/market"))[1]["tickets"][-1]["text"]
        code, answer = await api.post("/v1/market/control", {"command": "resume"})
        assert (code, answer["stopped"]) == (200, "")
    acts = bench.rows("SELECT verb, verdict FROM command ORDER BY id")
    assert [outcome for _, outcome in acts] == ["refused", "accepted", "accepted"]


# --- prices ---


def price_of(block: Block, price: float) -> list[float]:
    return [block.start.timestamp(), price]


@virtual
async def test_prices_from_elsewhere_are_kept_or_refused_whole(bench: Bench) -> None:
    who = {"product": "dam", "area": "S1", "source": "test"}
    good = price_of(NIGHT, 3200.0)
    async with bench.serving() as api:
        for wrong, told in (
            ([], "must not be empty"),
            ([good, [good[0] + 1.0, 3000.0]], "not the start of a block"),
            ([good, [1e300, 3000.0]], "not the start of a block"),
            ([good, [good[0], 1e9]], "no price in Rs/MWh"),
            ([good, [good[0]]], "prices"),
        ):
            answer = await api.post("/v1/market/prices", {**who, "prices": wrong})
            assert told in problem(answer, 422, "unusable-value")
        code, answer = await api.post("/v1/market/prices", {**who, "prices": [good]})
        assert (code, answer["prices"]) == (200, 1)
        shown = (await api.get(f"/v1/market/prices?day={DAY}"))[1]["prices"]
        assert [each["price_rs_per_mwh"] for each in shown] == [3200.0]
    rows = bench.rows("SELECT kind, source, price_rs_per_mwh FROM market_price")
    assert rows == [("imported", "test", 3200.0)]


def imported(file: Path, socket: Path, state: Path) -> Result:
    words = ["market", "import", str(file), "--socket", str(socket), "--state", str(state)]
    return CliRunner().invoke(vppd, words)


def prices_csv(file: Path, factor: float = 1.0) -> Path:
    lines = [
        f"{DAY} {n // 4:02}:{n % 4 * 15:02},{(2500.0 + 40.0 * n) * factor:.6f}" for n in range(96)
    ]
    file.write_text("\n".join(["datetime,price", *lines, "nonsense,1"]) + "\n")
    return file


@virtual
async def test_import_goes_through_a_daemon_that_runs(bench: Bench, tmp_path: Path) -> None:
    async with bench.serving():
        said = await asyncio.to_thread(
            imported, prices_csv(tmp_path / "p.csv"), bench.path, tmp_path / "other"
        )
        assert said.exit_code == 0, said.output
        assert "96 dam prices of S1" in said.output
        assert "the running vppd" in said.output
        assert ":98:" in said.output, "the row that could not be used is told"
    assert not (tmp_path / "other").exists()
    assert bench.rows("SELECT count(*), min(kind) FROM market_price") == [(96, "imported")]


def test_import_writes_the_journal_of_a_daemon_that_is_stopped(tmp_path: Path) -> None:
    file, nowhere = prices_csv(tmp_path / "p.csv"), tmp_path / "no.sock"
    said = imported(file, nowhere, tmp_path)
    assert said.exit_code == 0, said.output
    rows = rows_of(tmp_path / "journal.db", "SELECT count(*), min(source) FROM market_price")
    assert rows == [(96, "p.csv")]
    assert "warning" not in said.output
    (tmp_path / "empty.csv").write_text("datetime,price\n")
    assert imported(tmp_path / "empty.csv", nowhere, tmp_path).exit_code == 1


@pytest.mark.parametrize(
    ("factor", "code", "told"),
    [
        (0.001, 0, "as if the column were Rs/kWh: if it is, multiply it by 1000"),
        (0.1, 0, "as if the column were paise/kWh: if it is, multiply it by 10"),
        (10.0, 0, "as if the column were paise/MWh: if it is, divide it by 100"),
        (100.0, 1, "no price in Rs/MWh; of paise take a hundredth"),
    ],
)
def test_prices_in_another_unit_are_told_with_the_remedy(
    tmp_path: Path, factor: float, code: int, told: str
) -> None:
    said = imported(prices_csv(tmp_path / "p.csv", factor), tmp_path / "no.sock", tmp_path)
    assert told in said.output
    assert said.exit_code == code


# --- vppctl ---


@virtual
async def test_every_word_of_vppctl_market(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.rig.exchange.malformed = ("results.csv:3: cleared_mw is nan",)
    async with bench.serving():
        await bench.rig.until(bench.rig.gate(DAM).late_at + timedelta(minutes=1))
        for words, told in (
            ((), ["market trades", "cannot be read: results.csv:3", f"{DAM}", "accepted"]),
            (("why", f"{DAY}:8"), ["+0.50 MW", "forecast fresh", "sells 0.5 MW at 0", "final"]),
            (("why",), ["+0.00 MW", "rtm 2026-01-01 session 44: "]),
            (("bids", str(DAY)), ["accepted", "0.5@0"]),
            (("bids",), ["no bids"]),
            (("stop", "storm"), ["STOPPED", "storm"]),
            (("resume",), ["market trades"]),
        ):
            code = await bench.say(*words)
            said = capsys.readouterr()
            assert code == 0, (words, said.err)
            for each in told:
                assert each in said.out, (words, said.out)
        assert await bench.say("why", "97") == 1
        assert "1 to 96" in capsys.readouterr().err
        assert await bench.say("bids", "noon") == 1


@virtual
async def test_a_site_without_a_market_says_what_it_follows(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as api:
        for path, body in (("bids", A_DAY), ("control", {"command": "stop"})):
            answer = await api.post(f"/v1/market/{path}", body)
            assert "not configured" in problem(answer, 404, "not-available")


async def test_an_import_beside_another_writer_says_what_to_do(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", SystemClock(), lambda *_: None)
    await journal.open()
    file = tmp_path / "p.csv"
    file.write_text("datetime,price\n2026-03-02 00:00:00,3000\n")
    told = await asyncio.to_thread(imported, file, tmp_path / "nobody.sock", tmp_path)
    assert told.exit_code == 1
    assert "no daemon at" in told.output
    assert "another vppd writes" in told.output
    await journal.close()
