"""A member's side against the simulated exchange over real HTTP: scales, dates, refusals, pace,
broken connections, and that the exchange's own book agrees with what we were told."""

import asyncio
import json
import logging
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchange_site import (
    DAM,
    DAY,
    PORTFOLIO,
    SURE_BUY,
    TOKEN,
    Site,
    exchange_site,
    market,
    rtm,
    ticket,
)
from tests.sim_site import site, unit
from tests.virtual_time import VirtualClock, virtual
from vppd.core.settings_exchange import WireSettings
from vppd.core.settings_market import ExchangeSettings, GateSettings, TermsSettings
from vppd.market.blocks import Block
from vppd.market.book import Bid, Pair
from vppd.market.exchange import Refused, Result, Unsure
from vppd.market.exchanges import exchange_of
from vppd.market.exchanges.asking import meaning
from vppd.market.exchanges.wire import Garbled, Wire, epoch_of, period_of
from vppd.market.gates import gate_of
from vppd.sim.exchange import SimulatedExchange, exchange_at
from vppd.sim.exchange_hall import Curve, Sitting
from vppd.sim.exchange_words import bid_in
from vppd.sim.exchange_words import epoch_of as server_epoch_of
from vppd.sim.faults.door import obey
from vppd.sim.plant import Plant

SITTING = Sitting("dam", DAY, 0)
FINAL_MIN = 95.0


def run(act: Callable[[Site], Awaitable[None]], **options: object) -> None:
    """One test's act on a fresh site."""

    async def main() -> None:
        async with exchange_site(**options) as site:  # type: ignore[arg-type]
            await act(site)

    asyncio.run(main())


async def words_of(awaited: Awaitable[object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as raised:
        await awaited
    assert TOKEN not in repr(raised.value)
    return str(raised.value)


# --- scales and dates ---


def test_a_bid_arrives_as_meant_and_its_result_comes_back_as_meant() -> None:
    async def act(site: Site) -> None:
        bid = Bid(sells=(Pair(0.0, 13 * 0.1), Pair(9000.0, 2.5)), buys=())
        await site.side.submit(ticket("t1", {1: bid, 96: SURE_BUY}))
        (placed,) = site.server.hall.of_ticket("t1")
        assert placed.portfolio == PORTFOLIO
        assert placed.sitting == SITTING
        assert placed.curves == (
            Curve(1, True, ((0, 130), (900_000, 250))),  # lots of 0.01 MW, paise a MWh
            Curve(96, False, ((1_000_000, 200),)),
        )
        assert (await site.side.status(ticket("t1", {1: bid, 96: SURE_BUY}))).standing == "accepted"
        assert await site.side.results(DAM) is None
        assert await site.side.prices(DAM) == {}
        site.close(DAM, 50)
        early = await site.side.results(DAM)
        assert early is not None
        assert early.state == "provisional"
        site.close(DAM, FINAL_MIN)
        result = await site.side.results(DAM)
        assert result is not None
        assert result.state == "final"
        price = result.price_rs_per_mwh[Block(DAY, 1)]
        assert result.cleared_mw[Block(DAY, 1)] == 1.3
        assert result.cleared_mw[Block(DAY, 96)] == -2.0
        assert len(result.cleared_mw) == 96
        assert 1000.0 < price < 10_000.0
        assert round(price * 100) == site.server.hall.price_paise("S1", SITTING, 1)
        assert await site.side.prices(DAM) == result.price_rs_per_mwh
        assert (await site.side.portfolio(DAY))[Block(DAY, 1)] == 1.3

    run(act)


@settings(deadline=None)
@given(st.dates(date(2024, 1, 1), date(2040, 1, 1)), st.integers(1, 96))
def test_dates_and_periods_are_the_same_on_both_ends(day: date, number: int) -> None:
    assert epoch_of(day) == server_epoch_of(day)
    assert epoch_of(day) % 86_400 == 0
    assert Block(day, 1).start.timestamp() == epoch_of(day) - 5.5 * 3600  # not this one
    since, until = period_of(Block(day, number))
    assert until == "24:00" if number == 96 else period_of(Block(day, number + 1))[0] == until
    assert int(since[:2]) * 4 + int(since[3:]) // 15 == number - 1


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 500), st.integers(1, 96), st.booleans())
def test_what_leaves_is_what_is_read(price: int, tenths: int, number: int, sells: bool) -> None:
    pairs = (Pair(float(price), tenths / 10),)
    bid = Bid(sells=pairs) if sells else Bid(buys=pairs)
    wire = Wire(ExchangeSettings(user="U1", participant="P1"), WireSettings())
    body = wire.bid_out(ticket("t", {number: bid}))
    name, portfolio, sitting, curves, _ = bid_in("dam", body)
    assert (name, portfolio, sitting) == ("t", PORTFOLIO, SITTING)
    assert curves == [Curve(number, sells, ((price * 100, tenths * 10),))]


def test_the_simulated_exchange_takes_bids_of_a_site_that_names_no_member() -> None:
    """As a site in mode simulation has it by default."""

    async def main() -> None:
        names = {"kind": "simulated", "user": "", "participant": "", "token": None}
        async with exchange_site(changes=names, token=None, users=None) as site:
            await site.side.submit(ticket())
            assert (await site.side.status(ticket())).standing == "accepted"

    asyncio.run(main())


def test_an_indian_midnight_is_refused_as_a_delivery_date() -> None:
    async def act(site: Site) -> None:
        paths = WireSettings(
            bids_path="{product}/api/v2/singlebidbook/{user},{participant},1767637800,{portfolio}"
        )
        text = await words_of(site.other_side(words=paths).status(ticket()), Unsure)
        assert "Invalid DeliveryDate" in text

    run(act)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantity_out_factor": 100.0}, "OrderQtyDecimal is 10 there and 100 configured"),
        ({"price_out_factor": 100.0}, "OrderPriceDecimal is 1 there and 100 configured"),
    ],
)
def test_a_wrong_scale_out_is_found_before_anything_is_sent(
    changes: dict[str, Any], said: str
) -> None:
    async def act(site: Site) -> None:
        text = await words_of(site.other_side(**changes).submit(ticket()), Refused)
        assert said in text
        assert not site.server.hall.placed

    run(act)


def test_a_wrong_scale_back_is_no_price_and_no_agreement() -> None:
    async def act(site: Site) -> None:
        await site.side.submit(ticket())
        site.close(DAM, FINAL_MIN)
        said = await words_of(site.other_side(price_in_factor=1.0).results(DAM), Unsure)
        assert "outside 0 to 10000" in said
        said = (await site.other_side(quantity_in_factor=10.0).status(ticket())).text
        assert said == "holds 0 of 2 curves as they were sent"

    run(act)


def test_what_is_no_whole_number_there_is_not_sent() -> None:
    async def act(site: Site) -> None:
        bid = Bid(sells=(Pair(10.0, 0.25),))
        text = await words_of(site.side.submit(ticket("t", {1: bid})), Refused)
        assert "0.25 times 10 is no whole number" in text
        assert not site.server.asked

    run(act)


# --- refusals ---


@pytest.mark.parametrize(
    ("bid", "said"),
    [
        (Bid(sells=(Pair(10_001.0, 1.0),)), "Price is outside the price range"),
        (Bid(sells=(Pair(5.0, 1.0), Pair(4.0, 2.0))), "Prices are not in order"),
        (Bid(buys=(Pair(5.0, 2.0), Pair(4.0, 1.0))), "Quantities are not in order"),
        (Bid(sells=tuple(Pair(float(at), at) for at in range(1, 51))), "1 to 49"),
    ],
)
def test_two_hundred_with_a_bare_string_is_a_refusal(bid: Bid, said: str) -> None:
    async def act(site: Site) -> None:
        assert said in await words_of(site.side.submit(ticket("t", {1: bid})), Refused)
        assert (await site.side.status(ticket("t", {1: bid}))).standing == "unknown"

    run(act)


def test_a_refusal_by_word_of_mouth_is_the_exchanges_own() -> None:
    async def act(site: Site) -> None:
        site.server.trouble.next("refuse", text="Insufficient margin")
        assert await words_of(site.side.submit(ticket()), Refused) == "Insufficient margin"
        site.server.trouble.next("refuse", on="publish", text="No data")
        assert "No data" in await words_of(site.side.results(DAM), Unsure)

    run(act)


def test_gates_are_kept_by_the_exchange_and_by_us() -> None:
    async def act(site: Site) -> None:
        gate = gate_of(DAM, GateSettings())
        late = replace(ticket("late"), closes_at=gate.closes_at + timedelta(days=2))
        for wall, said in (
            (gate.opens_at - timedelta(seconds=1), "not open"),
            (gate.closes_at, "time is over"),
        ):
            site.clock.wall = wall
            assert said in await words_of(site.side.submit(late), Refused)
        assert "not sent" in await words_of(site.side.submit(ticket()), Refused)
        assert sum("submit" in path for path in site.server.asked) == 2, "ours is not among them"
        site.clock.wall = gate.closes_at - timedelta(seconds=1)
        await site.side.submit(ticket())
        assert len(site.server.hall.placed) == 1

    run(act)


def test_a_wrong_token_a_wrong_member_and_a_strange_address_are_refused() -> None:
    async def act(site: Site) -> None:
        for other in (
            site.other_side(token="stale-one"),  # noqa: S106
            site.other_side(participant="P2"),
        ):
            assert "401" in await words_of(other.submit(ticket()), Refused)
            assert "401" in await words_of(other.results(DAM), Unsure)
        site.server.trouble.next("forbidden")
        assert "whitelisted" in await words_of(site.side.submit(ticket()), Refused)
        assert not site.server.hall.placed

    run(act)


def test_a_token_leaves_only_encrypted_and_never_into_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ValueError, match="in clear"):
        exchange_of(market("http://exchange.example:80"), VirtualClockStub())
    with pytest.raises(ValueError, match=r"exchange\.token"):
        exchange_of(market("https://exchange.example", token=None), VirtualClockStub())

    async def act(site: Site) -> None:
        for kind in ("error", "garbage", "cut_before", "forbidden"):
            site.server.trouble.next(kind)
            await words_of(site.side.submit(ticket()), Exception)
        await words_of(site.other_side(url="https://127.0.0.1:1").submit(ticket()), Unsure)

    with caplog.at_level(logging.DEBUG):
        run(act)
    assert TOKEN not in caplog.text


class VirtualClockStub(VirtualClock):
    """A clock outside of any loop."""

    def now_s(self) -> float:
        return 0.0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_only_a_certificate_that_is_believed_gets_the_token(tmp_path: Path) -> None:
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout k -out c"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl = ["openssl", *words.split(), *names]
    subprocess.run(openssl, cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "c", tmp_path / "k")

    async def act(site: Site) -> None:
        assert "ertificate" in await words_of(site.side.submit(ticket()), Unsure)
        assert not site.server.asked
        trust = ssl.create_default_context(cafile=str(tmp_path / "c"))
        await exchange_of(site.settings, site.clock, trust=trust).submit(ticket())
        assert len(site.server.hall.placed) == 1

    run(act, tls=tls)


# --- pace ---


def test_never_more_requests_a_second_than_told_and_a_rest_after_too_many() -> None:
    async def act(site: Site) -> None:
        side = site.other_side(requests_per_s=20.0)
        started_s = site.clock.now_s()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(side.prices(DAM))
        assert site.clock.now_s() - started_s >= 7 / 20.0
        site.server.trouble.next("busy")
        assert "429" in await words_of(side.submit(ticket()), Unsure)
        rested_s = site.clock.now_s()
        assert (await side.status(ticket())).standing == "unknown"
        assert site.clock.now_s() - rested_s >= 0.9

    run(act)


def test_the_exchange_turns_away_the_fifth_request_of_a_second() -> None:
    async def act(site: Site) -> None:
        hasty = site.other_side(requests_per_s=100.0)
        answers: list[object] = []
        for _ in range(5):
            try:
                answers.append(await hasty.prices(DAM))
            except Unsure as error:
                answers.append(str(error))
        assert answers[:4] == [{}] * 4
        assert "429" in str(answers[4])

    run(act, rate_per_s=4.0)


@virtual
async def test_in_its_own_pace_nobody_is_turned_away(tmp_path: Path) -> None:
    clock, path = VirtualClock(), tmp_path / "pace.sock"
    async with SimulatedExchange(clock, path=path, token=TOKEN) as served:
        settings = market(None, kind="simulated", requests_per_s=4.0)
        side = exchange_of(settings, clock, socket=path)
        for _ in range(40):
            await side.prices(DAM)
        assert len(served.asked) == 40
        assert served.busy_count == 0


# --- broken connections ---


@pytest.mark.parametrize(
    ("kind", "standing"),
    [
        ("cut_before", "unknown"),
        ("cut_after", "accepted"),
        ("garbage", "unknown"),
        ("garbage_after", "accepted"),
        ("error", "unknown"),
        ("hang_before", "unknown"),
        ("hang_after", "accepted"),
    ],
)
def test_after_a_broken_answer_the_status_tells_the_truth_and_nothing_is_sent_twice(
    kind: str, standing: str
) -> None:
    async def act(site: Site) -> None:
        side = site.other_side(timeout_s=0.3)
        site.server.trouble.next(kind)
        await words_of(side.submit(ticket()), Unsure)
        assert (await side.status(ticket())).standing == standing
        again = site.other_side()  # a new process that knows nothing
        await again.submit(ticket())
        await again.submit(ticket())
        assert len(site.server.hall.of_ticket("t1")) == 1

    run(act)


def test_a_bid_held_otherwise_than_sent_is_told() -> None:
    async def act(site: Site) -> None:
        site.server.trouble.next("part")
        await site.side.submit(ticket("half"))
        held = await site.side.status(ticket("half"))
        assert (held.standing, held.text) == (
            "accepted",
            "holds 1 of 2 curves as they were sent",
        )
        site.server.trouble.next("strike", text="Margin call")
        await site.side.submit(ticket("struck"))
        held = await site.side.status(ticket("struck"))
        assert (held.standing, held.text) == ("refused", "Margin call")
        assert "Margin call" in await words_of(site.side.submit(ticket("struck")), Refused)
        before = site.clock.wall
        site.close(DAM, FINAL_MIN)
        assert sum((await site.side.portfolio(DAY)).values()) == 1.0, "only the half of one counts"
        site.clock.wall = before
        curves = site.server.hall.of_ticket("half")[0].curves
        site.server.hall.place("half", PORTFOLIO, SITTING, curves)
        assert (await site.side.status(ticket("half"))).text == "held 2 times"

    run(act)


def test_down_and_up_again_the_exchange_knows_its_books(tmp_path: Path) -> None:
    file = tmp_path / "exchange.json"

    async def before(site: Site) -> None:
        await site.side.submit(ticket())
        site.server.trouble.down = True
        await words_of(site.side.status(ticket()), Unsure)
        site.server.trouble.down = False
        site.server.restart()
        assert (await site.side.status(ticket())).standing == "accepted"

    async def after(site: Site) -> None:
        assert (await site.side.status(ticket())).standing == "accepted"
        assert len(site.server.hall.of_ticket("t1")) == 1

    run(before, file=file)
    run(after, file=file)


# --- results ---


def test_results_late_missing_partial_wrong_contradictory_and_retracted() -> None:
    async def act(site: Site) -> None:
        side, trouble = site.side, site.server.trouble
        await side.submit(ticket())
        site.close(DAM, FINAL_MIN)
        first, second = Block(DAY, 1), Block(DAY, 2)

        async def said(kind: str, by_s: float = 0.0) -> Result | None:
            trouble.results(kind, by_s)
            return await side.results(DAM)

        truth = await said("")
        assert truth is not None
        assert (truth.cleared_mw[first], truth.cleared_mw[second]) == (1.0, -2.0)
        assert await said("missing") is None
        assert await said("late", 3600.0) is None
        site.close(DAM, FINAL_MIN + 60.0)
        assert await said("late", 3600.0) == truth
        found = await said("provisional")
        assert found is not None
        assert found.state == "provisional"
        found = await said("partial")
        assert found is not None
        assert first in found.cleared_mw
        assert second not in found.cleared_mw
        found = await said("wrong")
        assert found is not None
        assert found.cleared_mw[first] == 10.0
        found = await said("contradictory")
        assert found is not None
        assert found.cleared_mw[first] == 0.5
        found = await said("retracted")
        assert found == Result(DAM, {}, {}, "retracted")
        assert await side.prices(DAM) == {}
        assert await said("") == truth

    run(act)


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (200, b'"Bid submission time is over"', Refused),
        (200, b"", Unsure),
        (200, b"{", Unsure),
        (200, b"[" * 100_000, Unsure),
        (200, b"5", Unsure),
        (200, b"null", Unsure),
        (302, b"", Unsure),
        (403, b"no", Refused),
        (429, b"{}", Unsure),
        (502, b"<html>", Unsure),
    ],
)
def test_what_an_answer_means(status: int, raw: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        meaning(status, raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["ScheduleReport", "DeliveryDate", "SessionId", "ScheduleDetails",
                         "FromPeriodId", "BidBook", "PublishInfo", "PQResults", "Price"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(json_values)
def test_no_answer_whatever_breaks_the_reader(said: object) -> None:
    wire = Wire(ExchangeSettings(), WireSettings())
    for read in (
        lambda: wire.results_in(said, DAM, TermsSettings()),
        lambda: wire.prices_in(said, DAM, TermsSettings()),
        lambda: wire.published_in(said, DAM),
        lambda: wire.status_in(said, ticket()),
        lambda: wire.check_scales(said),
    ):
        try:
            read()
        except Garbled:
            continue


# --- on virtual time, over a Unix socket ---


@virtual
async def test_a_day_of_auctions_on_virtual_time(tmp_path: Path) -> None:
    clock = VirtualClock(gate_of(DAM, GateSettings()).opens_at)
    path = tmp_path / "day.sock"
    async with SimulatedExchange(clock, path=path, seed=2) as served:
        side = exchange_of(market(None, kind="simulated", token=None), clock, socket=path)
        total_mw: dict[Block, float] = {}
        for auction in (DAM, *(rtm(session) for session in range(1, 49))):
            gate = gate_of(auction, GateSettings())
            await clock.sleep_until(
                clock.now_s() + max((gate.opens_at - clock.utc()).total_seconds(), 0.0) + 1.0
            )
            bid = Bid(sells=(Pair(3000.0, 2.0),), buys=(Pair(2900.0, 1.0),))
            numbers = [block.number for block in auction.blocks]
            await side.submit(ticket(str(auction), dict.fromkeys(numbers, bid), auction))
            out_at = gate.closes_at + timedelta(minutes=95 if auction == DAM else 15)
            wait_s = (out_at - clock.utc()).total_seconds()
            await clock.sleep_until(clock.now_s() + wait_s)
            result = await side.results(auction)
            assert result is not None
            assert result.state == "final"
            for block, power_mw in result.cleared_mw.items():
                assert power_mw == bid.cleared_mw(result.price_rs_per_mwh[block])
                total_mw[block] = total_mw.get(block, 0.0) + power_mw
        assert await side.portfolio(DAY) == total_mw
        assert set(total_mw.values()) >= {4.0, -2.0}, "both ways, day-ahead and real time"
        assert served.busy_count == 0
        assert len(served.hall.placed) == 49


@virtual
async def test_a_plants_faults_reach_the_exchange_that_is_served_beside_it(tmp_path: Path) -> None:
    clock = VirtualClock(gate_of(DAM, GateSettings()).opens_at)
    settings = market(None, kind="simulated", portfolio="A2-OWN", area="A2", token=None)
    path = tmp_path / "exchange.sock"
    async with exchange_at(path, settings, clock, seed=3) as served:
        plant = Plant(site(unit()), clock)
        plant.exchange = served

        def door(**words: object) -> dict[str, Any]:
            return obey(plant, json.dumps(words).encode())

        side = exchange_of(settings, clock, socket=path)
        assert door(inject="exchange_request", kind="cut_after")["ok"]
        await words_of(side.submit(ticket()), Unsure)
        (placed,) = door(state="exchange")["state"]["placed"]
        assert (placed["ticket"], placed["portfolio"]) == ("t1", "A2-OWN")
        assert door(inject="exchange_down")["ok"]
        await words_of(side.status(ticket()), Unsure)
        assert door(clear="exchange_down")["cleared"] == 1
        assert door(inject="exchange_restart")["ok"]
        assert (await side.status(ticket())).standing == "accepted"
        await clock.sleep_until(clock.now_s() + 3 * 3600.0)
        assert door(inject="exchange_results", kind="late", by_s=7200.0)["ok"]
        assert await side.results(DAM) is None
        door(clear="all")
        result = await side.results(DAM)
        assert result is not None
        assert result.cleared_mw[Block(DAY, 2)] == -2.0, "in an area of its own choice too"
        assert "no trouble 'flood'" in door(inject="exchange_request", kind="flood")["error"]
