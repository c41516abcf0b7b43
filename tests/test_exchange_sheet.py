"""Bid sheets out and results files in; PXIL's reports; which side the settings choose."""

import asyncio
import csv
import io
import json
import os
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchange_site import DAM, DAY, HandClock, market, rtm, ticket
from vppd.core.settings_market import GateSettings, MarketSettings
from vppd.market.blocks import Block
from vppd.market.book import Bid, Pair
from vppd.market.exchange import Exchange, Refused, Result, Unsure
from vppd.market.exchanges import MemberExchange, PxilExchange, SheetExchange, exchange_of
from vppd.market.exchanges.sheet import SheetError, parse
from vppd.market.gates import gate_of

OPEN = gate_of(DAM, GateSettings()).opens_at
BIDS = {
    1: Bid(buys=(Pair(3001.0, 1.0), Pair(2500.0, 2.5))),
    80: Bid(sells=(Pair(6500.0, 0.5), Pair(9999.0, 2.0))),
}
HEAD = "date,block,product,session,cleared_mw,price_rs_per_mwh,state\n"


def sheet_settings(directory: Path) -> MarketSettings:
    return market(None, kind="sheet", directory=str(directory))


def side(directory: Path, clock: HandClock | None = None) -> SheetExchange:
    made = exchange_of(sheet_settings(directory), clock or HandClock(OPEN))
    assert isinstance(made, SheetExchange)
    return made


def words_of(awaited: Awaitable[object], kind: type[Exception]) -> str:
    async def main() -> None:
        await awaited

    with pytest.raises(kind) as raised:
        asyncio.run(main())
    return str(raised.value)


def test_a_book_becomes_two_sheets_that_say_the_same(tmp_path: Path) -> None:
    asyncio.run(side(tmp_path).submit(ticket("dam-1", BIDS)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dam-1.csv", "dam-1.json"]
    said = json.loads((tmp_path / "out" / "dam-1.json").read_text())
    assert (said["bidDate"], said["ticket"], said["verified"]) == ("06-01-2026", "dam-1", False)
    assert said["bid"] == [
        {
            "fromtime": "00:00",
            "totime": "00:15",
            "type": "B",
            "bidvalue": [{"price": 3.001, "value": 1.0}, {"price": 2.5, "value": 2.5}],
        },
        {
            "fromtime": "19:45",
            "totime": "20:00",
            "type": "S",
            "bidvalue": [{"price": 6.5, "value": 0.5}, {"price": 9.999, "value": 2.0}],
        },
    ]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "dam-1.csv").read_text())))
    assert {(row["ticket"], row["verified"]) for row in rows} == {("dam-1", "false")}
    assert [
        (row["block"], row["type"], float(row["price_rs_per_mwh"]), float(row["cumulated_mw"]))
        for row in rows
    ] == [
        ("1" if each["fromtime"] == "00:00" else "80", each["type"], v["price"] * 1000, v["value"])
        for each in said["bid"]
        for v in each["bidvalue"]
    ]


def test_the_same_ticket_twice_is_one_sheet_and_another_book_is_refused(tmp_path: Path) -> None:
    clock = HandClock(OPEN)
    made = ticket("dam-1", BIDS)
    assert asyncio.run(side(tmp_path).status(made)).standing == "unknown"
    asyncio.run(side(tmp_path, clock).submit(made))
    stamp = (tmp_path / "out" / "dam-1.json").stat().st_mtime_ns
    clock.wall += timedelta(minutes=5)
    asyncio.run(side(tmp_path, clock).submit(made))
    assert (tmp_path / "out" / "dam-1.json").stat().st_mtime_ns == stamp
    assert asyncio.run(side(tmp_path).status(made)).standing == "accepted"
    other = ticket("dam-1", {1: BIDS[80]})
    assert "another book" in words_of(side(tmp_path).submit(other), Refused)
    assert asyncio.run(side(tmp_path).status(other)).text == "another book was written"
    (tmp_path / "out" / "dam-1.csv").unlink()  # as if the power had gone between the two
    assert asyncio.run(side(tmp_path).status(made)).standing == "unknown"
    asyncio.run(side(tmp_path).submit(made))
    assert asyncio.run(side(tmp_path).status(made)).standing == "accepted"


def test_nothing_is_written_late_nor_outside_nor_where_it_cannot(tmp_path: Path) -> None:
    clock = HandClock(gate_of(DAM, GateSettings()).closes_at)
    assert "gate is closed" in words_of(side(tmp_path, clock).submit(ticket()), Refused)
    assert "no name" in words_of(side(tmp_path).submit(ticket("../evil")), Refused)
    (tmp_path / "out").write_text("a file where the directory should be")
    words_of(side(tmp_path).submit(ticket()), Unsure)
    assert not list(tmp_path.glob("**/*.json"))


def test_results_come_back_by_csv_and_json_and_the_later_file_rules(tmp_path: Path) -> None:
    sheet, came = side(tmp_path), tmp_path / "in"
    assert asyncio.run(sheet.results(DAM)) is None
    came.mkdir()
    (came / "a.csv").write_text(
        f"{HEAD}{DAY},1,dam,,-1.5,2800.5,provisional\n{DAY},3,rtm,2,0.5,3100,\n"
    )
    first = Result(DAM, {Block(DAY, 1): -1.5}, {Block(DAY, 1): 2800.5}, "provisional")
    assert asyncio.run(sheet.results(DAM)) == first
    rows = [
        {"date": f"{DAY}", "block": 1, "product": "dam", "cleared_mw": -1, "price_rs_per_mwh": 2800}
    ]
    (came / "0.json").write_text(json.dumps({"results": rows}))
    os.utime(came / "0.json", ns=((came / "a.csv").stat().st_mtime_ns + 10**9,) * 2)
    second = Result(DAM, {Block(DAY, 1): -1.0}, {Block(DAY, 1): 2800.0}, "final")
    assert asyncio.run(sheet.results(DAM)) == second
    assert asyncio.run(sheet.prices(rtm(2))) == {Block(DAY, 3): 3100.0}
    assert asyncio.run(sheet.portfolio(DAY)) == {Block(DAY, 1): -1.0, Block(DAY, 3): 0.5}
    (came / "00.csv").write_text(f"{HEAD}{DAY},1,dam,0,0,0,retracted\n")
    os.utime(came / "00.csv", ns=((came / "a.csv").stat().st_mtime_ns + 2 * 10**9,) * 2)
    assert asyncio.run(sheet.results(DAM)) == Result(DAM, {}, {}, "retracted")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.csv", "date,block\n", "r.csv:1: no column product, cleared_mw, price_rs_per_mwh"),
        ("r.csv", f"{HEAD}{DAY},97,dam,,1,1,\n", "r.csv:2: block 97; a day has blocks 1 to 96"),
        ("r.csv", f"{HEAD}{DAY},1,dam,,1,1,\n06-01-2026,2,dam,,1,1,\n", "r.csv:3: Invalid"),
        ("r.csv", f"{HEAD}{DAY},1,dam,,much,1,\n", "r.csv:2: could not convert"),
        ("r.csv", f"{HEAD}{DAY},1,dam,,nan,1,\n", "r.csv:2: cleared_mw is nan"),
        ("r.csv", f"{HEAD}{DAY},1,rtm,5,1,1,\n", "r.csv:2: session 5; 2026-01-06 block 1 is of"),
        ("r.csv", f"{HEAD}{DAY},1,gdam,,1,1,\n", "r.csv:2: product 'gdam'"),
        ("r.csv", f"{HEAD}{DAY},1,dam,,1,1,maybe\n", "r.csv:2: state 'maybe'"),
        ("r.csv", f"{HEAD}{DAY},1,dam,,1\n", "r.csv:2: "),
        ("r.csv", f"{HEAD}{f'{DAY},1,dam,,1,1,' + chr(10)}" * 2, "r.csv:3: "),
        ("r.csv", f"{HEAD}{DAY},1,dam,,1,1,\n{DAY},2,dam,,1,1,provisional\n", "r.csv:3: dam 2026"),
        ("r.json", '{"results": [\n{"date": }]}', "r.json:2: Expecting value"),
        ("r.json", "[]", 'r.json:1: no list "results"'),
        ("r.json", '{"results": [{}]}', "r.json:1: 'date'"),
        ("r.json", '{"results": [5]}', "r.json:1: no row"),
    ],
)
def test_a_malformed_file_is_told_by_its_line_and_left(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    sheet, came = side(tmp_path), tmp_path / "in"
    came.mkdir()
    (came / name).write_text(text)
    assert words_of(sheet.results(DAM), Unsure).startswith(said)
    assert (came / name).read_text() == text
    (came / "good.csv").write_text(f"{HEAD}{DAY},1,dam,,1,1,\n")
    found = asyncio.run(sheet.results(DAM))
    assert found is not None
    assert sheet.malformed[0].startswith(said), "a good file does not hide the bad one"


@settings(deadline=None)
@given(st.sampled_from(["r.csv", "r.json"]), st.text(max_size=60))
def test_no_file_whatever_breaks_the_reader(name: str, text: str) -> None:
    for whole in (text, HEAD + text, f'{{"results": [{text}]}}'):
        try:
            lines = parse(whole, name)
        except SheetError as error:
            lines, told = [], str(error)
        else:
            told = f"{name}:"
        assert told.startswith(f"{name}:")
        assert all(line.block in line.auction.blocks for line in lines)


# --- PXIL ---


ROWS = [
    {"DeliveryDate": "06-01-2026", "Period": 1, "SellQty": "0", "BuyQty": "2.5", "MCP": "3000.5"},
    {"DeliveryDate": "06-01-2026", "Period": 4, "SellQty": 1.0, "BuyQty": 0, "MCP": 4000},
]


@pytest.mark.parametrize("envelope", [ROWS, {"data": ROWS}, {"status": 1, "result": ROWS}])
def test_pxil_is_read_but_takes_no_bids(envelope: object) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.json_response(envelope)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{rest:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            made = exchange_of(market(url, kind="pxil"), HandClock(OPEN))
            found = await made.results(DAM)
            assert found is not None
            assert found.cleared_mw == {Block(DAY, 1): -2.5, Block(DAY, 4): 1.0}
            assert found.price_rs_per_mwh == {Block(DAY, 1): 3000.5, Block(DAY, 4): 4000.0}
            assert await made.results(rtm(2)) == Result(
                rtm(2), {Block(DAY, 4): 1.0}, {Block(DAY, 4): 4000.0}, "final"
            )
            assert "fromDate=06-01-2026&toDate=06-01-2026" in asked[0]
            with pytest.raises(Unsure, match="not expected"):
                await made.results(replace(DAM, day=DAY + timedelta(days=1)))
            with pytest.raises(Refused, match="no interface for orders"):
                await made.submit(ticket())
            assert (await made.status(ticket())).standing == "refused"
        finally:
            await runner.cleanup()

    asyncio.run(main())


def test_the_settings_choose_the_side_and_none_is_verified(tmp_path: Path) -> None:
    async def main() -> None:
        clock = HandClock(OPEN)
        chosen: list[tuple[Exchange, type]] = [
            (exchange_of(market("https://x.example"), clock), MemberExchange),
            (exchange_of(market("https://x.example", kind="pxil"), clock), PxilExchange),
            (exchange_of(sheet_settings(tmp_path), clock), SheetExchange),
            (
                exchange_of(market(None, kind="simulated"), clock, socket=tmp_path / "s"),
                MemberExchange,
            ),
        ]
        for made, kind in chosen:
            assert type(made) is kind
            assert made.verified is False
        assert [made.name for made, _ in chosen] == ["iex", "pxil", "sheet", "simulated"]
        with pytest.raises(ValueError, match=r"exchange\.url"):
            exchange_of(market(None), clock)

    asyncio.run(main())
