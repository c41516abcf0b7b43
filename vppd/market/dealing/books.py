"""One book in time: wished by the maker, cut by risk, fitted, looked at by risk again.

A wish that fails is asked for from a lesser forecast, by the declared ladder (`making.Rung`); when
none is left, or risk forbids what came, only obligations are closed, and at last nothing is bid.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from vppd.core.alarms import Code
from vppd.core.ports import Clock
from vppd.core.settings_market import MarketSettings, RiskSettings
from vppd.market.book import Book
from vppd.market.dealing.holdings import Holdings
from vppd.market.dealing.making import FORECAST_RUNGS, Made, Maker, NotMade, Wanted
from vppd.market.dealing.obligations import added
from vppd.market.dealing.submission import Tell
from vppd.market.dealing.tickets import Story
from vppd.market.exchange import Auction
from vppd.market.fitting import Setting, fitted
from vppd.market.risk import Known, bounded, lacking, vetoes

MAKING_SHARE = 0.6  # of the time to the gate; the rest is for sending and asking


class Books:
    """Makes books of what is held."""

    def __init__(
        self,
        settings: MarketSettings,
        maker: Maker,
        holdings: Holdings,
        clock: Clock,
        synchronised: Callable[[], bool],
        tell: Tell,
    ) -> None:
        self._settings, self._maker, self._holdings = settings, maker, holdings
        self._clock, self._synchronised, self._tell = clock, synchronised, tell

    async def book_for(
        self, auction: Auction, before_cutoff_s: Callable[[], float]
    ) -> tuple[Book, Story]:
        """What may be sent, perhaps nothing, and how it came about."""
        until_s = self._clock.now_s() + MAKING_SHARE * before_cutoff_s()
        if lacks := lacking(self._settings.risk, self._known(before_cutoff_s())):
            return Book({}), Story(why="; ".join(lacks), vetoes=tuple(lacks), may_come=True)
        setting, due = self._holdings.setting(auction)
        held_mw = added(setting.held_mw, due, setting.terms)
        wanted = Wanted(auction, replace(setting, held_mw=held_mw))
        fallen: list[str] = []
        wishes = [Made(due, "hold", "only what closes obligations")]
        if (made := await self._wish(wanted, until_s, fallen)) is not None:
            own = {block: bid for block, bid in made.book if block in auction.blocks}
            wholes = tuple(e for e in made.book.wholes if set(e.blocks) <= set(auction.blocks))
            wishes.insert(0, replace(made, book=Book({**own, **due.bids}, wholes)))
        forbidden: list[str] = []
        for wish in wishes:
            try:
                book, story = await self._passed(auction, wish, before_cutoff_s())
            except (ValueError, ArithmeticError, LookupError, TypeError) as error:
                # a wish of nonsense is no reason to hold nothing of what must be closed
                book = Book({})
                story = Story(wish.rung, wish.why, vetoes=(f"{type(error).__name__}: {error}",))
            forbidden += [f"{wish.rung}: {veto}" for veto in story.vetoes]
            if not story.vetoes:
                break
        else:
            book, story = Book({}), replace(story, rung="none")
        load_why = self._holdings.site().load_why
        why = "; ".join([*fallen, story.why, *([load_why] if load_why else [])])
        return book, replace(story, why=why, vetoes=tuple(forbidden))

    async def _wish(self, wanted: Wanted, until_s: float, fallen: list[str]) -> Made | None:
        """The maker's, from the best forecast that it has in time; why not a better one goes to
        `fallen`."""
        made = None
        for rung in FORECAST_RUNGS:
            within_s = 0.5 * (until_s - self._clock.now_s())
            within_s = min(within_s, self._settings.forecast.train_max_s)
            try:
                async with asyncio.timeout(within_s):
                    made = await self._maker.book_for(replace(wanted, best=rung), within_s)
                break
            except NotMade as error:
                fallen.append(f"{rung}: {error}")
            except TimeoutError:
                fallen.append(f"{rung}: not made in {within_s:.0f} s")
            except Exception as error:  # noqa: BLE001 - whatever breaks there, the gate is kept
                fallen.append(f"{rung}: {type(error).__name__}: {error}")
        full = made is not None and made.rung == FORECAST_RUNGS[0]
        by = f"a book by {made.rung} alone" if made is not None else "no book, for no forecast"
        text = f"{wanted.auction}: {by}; vppctl market why tells more"
        self._tell(Code.MARKET_FORECAST, not full, "" if full else text)
        return made

    async def _passed(self, auction: Auction, wish: Made, before_s: float) -> tuple[Book, Story]:
        """A wish after risk and feasibility, and whatever forbids sending it."""
        setting, _ = self._holdings.setting(auction)
        known, risk = self._known(before_s), self._settings.risk
        real_time = auction.product == "rtm"
        # a day's book takes many passes over its blocks: too long for the loop
        return await asyncio.to_thread(_judged, wish, setting, risk, known, real_time=real_time)

    def _known(self, before_s: float) -> Known:
        stock = self._holdings.site()
        return Known(stock.soc_pct, stock.age_s, self._synchronised(), before_s)


def _judged(
    wish: Made, setting: Setting, risk: RiskSettings, known: Known, *, real_time: bool
) -> tuple[Book, Story]:
    fit = fitted(bounded(wish.book, risk, known, real_time=real_time), setting)
    story = Story(
        wish.rung,
        wish.why,
        wish.expected_rs,
        wish.forecast_rs_per_mwh,
        (*wish.bound, *(str(breach) for breach in fit.cut)),
        tuple(vetoes(fit.book, setting, risk, known)),
        wish.explained,
        bool(lacking(risk, known)),
    )
    return fit.book, story
