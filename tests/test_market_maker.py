"""The maker of books and its worker: a real child process, the ladder, real-time sessions."""

import asyncio
import dataclasses
import functools
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import journal_site
from tests.market_outcomes import (
    BLOCKS,
    DAY,
    TERMS,
    a_setting,
    broken,
    outcomes,
    well_formed,
    wild_book,
)
from tests.market_prices import shape
from tests.rig import MemoryJournal
from tests.virtual_time import VirtualClock, virtual
from vppd.core.records_market import MarketBidRow, MarketPriceRow, MarketResultRow
from vppd.core.settings_forecast import ForecastSettings
from vppd.core.settings_market import MarketSettings
from vppd.market.blocks import BLOCK_H, BLOCKS_A_DAY, Block, blocks_of
from vppd.market.book import Bid
from vppd.market.corridor import State
from vppd.market.dealing.child import Child, ChildFailed
from vppd.market.dealing.maker import BookMaker
from vppd.market.dealing.making import Made, NotMade, Rung, Wanted
from vppd.market.dealing.worker_call import WORKER, Worker
from vppd.market.exchange import Auction
from vppd.market.fitting import Setting, fitted
from vppd.market.prices import PriceHistory
from vppd.market.solving.answers import answer
from vppd.market.solving.worker_words import (
    Json,
    block_text,
    book_from,
    book_json,
    price_rows,
    prices_of,
    setting_json,
    setting_of,
)
from vppd.market.storage import Storage
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal

STORAGE = Storage(0.2, 2.0, 1.0, 1.0, 0.92, 0.92, 1.5, 1000.0)
AMPLE_S = 60.0
LIMITS = {"charge", "discharge", "energy_low", "energy_high", "cycles"}
LONG = "MARKET_LONG" in os.environ  # the long forms, for a run by hand
EXAMPLES = 100 if LONG else 8  # of sessions on top of any position
EVERY = 1 if LONG else 3  # so many sessions of a day
DAM = Auction(DAY, 0, "dam")
EMPTY = Setting(STORAGE, TERMS, State(0.2, 0.2, {}), BLOCKS, {})
PATIENT = journal_site.QUICK


@functools.cache
def history(first: int, last: int, seed: int = 1, noise: float = 0.1) -> PriceHistory:
    """Prices of the days from DAY + first to DAY + last."""
    random = np.random.default_rng(seed)
    found = {}
    for back in range(first, last + 1):
        level = 1 + noise * random.normal()
        each = random.normal(1, noise / 2, BLOCKS_A_DAY)
        prices = (shape(n / 4, level) * each[n] for n in range(BLOCKS_A_DAY))
        day = DAY + timedelta(days=back)
        found[day] = tuple(round(min(max(float(p), 0.0), 10_000.0), 2) for p in prices)
    return PriceHistory(found)


def real_time_of(dam: PriceHistory, days: int, off: float = -200.0, noise: float = 300.0) -> Any:
    """Real time beside these days' prices, of the newest days before DAY."""
    random = np.random.default_rng(5)
    return PriceHistory(
        {
            day: tuple(
                round(float(np.clip(p + off + noise * random.normal(), 0, 10_000)), 2)
                for p in dam.days[day]
            )
            for day in (DAY - timedelta(days=back) for back in range(1, days + 1))
        }
    )


def request(
    kind: str, setting: Setting | None = None, dam: PriceHistory | None = None, **more: Any
) -> Json:
    """What the maker asks of the worker."""
    dam = history(-60, -1) if dam is None else dam
    rtm = more.pop("rtm", PriceHistory())
    return {
        "kind": kind,
        "day": str(DAY),
        "best": "combined",
        "forecast": dataclasses.asdict(ForecastSettings()),
        "prices": {"dam": price_rows(dam), "rtm": price_rows(rtm)},
        "alarm_s": AMPLE_S,
        "strategy": "adaptive",
        "hurdle_rs_per_mwh": 1000.0,
        "margin_rs_per_mwh": 0.0,
        "repair_only": "",
        **({} if setting is None else {"setting": setting_json(setting)}),
        **more,
    }


# --- the worker, as a process ---


def test_the_worker_answers_the_same_bytes_and_a_feasible_book() -> None:
    asked = json.dumps(request("dam", EMPTY)).encode()
    first, second = (Child(WORKER, 1_000_000).run(asked, AMPLE_S) for _ in range(2))
    assert first == second
    said = json.loads(first)
    assert said["error"] == ""
    assert said["rung"] == "combined"
    assert said["expected_rs"] > 1000.0
    assert said["accuracy"]["days"] == 14
    assert 0.0 < said["accuracy"]["naive_ratio"] < 1.5
    book = book_from(said["book"])
    well_formed(book, TERMS)
    assert not broken(outcomes(book, BLOCKS, 2000, np.random.default_rng(1)), EMPTY)
    evening = said["blocks"][block_text(BLOCKS[80])]
    assert evening["plan_mw"] == pytest.approx(1.0)
    assert "power" in evening["bound"]
    assert evening["low_rs_per_mwh"] < evening["forecast_rs_per_mwh"] < evening["high_rs_per_mwh"]
    full = said["blocks"][block_text(BLOCKS[70])]
    assert full["plan_stored_mwh"] == pytest.approx(2.0)
    assert 2000.0 < full["energy_rs_per_mwh"] < 9000.0


@pytest.mark.parametrize(
    "given_bytes",
    [b"", b"[]", b"\xff", b'{"alarm_s": 9, "kind": "dam"}'],
)
def test_the_worker_answers_nonsense_with_an_error_not_a_traceback(given_bytes: bytes) -> None:
    done = subprocess.run(
        WORKER, input=given_bytes, capture_output=True, check=True, timeout=AMPLE_S
    )
    assert json.loads(done.stdout)["error"]
    assert done.stderr == b""


def test_the_worker_ends_itself_when_its_time_is_over() -> None:
    asked = json.dumps(request("dam", EMPTY, alarm_s=0.001)).encode()
    with pytest.raises(ChildFailed, match="ended with -14"):
        Child(WORKER, 1_000_000).run(asked, AMPLE_S)


def test_the_worker_gives_way_before_it_works() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    with subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"{")  # it waits for the rest
        adjusted = Path(f"/proc/{process.pid}/oom_score_adj")
        while adjusted.read_text().strip() != "1000":
            assert process.poll() is None
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(mine + 10, 19)
        process.stdin.close()
        assert process.wait(AMPLE_S) == 0


# --- the ladder ---


@pytest.mark.parametrize(
    ("days", "best", "rung"),
    [
        ((-60, -1), "combined", "combined"),
        ((-60, -1), "profile", "profile"),
        ((-60, -1), "yesterday", "yesterday"),
        ((-20, -1), "combined", "profile"),
        ((-60, -4), "combined", "profile"),
        ((-1, -1), "combined", "yesterday"),
    ],
)
def test_a_lesser_forecast_is_used_and_told(days: tuple[int, int], best: str, rung: str) -> None:
    said = answer(request("dam", EMPTY, history(*days), best=best))
    assert (said["error"], said["rung"]) == ("", rung)
    assert said["book"]
    if best == "combined" != rung:
        assert said["why"].startswith("combined: ")


@pytest.mark.parametrize("known", [PriceHistory(), history(-30, -9)])
def test_no_or_old_prices_make_no_book(known: PriceHistory) -> None:
    for kind, setting in (("dam", EMPTY), ("rtm", EMPTY)):
        assert "price" in answer(request(kind, setting, known))["error"]


CELLS = st.sampled_from([math.nan, 0.0, 10_000.0, 1e300, -1e300, -500.0, 4000.0])
SPOILT = st.dictionaries(st.integers(-60, 0), st.lists(CELLS, min_size=1, max_size=5), max_size=61)


@settings(max_examples=EXAMPLES, deadline=None)
@given(SPOILT, st.sampled_from(["dam", "rtm"]))
def test_prices_whatever_never_raise_and_never_bid_more_than_the_storage(
    spoilt: dict[int, list[float]], kind: str
) -> None:
    """Holes, caps, negative and absurd prices on any days: an answer, and a book that fits."""
    days = dict(history(-60, 0 if kind == "rtm" else -1).days)
    for back, cells in spoilt.items():
        days[DAY + timedelta(days=back)] = tuple(itertools.islice(itertools.cycle(cells), 96))
    with np.errstate(all="ignore"):
        said = answer(request(kind, EMPTY, PriceHistory(days)))
    assert isinstance(said["error"], str)
    book = book_from(said.get("book", {}))
    made = fitted(book, EMPTY).book
    well_formed(made, TERMS)
    assert not broken(outcomes(made, BLOCKS, 200, np.random.default_rng(1)), EMPTY)


# --- real time ---


def sessions(
    setting: Setting, session: int, held: Mapping[Block, float], **more: Any
) -> tuple[Setting, Json]:
    """A session's setting and the worker's answer; today's day-ahead prices are known."""
    here = dataclasses.replace(
        setting, blocks=BLOCKS[2 * session - 2 :], held_mw=held, **more.pop("changed", {})
    )
    dam = more.pop("dam", None) or history(-60, 0)
    rtm = real_time_of(dam, more.pop("days", 14))
    return here, answer(request("rtm", here, dam, rtm=rtm, **more))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**31))
def test_no_outcome_of_a_session_breaks_what_is_held(seed: int) -> None:
    """Any storage and state, any position and open bids a fit book left, any strategy."""
    random = np.random.default_rng(seed)
    strategy = str(random.choice(["aggressive", "adaptive", "conservative"]))
    setting = a_setting(random, firm=strategy != "conservative")
    day = outcomes(fitted(wild_book(random, setting), setting).book, BLOCKS, 1, random)[0]
    held = dict(zip(BLOCKS, (float(each) for each in day), strict=True))
    session = int(random.integers(1, 49))
    energy = np.array([setting.start.low_mwh, setting.start.high_mwh])
    sold_mwh = setting.start.discharged_mwh[DAY]
    for block in BLOCKS[: 2 * session - 2]:
        energy = energy + setting.storage.stored_mwh(held[block])
        sold_mwh += max(held[block], 0.0) * BLOCK_H
    here, said = sessions(
        setting,
        session,
        held,
        strategy=strategy,
        changed={"start": State(float(energy[0]), float(energy[1]), {DAY: sold_mwh})},
    )
    assert said["error"] == ""
    book = book_from(said["book"])
    assert set(book.bids) <= set(here.blocks[:2])
    well_formed(book, TERMS)
    for block in here.blocks[:2]:
        assert set(said["blocks"][block_text(block)]["bound"]) <= LIMITS
    rest = np.array([held[block] for block in here.blocks])
    net_mw = outcomes(book, here.blocks, 500, random) + rest
    assert not broken(net_mw, here)


def test_open_bids_of_another_auction_are_left_room_for() -> None:
    """Tomorrow's book is not cleared: whatever it becomes, this session leaves it possible."""
    tomorrow = blocks_of(DAY + timedelta(days=1))
    blocks = (*BLOCKS[90:], *tomorrow)
    start = State(1.0, 1.0, {})
    buys = answer(
        request(
            "rtm",
            Setting(STORAGE, TERMS, start, blocks, {}),
            cheap(),
            rtm=real_time_of(cheap(), 14),
        )
    )["book"]
    assert buys, "it would buy at night"
    open_mw = dict.fromkeys(tomorrow[:4], (-1.0, 0.0))  # may be filled: 0.92 MWh
    setting = Setting(STORAGE, TERMS, start, blocks, {}, open_mw=open_mw)
    said = answer(request("rtm", setting, cheap(), rtm=real_time_of(cheap(), 14)))
    bought = sum(bid.most_bought_mw for _, bid in book_from(said["book"]))
    assert bought * BLOCK_H * 0.92 + 1.0 + 0.92 <= 2.0 + 1e-6


def cheap() -> PriceHistory:
    """Real time gives energy away on the evening of DAY."""
    days = dict(history(-60, 0).days)
    days[DAY] = (*days[DAY][:90], *([100.0] * 6))
    return PriceHistory(days)


@pytest.mark.parametrize("strategy", ["aggressive", "adaptive", "conservative"])
@pytest.mark.parametrize("more", [{}, {"days": 0}, {"repair_only": "it lost money"}])
def test_what_is_sold_and_cannot_be_delivered_is_bought_up_to_the_cap(
    strategy: str, more: dict[str, Any]
) -> None:
    """An empty battery has sold two blocks: the last session before them buys both back."""
    held = dict.fromkeys(BLOCKS[78:80], 1.0)
    _, said = sessions(EMPTY, 40, held, strategy=strategy, **more)
    bids = book_from(said["book"]).bids
    at_cap_mw = sum(
        bid.buys[0].power_mw
        for bid in bids.values()
        if bid.buys and bid.buys[0].price_rs_per_mwh == TERMS.cap_rs_per_mwh
    )
    assert at_cap_mw >= 2.0 - 1e-9 or strategy == "conservative"
    assert sum(bid.most_bought_mw for bid in bids.values()) >= 2.0 - 1e-9
    dearest = min(bid.buys[0].price_rs_per_mwh for bid in bids.values())
    assert dearest > 8000.0, "well above what is foreseen"


def test_without_real_time_prices_or_after_losses_only_repairs_are_made() -> None:
    night = {"changed": {"start": State(0.3, 0.3, {})}, "dam": cheap()}
    _, free = sessions(EMPTY, 46, {}, **night)
    assert free["book"]
    assert "hurdle" in free["why"]
    for more, word in (({"days": 6}, "7 needed"), ({"repair_only": "it lost 5 Rs"}, "lost 5")):
        _, said = sessions(EMPTY, 46, {}, **night, **more)
        assert not said["book"]
        assert "only repairs" in said["why"]
        assert word in said["why"]


def test_a_hurdle_asks_more_of_a_trade() -> None:
    limits = {}
    for strategy, given_rs in (("aggressive", 0.0), ("adaptive", 0.0), ("conservative", 3000.0)):
        _, said = sessions(
            EMPTY,
            40,
            {},
            strategy=strategy,
            hurdle_rs_per_mwh=given_rs,
            changed={"start": State(1.5, 1.5, {})},
        )
        bids = book_from(said["book"]).bids.values()
        limits[strategy] = (
            float(said["why"].split("hurdle ")[1].split(" ")[0]),
            sum(bid.most_sold_mw for bid in bids),
        )
    assert limits["aggressive"][0] == 0.0 < limits["adaptive"][0] < limits["conservative"][0]
    assert limits["aggressive"][1] >= limits["conservative"][1]


def test_sessions_on_noisy_prices_earn_money() -> None:
    """Real time wanders around the day ahead: what is traded at it must be worth it."""
    dam = history(-60, 0)
    random = np.random.default_rng(8)
    off = -200 + 800 * np.repeat(random.normal(size=48), 2)
    actual = np.clip(np.array(dam.days[DAY]) + off, 0, 10_000)
    held: dict[Block, float] = {}
    rtm = real_time_of(dam, 14, noise=800.0)
    energy, sold_mwh, cash_rs, trades = 0.2, 0.0, 0.0, 0
    for session in range(1, 49, EVERY):
        start = State(energy, energy, {DAY: sold_mwh})
        ahead = BLOCKS[2 * session - 2 :]
        here = dataclasses.replace(EMPTY, start=start, blocks=ahead, held_mw=held)
        said = answer(request("rtm", here, dam, rtm=rtm))
        made = fitted(book_from(said["book"]), here).book
        for block in here.blocks[:2]:
            price = float(actual[block.number - 1])
            traded = made.bids.get(block, Bid()).cleared_mw(price)
            trades += traded != 0.0
            cash_rs += (traded * price - abs(traded) * 20) * BLOCK_H
            before = held.get(block, 0.0)
            held[block] = before + traded
            cash_rs -= 1000 * BLOCK_H * (max(held[block], 0) - max(before, 0))
            energy += STORAGE.stored_mwh(held[block])
            sold_mwh += max(held[block], 0.0) * BLOCK_H
    assert trades
    assert cash_rs + (energy - 0.2) * 2500 > 0.0
    assert 0.2 - 1e-6 <= energy <= 2.0 + 1e-6


# --- the shell ---


def maker(journal: Any, *program: str) -> BookMaker:
    """A maker; `program` is what runs in place of the worker."""
    command = (sys.executable, "-c", *program) if program else WORKER
    return BookMaker(MarketSettings(), journal, SystemClock(), Worker(command))


def book_of(made: BookMaker, within_s: float = AMPLE_S, rung: Rung = "fresh") -> Made:
    async def main() -> Made:
        return await made.book_for(Wanted(DAM, EMPTY, rung), within_s)

    return asyncio.run(main())


BROKEN = {
    "took longer than 0.3 s": "import time; time.sleep(60)",
    "ended with 3": "raise SystemExit(3)",
    "ended with -9": "import os; os.kill(os.getpid(), 9)",
    "no JSON": "print('Traceback')",
    "no JSON ": "pass",
    "wrote more than": "print('x' * 5_000_000)",
    "no object": "print([])",
    "nothing said": "print('{}')",
    "cannot be read": """print('{"error": ""}')""",
    "cannot be read ": """print('{"error": "", "book": {"2026-03-02/97": 1}, "forecast": []}')""",
    "out of paper": """print('{"error": "out of paper"}')""",
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_broken_worker_is_no_book_and_says_why(why: str) -> None:
    within_s = 0.3 if "0.3" in why else AMPLE_S
    with pytest.raises(NotMade, match=why.strip()):
        book_of(maker(MemoryJournal(), BROKEN[why]), within_s)


def test_a_worker_that_is_not_there_is_no_book() -> None:
    with pytest.raises(NotMade, match="did not start"):
        book_of(BookMaker(MarketSettings(), MemoryJournal(), SystemClock(), Worker(("/nowhere",))))


def test_a_worker_whose_book_is_no_longer_wanted_is_killed(tmp_path: Path) -> None:
    """Cancelled as at shutdown: nothing keeps running, and the next book is not held up."""
    note = tmp_path / "pid"
    hang = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    async def main() -> int:
        slow = maker(MemoryJournal(), hang)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(slow.book_for(Wanted(DAM, EMPTY), AMPLE_S))
            while not (note.exists() and note.read_text()):
                await asyncio.sleep(0.01)
            task.cancel()
        return int(note.read_text())

    pid = asyncio.run(main())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@virtual
async def test_virtual_time_stands_still_while_the_worker_runs() -> None:
    clock = VirtualClock()
    before_s = clock.now_s()
    made = BookMaker(MarketSettings(), MemoryJournal(), clock, Worker())
    with pytest.raises(NotMade, match="no price is known"):
        await made.book_for(Wanted(DAM, EMPTY), AMPLE_S)
    assert clock.now_s() == before_s


def test_the_daemon_side_loads_no_solver() -> None:
    """Also after a worker has run: the parent only holds its words."""
    program = f"""
import asyncio, json, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from vppd.market.dealing.child import Child
from vppd.market.dealing.maker import BookMaker
from vppd.market.dealing.worker_call import WORKER
said = json.loads(Child(WORKER, 1_000_000).run(sys.stdin.buffer.read(), 60))
assert said["book"], said
assert not {{"numpy", "highspy"}} & set(sys.modules)
"""
    asked = json.dumps(request("dam", EMPTY)).encode()
    subprocess.run([sys.executable, "-c", program], input=asked, check=True, timeout=AMPLE_S)


# --- with the journal ---


def price_row(block: Block, price: float, product: str, kind: str) -> MarketPriceRow:
    at = datetime(2026, 3, 1, 5, 0, tzinfo=UTC)
    return MarketPriceRow(at, block.start, product, "S1", kind, price, "test")


def rows_of(prices: PriceHistory, product: str, kind: str = "cleared") -> list[MarketPriceRow]:
    return [
        price_row(block, price, product, kind)
        for day, row in prices.days.items()
        for block, price in zip(blocks_of(day), row, strict=True)
    ]


async def with_rows(journal: SqliteJournal, rows: Sequence[Any]) -> None:
    """Return when all of them can be read."""
    for row in rows:
        journal.append(row)
    count = """SELECT (SELECT count(*) FROM market_price) + (SELECT count(*) FROM market_bid)
        + (SELECT count(*) FROM market_result)"""
    async with asyncio.timeout(20.0):
        while (await journal.select(count))[0][0] != len(rows):
            await asyncio.sleep(0.01)


def test_a_book_from_the_journals_prices_and_its_forecast_goes_back(tmp_path: Path) -> None:
    """Seeds count where nothing cleared; what cleared outranks them, whichever came last."""
    known = history(-40, -1)
    seeds = PriceHistory(dict.fromkeys(list(known.days)[30:], (77.0,) * 96))
    rows = [*rows_of(known, "dam"), *rows_of(seeds, "dam", "imported")]

    async def main() -> tuple[Made, list[tuple[object, ...]], Mapping[Any, Json]]:
        async with journal_site.running(tmp_path / "journal.db", PATIENT) as site:
            await with_rows(site.journal, rows)
            made = maker(site.journal)
            book = await made.book_for(Wanted(DAM, EMPTY), AMPLE_S)
            await site.journal.commit(rows[0])
            kept = await site.journal.select(
                "SELECT block, price_rs_per_mwh, source FROM price WHERE kind = 'forecast' "
                "AND day = ? ORDER BY block",
                (str(DAY),),
            )
            return book, kept, made.accuracy

    made, kept, accuracy = asyncio.run(main())
    direct = answer(request("dam", EMPTY, known, best="combined"))
    assert made.rung == "fresh"
    assert book_json(made.book) == direct["book"]
    assert [price for _, price, _ in kept] == list(made.forecast_rs_per_mwh.values())
    assert kept[0][2] == "vppd fresh"
    assert "of the naive's" in made.why
    assert accuracy["dam"]["days"] == 14
    assert set(made.explained) == set(BLOCKS)


def test_real_time_that_lost_money_lately_only_repairs(tmp_path: Path) -> None:
    dam = history(-40, 0)
    at = datetime(2026, 3, 1, 5, 0, tzinfo=UTC)

    def results(sold_at: float, bought_at: float, book: str) -> list[Any]:
        """A MWh is sold and bought again on the day before."""
        day = [Block(DAY - timedelta(days=1), n) for n in range(1, 9)]
        found: list[Any] = []
        limit = 10_000.0 if book == "repair" else 9_000.0
        for n, block in enumerate(day):
            power, price = (1.0, sold_at) if n < 4 else (-1.0, bought_at)
            who = (at, block.start, "x", "rtm", "1")
            found.append(MarketBidRow(*who, "buy", "single", limit, 1.0, book, "sent"))
            found.append(MarketResultRow(*who, power, price, "final", book))
        return found

    async def why(number: int, more: list[Any]) -> str:
        async with journal_site.running(tmp_path / f"{number}.db", PATIENT) as site:
            rows = [*rows_of(dam, "dam"), *rows_of(real_time_of(dam, 14), "rtm"), *more]
            await with_rows(site.journal, rows)
            wanted = Wanted(Auction(DAY, 40, "rtm"), dataclasses.replace(EMPTY, blocks=BLOCKS[78:]))
            made = await maker(site.journal).book_for(wanted, AMPLE_S)
            async with asyncio.timeout(20.0):
                while "it lost" in made.why and not await site.journal.select(
                    "SELECT text FROM event WHERE code = 'market_forecast' AND text LIKE '%lost%'"
                ):
                    await asyncio.sleep(0.01)
            return made.why

    async def main() -> list[str]:
        cases = [results(2000, 6000, "b"), results(6000, 2000, "b"), results(2000, 6000, "repair")]
        return [await why(number, more) for number, more in enumerate(cases)]

    lost, gained, repaired = asyncio.run(main())
    assert "only repairs: it lost 4040 Rs in 14 days" in lost
    assert "only repairs" not in gained
    assert "only repairs" not in repaired


# --- words ---


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_settings_and_prices_cross_unchanged(seed: int) -> None:
    random = np.random.default_rng(seed)
    setting = a_setting(random, held_mw={BLOCKS[3]: 0.1}, open_mw={BLOCKS[4]: (-0.5, 0.25)})
    assert setting_of(json.loads(json.dumps(setting_json(setting)))) == setting
    prices = history(-3, -1, seed)
    assert prices_of(json.loads(json.dumps(price_rows(prices)))) == prices
